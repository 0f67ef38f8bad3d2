//! The operations: each is done, and told to the model.

use super::model::{Done, Ends, Model, Snapshot, Volume, uuid_of};
use super::{HOSTS, MIB, SHARED, SNAPSHOTS, VOLUMES, World, changed, made};
use crate::appliance::{at, host, name, new_volume, snapshot_at};
use wanted::{Request, Shown, Source};
use webui_model::{
    Control, ExportSet, GroupSnapshotCreate, HostAdd, Limits, Nqn, PoolImport, RefusalKind, Rename,
    Resize, RollBack, SnapshotCreate, SubsystemCreate, VolumeClone, VolumeCreate,
};

fn own_of(pool: &str, volume: &str) -> String {
    Nqn::of_volume(&name(pool), &name(volume)).to_string()
}

impl Model {
    /// The UUID of a volume that is made next.
    fn next(&self) -> wanted::Uuid {
        uuid_of(self.made + 1)
    }

    /// A volume was asked for; its UUID is told afterwards.
    fn made(&mut self, pool: &str, asked: Ends, volume: Volume) -> Ends {
        if asked? == Done::Existing {
            return asked;
        }
        self.made += 1;
        let number = self.made;
        self.here(pool)?.volumes.insert(number, volume);
        asked
    }

    fn told_uuid(&mut self, pool: &str, volume: &str, uuid: String) {
        let pool = self.pools.get_mut(pool).unwrap();
        let number = pool.volume(volume).unwrap();
        pool.volumes.get_mut(&number).unwrap().uuid = uuid;
    }

    fn delete(&mut self, pool: &str, volume: &str) -> Ends {
        self.ask(&Request::DeleteVolume { volume: at(pool, volume), force: false })?;
        let here = self.here(pool)?;
        let number = here.volume(volume).ok_or(RefusalKind::NotFound)?;
        here.volumes.remove(&number);
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
        let snapshot = Snapshot { name, volume: number, bytes, behind, is_there };
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

    fn roll_back(&mut self, pool: &str, volume: &str, snapshot: &str) -> Ends {
        let (of, at_name) = (at(pool, volume), snapshot.to_owned());
        self.ask(&Request::RollBack { volume: of, snapshot: at_name, force: false })?;
        let here = self.here(pool)?;
        let at = here.snapshot(volume, snapshot).ok_or(RefusalKind::NotFound)?;
        let bytes = here.snapshots[at].bytes;
        self.change(pool, volume, |there| {
            (there.behind, there.bytes) = (Some(at), bytes);
            Ok(Done::Changed)
        })
    }

    /// The snapshots of its origin that a volume was made from become its own.
    fn promote(&mut self, pool: &str, volume: &str) -> Ends {
        self.ask(&Request::Promote(at(pool, volume)))?;
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
        let snapshots = moving.iter().map(|at| here.snapshots[*at].name.clone()).collect();
        moving.into_iter().for_each(|at| here.snapshots[at].volume = number);
        self.change_wanted(&Request::MoveSnapshots {
            pool: pool.to_owned(),
            from: uuid_of(former),
            to: (uuid_of(number), volume.to_owned()),
            snapshots,
        })
    }

    fn delete_snapshot(&mut self, pool: &str, volume: &str, at: &str) -> Ends {
        self.ask(&Request::DeleteSnapshot(snapshot_at(pool, volume, at)))?;
        let here = self.here(pool)?;
        let at = here.snapshot(volume, at).ok_or(RefusalKind::NotFound)?;
        here.snapshots[at].is_there = false;
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
        })?;
        self.learn_names(pool);
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

    /// Who may connect, to a subsystem of its own.
    fn who(&mut self) -> ExportSet {
        let any = self.chance.one_in(3);
        let hosts = HOSTS.iter().filter(|_| !any && self.chance.one_in(3));
        let hosts = hosts.map(|text| host(text)).collect();
        ExportSet { subsystem: None, hosts, allow_any_host: any }
    }

    fn nqn(&mut self) -> String {
        if self.chance.one_in(4) {
            let pool = self.pool().1;
            return own_of(&pool, self.chance.of(&VOLUMES));
        }
        self.chance.of(&SHARED).to_owned()
    }

    fn set(&mut self) -> ExportSet {
        if self.chance.one_in(3) {
            let subsystem = Some(self.nqn().parse().unwrap());
            return ExportSet { subsystem, ..ExportSet::default() };
        }
        self.who()
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
        let (mut iops, mut set) = (self.iops(), self.set());
        let mut thick = self.chance.one_in(4);
        // Now and then the same again.
        let here = &self.model.pools[&of];
        if let Some(number) = here.volume(volume)
            && self.chance.one_in(2)
        {
            let there = here.volumes[&number].clone();
            (bytes, iops, thick) = (there.bytes, there.iops, there.thick);
            let source =
                Source::Volume { pool: of.clone(), uuid: uuid_of(number), name: there.name };
            if let Ok(Some(export)) = self.model.wanted.export_of(&source) {
                set = match export.own {
                    true => ExportSet {
                        subsystem: None,
                        hosts: export.hosts,
                        allow_any_host: export.allow_any_host,
                    },
                    false => {
                        ExportSet { subsystem: Some(export.subsystem), ..ExportSet::default() }
                    }
                };
            }
        }
        let said = format!("create {of}/{volume} {bytes} {iops:?} {thick} {set:?}");
        let ExportSet { subsystem, hosts, allow_any_host } = set;
        let limits = Limits { iops, ..Limits::default() };
        let new = new_volume(volume, bytes);
        let create = VolumeCreate { limits, thick, subsystem, hosts, allow_any_host, ..new };
        let (ends, there) = made(self.node().create_volume(&pool, create.clone()));
        let uuid = self.model.next();
        let asked = self.model.make(&Request::CreateVolume { pool: of.clone(), create, uuid });
        let (name, uuid) = (volume.to_owned(), String::new());
        let new = Volume { name, uuid, bytes, iops, thick, behind: None };
        let expected = self.model.made(&of, asked, new);
        self.compare(said, ends, expected);
        if let (Ok(Done::New), Some(there)) = (ends, there) {
            self.model.told_uuid(&of, volume, there.uuid);
        }
    }

