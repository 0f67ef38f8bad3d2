//! How a command ends, and what becomes of it after a step.

use crate::export::controller::Location;
use crate::machine::io::command::Fault;
use nvme_spec::Status;

/// How a command ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) dw0: u32,
    pub(crate) dw1: u32,
    /// This much of its buffer goes to the host.
    pub(crate) data_bytes: u32,
    /// What the error log names as the field to blame.
    pub(crate) location: Location,
}

impl Answer {
    /// `status`, without a result.
    pub(crate) fn status(status: Status) -> Answer {
        Answer { status, dw0: 0, dw1: 0, data_bytes: 0, location: Location::NONE }
    }

    /// Success with a result.
    pub(crate) fn result(dw0: u32) -> Answer {
        Answer { dw0, ..Answer::status(Status::SUCCESS) }
    }
}

impl From<Fault> for Answer {
    fn from(fault: Fault) -> Answer {
        Answer { location: fault.location, ..Answer::status(fault.status) }
    }
}

/// What becomes of a command after a step. Whoever takes the step says it, and the target does it.
#[derive(Debug)]
#[must_use = "a command goes on or ends"]
pub(crate) enum Next {
    /// It waits: for the stack, for the gate.
    Waits,
    /// It has more steps to take, and lets others go before it.
    Later,
    /// It ends.
    Ends(Answer),
    /// Both halves of a fused pair end.
    PairEnds {
        /// The compare, and how it ends.
        first: (u32, Answer),
        /// The write.
        second: (u32, Answer),
    },
}

impl Next {
    /// It ends with `status`, without a result.
    pub(crate) fn ends(status: Status) -> Next {
        Next::Ends(Answer::status(status))
    }
}
