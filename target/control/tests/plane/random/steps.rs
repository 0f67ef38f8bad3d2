//! The operations: each is done, and told to the model.

use super::model::{Done, Ends, Model, Snapshot, Subsystem, Volume, Wanted, What, Who};
use super::{HOSTS, MIB, SHARED, SNAPSHOTS, VOLUMES, World, changed, made};
use crate::appliance::{at, host, name, new_volume, snapshot_at};
use webui_model::{
    Control, ExportSet, GroupSnapshotCreate, HostAdd, Limits, Nqn, PoolImport, RefusalKind, Rename,
    Resize, RollBack, SnapshotCreate, SubsystemCreate, VolumeClone, VolumeCreate,
};

fn own_of(pool: &str, volume: &str, snapshot: Option<&str>) -> String {
    let nqn = match snapshot {
        None => Nqn::of_volume(&name(pool), &name(volume)),
        Some(snapshot) => Nqn::of_snapshot(&name(pool), &name(volume), &name(snapshot)),
    };
    nqn.to_string()
}

fn set_of(wanted: &Wanted) -> ExportSet {
    match wanted {
        Wanted::In(nqn) => {
            ExportSet { subsystem: Some(nqn.parse().unwrap()), ..ExportSet::default() }
        }
        Wanted::Own(who) => ExportSet {
            subsystem: None,
            hosts: who.hosts.iter().map(|text| host(text)).collect(),
            allow_any_host: who.any,
        },
    }
}

/// A volume that is asked for.
struct Asked<'a> {
    name: &'a str,
    bytes: Option<u64>,
    iops: Option<u64>,
    thick: bool,
    origin: Option<usize>,
    wanted: &'a Wanted,
}

impl Model {
    /// Makes a volume, whose UUID is told afterwards.
    fn make(&mut self, pool: &str, asked: &Asked<'_>) -> Ends {
        let here = self.here(pool)?.clone();
        if let Some(number) = here.volume(asked.name) {
            let there = &here.volumes[&number];
            let same = asked.bytes.is_none_or(|bytes| bytes == there.bytes)
                && there.iops == asked.iops
                && (there.thick == asked.thick || asked.origin.is_some())
                && here.origin(number) == asked.origin
                && self.is_as(there.export.as_ref(), asked.wanted);
            return if same { Ok(Done::Existing) } else { Err(RefusalKind::Exists) };
        }
        let export = Some(self.place(asked.wanted, &own_of(pool, asked.name, None))?);
        self.made += 1;
        let of_origin = asked.origin.map(|at| here.snapshots[at].bytes);
        let volume = Volume {
            name: asked.name.to_owned(),
            uuid: String::new(),
            bytes: asked.bytes.or(of_origin).unwrap(),
            iops: asked.iops,
            thick: asked.thick,
            behind: asked.origin,
            export,
        };
        let number = self.made;
        self.here(pool)?.volumes.insert(number, volume);
        Ok(Done::New)
    }

    fn told_uuid(&mut self, pool: &str, volume: &str, uuid: String) {
        let pool = self.pools.get_mut(pool).unwrap();
        let number = pool.volume(volume).unwrap();
        pool.volumes.get_mut(&number).unwrap().uuid = uuid;
    }

    fn delete(&mut self, pool: &str, volume: &str) -> Ends {
        let here = self.here(pool)?;
        let number = here.volume(volume).ok_or(RefusalKind::NotFound)?;
        if here.snapshots.iter().any(|s| s.is_there && s.volume == number) {
            return Err(RefusalKind::InUse);
        }
        let export = here.volumes.remove(&number).unwrap().export;
        self.leave(export);
        Ok(Done::Changed)
    }

    fn snapshot(&mut self, pool: &str, volume: &str, at: &str) -> Ends {
        let here = self.here(pool)?;
        let number = here.volume(volume).ok_or(RefusalKind::NotFound)?;
        if here.snapshot(volume, at).is_some() {
            return Ok(Done::Existing);
        }
        let of = here.volumes.get_mut(&number).unwrap();
        let (bytes, behind) = (of.bytes, of.behind.replace(here.snapshots.len()));
        let (name, is_there) = (at.to_owned(), true);
        let snapshot = Snapshot { name, volume: number, bytes, behind, is_there, export: None };
        here.snapshots.push(snapshot);
        Ok(Done::New)
    }

