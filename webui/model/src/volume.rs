//! Volumes.

use crate::{Address, HostNqn, Name, Nqn, SnapshotRef, Status};
use nvme_spec::Fabric;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Which volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeRef {
    /// The pool.
    pub pool: Name,
    /// The volume.
    pub volume: Name,
}

impl std::fmt::Display for VolumeRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.pool, self.volume)
    }
}

/// The most a volume does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Commands a second; nothing: any.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000_000)]
    pub iops: Option<u64>,
    /// Bytes a second; nothing: any.
    #[serde(default)]
    #[schema(minimum = 4096, maximum = 1_000_000_000_000_u64)]
    pub bytes_per_second: Option<u64>,
    /// How much of what it did not use before it may use later, at any speed, in seconds of the
    /// limits: after a pause, with 10, ten seconds' worth of commands may go at once.
    #[serde(default)]
    #[schema(maximum = 3600)]
    pub burst_seconds: u32,
}

impl Limits {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// What is out of range, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.iops.is_some_and(|n| !(1..=1_000_000_000).contains(&n)) {
            return Err("limits.iops must be between 1 and 1000000000; null for no limit.".into());
        }
        if self.bytes_per_second.is_some_and(|n| !(4096..=1_000_000_000_000).contains(&n)) {
            return Err(
                "limits.bytes_per_second must be between 4096 and 1000000000000; null for \
                        no limit."
                    .into(),
            );
        }
        if self.burst_seconds > 3600 {
            return Err("limits.burst_seconds must be at most 3600.".into());
        }
        Ok(())
    }
}

/// How a volume or snapshot is exported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// The subsystem.
    pub subsystem: Nqn,
    /// Its number there.
    pub nsid: u32,
    /// Whether the subsystem is the volume's own.
    pub own: bool,
    /// Hosts that may connect.
    pub hosts: Vec<HostNqn>,
    /// Whether any host may connect.
    pub allow_any_host: bool,
    /// Controllers connected to the subsystem.
    pub controllers: u32,
}

/// How a volume or snapshot shall be exported.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportSet {
    /// The subsystem, which must be there; its own unless given.
    #[serde(default)]
    pub subsystem: Option<Nqn>,
    /// Hosts that may connect: all of them for its own subsystem, none for a named one, which has its
    /// own list.
    #[serde(default)]
    #[schema(max_items = 4096)]
    pub hosts: Vec<HostNqn>,
    /// Let any host connect. Not together with `hosts`; needs the role admin.
    #[serde(default)]
    pub allow_any_host: bool,
}

impl ExportSet {
    /// Checks that the fields go together.
    ///
    /// # Errors
    /// What does not, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.allow_any_host && !self.hosts.is_empty() {
            return Err("hosts and allow_any_host exclude each other: give one of them.".into());
        }
        self.hosts.iter().try_for_each(HostNqn::check)?;
        if let Some(nqn) = &self.subsystem
            && (self.allow_any_host || !self.hosts.is_empty())
        {
            return Err(format!(
                "Who may connect to {nqn} is set on that subsystem: leave out hosts and \
                 allow_any_host here."
            ));
        }
        Ok(())
    }
}

/// Where the bytes of a volume are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpace {
    /// Bytes of the pool that the volume sees, its snapshots not counted.
    pub used_bytes: u64,
    /// The part of `used` that nobody else sees.
    pub exclusive_bytes: u64,
    /// Bytes promised to it and not written yet.
    pub reserved_bytes: u64,
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The pool.
    pub pool: Name,
    /// Its name.
    pub name: Name,
    /// Its UUID, which hosts see.
    pub uuid: String,
    /// Capacity in bytes.
    pub bytes: u64,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// Bytes that a power cut never tears.
    pub atomic_write_bytes: u32,
    /// Whether all its space is promised to it.
    pub thick: bool,
    /// The most it does.
    pub limits: Limits,
    /// Where its bytes are.
    pub space: VolumeSpace,
    /// The snapshot it was cloned from.
    pub origin: Option<SnapshotRef>,
    /// Number of its snapshots.
    pub snapshots: u32,
    /// How it is exported.
    pub export: Option<Export>,
    /// When it was made.
    pub created_at_ms: u64,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Make a volume, and export it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeCreate {
    /// Its name.
    pub name: Name,
    /// Capacity in bytes, a multiple of 4096.
    #[schema(minimum = 4096, maximum = 1_125_899_906_842_624_u64, multiple_of = 4096)]
    pub bytes: u64,
    /// Bytes in a block: 512 or 4096. Unless given, 4096 where all devices of the pool write so
    /// many atomically, else 512.
    #[serde(default)]
    #[schema(minimum = 512, maximum = 4096, multiple_of = 512, example = 4096)]
    pub block_bytes: Option<u32>,
    /// Promise all its space to it now.
    #[serde(default)]
    pub thick: bool,
    /// The most it does.
    #[serde(default)]
    pub limits: Limits,
    /// A subsystem that is there, to export it in; its own unless given.
    #[serde(default)]
    pub subsystem: Option<Nqn>,
    /// Hosts that may connect to its own subsystem.
    #[serde(default)]
    #[schema(max_items = 4096)]
    pub hosts: Vec<HostNqn>,
    /// Let any host connect. Not together with `hosts`; needs the role admin.
    #[serde(default)]
    pub allow_any_host: bool,
}

