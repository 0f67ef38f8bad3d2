//! Abort commands for queues on other reactors: asked here, answered here.
//!
//! The admin queue's reactor asks; the reactor of the queue finds the question at its next timer
//! pass; the admin queue's reactor finds the answer at its own.

use super::Controller;
use std::sync::atomic::Ordering;

/// A command to abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortAsked {
    /// The queue it is on.
    pub(crate) qid: u16,
    /// Its identifier.
    pub(crate) cid: u16,
    /// The asker's name for the question.
    pub(crate) token: u32,
}

/// Questions and answers under way.
#[derive(Debug, Default)]
pub(super) struct Aborts {
    asked: Vec<AbortAsked>,
    answers: Vec<(u32, bool)>,
}

impl Controller {
    /// Asks the reactor of a queue to abort a command. False when the queue is not connected.
    pub(crate) fn ask_abort(&self, asked: AbortAsked) -> bool {
        let queues = self.queues();
        if !queues.is_used(asked.qid) {
            return false;
        }
        self.with_aborts(|aborts| aborts.asked.push(asked));
        true
    }

    /// Whether questions or answers are under way; one load.
    pub(crate) fn has_aborts(&self) -> bool {
        self.has_aborts.load(Ordering::Acquire)
    }

    /// The next command to abort on queue `qid`.
    pub(crate) fn take_abort_asked(&self, qid: u16) -> Option<AbortAsked> {
        self.with_aborts(|aborts| {
            let at = aborts.asked.iter().position(|asked| asked.qid == qid)?;
            Some(aborts.asked.remove(at))
        })
    }

    /// Says whether a command was aborted.
    pub(crate) fn answer_abort(&self, token: u32, aborted: bool) {
        self.with_aborts(|aborts| aborts.answers.push((token, aborted)));
    }

    /// The next answer: the asker's name for the question, and whether the command was aborted.
    pub(crate) fn take_abort_answer(&self) -> Option<(u32, bool)> {
        self.with_aborts(|aborts| aborts.answers.pop())
    }

    /// Queue `qid` is gone: what was asked about it is answered with no. Called under the lock of
    /// the queues, so that nothing is asked after it.
    pub(super) fn refuse_aborts(&self, qid: u16) {
        self.with_aborts(|aborts| {
            let (gone, stays) = aborts.asked.drain(..).partition(|asked| asked.qid == qid);
            aborts.asked = stays;
            let gone: Vec<AbortAsked> = gone;
            aborts.answers.extend(gone.iter().map(|asked| (asked.token, false)));
        });
    }

    fn with_aborts<R>(&self, f: impl FnOnce(&mut Aborts) -> R) -> R {
        let mut aborts = self.aborts.lock().expect("no panic under this lock");
        let result = f(&mut aborts);
        let any = !aborts.asked.is_empty() || !aborts.answers.is_empty();
        self.has_aborts.store(any, Ordering::Release);
        result
    }
}