    /// Of all or of none.
    fn group(&mut self, pool: &str, volumes: &[&str], at: &str) -> Ends {
        let here = self.here(pool)?;
        for volume in volumes {
            here.volume(volume).ok_or(RefusalKind::NotFound)?;
            if here.snapshot(volume, at).is_some() {
                return Err(RefusalKind::Exists);
            }
        }
        for volume in volumes {
            self.snapshot(pool, volume, at)?;
        }
        Ok(Done::Changed)
    }

    fn roll_back(&mut self, pool: &str, volume: &str, at: &str) -> Ends {
        let What::Snapshot(at) = self.find(pool, volume, Some(at))? else {
            unreachable!("it was looked for")
        };
        let bytes = self.here(pool)?.snapshots[at].bytes;
        self.change(pool, volume, |there| {
            (there.behind, there.bytes) = (Some(at), bytes);
            Ok(Done::Changed)
        })
    }

    /// The snapshots of its origin that a volume was made from become its own.
    fn promote(&mut self, pool: &str, volume: &str) -> Ends {
        let here = self.here(pool)?;
        let number = here.volume(volume).ok_or(RefusalKind::NotFound)?;
        let origin = here.origin(number).ok_or(RefusalKind::Refused)?;
        let former = here.snapshots[origin].volume;
        let behind = |at: &usize| here.snapshots[*at].behind;
        let line = std::iter::successors(here.volumes[&number].behind, behind);
        let moving: Vec<usize> = line
            .filter(|at| here.snapshots[*at].is_there && here.snapshots[*at].volume == former)
            .collect();
        if moving.iter().any(|at| here.snapshot(volume, &here.snapshots[*at].name).is_some()) {
            return Err(RefusalKind::Exists);
        }
        moving.into_iter().for_each(|at| here.snapshots[at].volume = number);
        Ok(Done::Changed)
    }

    fn delete_snapshot(&mut self, pool: &str, volume: &str, at: &str) -> Ends {
        let here = self.here(pool)?;
        let at = here.snapshot(volume, at).ok_or(RefusalKind::NotFound)?;
        here.snapshots[at].is_there = false;
        let export = here.snapshots[at].export.take();
        self.leave(export);
        Ok(Done::Changed)
    }

    fn change(&mut self, pool: &str, volume: &str, f: impl FnOnce(&mut Volume) -> Ends) -> Ends {
        let here = self.here(pool)?;
        let number = here.volume(volume).ok_or(RefusalKind::NotFound)?;
        f(here.volumes.get_mut(&number).unwrap())
    }

    fn rename(&mut self, pool: &str, from: &str, to: &str) -> Ends {
        let here = self.here(pool)?;
        here.volume(from).ok_or(RefusalKind::NotFound)?;
        if from != to && here.volume(to).is_some() {
            return Err(RefusalKind::Exists);
        }
        self.change(pool, from, |volume| {
            volume.name = to.to_owned();
            Ok(Done::Changed)
        })
    }

    /// What a volume or a snapshot of these names is.
    fn find(&mut self, pool: &str, volume: &str, at: Option<&str>) -> Result<What, RefusalKind> {
        let here = self.here(pool)?;
        let found = match at {
            None => here.volume(volume).map(What::Volume),
            Some(at) => here.snapshot(volume, at).map(What::Snapshot),
        };
        found.ok_or(RefusalKind::NotFound)
    }

    fn unexport(&mut self, pool: &str, what: What) -> Ends {
        let export = self.here(pool)?.export_mut(what).take();
        if export.is_none() {
            return Err(RefusalKind::NotFound);
        }
        self.leave(export);
        Ok(Done::Changed)
    }

    fn host(&mut self, nqn: &str, host: &str, comes: bool) -> Ends {
        let who = &mut self.subsystems.get_mut(nqn).ok_or(RefusalKind::NotFound)?.who;
        match comes {
            true if who.any => return Err(RefusalKind::Refused),
            true => drop(who.hosts.insert(host.to_owned())),
            false if !who.hosts.remove(host) => return Err(RefusalKind::NotFound),
            false => {}
        }
        Ok(Done::Changed)
    }

    fn make_subsystem(&mut self, nqn: &str, who: Who) -> Ends {
        match self.subsystems.get(nqn) {
            Some(there) if there.who == who => Ok(Done::Existing),
            Some(_) => Err(RefusalKind::Exists),
            None => {
                self.subsystems.insert(nqn.to_owned(), Subsystem { own: false, who });
                Ok(Done::New)
            }
        }
    }

