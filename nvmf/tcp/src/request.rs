//! Commands under way, from their capsule to the last byte of their answer.

use crate::limits::{R2TS_PER_COMMAND, TTAG_REQUEST_BITS};
use bdev::{DmaBuf, DmaSlice};
use nvmf::transport::{Carried, Commands, ReqId, Response};

/// Where the data of a capsule lies.
#[derive(Debug, Default)]
pub(crate) enum Home {
    /// There was none.
    #[default]
    None,
    /// In a receive buffer.
    Arena(u16),
    /// In a buffer of its own.
    Own(DmaBuf),
}

/// An R2T that the host has not answered in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct R2t {
    /// Where the next byte goes.
    pub next: u32,
    /// Where the last byte goes, plus one.
    pub end: u32,
    /// The host has it: before that, nothing answers it.
    pub sent: bool,
}

/// Data on its way from the host.
#[derive(Debug)]
pub(crate) struct Pull {
    /// Where it goes.
    pub into: DmaSlice,
    /// `into` is the memory of a device: nothing goes there but whole blocks.
    pub lands: bool,
    /// The beginning of a block whose end comes with another PDU, where the data lands.
    pub part: Vec<u8>,
    /// Bytes asked for so far, from the start.
    pub asked: u32,
    /// Bytes arrived and checked, in all R2Ts.
    pub received: u32,
    /// By the number in their tag.
    pub r2ts: [Option<R2t>; R2TS_PER_COMMAND as usize],
    /// A data digest was wrong.
    pub damaged: bool,
    /// When it began, in ns.
    pub began_ns: u64,
}

/// What came with a command.
#[derive(Debug, Default)]
pub(crate) struct Capsule {
    /// The host's number for the command.
    pub cid: u16,
    /// Where its data is.
    pub home: Home,
}

/// An answer on its way out.
#[derive(Debug)]
pub(crate) struct Answer {
    pub response: Response,
    /// The digest of the data, kept for a send in several parts.
    pub digest: Option<[u8; 4]>,
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer { response, digest: None }
    }
}

/// Commands that came over TCP.
#[derive(Debug)]
pub(crate) struct Tcp;

impl Carried for Tcp {
    type Capsule = Capsule;
    type Pull = Pull;
    type Answer = Answer;

    fn is_released(capsule: &Capsule) -> bool {
        matches!(capsule.home, Home::None)
    }
}

/// All commands of a transport.
pub(crate) type Requests = Commands<Tcp>;

/// Places for `limit` commands.
pub(crate) fn requests(limit: u32) -> Requests {
    assert!(limit <= 1 << TTAG_REQUEST_BITS, "more commands than a transfer tag can name");
    Commands::new(limit)
}

/// The host has an R2T, and may answer it.
pub(crate) fn r2t_sent(requests: &mut Requests, req: ReqId, number: usize) {
    if let Some(r2t) = requests.pull(req).and_then(|pull| pull.r2ts[number].as_mut()) {
        r2t.sent = true;
    }
}

/// The transfer tag of R2T number `number` of command `req`.
pub(crate) fn ttag(req: ReqId, number: usize) -> u16 {
    (req.0 | (number as u32) << TTAG_REQUEST_BITS) as u16
}

/// The number of the command, and of the R2T, in a transfer tag.
pub(crate) fn untag(ttag: u16) -> (u32, usize) {
    let tag = u32::from(ttag);
    (tag & ((1 << TTAG_REQUEST_BITS) - 1), (tag >> TTAG_REQUEST_BITS) as usize)
}