/// Checks a capacity.
pub(crate) fn check_bytes(bytes: u64) -> Result<(), String> {
    if bytes == 0 || !bytes.is_multiple_of(4096) || bytes > crate::MAX_BYTES {
        return Err(format!(
            "bytes is {bytes}: give a multiple of 4096 between 4096 and {}, which is 1PiB.",
            crate::MAX_BYTES
        ));
    }
    Ok(())
}

impl VolumeCreate {
    /// Checks sizes and limits, and that the fields go together.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        check_bytes(self.bytes)?;
        if let Some(other) = self.block_bytes.filter(|bytes| ![512, 4096].contains(bytes)) {
            return Err(format!("block_bytes is {other}: give 512 or 4096."));
        }
        self.limits.check()?;
        self.export().check()
    }

    /// How it shall be exported.
    pub fn export(&self) -> ExportSet {
        ExportSet {
            subsystem: self.subsystem.clone(),
            hosts: self.hosts.clone(),
            allow_any_host: self.allow_any_host,
        }
    }

    /// What a volume that is there has otherwise, in words; nothing: it is what is asked for.
    pub fn differences(&self, there: &Volume) -> Vec<String> {
        let mut found = Vec::new();
        if there.bytes != self.bytes {
            found.push(format!("it has {} bytes, not {}", there.bytes, self.bytes));
        }
        if let Some(other) = self.block_bytes.filter(|bytes| there.block_bytes != *bytes) {
            found.push(format!("its blocks have {} bytes, not {other}", there.block_bytes));
        }
        if there.thick != self.thick {
            found.push(format!("it is {}", if there.thick { "thick" } else { "thin" }));
        }
        if there.limits != self.limits {
            found.push("it has other limits".into());
        }
        if let Some(origin) = &there.origin {
            found.push(format!("it is a clone of {origin}"));
        }
        found.extend(self.export().differences(there.export.as_ref()));
        found
    }
}

impl ExportSet {
    /// What an export that is there has otherwise, in words.
    pub fn differences(&self, there: Option<&Export>) -> Vec<String> {
        let Some(there) = there else { return vec!["it is not exported".into()] };
        match &self.subsystem {
            Some(nqn) if *nqn != there.subsystem => {
                vec![format!("it is exported in {}", there.subsystem)]
            }
            Some(_) => Vec::new(),
            None if !there.own => vec![format!("it is exported in {}", there.subsystem)],
            None => access_differences(
                (&self.hosts, self.allow_any_host),
                (&there.hosts, there.allow_any_host),
            ),
        }
    }
}

/// What differs between who may connect as asked for, and as it is.
pub(crate) fn access_differences(
    (hosts, any): (&[HostNqn], bool),
    (there, there_any): (&[HostNqn], bool),
) -> Vec<String> {
    let sorted = |list: &[HostNqn]| list.iter().cloned().collect::<std::collections::BTreeSet<_>>();
    if any != there_any {
        let who = if there_any { "any host" } else { "only hosts that are listed" };
        return vec![format!("{who} may connect")];
    }
    if sorted(hosts) != sorted(there) {
        return vec!["other hosts may connect".into()];
    }
    Vec::new()
}