    fn drop_subsystem(&mut self, nqn: &str) -> Ends {
        if !self.subsystems.contains_key(nqn) {
            return Err(RefusalKind::NotFound);
        }
        if !self.taken(nqn).is_empty() {
            return Err(RefusalKind::InUse);
        }
        self.subsystems.remove(nqn);
        Ok(Done::Changed)
    }
}

impl World {
    /// One operation.
    pub fn step(&mut self) {
        match self.chance.below(100) {
            0..20 => self.create(),
            20..27 => self.clone_one(),
            27..33 => self.snapshot(),
            33..35 => self.group(),
            35..37 => self.roll_back(),
            37..39 => self.promote(),
            39..43 => self.delete_snapshot(),
            43..49 => self.delete(),
            49..55 => self.rename(),
            55..62 => self.resize_or_limit(),
            62..75 => self.export(),
            75..80 => self.unexport(),
            80..86 => self.host(),
            86..92 => self.subsystem(),
            92..95 => self.pool_goes(),
            95..98 => self.pool_comes(),
            _ => {
                self.restart();
                self.check();
            }
        }
    }

    fn who(&mut self) -> Who {
        let any = self.chance.one_in(3);
        let hosts = HOSTS.iter().filter(|_| !any && self.chance.one_in(3));
        Who { hosts: hosts.map(ToString::to_string).collect(), any }
    }

    fn nqn(&mut self) -> String {
        if self.chance.one_in(4) {
            let pool = self.pool().1;
            return own_of(&pool, self.chance.of(&VOLUMES), None);
        }
        self.chance.of(&SHARED).to_owned()
    }

    fn wanted(&mut self) -> Wanted {
        if self.chance.one_in(3) { Wanted::In(self.nqn()) } else { Wanted::Own(self.who()) }
    }

    fn iops(&mut self) -> Option<u64> {
        self.chance.one_in(3).then(|| 1000 + self.chance.below(2))
    }

    /// Mostly a snapshot that is there: its volume's name and its own.
    fn some_snapshot(&mut self, pool: &str) -> (String, String) {
        let here = &self.model.pools[pool];
        let there = here.snapshots.iter().filter(|snapshot| snapshot.is_there);
        let there: Vec<_> =
            there.map(|s| (here.volumes[&s.volume].name.clone(), s.name.clone())).collect();
        if there.is_empty() || self.chance.one_in(4) {
            return (self.chance.of(&VOLUMES).into(), self.chance.of(&SNAPSHOTS).into());
        }
        there[self.chance.below(there.len() as u64) as usize].clone()
    }

    /// Mostly the name of a clone.
    fn some_clone(&mut self, pool: &str) -> String {
        let here = &self.model.pools[pool];
        let clones = here.volumes.iter().filter(|(number, _)| here.origin(**number).is_some());
        let clones: Vec<String> = clones.map(|(_, volume)| volume.name.clone()).collect();
        if clones.is_empty() || self.chance.one_in(4) {
            return self.chance.of(&VOLUMES).into();
        }
        clones[self.chance.below(clones.len() as u64) as usize].clone()
    }

    fn create(&mut self) {
        let (pool, of) = self.pool();
        let volume = self.chance.of(&VOLUMES);
        let mut bytes = (1 + self.chance.below(3)) * MIB;
        let (mut iops, mut wanted) = (self.iops(), self.wanted());
        let mut thick = self.chance.one_in(4);
        // Now and then the same again.
        let here = &self.model.pools[&of];
        if let Some(there) = here.volume(volume).map(|number| here.volumes[&number].clone())
            && self.chance.one_in(2)
        {
            (bytes, iops, thick) = (there.bytes, there.iops, there.thick);
            let subsystem = there.export.and_then(|(nqn, _)| {
                let there = self.model.subsystems.get(&nqn)?.clone();
                Some(if there.own { Wanted::Own(there.who) } else { Wanted::In(nqn) })
            });
            wanted = subsystem.unwrap_or(wanted);
        }
        let ExportSet { subsystem, hosts, allow_any_host } = set_of(&wanted);
        let limits = Limits { iops, ..Limits::default() };
        let new = new_volume(volume, bytes);
        let request = VolumeCreate { limits, thick, subsystem, hosts, allow_any_host, ..new };
        let (ends, there) = made(self.node().create_volume(&pool, request));
        let (bytes, origin) = (Some(bytes), None);
        let asked = Asked { name: volume, bytes, iops, thick, origin, wanted: &wanted };
        let expected = self.model.make(&of, &asked);
        self.compare(format!("create {of}/{volume} {bytes:?} {thick} {wanted:?}"), ends, expected);
        if let (Ok(Done::New), Some(there)) = (ends, there) {
            self.model.told_uuid(&of, volume, there.uuid);
        }
    }

