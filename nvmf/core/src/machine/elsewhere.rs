//! What is answered elsewhere, later: questions that would keep a reactor from its other work for
//! too long, or that somebody else has to decide.
//!
//! A command that asks one keeps its place and its buffers until the answer comes, as it does for a
//! step in the stack: nothing is cancelled, everything is answered. An Abort, a lost connection or
//! a reset of the controller only decides how the command ends then.

mod clerk;

pub use clerk::{Clerk, Window};

use crate::export::admin::{self, AdminOutcome};
use crate::export::controller::Controller;
use nvme_spec::{Sqe, Status};
use std::collections::VecDeque;
use std::sync::Arc;

/// Names a question until its answer has come: the command that asked, and which question of its
/// place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub(super) request: u32,
    pub(super) number: u32,
}

/// A question: what an admin command that only reads comes to.
#[derive(Clone, Debug)]
pub struct Question {
    ctrl: Arc<Controller>,
    sqe: Sqe,
    /// Bytes that the host has room for.
    bytes: u32,
    now_ns: u64,
}

/// The answer to a question.
#[derive(Debug)]
pub struct Reply {
    pub(super) status: Status,
    pub(super) dw0: u32,
    pub(super) dw1: u32,
    /// For the host.
    pub(super) data: Vec<u8>,
}

impl Question {
    /// What the command `sqe` of `ctrl`, which came at `now_ns`, comes to, if that is asked
    /// elsewhere: pages of which each part is put together from everything that is exported.
    pub(super) fn of(
        ctrl: &Arc<Controller>,
        sqe: &Sqe,
        bytes: u32,
        now_ns: u64,
    ) -> Option<Question> {
        admin::takes_long(sqe).then(|| Question { ctrl: ctrl.clone(), sqe: *sqe, bytes, now_ns })
    }

    /// Answers it, on any thread. Takes locks that are held for a moment, and time in proportion to
    /// what is exported.
    pub fn answer(self) -> Reply {
        let mut data = vec![0; self.bytes as usize];
        match admin::execute(&self.ctrl, &self.sqe, &[], &mut data, self.now_ns) {
            AdminOutcome::Done { status, dw0, dw1, data_bytes } => {
                data.truncate(data_bytes as usize);
                Reply { status, dw0, dw1, data }
            }
            other => unreachable!("a command that only reads ends, and does not come to {other:?}"),
        }
    }
}

/// Where questions are answered, for one reactor.
pub trait Elsewhere: Send {
    /// Takes a question. Its answer comes out of [`Elsewhere::poll`], once, at some later time;
    /// whoever puts it there wakes the reactor.
    fn ask(&mut self, ticket: Ticket, question: Question);

    /// The next answer that is there.
    fn poll(&mut self, now_ns: u64) -> Option<(Ticket, Reply)>;

    /// When [`Elsewhere::poll`] has to be called even if nobody wakes the reactor.
    fn next_deadline_ns(&self) -> Option<u64> {
        None
    }
}

/// Answers at once, on the reactor: for tests and load generators.
#[derive(Debug, Default)]
pub struct AtOnce(VecDeque<(Ticket, Reply)>);

impl Elsewhere for AtOnce {
    fn ask(&mut self, ticket: Ticket, question: Question) {
        self.0.push_back((ticket, question.answer()));
    }

    fn poll(&mut self, _now_ns: u64) -> Option<(Ticket, Reply)> {
        self.0.pop_front()
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        (!self.0.is_empty()).then_some(0)
    }
}