/// Clone a snapshot into a volume, and export it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeClone {
    /// The name of the new volume.
    pub name: Name,
    /// The most it does.
    #[serde(default)]
    pub limits: Limits,
    /// A subsystem that is there, to export it in; its own unless given.
    #[serde(default)]
    pub subsystem: Option<Nqn>,
    /// Hosts that may connect to its own subsystem.
    #[serde(default)]
    #[schema(max_items = 4096)]
    pub hosts: Vec<HostNqn>,
    /// Let any host connect. Not together with `hosts`; needs the role admin.
    #[serde(default)]
    pub allow_any_host: bool,
}

impl VolumeClone {
    /// Checks limits, and that the fields go together.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.limits.check()?;
        self.export().check()
    }

    /// How it shall be exported.
    pub fn export(&self) -> ExportSet {
        ExportSet {
            subsystem: self.subsystem.clone(),
            hosts: self.hosts.clone(),
            allow_any_host: self.allow_any_host,
        }
    }

    /// What a volume that is there has otherwise than a clone of `origin` would, in words.
    pub fn differences(&self, origin: &SnapshotRef, there: &Volume) -> Vec<String> {
        let mut found = Vec::new();
        match &there.origin {
            Some(other) if other == origin => {}
            Some(other) => found.push(format!("it is a clone of {other}")),
            None => found.push("it is no clone".into()),
        }
        if there.limits != self.limits {
            found.push("it has other limits".into());
        }
        found.extend(self.export().differences(there.export.as_ref()));
        found
    }
}

/// Give a volume or snapshot another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    /// The new name.
    pub name: Name,
}

/// Give a volume another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resize {
    /// The new capacity in bytes, a multiple of 4096.
    #[schema(minimum = 4096, maximum = 1_125_899_906_842_624_u64, multiple_of = 4096)]
    pub bytes: u64,
    /// Confirms that what lies behind a smaller capacity is lost.
    #[serde(default)]
    pub may_shrink: bool,
}

impl Resize {
    /// Checks the capacity.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        check_bytes(self.bytes)
    }
}

/// Bring a volume back to one of its snapshots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// The snapshot.
    pub snapshot: Name,
    /// Confirms that hosts that are connected see the content change below them.
    #[serde(default)]
    pub force: bool,
}

/// What promoting a clone did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteOutcome {
    /// The volume, which is no clone any more.
    pub volume: Volume,
    /// The volume that is now a clone of it, if there is one.
    pub former_origin: Option<VolumeRef>,
    /// Snapshots that moved to it.
    pub moved: Vec<Name>,
}

/// What to type on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectInfo {
    /// The subsystem.
    pub subsystem: Nqn,
    /// The namespace's number.
    pub nsid: u32,
    /// The namespace's UUID: the host has it as /dev/disk/by-id/nvme-uuid.UUID.
    pub uuid: String,
    /// Who may connect; nothing listed and not `allow_any_host`: nobody.
    pub hosts: Vec<HostNqn>,
    /// Whether any host may connect.
    pub allow_any_host: bool,
    /// Where the subsystem is served.
    pub addresses: Vec<ConnectAddress>,
    /// The lines, in their order.
    pub lines: Vec<String>,
    /// What stands in the way of connecting, in words; nothing: nothing.
    pub warning: Option<String>,
}

/// An address that serves a subsystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectAddress {
    /// The fabric.
    #[schema(schema_with = crate::listener::fabric_schema)]
    pub transport: Fabric,
    /// The address.
    pub address: Address,
}

impl ConnectInfo {
    /// The lines for a subsystem served at these addresses.
    pub fn lines(nqn: &Nqn, uuid: &str, addresses: &[ConnectAddress]) -> Vec<String> {
        let connect = |at: &ConnectAddress| {
            let (ip, port) = (at.address.0.ip(), at.address.0.port());
            format!("nvme connect -t {} -a {ip} -s {port} -n {nqn}", at.transport)
        };
        let device = format!("/dev/disk/by-id/nvme-uuid.{uuid}");
        let mut lines: Vec<String> = addresses.iter().map(connect).collect();
        if !lines.is_empty() {
            lines.push(format!("ls -l {device}"));
            lines.push(format!("nvme disconnect -n {nqn}"));
        }
        lines
    }
}
