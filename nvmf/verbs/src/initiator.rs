//! What an initiator needs of RDMA hardware: a queue pair with receives of its own for answers, and
//! keys by which the controller reaches its memory.

use crate::nic::{NicError, Outcome};
use bdev::{DmaSlice, Memory};
use nvmf_wire::rdma::{CmReject, CmRequest, Reject};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;
use zerocopy::FromBytes;
use zerocopy::little_endian::U16;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The queue: 0 for the admin queue.
    pub qid: u16,
    /// The controller, for an I/O queue.
    pub cntlid: u16,
    /// Commands outstanding at once: as many answers have a receive.
    pub depth: u16,
}

impl Wish {
    /// The private data that says so.
    pub fn private_data(&self) -> CmRequest {
        CmRequest {
            recfmt: U16::new(0),
            qid: U16::new(self.qid),
            // A queue has one entry more than commands outstanding. HSQSIZE is zero-based.
            hrqsize: U16::new(self.depth.saturating_add(1)),
            hsqsize: U16::new(self.depth),
            cntlid: U16::new(if self.qid == 0 { 0 } else { self.cntlid }),
            rsvd10: [0; 22],
        }
    }
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The target turns us away.
    Rejected(Reject),
    /// The target turns us away for a reason that is not in the specification.
    RejectedOddly(u16),
    /// Nothing there takes connections over RDMA.
    NobodyListens,
    /// No answer in time.
    Timeout,
    /// Something else, as the rest of a sentence.
    Failed(String),
}

impl ConnectError {
    /// What the private data of a rejection by the target means.
    pub fn rejection(data: &[u8]) -> ConnectError {
        match CmReject::ref_from_prefix(data) {
            Ok((reject, _)) => match Reject::from_code(reject.sts.get()) {
                Some(why) => ConnectError::Rejected(why),
                None => ConnectError::RejectedOddly(reject.sts.get()),
            },
            Err(_) => ConnectError::RejectedOddly(0),
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            ConnectError::RejectedOddly(code) => {
                return write!(f, "the target rejects the connection with unknown code {code}");
            }
            ConnectError::Failed(why) => return f.write_str(why),
            ConnectError::Timeout => "there is no answer over RDMA in time",
            ConnectError::NobodyListens => "nothing there takes connections over RDMA",
            ConnectError::Rejected(why) => match why {
                Reject::PrivateDataLength => "the target does not take our private data's length",
                Reject::Recfmt => "the target does not know the format of our private data",
                Reject::Qid => "the target has no queue of that number",
                Reject::HsqSize => "the target does not take so many commands in a queue",
                Reject::HrqSize => "the target does not take so many receives in a queue",
                Reject::NoResources => "the target has no place for one more queue",
                Reject::Ird => "the target wants to read more of our memory at a time",
                Reject::Ord => "the target does not take our outbound read depth",
                Reject::Cntlid => "the target has no such controller any more",
            },
        };
        f.write_str(why)
    }
}

/// A SEND of a command capsule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Send {
    /// Its number; comes back with its completion.
    pub slot: u16,
    /// The command, in the link's own memory.
    pub capsule: DmaSlice,
    /// The data behind it, in memory that is lent to the link.
    pub data: Option<DmaSlice>,
}

/// Memory for one answer, in the link's own memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landing {
    /// Its number; comes back with its completion.
    pub slot: u16,
    /// Where the completion queue entry goes.
    pub cqe: DmaSlice,
}

/// Which work request has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// A SEND: its memory is not read any more.
    Sent {
        /// Which.
        slot: u16,
        /// How it ended.
        outcome: Outcome,
    },
    /// A receive.
    Received {
        /// Which.
        slot: u16,
        /// How it ended.
        outcome: Outcome,
        /// Bytes that came.
        bytes: u32,
        /// The key that the target had invalidated with it.
        invalidated: Option<u32>,
    },
}

