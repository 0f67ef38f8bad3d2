//! What the control plane should answer and show: what is wanted, by the rules of `wanted`, beside
//! volumes and snapshots in maps, and nothing durable.

use std::collections::{BTreeMap, BTreeSet};
use wanted::{Request, Seen, SeenVolume, Source, Uuid, Wanted};
use webui_model::{Limits, RefusalKind};

/// How an operation ends.
pub type Ends = Result<Done, RefusalKind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    New,
    Existing,
    Changed,
}

/// A subsystem and a number there.
pub type Place = (String, u32);

#[derive(Clone, Debug)]
pub struct Volume {
    pub name: String,
    pub uuid: String,
    pub bytes: u64,
    pub iops: Option<u64>,
    pub thick: bool,
    pub behind: Option<usize>,
}

/// A snapshot; deleted ones stay, for what lies behind others.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: String,
    pub volume: usize,
    pub bytes: u64,
    pub behind: Option<usize>,
    pub is_there: bool,
}

#[derive(Clone, Debug, Default)]
pub struct Pool {
    pub volumes: BTreeMap<usize, Volume>,
    pub snapshots: Vec<Snapshot>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub pools: BTreeMap<String, Pool>,
    pub wanted: Wanted,
    pub made: usize,
}

/// What a volume is wanted by: the model is told the real UUID only afterwards.
pub fn uuid_of(number: usize) -> Uuid {
    Uuid::from_u128(number as u128)
}

impl Pool {
    pub fn volume(&self, name: &str) -> Option<usize> {
        self.volumes.iter().find(|(_, volume)| volume.name == name).map(|(number, _)| *number)
    }

    pub fn snapshot(&self, volume: &str, name: &str) -> Option<usize> {
        let volume = self.volume(volume)?;
        self.snapshots.iter().position(|s| s.is_there && s.volume == volume && s.name == name)
    }

    /// The snapshot of another volume that a volume was made from.
    pub fn origin(&self, volume: usize) -> Option<usize> {
        let mut behind = self.volumes[&volume].behind;
        while let Some(at) = behind {
            let snapshot = &self.snapshots[at];
            if snapshot.is_there && snapshot.volume != volume {
                return Some(at);
            }
            behind = snapshot.behind;
        }
        None
    }

    fn origin_names(&self, volume: usize) -> Option<(String, String)> {
        let snapshot = &self.snapshots[self.origin(volume)?];
        Some((self.volumes[&snapshot.volume].name.clone(), snapshot.name.clone()))
    }
}

impl Seen for Model {
    fn volume(&self, pool: &str, volume: &str) -> Option<SeenVolume> {
        let pool = self.pools.get(pool)?;
        let number = pool.volume(volume)?;
        let Volume { bytes, iops, thick, .. } = pool.volumes[&number];
        Some(SeenVolume {
            uuid: uuid_of(number),
            bytes,
            block_bytes: 4096,
            thick,
            limits: Limits { iops, ..Limits::default() },
            origin: pool.origin_names(number),
        })
    }

    fn has_snapshot(&self, pool: &str, volume: &str, snapshot: &str) -> bool {
        self.pools.get(pool).is_some_and(|pool| pool.snapshot(volume, snapshot).is_some())
    }

    fn snapshots(&self, pool: &str, volume: &str) -> Vec<String> {
        let Some(pool) = self.pools.get(pool) else { return Vec::new() };
        let number = pool.volume(volume);
        let of = pool.snapshots.iter().filter(|s| s.is_there && Some(s.volume) == number);
        of.map(|snapshot| snapshot.name.clone()).collect()
    }
}

impl Model {
    /// Asks the rules. Whether anything is wanted otherwise now.
    pub fn ask(&mut self, request: &Request) -> Result<bool, RefusalKind> {
        let edited = wanted::edit(&self.wanted, request, &*self).map_err(|refusal| refusal.kind)?;
        self.wanted = edited.wanted;
        Ok(!edited.changes.is_empty())
    }

    /// Asks for something that is there already if nothing is wanted otherwise.
    pub fn make(&mut self, request: &Request) -> Ends {
        Ok(if self.ask(request)? { Done::New } else { Done::Existing })
    }

    /// Asks for a change.
    pub fn change_wanted(&mut self, request: &Request) -> Ends {
        self.ask(request).map(|_| Done::Changed)
    }

    /// The pool, if it is imported.
    pub fn here(&mut self, pool: &str) -> Result<&mut Pool, RefusalKind> {
        let is_here = self.wanted.pool(pool).is_some();
        self.pools.get_mut(pool).filter(|_| is_here).ok_or(RefusalKind::NotFound)
    }

    /// The names of a pool's volumes, for whoever shows them.
    pub fn learn_names(&mut self, pool: &str) {
        let volumes = self.pools[pool].volumes.iter();
        let names = volumes.map(|(number, volume)| (uuid_of(*number), volume.name.clone()));
        let names = names.collect();
        self.ask(&Request::LearnNames { pool: pool.to_owned(), names }).expect("they have names");
    }

    /// A pool is here.
    pub fn keep_pool(&mut self, name: &str) -> Ends {
        let number = self.pools.keys().position(|pool| pool == name).expect("it was made");
        let uuid = Uuid::from_u128(number as u128 + (1 << 64));
        let kept = self.make(&Request::KeepPool(wanted::Pool {
            name: name.to_owned(),
            uuid,
            devices: Vec::new(),
            identities: BTreeMap::new(),
            discard: self.wanted.discard_of(uuid),
        }));
        self.learn_names(name);
        kept
    }

    fn place(&self, source: &Source) -> Option<Place> {
        self.wanted.namespace_of(source).map(|shown| (shown.subsystem.clone(), shown.nsid))
    }

    /// Everything that can be seen, in sentences.
    pub fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        for (name, pool) in &self.pools {
            if self.wanted.pool(name).is_none() {
                continue;
            }
            let source = |number: usize| Source::Volume {
                pool: name.clone(),
                uuid: uuid_of(number),
                name: pool.volumes[&number].name.clone(),
            };
            for (number, volume) in &pool.volumes {
                let origin = pool.origin_names(*number).map(|(v, s)| format!("{v}@{s}"));
                let here = |s: &&Snapshot| s.is_there && s.volume == *number;
                let snapshots = pool.snapshots.iter().filter(here).count();
                let Volume { name: volume, uuid, bytes, iops, thick, .. } = volume;
                let export = self.place(&source(*number));
                shown.push(format!(
                    "{name}/{volume} {uuid} {bytes} {iops:?} {thick} {origin:?} {snapshots} {export:?}"
                ));
            }
            for snapshot in pool.snapshots.iter().filter(|snapshot| snapshot.is_there) {
                let Snapshot { name: at, volume, bytes, .. } = snapshot;
                let of = pool.volumes[volume].name.clone();
                let export = self.place(&Source::Snapshot {
                    pool: name.clone(),
                    uuid: uuid_of(*volume),
                    name: of.clone(),
                    snapshot: at.clone(),
                });
                shown.push(format!("{name}/{of}@{at} {bytes} {export:?}"));
            }
        }
        for subsystem in self.wanted.subsystems() {
            let hosts: &BTreeSet<String> = &subsystem.hosts;
            let (own, any) = (subsystem.own, subsystem.allow_any_host);
            shown.push(format!("{} {own} {hosts:?} {any}", subsystem.nqn));
        }
        for one in self.wanted.namespaces() {
            shown.push(format!("{} {} {}", one.subsystem, one.nsid, one.source));
        }
        shown.sort();
        shown
    }
}
