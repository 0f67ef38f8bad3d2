//! What the control plane should answer and show: names and numbers in maps, and nothing durable.

use std::collections::{BTreeMap, BTreeSet};
use webui_model::RefusalKind;

/// How an operation ends.
pub type Ends = Result<Done, RefusalKind>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    New,
    Existing,
    Changed,
}

/// Who may connect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    pub hosts: BTreeSet<String>,
    pub any: bool,
}

/// How something is to be exported: in a subsystem that is named, or in its own.
#[derive(Clone, Debug)]
pub enum Wanted {
    In(String),
    Own(Who),
}

/// A subsystem and a number there.
pub type Place = (String, u32);

#[derive(Clone, Debug)]
pub struct Subsystem {
    pub own: bool,
    pub who: Who,
}

#[derive(Clone, Debug)]
pub struct Volume {
    pub name: String,
    pub uuid: String,
    pub bytes: u64,
    pub iops: Option<u64>,
    pub thick: bool,
    pub behind: Option<usize>,
    pub export: Option<Place>,
}

/// A snapshot; deleted ones stay, for what lies behind others.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: String,
    pub volume: usize,
    pub bytes: u64,
    pub behind: Option<usize>,
    pub is_there: bool,
    pub export: Option<Place>,
}

#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// It is imported.
    pub is_here: bool,
    pub volumes: BTreeMap<usize, Volume>,
    pub snapshots: Vec<Snapshot>,
    /// Own subsystems of what lies in it, while it is away.
    pub kept: BTreeMap<String, Subsystem>,
}

/// A volume or a snapshot of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Volume(usize),
    Snapshot(usize),
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub pools: BTreeMap<String, Pool>,
    pub subsystems: BTreeMap<String, Subsystem>,
    pub made: usize,
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

    pub fn export_mut(&mut self, what: What) -> &mut Option<Place> {
        match what {
            What::Volume(number) => &mut self.volumes.get_mut(&number).unwrap().export,
            What::Snapshot(number) => &mut self.snapshots[number].export,
        }
    }

    fn exports(&self) -> impl Iterator<Item = &Place> {
        let volumes = self.volumes.values().filter_map(|volume| volume.export.as_ref());
        volumes.chain(self.snapshots.iter().filter_map(|snapshot| snapshot.export.as_ref()))
    }
}

impl Model {
    /// The pool, if it is imported.
    pub fn here(&mut self, pool: &str) -> Result<&mut Pool, RefusalKind> {
        self.pools.get_mut(pool).filter(|pool| pool.is_here).ok_or(RefusalKind::NotFound)
    }

    /// Numbers that are taken in a subsystem.
    pub fn taken(&self, nqn: &str) -> BTreeSet<u32> {
        let here = self.pools.values().filter(|pool| pool.is_here);
        here.flat_map(|pool| pool.exports()).filter(|(of, _)| of == nqn).map(|p| p.1).collect()
    }

    fn free(&self, nqn: &str) -> u32 {
        let taken = self.taken(nqn);
        (1..).find(|number| !taken.contains(number)).unwrap()
    }

    /// Whether something can be exported in a subsystem that was named.
    pub fn may_be_in(&self, nqn: &str) -> Result<(), RefusalKind> {
        match self.subsystems.get(nqn) {
            None => Err(RefusalKind::NotFound),
            Some(subsystem) if subsystem.own => Err(RefusalKind::Refused),
            Some(_) => Ok(()),
        }
    }

    /// Where something is exported from now on that is not exported yet.
    pub fn place(&mut self, wanted: &Wanted, own: &str) -> Result<Place, RefusalKind> {
        match wanted {
            Wanted::In(nqn) => {
                self.may_be_in(nqn)?;
                Ok((nqn.clone(), self.free(nqn)))
            }
            Wanted::Own(_) if self.subsystems.contains_key(own) => Err(RefusalKind::Exists),
            Wanted::Own(who) => {
                let subsystem = Subsystem { own: true, who: who.clone() };
                self.subsystems.insert(own.to_owned(), subsystem);
                Ok((own.to_owned(), 1))
            }
        }
    }

    /// Whether an export is what is wanted.
    pub fn is_as(&self, export: Option<&Place>, wanted: &Wanted) -> bool {
        let Some((nqn, _)) = export else { return false };
        let there = &self.subsystems[nqn];
        match wanted {
            Wanted::In(wanted) => wanted == nqn,
            Wanted::Own(who) => there.own && there.who == *who,
        }
    }

