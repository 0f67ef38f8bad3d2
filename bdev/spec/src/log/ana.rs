//! Asymmetric Namespace Access log.

use crate::layout;
use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32, U64};

layout! {
    /// Header of the ANA log (Base Specification, "Asymmetric Namespace Access (Log Page
    /// Identifier 0Ch)"); group descriptors follow.
    pub struct AnaHeader[16] {
        /// Changes since the controller was enabled.
        0 => change_count: U64,
        /// Group descriptors in this log.
        8 => groups: U16,
        /// Reserved.
        10 => rsvd10: [u8; 6],
    }

    /// ANA Group Descriptor; `nsid_count` namespace identifiers of 4 bytes follow.
    pub struct AnaGroup[32] {
        /// Group identifier, 1 up.
        0 => group: U32,
        /// Namespace identifiers that follow.
        4 => nsid_count: U32,
        /// Changes of this group.
        8 => change_count: U64,
        /// See [`AnaState`]; bits 3:0.
        16 => state: u8,
        /// Reserved.
        17 => rsvd17: [u8; 15],
    }
}

impl AnaHeader {
    /// Bit of the log specific field: return groups only, without namespace identifiers.
    pub const LSP_GROUPS_ONLY: u8 = 1;
}

/// Asymmetric access state of a group on a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum AnaState {
    /// Use this path.
    #[default]
    Optimized = 0x1,
    /// Use this path when there is no optimized one.
    NonOptimized = 0x2,
    /// Not through this path for now.
    Inaccessible = 0x3,
    /// Never again through this path.
    PersistentLoss = 0x4,
    /// Between two states.
    Change = 0xf,
}

impl AnaState {
    /// The state in bits 3:0 of the descriptor's byte.
    pub const fn from_byte(byte: u8) -> Option<AnaState> {
        match byte & 0xf {
            0x1 => Some(AnaState::Optimized),
            0x2 => Some(AnaState::NonOptimized),
            0x3 => Some(AnaState::Inaccessible),
            0x4 => Some(AnaState::PersistentLoss),
            0xf => Some(AnaState::Change),
            _ => None,
        }
    }
}

/// Reads the groups of an ANA log: descriptor and namespace identifiers. Ends after the number
/// of groups the header tells, or at the first that does not fit.
#[derive(Clone, Debug)]
pub struct AnaGroups<'a> {
    left: u16,
    rest: &'a [u8],
}

impl<'a> AnaGroups<'a> {
    /// Over the bytes of the log, header included; none when the header does not fit.
    pub fn new(bytes: &'a [u8]) -> Option<AnaGroups<'a>> {
        let (header, rest) = AnaHeader::ref_from_prefix(bytes).ok()?;
        Some(AnaGroups { left: header.groups.get(), rest })
    }
}

impl<'a> Iterator for AnaGroups<'a> {
    type Item = (&'a AnaGroup, &'a [U32]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let (group, rest) = AnaGroup::ref_from_prefix(self.rest).ok()?;
        let count = usize::try_from(group.nsid_count.get()).ok()?;
        let (nsids, rest) = <[U32]>::ref_from_prefix_with_elems(rest, count).ok()?;
        self.rest = rest;
        Some((group, nsids))
    }
}
