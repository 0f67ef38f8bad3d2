//! Snapshots and clones.

use super::{SnapshotState, State, VolumeState};
use wanted::Request;
use webui_model::*;

fn volume_of(snapshot: &SnapshotRef) -> VolumeRef {
    VolumeRef { pool: snapshot.pool.clone(), volume: snapshot.volume.clone() }
}

impl State {
    fn snapshot_state(&self, snapshot: &SnapshotRef) -> Result<&SnapshotState, Refusal> {
        self.volume_state(&volume_of(snapshot))?
            .snapshots
            .get(&snapshot.snapshot)
            .ok_or_else(|| Refusal::not_found(format!("There is no snapshot {snapshot}.")))
    }

    fn clones(&self, snapshot: &SnapshotRef) -> Vec<Name> {
        let origin = Some((snapshot.volume.clone(), snapshot.snapshot.clone()));
        let pool = self.pools.get(&snapshot.pool);
        let volumes = pool.into_iter().flat_map(|p| &p.volumes);
        volumes.filter(|(_, v)| v.origin == origin).map(|(n, _)| n.clone()).collect()
    }

    pub fn snapshot(&self, snapshot: &SnapshotRef) -> Result<Snapshot, Refusal> {
        let state = self.snapshot_state(snapshot)?;
        Ok(Snapshot {
            pool: snapshot.pool.clone(),
            volume: snapshot.volume.clone(),
            name: snapshot.snapshot.clone(),
            bytes: state.bytes,
            created_at_ms: state.order,
            exclusive_bytes: 0,
            clones: self.clones(snapshot),
            export: self.export_of(&NamespaceSource::Snapshot(snapshot.clone())),
            status: Status::Ok,
            reason: "It is complete.".into(),
        })
    }

    pub fn snapshots(&self, pool: &Name, volume: Option<&Name>) -> Result<Vec<Snapshot>, Refusal> {
        let mut found = Vec::new();
        if let Some(volume) = volume {
            self.volume_state(&VolumeRef { pool: pool.clone(), volume: volume.clone() })?;
        }
        for (name, state) in &self.pool_state(pool)?.volumes {
            for snapshot in state.snapshots.keys().filter(|_| volume.is_none_or(|v| v == name)) {
                found.push(self.snapshot(&SnapshotRef {
                    pool: pool.clone(),
                    volume: name.clone(),
                    snapshot: snapshot.clone(),
                })?);
            }
        }
        Ok(found)
    }

    pub fn create_snapshot(
        &mut self,
        volume: &VolumeRef,
        name: &Name,
    ) -> Result<Made<Snapshot>, Refusal> {
        let order = self.next();
        let state = self.volume_mut(volume)?;
        let taken = SnapshotState { bytes: state.bytes, order };
        let new = !state.snapshots.contains_key(name);
        if new {
            state.snapshots.insert(name.clone(), taken);
        }
        let (pool, snapshot) = (volume.pool.clone(), name.clone());
        let snapshot = SnapshotRef { pool, volume: volume.volume.clone(), snapshot };
        let shown = self.snapshot(&snapshot)?;
        if !new {
            return Ok(Made::Existing(shown));
        }
        self.tell(EventKind::Created, ObjectKind::Snapshot, &snapshot, "is new");
        Ok(Made::New(shown))
    }

    pub fn create_group(
        &mut self,
        pool: &Name,
        request: &GroupSnapshotCreate,
    ) -> Result<Vec<Snapshot>, Refusal> {
        self.pool_state(pool)?;
        let mut taken = Vec::new();
        for volume in &request.volumes {
            let volume = VolumeRef { pool: pool.clone(), volume: volume.clone() };
            match self.create_snapshot(&volume, &request.name)? {
                Made::New(snapshot) => taken.push(snapshot),
                Made::Existing(_) => {
                    let name = &request.name;
                    return Err(Refusal::exists(format!("{volume}@{name} is there already.")));
                }
            }
        }
        Ok(taken)
    }