    fn clone_one(&mut self) {
        let of = self.pool().1;
        let ((volume, at), to) = (self.some_snapshot(&of), self.chance.of(&VOLUMES));
        let (iops, set) = (self.iops(), self.set());
        let said = format!("clone {of}/{volume}@{at} to {to} {iops:?} {set:?}");
        let ExportSet { subsystem, hosts, allow_any_host } = set;
        let limits = Limits { iops, ..Limits::default() };
        let clone = VolumeClone { name: name(to), limits, subsystem, hosts, allow_any_host };
        let snapshot = snapshot_at(&of, &volume, &at);
        let (ends, there) = made(self.node().clone_snapshot(&snapshot, clone.clone()));
        let uuid = self.model.next();
        let asked = self.model.make(&Request::CloneSnapshot { snapshot, clone, uuid });
        let expected = asked.and_then(|_| {
            let here = &self.model.pools[&of];
            let behind = here.snapshot(&volume, &at);
            let bytes = behind.map_or(0, |at| here.snapshots[at].bytes);
            let (name, uuid) = (to.to_owned(), String::new());
            let new = Volume { name, uuid, bytes, iops, thick: false, behind };
            self.model.made(&of, asked, new)
        });
        self.compare(said, ends, expected);
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

    /// Something that can be exported, if it is there.
    fn some(&mut self) -> (String, Shown) {
        let of = self.pool().1;
        let volume = self.chance.of(&VOLUMES);
        let shown = match self.chance.one_in(3) {
            true => Shown::Snapshot(snapshot_at(&of, volume, self.chance.of(&SNAPSHOTS))),
            false => Shown::Volume(at(&of, volume)),
        };
        (format!("{shown:?}"), shown)
    }

    fn export(&mut self) {
        let ((said, what), set) = (self.some(), self.set());
        let ends = match &what {
            Shown::Volume(volume) => changed(self.node().export_volume(volume, set.clone())),
            Shown::Snapshot(at) => changed(self.node().export_snapshot(at, set.clone())),
        };
        let said = format!("export {said} {set:?}");
        // No volume has it.
        let uuid = uuid_of(usize::MAX);
        let expected = self.model.change_wanted(&Request::Export { what, set, uuid });
        self.compare(said, ends, expected);
    }

    fn unexport(&mut self) {
        let (said, what) = self.some();
        let ends = match &what {
            Shown::Volume(volume) => changed(self.node().unexport_volume(volume)),
            Shown::Snapshot(at) => changed(self.node().unexport_snapshot(at)),
        };
        let expected = self.model.change_wanted(&Request::Unexport(what));
        self.compare(format!("unexport {said}"), ends, expected);
    }

    fn host(&mut self) {
        let (nqn, who, comes) = (self.nqn(), self.chance.of(&HOSTS), !self.chance.one_in(3));
        let (of, who) = (nqn.parse().unwrap(), host(who));
        let said = format!("host {who} of {nqn} {comes}");
        let (ends, request) = match comes {
            true => {
                let ends = changed(self.node().add_host(&of, HostAdd { host: who.clone() }));
                (ends, Request::AddHost { nqn, host: who })
            }
            false => {
                let ends = changed(self.node().remove_host(&of, &who));
                (ends, Request::RemoveHost { nqn, host: who })
            }
        };
        let expected = self.model.change_wanted(&request);
        self.compare(said, ends, expected);
    }

    fn subsystem(&mut self) {
        if self.chance.one_in(3) {
            let nqn = self.nqn();
            let ends = changed(self.node().delete_subsystem(&nqn.parse().unwrap()));
            let expected = self.model.change_wanted(&Request::DeleteSubsystem(nqn.clone()));
            return self.compare(format!("delete {nqn}"), ends, expected);
        }
        let (nqn, who) = (self.chance.of(&SHARED), self.who());
        let said = format!("create {nqn} {who:?}");
        let ExportSet { hosts, allow_any_host, .. } = who;
        let request = SubsystemCreate { nqn: nqn.parse().unwrap(), hosts, allow_any_host };
        let ends = made(self.node().create_subsystem(request.clone())).0;
        let expected = self.model.make(&Request::CreateSubsystem(request));
        self.compare(said, ends, expected);
    }

    fn pool_goes(&mut self) {
        let (pool, of) = self.pool();
        let ends = changed(self.node().export_pool(&pool, false));
        let force = false;
        let expected = self.model.change_wanted(&Request::ExportPool { pool: of.clone(), force });
        self.compare(format!("export {of}"), ends, expected);
    }

    fn pool_comes(&mut self) {
        let (pool, of) = self.pool();
        let request = PoolImport { name: Some(pool), ..PoolImport::default() };
        let ends = made(self.node().import_pool(request)).0;
        let expected = self.model.keep_pool(&of);
        self.compare(format!("import {of}"), ends, expected);
    }
}
