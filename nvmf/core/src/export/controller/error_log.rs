//! The error log of one controller.

use crate::limits::ERROR_ENTRIES;
use nvme_spec::Status;
use nvme_spec::log::ErrorEntry;
use std::collections::VecDeque;
use zerocopy::little_endian::{U16, U32, U64};

/// The place of a wrong parameter in a command: byte and bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location(u16);

impl Location {
    /// No place in particular.
    pub const NONE: Location = Location(0xffff);

    /// Bit `bit` (0 to 7) of byte `byte` of the command.
    pub const fn byte_bit(byte: u8, bit: u8) -> Location {
        Location((bit as u16 & 7) << 8 | byte as u16)
    }

    /// Bit `bit` (0 to 31) of command dword `dword`.
    pub const fn dword_bit(dword: u8, bit: u8) -> Location {
        Location::byte_bit(dword * 4 + bit / 8, bit % 8)
    }

    /// The opcode.
    pub const OPCODE: Location = Location::byte_bit(0, 0);
    /// FUSE.
    pub const FUSE: Location = Location::byte_bit(1, 0);
    /// PSDT.
    pub const PSDT: Location = Location::byte_bit(1, 6);
    /// The command identifier.
    pub const CID: Location = Location::byte_bit(2, 0);
    /// The namespace identifier.
    pub const NSID: Location = Location::dword_bit(1, 0);
    /// The data pointer.
    pub const DPTR: Location = Location::dword_bit(6, 0);
    /// The length in the SGL descriptor.
    pub const SGL_LENGTH: Location = Location::dword_bit(8, 0);
    /// The type in the SGL descriptor.
    pub const SGL_TYPE: Location = Location::byte_bit(39, 4);
    /// Starting LBA.
    pub const SLBA: Location = Location::dword_bit(10, 0);
    /// Number of logical blocks.
    pub const NLB: Location = Location::dword_bit(12, 0);

    /// The field of an entry.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

/// A command that failed.
#[derive(Clone, Copy, Debug)]
pub struct CommandError {
    /// Queue it came on.
    pub sqid: u16,
    /// Its identifier.
    pub cid: u16,
    /// How it ended.
    pub status: Status,
    /// The wrong parameter.
    pub location: Location,
    /// First LBA in error, 0 where there is none.
    pub lba: u64,
    /// Namespace, 0 where there is none.
    pub nsid: u32,
}

/// The newest errors, and how many there were.
#[derive(Debug, Default)]
pub(crate) struct ErrorLog {
    count: u64,
    /// Newest first.
    entries: VecDeque<ErrorEntry>,
}

impl ErrorLog {
    pub(crate) fn push(&mut self, error: &CommandError, trtype: u8) {
        self.count += 1;
        self.entries.truncate(ERROR_ENTRIES - 1);
        let mut entry = ErrorEntry {
            error_count: U64::new(self.count),
            sqid: U16::new(error.sqid),
            cid: U16::new(error.cid),
            parameter_location: U16::new(error.location.bits()),
            lba: U64::new(error.lba),
            nsid: U32::new(error.nsid),
            trtype,
            ..ErrorEntry::default()
        };
        entry.set_status(error.status);
        self.entries.push_front(entry);
    }

    /// Errors so far.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Newest first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &ErrorEntry> {
        self.entries.iter()
    }
}
