//! The rows.

mod access;
mod appliance;
mod devices;
mod hosts;
mod snapshots;
mod subsystems;
mod volumes;

use super::{Access, Row, Table};
use axum::http::Method;
use serde::Deserialize;
use utoipa::ToSchema;
use webui_model::{
    Address, DriveAddress, Fabric, HostNqn, Name, Nqn, Role, SnapshotRef, VolumeRef,
};

/// Every row.
pub(crate) fn all() -> Table {
    let mut table = Table::new();
    appliance::rows(&mut table);
    devices::rows(&mut table);
    volumes::rows(&mut table);
    snapshots::rows(&mut table);
    subsystems::rows(&mut table);
    hosts::rows(&mut table);
    access::rows(&mut table);
    table
}

const ANYONE: Access = Access::Anyone;
const VIEWER: Access = Access::Role(Role::Viewer);
const OPERATOR: Access = Access::Role(Role::Operator);
const ADMIN: Access = Access::Role(Role::Admin);

const fn get(path: &'static str, id: &'static str, access: Access, says: &'static str) -> Row {
    Row { method: Method::GET, path, id, access, says }
}

const fn post(path: &'static str, id: &'static str, access: Access, says: &'static str) -> Row {
    Row { method: Method::POST, path, id, access, says }
}

const fn put(path: &'static str, id: &'static str, access: Access, says: &'static str) -> Row {
    Row { method: Method::PUT, path, id, access, says }
}

const fn delete(path: &'static str, id: &'static str, access: Access, says: &'static str) -> Row {
    Row { method: Method::DELETE, path, id, access, says }
}

/// Which events.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct After {
    /// Those after this number; 0: from the oldest that is kept.
    #[serde(default)]
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    pub(crate) after: Option<u64>,
}

/// How many at most: 1 to 1000.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(try_from = "u32")]
#[schema(value_type = u32, minimum = 1, maximum = 1000)]
struct Limit(u32);

impl Default for Limit {
    fn default() -> Self {
        Self(100)
    }
}

impl TryFrom<u32> for Limit {
    type Error = String;
    fn try_from(limit: u32) -> Result<Self, String> {
        match limit {
            1..=1000 => Ok(Self(limit)),
            _ => Err(format!("limit is {limit}: give 1 to 1000")),
        }
    }
}

impl Limit {
    fn get(limit: Option<Self>) -> usize {
        limit.unwrap_or_default().0 as usize
    }
}

/// Whether to go on where somebody is disturbed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Force {
    /// Go on though hosts are connected.
    #[serde(default)]
    force: bool,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DevicePath {
    /// The device.
    device: Name,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DrivePath {
    /// The drive's PCI address.
    drive: DriveAddress,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PoolPath {
    /// The pool.
    pool: Name,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MemberPath {
    /// The pool.
    pool: Name,
    /// The device's number in the pool.
    #[schema(maximum = 4_294_967_295_u32)]
    number: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct VolumePath {
    /// The pool.
    pool: Name,
    /// The volume.
    volume: Name,
}

impl From<VolumePath> for VolumeRef {
    fn from(path: VolumePath) -> Self {
        Self { pool: path.pool, volume: path.volume }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SnapshotPath {
    /// The pool.
    pool: Name,
    /// The volume.
    volume: Name,
    /// The snapshot.
    snapshot: Name,
}

impl From<SnapshotPath> for SnapshotRef {
    fn from(path: SnapshotPath) -> Self {
        Self { pool: path.pool, volume: path.volume, snapshot: path.snapshot }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubsystemPath {
    /// The subsystem.
    nqn: Nqn,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SubsystemHostPath {
    /// The subsystem.
    nqn: Nqn,
    /// The host.
    host: HostNqn,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NamespacePath {
    /// The subsystem.
    nqn: Nqn,
    /// The namespace's number.
    #[schema(minimum = 1, maximum = 4_294_967_295_u32)]
    nsid: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ControllerPath {
    /// The subsystem.
    nqn: Nqn,
    /// The controller's identifier.
    #[schema(maximum = 65_535)]
    cntlid: u16,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct HostPath {
    /// The host.
    host: HostNqn,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ListenerPath {
    /// The fabric.
    #[schema(schema_with = webui_model::fabric_schema)]
    transport: Fabric,
    /// The address.
    address: Address,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct JobPath {
    /// The job.
    #[schema(maximum = 18_446_744_073_709_551_615_u64)]
    id: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct TokenPath {
    /// The token.
    name: Name,
}
