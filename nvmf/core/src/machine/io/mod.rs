//! I/O commands: what they ask for, and their steps through the stack.

mod account;
pub(crate) mod arrival;
pub(crate) mod command;
pub(crate) mod copy;
mod dataset;
pub(crate) mod direct;
mod execute;
mod fused;
