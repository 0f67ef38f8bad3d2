//! I/O commands: what they ask for, and their steps through the stack.

mod account;
pub(crate) mod arrival;
pub(crate) mod command;
mod copy;
mod dataset;
pub(crate) mod direct;
mod execute;
pub(crate) mod fused;
mod plan;

pub(crate) use account::{Here, account};
pub(crate) use plan::plan;

use crate::machine::qpairs::Qpairs;
use crate::machine::request::Requests;
use crate::machine::space::Spaces;
use bdev::EdgeCx;
use std::collections::VecDeque;

/// What the steps of I/O commands have to do with. It sends nothing to hosts: what becomes of a
/// command it says, and the target does it.
pub(crate) struct Execution<'a, 'cx> {
    pub(crate) requests: &'a mut Requests,
    pub(crate) qpairs: &'a mut Qpairs,
    pub(crate) spaces: &'a mut Spaces,
    /// Writes and fused pairs that the gate of their namespace holds back.
    pub(crate) gated: &'a mut VecDeque<u32>,
    pub(crate) reactor: usize,
    pub(crate) cx: &'a mut EdgeCx<'cx>,
    /// A step was refused: the controller of its queue pair may have ended.
    pub(crate) refused: bool,
}
