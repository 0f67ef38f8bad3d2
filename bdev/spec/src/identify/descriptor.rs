//! Namespace Identification Descriptor list.

use super::IDENTIFY_BYTES;
use crate::layout;
use zerocopy::{FromBytes, IntoBytes};

/// Namespace identifier types (Base Specification, "Namespace Identification Descriptor").
pub mod nidt {
    /// IEEE extended unique identifier, 8 bytes.
    pub const EUI64: u8 = 1;
    /// Namespace globally unique identifier, 16 bytes.
    pub const NGUID: u8 = 2;
    /// UUID, 16 bytes.
    pub const UUID: u8 = 3;
    /// Command set identifier, 1 byte.
    pub const CSI: u8 = 4;
}

layout! {
    /// The fixed part of a Namespace Identification Descriptor (Base Specification, "Namespace
    /// Identification Descriptor"; CNS 03h); the identifier follows.
    pub struct DescriptorHeader[4] {
        /// Identifier type; see [`nidt`].
        0 => nidt: u8,
        /// Identifier length in bytes.
        1 => nidl: u8,
        /// Reserved.
        2 => rsvd2: [u8; 2],
    }
}

/// One identifier of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsDescriptor {
    /// EUI-64.
    Eui64([u8; 8]),
    /// NGUID.
    Nguid([u8; 16]),
    /// UUID.
    Uuid([u8; 16]),
    /// Command set identifier.
    Csi(u8),
}

/// Reads the descriptors of a list; ends at the first one that is empty or does not fit, and
/// passes over types it does not know.
#[derive(Clone, Debug)]
pub struct NsDescriptors<'a> {
    rest: &'a [u8],
}

impl<'a> NsDescriptors<'a> {
    /// Over the bytes of a CNS 03h structure.
    pub fn new(bytes: &'a [u8]) -> NsDescriptors<'a> {
        NsDescriptors { rest: bytes }
    }
}

impl Iterator for NsDescriptors<'_> {
    type Item = NsDescriptor;

    fn next(&mut self) -> Option<NsDescriptor> {
        loop {
            let (header, rest) = DescriptorHeader::ref_from_prefix(self.rest).ok()?;
            if header.nidl == 0 {
                return None;
            }
            let (id, rest) = rest.split_at_checked(usize::from(header.nidl))?;
            self.rest = rest;
            let known = match (header.nidt, id) {
                (nidt::EUI64, id) => id.try_into().ok().map(NsDescriptor::Eui64),
                (nidt::NGUID, id) => id.try_into().ok().map(NsDescriptor::Nguid),
                (nidt::UUID, id) => id.try_into().ok().map(NsDescriptor::Uuid),
                (nidt::CSI, &[csi]) => Some(NsDescriptor::Csi(csi)),
                _ => None,
            };
            if known.is_some() {
                return known;
            }
        }
    }
}

/// Writes a list of descriptors.
#[derive(Debug)]
pub struct NsDescriptorsMut<'a> {
    bytes: &'a mut [u8; IDENTIFY_BYTES],
    used: usize,
}

impl<'a> NsDescriptorsMut<'a> {
    /// Clears `bytes` and starts an empty list in it.
    pub fn new(bytes: &'a mut [u8; IDENTIFY_BYTES]) -> NsDescriptorsMut<'a> {
        bytes.fill(0);
        NsDescriptorsMut { bytes, used: 0 }
    }

    /// Appends a descriptor. A list holds more than 200 of the longest; past that it panics.
    pub fn push(&mut self, descriptor: NsDescriptor) {
        let (nidt, id): (u8, &[u8]) = match &descriptor {
            NsDescriptor::Eui64(id) => (nidt::EUI64, id),
            NsDescriptor::Nguid(id) => (nidt::NGUID, id),
            NsDescriptor::Uuid(id) => (nidt::UUID, id),
            NsDescriptor::Csi(id) => (nidt::CSI, core::slice::from_ref(id)),
        };
        let header = DescriptorHeader { nidt, nidl: id.len() as u8, ..Default::default() };
        let at = self.used;
        self.bytes[at..at + 4].copy_from_slice(header.as_bytes());
        self.bytes[at + 4..at + 4 + id.len()].copy_from_slice(id);
        self.used = at + 4 + id.len();
    }
}