    /// Something is not exported any more.
    pub fn leave(&mut self, place: Option<Place>) {
        if let Some((nqn, _)) = place
            && self.subsystems[&nqn].own
        {
            self.subsystems.remove(&nqn);
        }
    }

    /// Exports something as `wanted`, from however it is exported now.
    pub fn export(&mut self, pool: &str, what: What, own: &str, wanted: &Wanted) -> Ends {
        if let Wanted::In(nqn) = wanted {
            self.may_be_in(nqn)?;
        }
        let before = self.here(pool)?.export_mut(what).clone();
        if let Some((nqn, _)) = &before {
            match wanted {
                Wanted::In(wanted) if wanted == nqn => return Ok(Done::Changed),
                Wanted::Own(who) if self.subsystems[nqn].own => {
                    self.subsystems.get_mut(nqn).unwrap().who = who.clone();
                    return Ok(Done::Changed);
                }
                _ => {}
            }
        }
        let all_before = self.clone();
        *self.here(pool)?.export_mut(what) = None;
        self.leave(before);
        match self.place(wanted, own) {
            Ok(place) => *self.here(pool)?.export_mut(what) = Some(place),
            Err(kind) => {
                *self = all_before;
                return Err(kind);
            }
        }
        Ok(Done::Changed)
    }

    /// A pool goes; how what lies in it is exported is kept.
    pub fn export_pool(&mut self, name: &str) -> Ends {
        let pool = self.here(name)?;
        pool.is_here = false;
        let places: Vec<Place> = pool.exports().cloned().collect();
        for (nqn, _) in places {
            if self.subsystems[&nqn].own {
                let subsystem = self.subsystems.remove(&nqn).unwrap();
                self.pools.get_mut(name).unwrap().kept.insert(nqn, subsystem);
            }
        }
        Ok(Done::Changed)
    }

    /// A pool comes back, exported as before but for what has taken its place since.
    pub fn import_pool(&mut self, name: &str) -> Ends {
        let mut pool = self.pools[name].clone();
        if pool.is_here {
            return Ok(Done::Existing);
        }
        self.subsystems.append(&mut pool.kept);
        let volumes = pool.volumes.values_mut().map(|volume| &mut volume.export);
        let snapshots = pool.snapshots.iter_mut().map(|snapshot| &mut snapshot.export);
        for export in volumes.chain(snapshots) {
            let is_free = |(nqn, nsid): &Place| {
                self.subsystems.contains_key(nqn) && !self.taken(nqn).contains(nsid)
            };
            if !export.as_ref().is_some_and(is_free) {
                *export = None;
            }
        }
        pool.is_here = true;
        self.pools.insert(name.to_owned(), pool);
        Ok(Done::New)
    }

    /// Everything that can be seen, in sentences.
    pub fn shown(&self) -> Vec<String> {
        let mut shown = Vec::new();
        let mut namespaces: BTreeMap<Place, String> = BTreeMap::new();
        for (name, pool) in self.pools.iter().filter(|(_, pool)| pool.is_here) {
            for (number, volume) in &pool.volumes {
                let origin = pool.origin(*number).map(|at| {
                    let snapshot = &pool.snapshots[at];
                    format!("{}@{}", pool.volumes[&snapshot.volume].name, snapshot.name)
                });
                let here = |s: &&Snapshot| s.is_there && s.volume == *number;
                let snapshots = pool.snapshots.iter().filter(here).count();
                let Volume { name: volume, uuid, bytes, iops, thick, export, .. } = volume;
                let at = format!("{name}/{volume}");
                shown.push(format!(
                    "{at} {uuid} {bytes} {iops:?} {thick} {origin:?} {snapshots} {export:?}"
                ));
                namespaces.extend(export.clone().map(|place| (place, format!("volume {at}"))));
            }
            for snapshot in pool.snapshots.iter().filter(|snapshot| snapshot.is_there) {
                let Snapshot { name: at, volume, bytes, export, .. } = snapshot;
                let at = format!("{name}/{}@{at}", pool.volumes[volume].name);
                shown.push(format!("{at} {bytes} {export:?}"));
                namespaces.extend(export.clone().map(|place| (place, format!("snapshot {at}"))));
            }
        }
        for (nqn, Subsystem { own, who }) in &self.subsystems {
            shown.push(format!("{nqn} {own} {:?} {}", who.hosts, who.any));
        }
        let namespace = |((nqn, nsid), what)| format!("{nqn} {nsid} {what}");
        shown.extend(namespaces.into_iter().map(namespace));
        shown.sort();
        shown
    }
}
