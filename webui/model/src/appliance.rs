//! The appliance itself.

use crate::Status;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The appliance: the worst of what is in it, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Appliance {
    /// Its host name.
    pub name: String,
    /// Version of the program.
    pub version: String,
    /// When it started.
    pub started_at_ms: u64,
    /// Reactors, one pinned thread each.
    pub reactors: u32,
    /// What its memory for data is made of.
    pub memory: String,
    /// RDMA devices that hosts can be reached by, or why there is no RDMA.
    pub rdma: String,
    /// Connections of hosts that are open.
    pub connections: u32,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// The certificate that the API shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// Whom it is for, as it says.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Names and addresses that it is good for.
    pub names: Vec<String>,
    /// SHA-256 of it: 32 pairs of digits with colons.
    pub fingerprint: String,
    /// From when on it is good.
    pub valid_from_ms: u64,
    /// Until when.
    pub valid_until_ms: u64,
    /// Whether the appliance made it, and makes the next before it ends.
    pub own: bool,
}

/// A network interface of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Interface {
    /// The kernel's name of it.
    pub name: String,
    /// Its MAC address; nothing where it has none.
    pub mac: Option<String>,
    /// Whether it has a link.
    pub up: bool,
    /// Megabits a second, where it says so.
    pub speed_mbps: Option<u64>,
    /// The largest packet in bytes.
    pub mtu: Option<u64>,
    /// Its addresses, each with the length of its prefix, as in `10.0.0.5/24`.
    pub addresses: Vec<String>,
}

/// Whether the appliance serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// Whether it does.
    pub ready: bool,
    /// What it waits for, or that it serves.
    pub reason: String,
}

/// The slots of an appliance that was started from its image, and the update that is coming.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Slots {
    /// The slot that it runs from; nothing where it was not started from an image on a disk.
    pub running: Option<String>,
    /// Each slot.
    pub slots: Vec<Slot>,
    /// Bytes of an update that have come.
    pub staged_bytes: u64,
    /// What there is to say.
    pub reason: String,
}

/// A slot of the image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Slot {
    /// Its name.
    pub slot: String,
    /// How the image in it stands.
    pub state: SlotState,
    /// The image; nothing in an empty slot.
    pub title: Option<String>,
}

/// How the image of a slot stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SlotState {
    /// There is none.
    Empty,
    /// It has shown that it works.
    Good,
    /// It is tried, now or at the next start, and kept once it works.
    Trial,
    /// It was tried and did not work.
    Failed,
}

/// A piece of an update: the unified kernel image, from its begin on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdatePiece {
    /// Where it belongs; 0 begins anew.
    #[schema(minimum = 0, maximum = 1_073_741_824_u64)]
    pub offset: u64,
    /// The bytes, in base64.
    #[schema(max_length = 3_145_728)]
    pub data: String,
}

/// The end of an update.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpdateInstall {
    /// The image's signature: the text of the file that minisign makes.
    #[schema(max_length = 4096)]
    pub signature: String,
    /// Whether it may be older than the image that runs.
    #[serde(default)]
    pub allow_older: bool,
}