    fn clone_one(&mut self) {
        let of = self.pool().1;
        let ((volume, at), to) = (self.some_snapshot(&of), self.chance.of(&VOLUMES));
        let (iops, wanted) = (self.iops(), self.wanted());
        let ExportSet { subsystem, hosts, allow_any_host } = set_of(&wanted);
        let limits = Limits { iops, ..Limits::default() };
        let request = VolumeClone { name: name(to), limits, subsystem, hosts, allow_any_host };
        let (ends, there) =
            made(self.node().clone_snapshot(&snapshot_at(&of, &volume, &at), request));
        let origin = self.model.find(&of, &volume, Some(&at));
        let expected = origin.and_then(|origin| {
            let What::Snapshot(origin) = origin else { unreachable!("it was looked for") };
            let (bytes, thick, origin) = (None, false, Some(origin));
            let asked = Asked { name: to, bytes, iops, thick, origin, wanted: &wanted };
            self.model.make(&of, &asked)
        });
        self.compare(format!("clone {of}/{volume}@{at} to {to} {wanted:?}"), ends, expected);
        if let (Ok(Done::New), Some(there)) = (ends, there) {
            self.model.told_uuid(&of, to, there.uuid);
        }
    }

    fn snapshot(&mut self) {
        let of = self.pool().1;
        let (volume, snapshot) = (self.chance.of(&VOLUMES), self.chance.of(&SNAPSHOTS));
        let request = SnapshotCreate { name: name(snapshot) };
        let ends = made(self.node().create_snapshot(&at(&of, volume), request)).0;
        let expected = self.model.snapshot(&of, volume, snapshot);
        self.compare(format!("snapshot {of}/{volume}@{snapshot}"), ends, expected);
    }

    fn group(&mut self) {
        let of = self.pool().1;
        let mut volumes = vec![self.chance.of(&VOLUMES)];
        volumes.extend(VOLUMES.into_iter().filter(|_| self.chance.one_in(4)));
        volumes.sort_unstable();
        volumes.dedup();
        let snapshot = self.chance.of(&SNAPSHOTS);
        let names = volumes.iter().map(|volume| name(volume)).collect();
        let request = GroupSnapshotCreate { name: name(snapshot), volumes: names };
        let ends = changed(self.node().create_group_snapshot(&name(&of), request));
        let expected = self.model.group(&of, &volumes, snapshot);
        self.compare(format!("snapshot {of}/{volumes:?}@{snapshot}"), ends, expected);
    }

    fn roll_back(&mut self) {
        let of = self.pool().1;
        let (volume, snapshot) = self.some_snapshot(&of);
        let request = RollBack { snapshot: name(&snapshot), force: false };
        let ends = changed(self.node().roll_back(&at(&of, &volume), request));
        let expected = self.model.roll_back(&of, &volume, &snapshot);
        self.compare(format!("roll {of}/{volume} back to {snapshot}"), ends, expected);
    }

    fn promote(&mut self) {
        let of = self.pool().1;
        let volume = self.some_clone(&of);
        let ends = changed(self.node().promote(&at(&of, &volume)));
        let expected = self.model.promote(&of, &volume);
        self.compare(format!("promote {of}/{volume}"), ends, expected);
    }

    fn delete_snapshot(&mut self) {
        let of = self.pool().1;
        let (volume, at) = (self.chance.of(&VOLUMES), self.chance.of(&SNAPSHOTS));
        let ends = changed(self.node().delete_snapshot(&snapshot_at(&of, volume, at)));
        let expected = self.model.delete_snapshot(&of, volume, at);
        self.compare(format!("delete {of}/{volume}@{at}"), ends, expected);
    }

    fn delete(&mut self) {
        let of = self.pool().1;
        let volume = self.chance.of(&VOLUMES);
        let ends = changed(self.node().delete_volume(&at(&of, volume), false));
        let expected = self.model.delete(&of, volume);
        self.compare(format!("delete {of}/{volume}"), ends, expected);
    }

    fn rename(&mut self) {
        let of = self.pool().1;
        let (from, to) = (self.chance.of(&VOLUMES), self.chance.of(&VOLUMES));
        let request = Rename { name: name(to) };
        let ends = changed(self.node().rename_volume(&at(&of, from), request));
        let expected = self.model.rename(&of, from, to);
        self.compare(format!("rename {of}/{from} to {to}"), ends, expected);
    }

