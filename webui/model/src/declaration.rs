//! The state of an appliance as a document: `forebay apply` makes it so, `forebay export` prints it.

use crate::{
    DeviceAttach, DeviceRef, DiscardMode, HostNqn, Limits, ListenerCreate, Name, NamespaceAdd, Nqn,
    Size, VolumeCreate,
};
// utoipa takes a type that is called Object for any object of JSON.
use crate::Object as Subject;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What shall be there. What is there and not declared stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// Sentences on what was there when it was printed, and is not in it. Nothing is done for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// Devices that have to be attached by name or made; pools attach paths by themselves.
    #[serde(default, rename = "device", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceAttach>,
    /// Pools with their volumes.
    #[serde(default, rename = "pool", skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<DeclaredPool>,
    /// Subsystems that are not a volume's own.
    #[serde(default, rename = "subsystem", skip_serializing_if = "Vec::is_empty")]
    pub subsystems: Vec<DeclaredSubsystem>,
    /// Where hosts connect.
    #[serde(default, rename = "listener", skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerCreate>,
}

/// A pool that shall be there. Devices that it has and that are not declared stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredPool {
    /// Its name.
    pub name: Name,
    /// Its devices. A pool that is on them already is imported.
    #[schema(min_items = 1, max_items = 1024)]
    pub devices: Vec<DeviceRef>,
    /// Whether its devices are given back what nobody needs; as it is unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard: Option<DiscardMode>,
    /// Its volumes.
    #[serde(default, rename = "volume", skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<DeclaredVolume>,
}

/// A volume that shall be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredVolume {
    /// Its name.
    pub name: Name,
    /// Capacity. A volume that is there grows to it; it shrinks only with `may_shrink`.
    pub bytes: Size,
    /// Confirms that what lies behind a smaller capacity is lost.
    #[serde(default, skip_serializing_if = "is_false")]
    pub may_shrink: bool,
    /// Bytes in a block: 512 or 4096; unless given, as of a new volume. Never changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 512, maximum = 4096, multiple_of = 512)]
    pub block_bytes: Option<u32>,
    /// Promise all its space to it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub thick: bool,
    /// Whether hosts reach it; they do unless this is false.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub exported: bool,
    /// The most it does.
    #[serde(default, skip_serializing_if = "Limits::is_none")]
    pub limits: Limits,
    /// A subsystem to export it in; its own unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subsystem: Option<Nqn>,
    /// Hosts that may connect to its own subsystem.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 4096)]
    pub hosts: Vec<HostNqn>,
    /// Let any host connect. Not together with `hosts`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_any_host: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_true(value: &bool) -> bool {
    *value
}

fn yes() -> bool {
    true
}

impl DeclaredVolume {
    /// The request that makes it; one that is not `exported` is taken out of its export after.
    pub fn to_create(&self) -> VolumeCreate {
        VolumeCreate {
            name: self.name.clone(),
            bytes: self.bytes.0,
            block_bytes: self.block_bytes,
            thick: self.thick,
            limits: self.limits,
            subsystem: self.subsystem.clone(),
            hosts: self.hosts.clone(),
            allow_any_host: self.allow_any_host,
        }
    }
}

/// A subsystem that shall be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredSubsystem {
    /// Its name.
    pub nqn: Nqn,
    /// Hosts that may connect: these and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 4096)]
    pub hosts: Vec<HostNqn>,
    /// Let any host connect. Not together with `hosts`.
    #[serde(default, skip_serializing_if = "is_false")]
    pub allow_any_host: bool,
    /// Namespaces other than those that volumes ask for.
    #[serde(default, rename = "namespace", skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 1024)]
    pub namespaces: Vec<NamespaceAdd>,
}

/// What is done to an object to make it as declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// It is made.
    Create,
    /// It is brought in from devices that have it.
    Import,
    /// It is made otherwise.
    Change,
    /// It is taken away.
    Delete,
}

/// A change that was made, or would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// What is done.
    pub action: ChangeAction,
    /// To what.
    pub object: Subject,
    /// The same in words.
    pub message: String,
    /// What it was, in words, of what changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What applying a declaration did, or would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// Whether nothing was done, only looked at.
    pub dry_run: bool,
    /// The changes, in their order; nothing: all is as declared.
    pub changes: Vec<Change>,
    /// What is there and not declared; it stays.
    pub undeclared: Vec<Subject>,
}

impl Declaration {
    /// Checks what can be said without looking at the appliance.
    ///
    /// # Errors
    /// The first thing that is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        self.check_devices()?;
        unique(self.pools.iter().map(|p| p.name.to_string()), "pools are called")?;
        unique(self.subsystems.iter().map(|s| s.nqn.to_string()), "subsystems are called")?;
        let places = self.listeners.iter().map(|l| format!("{} {}", l.transport, l.address));
        unique(places, "listeners are at")?;
        for pool in &self.pools {
            let wrong = |why| format!("Pool {}: {why}", pool.name);
            crate::pool::check_devices(&pool.devices).map_err(wrong)?;
            unique(
                pool.volumes.iter().map(|v| v.name.to_string()),
                "volumes of a pool are called",
            )?;
            for volume in &pool.volumes {
                let wrong = |why| format!("Volume {}/{}: {why}", pool.name, volume.name);
                volume.to_create().check().map_err(wrong)?;
            }
        }
        for subsystem in &self.subsystems {
            let wrong = |why| format!("Subsystem {}: {why}", subsystem.nqn);
            subsystem.hosts.iter().try_for_each(HostNqn::check).map_err(wrong)?;
            if subsystem.allow_any_host && !subsystem.hosts.is_empty() {
                return Err(format!(
                    "Subsystem {}: hosts and allow_any_host exclude each other: give one of them.",
                    subsystem.nqn
                ));
            }
            subsystem.namespaces.iter().try_for_each(NamespaceAdd::check).map_err(wrong)?;
        }
        Ok(())
    }

    fn check_devices(&self) -> Result<(), String> {
        for (at, device) in self.devices.iter().enumerate() {
            let named = device.name.as_ref().map(Name::to_string);
            let called = named.or_else(|| device.path.as_ref().map(DeviceRef::to_string));
            let called = called.unwrap_or_else(|| format!("number {}", at + 1));
            device.check().map_err(|why| format!("Device {called}: {why}"))?;
        }
        let names = self.devices.iter().filter_map(|device| device.name.as_ref());
        unique(names.map(Name::to_string), "devices are called")
    }

    /// Reads a document in TOML.
    ///
    /// # Errors
    /// Where it cannot be read and why, or what [`Declaration::check`] says.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let declaration: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        declaration.check()?;
        Ok(declaration)
    }

    /// The document in TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a declaration has no keys but texts")
    }
}

fn unique(names: impl Iterator<Item = String>, what: &str) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            return Err(format!("Two {what} {name}: leave one of them out."));
        }
        seen.insert(name);
    }
    Ok(())
}
