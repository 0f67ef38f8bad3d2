//! Volumes and snapshots as people name them.

use crate::connection::Connection;
use std::str::FromStr;
use webui_client::Failure;
use webui_model::{Name, Nqn, Pool, SnapshotRef, Volume, VolumeRef};

/// `POOL/VOLUME`, or `VOLUME` where only one pool has one of that name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlace {
    pool: Option<Name>,
    volume: Name,
}

/// `POOL/VOLUME@SNAPSHOT`, or without the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotPlace {
    volume: VolumePlace,
    snapshot: Name,
}

impl FromStr for VolumePlace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let name = |text: &str| text.parse::<Name>().map_err(|error| error.to_string());
        match text.split_once('/') {
            Some((pool, volume)) => Ok(Self { pool: Some(name(pool)?), volume: name(volume)? }),
            None => Ok(Self { pool: None, volume: name(text)? }),
        }
    }
}

impl FromStr for SnapshotPlace {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let Some((volume, snapshot)) = text.split_once('@') else {
            return Err(format!("\"{text}\" is no snapshot: write it as POOL/VOLUME@SNAPSHOT."));
        };
        let snapshot = snapshot.parse::<Name>().map_err(|error| error.to_string())?;
        Ok(Self { volume: volume.parse()?, snapshot })
    }
}

impl VolumePlace {
    /// The volume that is meant; it has to be there if its pool is not named.
    pub fn find(&self, connection: &Connection) -> Result<VolumeRef, Failure> {
        let volume = self.volume.clone();
        if let Some(pool) = &self.pool {
            return Ok(VolumeRef { pool: pool.clone(), volume });
        }
        let volumes: Vec<Volume> = connection.items(&[&"volumes"])?;
        let pools = volumes.into_iter().filter(|there| there.name == volume).map(|v| v.pool);
        match pools.collect::<Vec<_>>().as_slice() {
            [pool] => Ok(VolumeRef { pool: pool.clone(), volume }),
            [] => Err(Failure::Failed(format!(
                "There is no volume \"{volume}\" in any pool: see `forebay volume list`."
            ))),
            [first, ..] => Err(Failure::Usage(format!(
                "More than one pool has a volume \"{volume}\": write it as {first}/{volume}."
            ))),
        }
    }

    /// Where a volume is to be made: the only pool, if none is named.
    pub fn new_in(&self, connection: &Connection) -> Result<VolumeRef, Failure> {
        let volume = self.volume.clone();
        if let Some(pool) = &self.pool {
            return Ok(VolumeRef { pool: pool.clone(), volume });
        }
        let pools: Vec<Pool> = connection.items(&[&"pools"])?;
        match pools.as_slice() {
            [pool] => Ok(VolumeRef { pool: pool.name.clone(), volume }),
            [] => Err(Failure::Failed(
                "There is no pool to make it in: `forebay pool create` makes one.".into(),
            )),
            [first, ..] => Err(Failure::Usage(format!(
                "There is more than one pool: say which, as in {}/{volume}.",
                first.name
            ))),
        }
    }
}

impl SnapshotPlace {
    /// The snapshot that is meant.
    pub fn find(&self, connection: &Connection) -> Result<SnapshotRef, Failure> {
        let VolumeRef { pool, volume } = self.volume.find(connection)?;
        Ok(SnapshotRef { pool, volume, snapshot: self.snapshot.clone() })
    }
}

/// What a host connects to: an NQN, or a volume or snapshot that is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exported {
    /// A subsystem.
    Subsystem(Nqn),
    /// A volume.
    Volume(VolumePlace),
    /// A snapshot.
    Snapshot(SnapshotPlace),
}

impl FromStr for Exported {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.starts_with("nqn.") {
            return text
                .parse()
                .map(Self::Subsystem)
                .map_err(|error: webui_model::NameError| error.to_string());
        }
        if text.contains('@') {
            return text.parse().map(Self::Snapshot);
        }
        text.parse().map(Self::Volume)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_written() {
        let place: VolumePlace = "tank/scratch".parse().unwrap();
        assert_eq!(place.pool.unwrap().as_str(), "tank");
        assert_eq!("scratch".parse::<VolumePlace>().unwrap().pool, None);
        let place: SnapshotPlace = "tank/scratch@monday".parse().unwrap();
        assert_eq!(place.snapshot.as_str(), "monday");
        for text in ["", "/", "a/", "/a", "a/b/c", "a b"] {
            assert!(text.parse::<VolumePlace>().unwrap_err().contains("is no name"), "{text}");
        }
        assert!("tank/a".parse::<SnapshotPlace>().unwrap_err().contains("is no snapshot"));
        let exported = |text: &str| text.parse::<Exported>().unwrap();
        assert!(matches!(exported("nqn.2026-01.io.forebay:a"), Exported::Subsystem(_)));
        assert!(matches!(exported("tank/a@b"), Exported::Snapshot(_)));
        assert!(matches!(exported("a"), Exported::Volume(_)));
    }
}