    fn resize_or_limit(&mut self) {
        let of = self.pool().1;
        let volume = self.chance.of(&VOLUMES);
        if self.chance.one_in(2) {
            let iops = self.iops();
            let limits = Limits { iops, ..Limits::default() };
            let ends = changed(self.node().set_limits(&at(&of, volume), limits));
            let expected = self.model.change(&of, volume, |there| {
                there.iops = iops;
                Ok(Done::Changed)
            });
            return self.compare(format!("limit {of}/{volume} to {iops:?}"), ends, expected);
        }
        let (bytes, may_shrink) = ((1 + self.chance.below(4)) * MIB, self.chance.one_in(2));
        let ends =
            changed(self.node().resize_volume(&at(&of, volume), Resize { bytes, may_shrink }));
        let expected = self.model.change(&of, volume, |there| {
            if bytes < there.bytes && !may_shrink {
                return Err(RefusalKind::Refused);
            }
            there.bytes = bytes;
            Ok(Done::Changed)
        });
        self.compare(format!("resize {of}/{volume} to {bytes} {may_shrink}"), ends, expected);
    }

    fn export(&mut self) {
        let of = self.pool().1;
        let (volume, wanted) = (self.chance.of(&VOLUMES), self.wanted());
        let snapshot = self.chance.one_in(3).then(|| self.chance.of(&SNAPSHOTS));
        let set = set_of(&wanted);
        let ends = match snapshot {
            None => changed(self.node().export_volume(&at(&of, volume), set)),
            Some(s) => changed(self.node().export_snapshot(&snapshot_at(&of, volume, s), set)),
        };
        let found = self.model.find(&of, volume, snapshot);
        let own = own_of(&of, volume, snapshot);
        let expected = found.and_then(|what| self.model.export(&of, what, &own, &wanted));
        self.compare(format!("export {of}/{volume} {snapshot:?} {wanted:?}"), ends, expected);
    }

    fn unexport(&mut self) {
        let of = self.pool().1;
        let volume = self.chance.of(&VOLUMES);
        let snapshot = self.chance.one_in(3).then(|| self.chance.of(&SNAPSHOTS));
        let ends = match snapshot {
            None => changed(self.node().unexport_volume(&at(&of, volume))),
            Some(s) => changed(self.node().unexport_snapshot(&snapshot_at(&of, volume, s))),
        };
        let found = self.model.find(&of, volume, snapshot);
        let expected = found.and_then(|what| self.model.unexport(&of, what));
        self.compare(format!("unexport {of}/{volume} {snapshot:?}"), ends, expected);
    }

    fn host(&mut self) {
        let (nqn, who, comes) = (self.nqn(), self.chance.of(&HOSTS), !self.chance.one_in(3));
        let of = nqn.parse().unwrap();
        let ends = match comes {
            true => changed(self.node().add_host(&of, HostAdd { host: host(who) })),
            false => changed(self.node().remove_host(&of, &host(who))),
        };
        let expected = self.model.host(&nqn, who, comes);
        self.compare(format!("host {who} of {nqn} {comes}"), ends, expected);
    }

    fn subsystem(&mut self) {
        if self.chance.one_in(3) {
            let nqn = self.nqn();
            let ends = changed(self.node().delete_subsystem(&nqn.parse().unwrap()));
            let expected = self.model.drop_subsystem(&nqn);
            return self.compare(format!("delete {nqn}"), ends, expected);
        }
        let (nqn, who) = (self.chance.of(&SHARED), self.who());
        let ExportSet { hosts, allow_any_host, .. } = set_of(&Wanted::Own(who.clone()));
        let request = SubsystemCreate { nqn: nqn.parse().unwrap(), hosts, allow_any_host };
        let ends = made(self.node().create_subsystem(request)).0;
        let expected = self.model.make_subsystem(nqn, who.clone());
        self.compare(format!("create {nqn} {who:?}"), ends, expected);
    }

    fn pool_goes(&mut self) {
        let (pool, of) = self.pool();
        let ends = changed(self.node().export_pool(&pool, false));
        let expected = self.model.export_pool(&of);
        self.compare(format!("export {of}"), ends, expected);
    }

    fn pool_comes(&mut self) {
        let (pool, of) = self.pool();
        let request = PoolImport { name: Some(pool), ..PoolImport::default() };
        let ends = made(self.node().import_pool(request)).0;
        let expected = self.model.import_pool(&of);
        self.compare(format!("import {of}"), ends, expected);
    }
}
