//! NVMe drives of the machine, attached or not, and what destroys everything on them.

use crate::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An NVMe drive of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// Its PCI address; `pci:` and the address is the path that a device of it is attached with.
    pub address: String,
    /// Its maker's name for it; unknown while no driver has it.
    pub model: Option<String>,
    /// Its serial number, likewise.
    pub serial: Option<String>,
    /// Its firmware revision, likewise.
    pub firmware: Option<String>,
    /// The driver that has it.
    pub driver: Option<String>,
    /// Its NUMA node, on a machine with several.
    pub numa_node: Option<u32>,
    /// Its health log in a few words, where its driver tells.
    pub health: Option<String>,
    /// What is on it and who uses it, as far as it can be told: only while the kernel's driver has
    /// it.
    pub contents: Vec<String>,
    /// The devices that are attached of it: one for each namespace.
    pub devices: Vec<Name>,
}

/// What the drive below a device says of its health, asked just now (NVM Express Base Specification,
/// "SMART / Health Information", "Firmware Slot Information", "Error Information").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriveHealth {
    /// In a few words: what it warns of, wear, temperature.
    pub summary: String,
    /// Spare blocks left, percent.
    pub spare_percent: u8,
    /// It warns when less are left, percent.
    pub spare_threshold_percent: u8,
    /// Life used, percent; may pass 100.
    pub used_percent: u8,
    /// Temperature in degrees Celsius.
    pub celsius: i32,
    /// Bytes read in its life.
    pub read_bytes: u64,
    /// Bytes written in its life.
    pub written_bytes: u64,
    /// Hours it was switched on.
    pub power_on_hours: u64,
    /// How often it was switched on.
    pub power_cycles: u64,
    /// How often power went without a shutdown before.
    pub unsafe_shutdowns: u64,
    /// Data that could not be read back.
    pub media_errors: u64,
    /// Firmware by slot; what is empty is left out.
    pub firmware: Vec<FirmwareSlot>,
    /// The formats that its namespace can have.
    pub formats: Vec<BlockFormat>,
    /// The newest entries of its error log, newest first.
    pub errors: Vec<DriveError>,
}

/// A slot with firmware.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareSlot {
    /// Its number, from 1.
    pub slot: u8,
    /// The revision in it.
    pub revision: String,
    /// The drive runs from it.
    pub active: bool,
}

/// A format that a namespace can have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BlockFormat {
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Bytes of metadata with each block.
    pub metadata_bytes: u16,
    /// The drive's rank of its speed: 0 is best, 3 is worst.
    pub rank: u8,
    /// The namespace has it now.
    pub in_use: bool,
}

/// An entry of a drive's error log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriveError {
    /// Its number in the drive's life.
    pub number: u64,
    /// The queue of the command, where there was one.
    pub queue: Option<u16>,
    /// How the command ended, in words.
    pub status: String,
    /// The namespace, where there was one.
    pub namespace: Option<u32>,
    /// The first block in error.
    pub block: u64,
}

/// How Format NVM erases (NVM Express Base Specification, "Format NVM command").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecureErase {
    /// Not securely: blocks read as zeros or as nothing in particular.
    #[default]
    None,
    /// All user data is erased.
    UserData,
    /// The key that the data is encrypted with is forgotten.
    Cryptographic,
}

/// Format a namespace of a drive. Everything on it is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriveFormat {
    /// Its number on the drive.
    #[serde(default = "first")]
    #[schema(minimum = 1, maximum = 4_294_967_294_u32)]
    pub namespace: u32,
    /// Bytes in a block, 512 or 4096, without metadata; as many as now unless given.
    #[serde(default)]
    #[schema(minimum = 512, maximum = 4096, multiple_of = 512, example = 4096)]
    pub block_bytes: Option<u32>,
    /// How it erases.
    #[serde(default)]
    pub erase: SecureErase,
    /// Format it though there is data on it, or though nobody can tell.
    #[serde(default)]
    pub force: bool,
}

fn first() -> u32 {
    1
}

impl DriveFormat {
    /// Checks the numbers.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if !(1..u32::MAX).contains(&self.namespace) {
            return Err("namespace must be between 1 and 4294967294.".into());
        }
        match self.block_bytes {
            None | Some(512 | 4096) => Ok(()),
            Some(other) => Err(format!("block_bytes is {other}: give 512 or 4096.")),
        }
    }
}

/// What Sanitize does (NVM Express Base Specification, "Sanitize command").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SanitizeAction {
    /// Erases the blocks at the media.
    BlockErase,
    /// Forgets the keys that the data is encrypted with.
    CryptoErase,
    /// Overwrites everything with zeros, once.
    Overwrite,
}

/// Sanitize a drive: all of its namespaces, caches and spare blocks. Everything on it is lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriveSanitize {
    /// How.
    pub action: SanitizeAction,
    /// Sanitize it though there is data on it, or though nobody can tell.
    #[serde(default)]
    pub force: bool,
}
