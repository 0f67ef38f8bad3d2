//! Identify data structures and the Identify command's view.

mod controller;
mod descriptor;
mod namespace;

pub use controller::{IdentifyController, PowerState, bits};
pub use descriptor::{DescriptorHeader, NsDescriptor, NsDescriptors, NsDescriptorsMut, nidt};
pub use namespace::{
    IdentifyNamespace, IdentifyNamespaceIndependent, LbaFormat, NvmController, NvmNamespace,
    dlfeat, nsfeat, nstat,
};

use crate::Sqe;
use crate::layout;
use zerocopy::little_endian::{U32, U64};

/// Bytes of every Identify data structure.
pub const IDENTIFY_BYTES: usize = 4096;

/// Controller or Namespace Structure values (Base Specification, "Identify command", CNS).
pub mod cns {
    /// Namespace, NVM command set.
    pub const NAMESPACE: u8 = 0x00;
    /// Controller.
    pub const CONTROLLER: u8 = 0x01;
    /// Active namespace identifier list.
    pub const ACTIVE_NAMESPACES: u8 = 0x02;
    /// Namespace identification descriptor list.
    pub const NAMESPACE_DESCRIPTORS: u8 = 0x03;
    /// NVM set list.
    pub const NVM_SETS: u8 = 0x04;
    /// I/O command set specific namespace.
    pub const CSI_NAMESPACE: u8 = 0x05;
    /// I/O command set specific controller.
    pub const CSI_CONTROLLER: u8 = 0x06;
    /// I/O command set specific active namespace identifier list.
    pub const CSI_ACTIVE_NAMESPACES: u8 = 0x07;
    /// I/O command set independent namespace.
    pub const INDEPENDENT_NAMESPACE: u8 = 0x08;
    /// Allocated namespace identifier list.
    pub const ALLOCATED_NAMESPACES: u8 = 0x10;
    /// Namespace, for an allocated identifier.
    pub const ALLOCATED_NAMESPACE: u8 = 0x11;
    /// Controllers attached to a namespace.
    pub const NAMESPACE_CONTROLLERS: u8 = 0x12;
    /// Controllers of the subsystem.
    pub const CONTROLLERS: u8 = 0x13;
    /// Primary controller capabilities.
    pub const PRIMARY_CAPABILITIES: u8 = 0x14;
    /// Secondary controllers.
    pub const SECONDARY_CONTROLLERS: u8 = 0x15;
    /// Namespace granularity list.
    pub const NAMESPACE_GRANULARITY: u8 = 0x16;
    /// UUID list.
    pub const UUID_LIST: u8 = 0x17;
    /// Domain list.
    pub const DOMAINS: u8 = 0x18;
    /// Endurance group list.
    pub const ENDURANCE_GROUPS: u8 = 0x19;
    /// I/O command set specific allocated namespace identifier list.
    pub const CSI_ALLOCATED_NAMESPACES: u8 = 0x1a;
    /// I/O command set specific namespace, for an allocated identifier.
    pub const CSI_ALLOCATED_NAMESPACE: u8 = 0x1b;
    /// I/O command set combinations.
    pub const COMMAND_SETS: u8 = 0x1c;
}

/// Command Set Identifiers (Base Specification, "I/O Command Sets").
pub mod csi {
    /// NVM.
    pub const NVM: u8 = 0x00;
    /// Key value.
    pub const KEY_VALUE: u8 = 0x01;
    /// Zoned namespaces.
    pub const ZONED: u8 = 0x02;
}

/// The Identify command (Base Specification, "Identify command").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identify {
    /// Which structure; see [`cns`].
    pub cns: u8,
    /// Controller identifier, for the structures that take one.
    pub cntid: u16,
    /// CNS specific identifier (NVM set, domain, endurance group).
    pub cns_specific: u16,
    /// Command set identifier; see [`csi`].
    pub csi: u8,
    /// Index into the UUID list.
    pub uuid_index: u8,
}

impl Identify {
    /// The fields of an Identify command.
    pub fn of(sqe: &Sqe) -> Identify {
        let (d10, d11) = (sqe.cdw10.get(), sqe.cdw11.get());
        Identify {
            cns: d10 as u8,
            cntid: (d10 >> 16) as u16,
            cns_specific: d11 as u16,
            csi: (d11 >> 24) as u8,
            uuid_index: sqe.cdw14.get() as u8 & 0x7f,
        }
    }

    /// Writes the fields into a command.
    pub fn put(&self, sqe: &mut Sqe) {
        sqe.cdw10 = U32::new(u32::from(self.cntid) << 16 | u32::from(self.cns));
        sqe.cdw11 = U32::new(u32::from(self.csi) << 24 | u32::from(self.cns_specific));
        sqe.cdw14 = U32::new(u32::from(self.uuid_index & 0x7f));
    }
}

layout! {
    /// Namespace identifiers in increasing order, zero after the last (Base Specification,
    /// "Namespace List"). CNS 02h, 07h, 10h, 1Ah and the Changed Namespace List log.
    pub struct NamespaceList[4096] {
        /// The identifiers.
        0 => nsids: [U32; 1024],
    }

    /// Combinations of I/O command sets the controller supports (Base Specification, "I/O
    /// Command Set data structure", CNS 1Ch): bit n of a vector stands for the set with
    /// identifier n.
    pub struct CommandSets[4096] {
        /// One vector per combination; the index is what the I/O Command Set Profile feature
        /// selects.
        0 => vectors: [U64; 512],
    }
}

impl NamespaceList {
    /// The identifiers above `after`, at most 1024 of them. `nsids` comes in increasing order.
    pub fn above(after: u32, nsids: impl IntoIterator<Item = u32>) -> NamespaceList {
        let mut list = NamespaceList::default();
        let wanted = nsids.into_iter().filter(|&nsid| nsid > after && nsid != 0);
        for (slot, nsid) in list.nsids.iter_mut().zip(wanted) {
            *slot = U32::new(nsid);
        }
        list
    }

    /// The identifiers up to the first zero.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.nsids.iter().map(|nsid| nsid.get()).take_while(|&nsid| nsid != 0)
    }
}

/// Copies `text` into a fixed ASCII field padded with spaces, cutting what does not fit (Base
/// Specification, "ASCII strings"). Bytes outside 20h to 7Eh become `?`.
pub fn put_ascii(field: &mut [u8], text: &str) {
    field.fill(b' ');
    for (slot, byte) in field.iter_mut().zip(text.bytes()) {
        *slot = if (0x20..=0x7e).contains(&byte) { byte } else { b'?' };
    }
}

/// The text of a fixed ASCII field without its padding of spaces or NULs; empty when it is not
/// UTF-8.
pub fn ascii(field: &[u8]) -> &str {
    let end = field.iter().rposition(|&b| b != b' ' && b != 0).map_or(0, |last| last + 1);
    field.get(..end).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
}
