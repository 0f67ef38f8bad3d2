//! Devices: what data lies on.

use crate::{DeviceRef, Name, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// A file.
    File,
    /// A block device of the kernel.
    Block,
    /// An NVMe drive driven from user space.
    Nvme,
    /// Memory of the appliance; gone when it ends.
    Memory,
    /// A namespace of another target.
    Remote,
    /// A layer over another device, for tests.
    Layer,
}

/// The place of a device in a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PoolMember {
    /// The pool.
    pub pool: Name,
    /// The device's number there.
    pub number: u32,
}

/// What is known of an NVMe drive that the appliance drives itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NvmeDrive {
    /// The kernel's driver that holds it for the appliance.
    pub driver: String,
    /// Its NUMA node, on a machine with several.
    pub numa_node: Option<u32>,
    /// Its firmware revision.
    pub firmware: String,
    /// Its health log in a few words, once it was read.
    pub health: Option<String>,
    /// How often its controller was reset since it was attached.
    pub resets: u64,
    /// Commands that took too long since then.
    pub timeouts: u64,
    /// Commands that it ended with an error since then.
    pub errors: u64,
}

/// A device that is attached, or that could be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: DeviceKind,
    /// Where it is: a path, an address. Nothing for memory.
    pub path: Option<String>,
    /// What an NVMe drive says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drive: Option<NvmeDrive>,
    /// Its maker's name for it.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Capacity in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Whether it keeps writes in a cache that a power cut empties.
    pub volatile_cache: bool,
    /// The pool it is part of.
    pub pool: Option<PoolMember>,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Attach a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceAttach {
    /// Its name; from the path's last part unless given.
    #[serde(default)]
    pub name: Option<Name>,
    /// The absolute path of a file or block device, or `pci:` and the address of an NVMe drive,
    /// which is then taken from the kernel. Nothing: memory.
    #[serde(default)]
    pub path: Option<DeviceRef>,
    /// Size in bytes of a file that is to be made, or of memory. A file that is there keeps its size.
    #[serde(default)]
    #[schema(minimum = 1_048_576, maximum = 1_152_921_504_606_846_976_u64)]
    pub bytes: Option<u64>,
    /// Take an NVMe drive whatever is on it, and whoever uses it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub force: bool,
    /// Take an NVMe drive without an IOMMU: it can then overwrite any memory. For labs.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unsafe_no_iommu: bool,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

impl DeviceAttach {
    /// Checks that the fields go together.
    ///
    /// # Errors
    /// What does not, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.path.is_none() && (self.bytes.is_none() || self.name.is_none()) {
            return Err("Give the path of a file or block device; or, for memory, a name and its \
                        size in bytes."
                .into());
        }
        if self.path.as_ref().is_some_and(|path| !path.is_path()) {
            return Err("path must be absolute: start it with a slash, or with pci: for an NVMe \
                        drive."
                .into());
        }
        let is_drive = self.path.as_ref().is_some_and(DeviceRef::is_pci);
        if !is_drive && (self.force || self.unsafe_no_iommu) {
            return Err(
                "force and unsafe_no_iommu are for an NVMe drive: give its PCI address as \
                        path, as in pci:0000:03:00.0."
                    .into(),
            );
        }
        if is_drive && self.bytes.is_some() {
            return Err("The size of an NVMe drive is what it is: leave bytes out.".into());
        }
        if self.bytes.is_some_and(|n| !(1 << 20..=crate::MAX_BYTES).contains(&n)) {
            return Err(format!("bytes must be between 1048576 and {}.", crate::MAX_BYTES));
        }
        Ok(())
    }
}