/// Why a connection is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The target ended it.
    Disconnected,
    /// The network or the device failed, as a sentence.
    Broken(String),
}

/// Ends a connection from another thread.
pub trait Cutter: std::marker::Send {
    /// Ends it, if it is still there. Its user notices, and closes it.
    fn cut(&self);
}

/// One connected queue pair of an initiator. Closed when dropped.
pub trait Link: std::marker::Send {
    /// Lets payloads lie in `memory` from now on, in place of the link's own: there is none under
    /// way. The controller may read and write all of it while the connection lasts.
    ///
    /// # Errors
    /// The device's, for a person.
    fn lend(&mut self, memory: &Arc<Memory>) -> Result<(), NicError>;

    /// The key by which the controller reaches memory that is lent.
    fn key(&self, payload: DmaSlice) -> u32;

    /// The key by which the controller reaches the link's own memory.
    fn own_key(&self) -> u32;

    /// Posts receives, as one chain.
    ///
    /// # Errors
    /// The device's, for a person.
    fn receive(&mut self, landings: &[Landing]) -> Result<(), NicError>;

    /// Posts SENDs in their order, as one chain.
    ///
    /// # Errors
    /// The device's, for a person: some of them may be under way.
    fn send(&mut self, sends: &[Send]) -> Result<(), NicError>;

    /// Appends what has ended.
    ///
    /// # Errors
    /// The connection is lost.
    fn poll(&mut self, out: &mut Vec<Ending>) -> Result<(), Lost>;

    /// Disconnects, and destroys the queue pair: when this returns, no memory is used any more,
    /// neither by the device nor by the controller through it.
    fn close(&mut self);

    /// With which another thread ends the connection.
    fn cutter(&self) -> Box<dyn Cutter>;

    /// Whether all that may end from now on makes [`Link::wake_fd`] readable.
    fn may_sleep(&self) -> bool;

    /// A descriptor that becomes readable when there is something to do.
    fn wake_fd(&self) -> Option<RawFd>;
}

/// Where connections are made.
pub trait Dialer: std::marker::Send + Sync {
    /// Connects within `limit`, or what the connection manager needs at least. `memory` is the link's own, for capsules and answers; payloads lie
    /// in it, too, until other memory is lent. `landings` are posted before the target can answer.
    ///
    /// # Errors
    /// Why there is none.
    fn connect(
        &self,
        to: SocketAddr,
        wish: &Wish,
        memory: &Arc<Memory>,
        landings: &[Landing],
        limit: Duration,
    ) -> Result<Box<dyn Link>, ConnectError>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::private_data::{Ask, Queues};
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    #[test]
    fn the_target_understands_what_an_initiator_asks() {
        let wish = Wish { qid: 3, cntlid: 7, depth: 31 };
        let queues = Queues { io: 3, entries: 32 };
        let ask = Ask::parse(wish.private_data().as_bytes(), 16, &queues);
        assert_eq!(ask, Ok(Ask { qid: 3, entries: 32, reads: 16 }));
        assert_eq!(wish.private_data().cntlid.get(), 7);
        assert_eq!(Wish { qid: 0, ..wish }.private_data().cntlid.get(), 0);
    }

    #[test]
    fn each_reject_code_is_told_apart() {
        let mut texts = std::collections::BTreeSet::new();
        for code in 1..=9 {
            let why = Reject::from_code(code).unwrap();
            let told = ConnectError::rejection(why.private_data().as_bytes());
            assert_eq!(told, ConnectError::Rejected(why));
            texts.insert(told.to_string());
        }
        assert_eq!(texts.len(), 9);
        let odd = ConnectError::rejection(&[0, 0, 99, 0]);
        assert_eq!(odd, ConnectError::RejectedOddly(99));
    }

    proptest! {
        #[test]
        fn any_private_data_is_a_reason(data in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert!(!ConnectError::rejection(&data).to_string().is_empty());
        }
    }
}