    pub fn delete_snapshot(&mut self, snapshot: &SnapshotRef) -> Result<(), Refusal> {
        self.ask(&Request::DeleteSnapshot(snapshot.clone()))?;
        for clone in self.clones(snapshot) {
            let clone = VolumeRef { pool: snapshot.pool.clone(), volume: clone };
            self.volume_mut(&clone)?.origin = None;
        }
        self.volume_mut(&volume_of(snapshot))?.snapshots.remove(&snapshot.snapshot);
        self.tell(EventKind::Deleted, ObjectKind::Snapshot, snapshot, "is deleted");
        Ok(())
    }

    pub fn clone_snapshot(
        &mut self,
        snapshot: &SnapshotRef,
        request: &VolumeClone,
    ) -> Result<Made<Volume>, Refusal> {
        let volume = VolumeRef { pool: snapshot.pool.clone(), volume: request.name.clone() };
        let (uuid, clone, of) = (self.uuid(), request.clone(), snapshot.clone());
        if self.ask(&Request::CloneSnapshot { snapshot: of, clone, uuid })?.is_as_before() {
            return self.volume(&volume).map(Made::Existing);
        }
        let state = VolumeState {
            uuid,
            bytes: self.snapshot_state(snapshot)?.bytes,
            block_bytes: self.volume_state(&volume_of(snapshot))?.block_bytes,
            thick: false,
            limits: request.limits,
            origin: Some((snapshot.volume.clone(), snapshot.snapshot.clone())),
            snapshots: Default::default(),
        };
        self.add_volume(&volume, state).map(Made::New)
    }

    pub fn roll_back(&mut self, volume: &VolumeRef, request: &RollBack) -> Result<Volume, Refusal> {
        let (pool, snapshot) = (volume.pool.clone(), request.snapshot.clone());
        let snapshot = SnapshotRef { pool, volume: volume.volume.clone(), snapshot };
        let (of, at, force) = (volume.clone(), request.snapshot.to_string(), request.force);
        self.ask(&Request::RollBack { volume: of, snapshot: at, force })?;
        let bytes = self.snapshot_state(&snapshot)?.bytes;
        self.volume_mut(volume)?.bytes = bytes;
        self.tell(EventKind::Changed, ObjectKind::Volume, volume, "is rolled back");
        self.volume(volume)
    }

    /// The clone takes the snapshot it was made of, and those before it, from its origin.
    pub fn promote(&mut self, volume: &VolumeRef) -> Result<PromoteOutcome, Refusal> {
        self.ask(&Request::Promote(volume.clone()))?;
        let (origin, snapshot) = self.volume_state(volume)?.origin.clone().expect("a clone");
        let former = VolumeRef { pool: volume.pool.clone(), volume: origin.clone() };
        let there = self.volume_state(&former)?;
        let last = there.snapshots[&snapshot].order;
        let mut moved: Vec<Name> = Vec::new();
        let older = there.snapshots.iter().filter(|(_, s)| s.order <= last);
        moved.extend(older.map(|(name, _)| name.clone()));
        let grand = there.origin.clone();
        let own = &self.volume_state(volume)?.snapshots;
        if let Some(twice) = moved.iter().find(|name| own.contains_key(*name)) {
            return Err(Refusal::exists(format!("{volume} has a snapshot {twice} of its own.")));
        }
        for name in &moved {
            let state = self.volume_mut(&former)?.snapshots.remove(name).expect("it was found");
            self.volume_mut(volume)?.snapshots.insert(name.clone(), state);
        }
        self.volume_mut(volume)?.origin = grand;
        self.volume_mut(&former)?.origin = Some((volume.volume.clone(), snapshot));
        for other in self.pool_mut(&volume.pool)?.volumes.values_mut() {
            if let Some((from, _)) =
                other.origin.as_mut().filter(|(v, s)| *v == origin && moved.contains(s))
            {
                *from = volume.volume.clone();
            }
        }
        let (from, to) = (self.volume_state(&former)?.uuid, self.volume_state(volume)?.uuid);
        self.ask(&Request::MoveSnapshots {
            pool: volume.pool.to_string(),
            from,
            to: (to, volume.volume.to_string()),
            snapshots: moved.iter().map(ToString::to_string).collect(),
        })?;
        self.tell(EventKind::Changed, ObjectKind::Volume, volume, "is promoted");
        let volume = self.volume(volume)?;
        Ok(PromoteOutcome { volume, former_origin: Some(former), moved })
    }
}
