//! What a command is, what it takes before it executes, and how far it is.

use crate::export::controller::Location;
use crate::export::gate::Lock;
use crate::machine::io::command::{Command, Fault};
use bdev::DmaSlice;
use nvme_spec::{SglKind, Sqe, Status};

/// What a command is.
#[derive(Debug)]
pub(crate) enum Job {
    /// Connect, with its data.
    Connect,
    /// Disconnect.
    Disconnect,
    /// A command for the admin queue.
    Admin {
        /// Bytes that it takes from the host.
        from_host: u32,
    },
    /// A data command on blocks.
    Io(IoJob),
    /// Flush of one namespace.
    Flush {
        /// Its place in the reactor's table.
        space: u32,
    },
    /// Flush of every namespace, in the order of their identifiers.
    FlushAll {
        /// The last one whose turn has come.
        nsid: u32,
        /// Its place in the reactor's table.
        space: Option<u32>,
    },
}

/// A data command on blocks.
#[derive(Debug)]
pub(crate) struct IoJob {
    /// What it asks for.
    pub(crate) command: Command,
    /// Its namespace in the reactor's table.
    pub(crate) space: u32,
    /// Its part in a fused pair.
    pub(crate) pair: Pair,
    /// How far it is, if it takes several steps.
    pub(crate) progress: Progress,
}

/// How far a command of several steps is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Blocks verified or copied, or ranges deallocated.
    pub(crate) done: u32,
    /// Blocks of the piece under way that a Copy has read, or of the range under way that are
    /// deallocated.
    pub(crate) filled: u32,
    /// Blocks that are being deallocated.
    pub(crate) piece: u32,
    /// While a Copy reads another namespace than its own: that.
    pub(crate) source: Option<u32>,
}

impl Job {
    /// The namespace that it works on now.
    #[inline]
    pub(crate) fn space(&self) -> Option<u32> {
        match self {
            Job::Io(io) => Some(io.progress.source.unwrap_or(io.space)),
            Job::Flush { space } => Some(*space),
            Job::FlushAll { space, .. } => *space,
            Job::Connect | Job::Disconnect | Job::Admin { .. } => None,
        }
    }

    /// The data command that it is, if it is one.
    #[inline]
    pub(crate) fn command(&self) -> Option<Command> {
        match self {
            Job::Io(io) => Some(io.command),
            _ => None,
        }
    }
}

/// A command's part in a fused pair.
#[derive(Debug)]
pub(crate) enum Pair {
    /// None.
    Alone,
    /// The compare; the write is there.
    First {
        /// The write.
        second: u32,
        /// The pair's hold on its blocks.
        lock: Option<Lock>,
    },
    /// The write; the compare is there.
    Second {
        /// The compare.
        first: u32,
    },
}

/// What a command takes before it executes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Bytes of a buffer: for the host's data, or for data for the host.
    pub(crate) data_bytes: u32,
    /// Bytes of a second buffer: for blocks to compare, to verify or to copy.
    pub(crate) scratch_bytes: u32,
    /// Where the host's data is, and where it goes.
    pub(crate) host_data: HostData,
}

/// The host's data of a command.
#[derive(Clone, Copy, Debug)]
pub(crate) enum HostData {
    /// There is none. What came in the capsule all the same is nobody's.
    None,
    /// It came in the capsule, and is used where it lies.
    InCapsule,
    /// It came in the capsule, and is copied to the buffer, which is aligned.
    Copied,
    /// It is asked for, and comes to the buffer.
    Pulled,
    /// It is asked for, and comes to the blocks of a device.
    Landing(DmaSlice),
}

impl Needs {
    /// Nothing.
    pub(crate) const NOTHING: Needs =
        Needs { data_bytes: 0, scratch_bytes: 0, host_data: HostData::None };

    /// Room for `bytes` that go to the host.
    pub(crate) fn for_host(bytes: u32) -> Needs {
        Needs { data_bytes: bytes, ..Needs::NOTHING }
    }

    /// Whether it takes any.
    #[inline]
    pub(crate) fn takes_buffers(&self) -> bool {
        self.data_bytes | self.scratch_bytes > 0
    }
}

impl Needs {
    /// The host's data of a command: `bytes`, which it describes or which came in its capsule.
    ///
    /// # Errors
    /// When less came in the capsule.
    pub(crate) fn from_host(
        sqe: &Sqe,
        in_capsule: Option<DmaSlice>,
        bytes: u32,
    ) -> Result<Needs, Fault> {
        let came = in_capsule.map_or(0, |data| data.len());
        if sqe.dptr.kind() != SglKind::InCapsule && came == 0 {
            let host_data = HostData::Pulled;
            return Ok(Needs { data_bytes: bytes, host_data, ..Needs::NOTHING });
        }
        if came < bytes as usize {
            return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
        }
        Ok(Needs { host_data: HostData::InCapsule, ..Needs::NOTHING })
    }
}
