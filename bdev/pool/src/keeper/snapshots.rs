//! Snapshots, and what is made from them.

use super::Keeper;
use super::volumes::{NewVolume, check_name};
use crate::error::{Kind, PoolError};
use crate::record::{NodeRecord, NodeState, VolumeKind, VolumeRecord};
use crate::state::{NewView, Scope, View, VolumeState};
use crate::store::Update;
use crate::superblock::{EXTENT_BYTES, FORMAT_2};
use crate::volume::{NodeMap, Volume};
use crate::writers::Writers;
use std::sync::Arc;
use uuid::Uuid;

impl Keeper {
    /// The snapshots of a volume, by node, oldest first.
    pub(crate) fn snapshots_of(&self, volume: u64) -> Vec<(u64, String)> {
        let tables = self.directory.tables();
        tables.snapshots_of(volume).map(|(node, name)| (node, name.to_owned())).collect()
    }

    fn snapshot_node(&self, volume: u64, name: &str) -> Result<u64, PoolError> {
        self.directory.tables().snapshot_named(volume, name).ok_or_else(|| {
            let of = &self.records.volumes[&volume].name;
            let name = name.escape_debug();
            PoolError::new(Kind::NotFound, format!("Volume \"{of}\" has no snapshot \"{name}\"."))
        })
    }

    /// Nobody can look at a snapshot any more.
    pub(super) fn retire_snapshot(&mut self, node: u64, name: &str) -> Result<(), PoolError> {
        if let Some(view) = self.views.get(node) {
            if view.retire().is_none() {
                return Err(PoolError::new(
                    Kind::InUse,
                    format!("Snapshot \"{name}\" is exported: stop exporting it first."),
                ));
            }
            self.views.remove(node);
        }
        Ok(())
    }

    /// Takes a snapshot of each of `volumes`, all at one instant.
    pub(crate) fn snapshot(
        &mut self,
        volumes: &[(String, Option<Uuid>)],
        name: &str,
        taken_s: u64,
    ) -> Result<(), PoolError> {
        check_name(name)?;
        let mut group = Vec::new();
        let mut reserve = 0;
        for (volume, uuid) in volumes {
            let number = self.volume(volume)?;
            self.is_not_filled(number, "have snapshots")?;
            if group.iter().any(|(other, _)| *other == number) {
                let why = format!("Volume \"{volume}\" is named twice.");
                return Err(PoolError::new(Kind::Invalid, why));
            }
            if self.snapshot_node(number, name).is_ok() {
                let why = format!("Volume \"{volume}\" has a snapshot \"{name}\" already.");
                return Err(PoolError::new(Kind::Exists, why));
            }
            if self.records.volumes[&number].thick {
                reserve += self.holdings.held(number);
            }
            group.push((number, *uuid));
        }
        // All of a thick volume can be written once more, beside its snapshot.
        self.may_reserve(reserve, "A snapshot of thick volumes")?;
        let updates = self.move_on(&group, name, taken_s)?;
        self.commit(updates)
    }

    /// The volumes go on as children of what they were. The pause of each is the end of the writes
    /// under way; what has to be committed goes its own way.
    fn move_on(
        &mut self,
        group: &[(u64, Option<Uuid>)],
        name: &str,
        taken_s: u64,
    ) -> Result<Vec<Update>, PoolError> {
        let numbers: Vec<u64> = group.iter().map(|(number, _)| *number).collect();
        let held = self.hold(&numbers, Scope::Volume);
        let mut moving = Vec::new();
        if held.is_ok() {
            for (volume, uuid) in group {
                let next = self.number();
                let answer = self.begin_with(*volume, move |state| {
                    let left = state.map.own_slots();
                    let dirty = state.map.move_on(next);
                    state.send_commit(dirty);
                    let (_, past) = state.map.parent().expect("the node that it moved on from");
                    (past.clone(), left)
                });
                moving.push((*volume, *uuid, next, answer));
            }
        }
        self.release(&numbers);
        held?;
        let mut updates = Vec::new();
        for (volume, uuid, next, answer) in moving {
            let (map, left) = self.wait(&answer).ok_or_else(PoolError::gone)?;
            let record = self.records.volumes[&volume].clone();
            let past = self.node(record.node).clone();
            let bytes = past.bytes;
            let uuid = uuid.or_else(|| self.snapshot_uuid());
            let state = NodeState::Snapshot { volume, name: name.to_owned(), taken_s, uuid };
            updates.extend([
                Update::Node(record.node, Some(NodeRecord { state, ..past })),
                Update::Node(
                    next,
                    Some(NodeRecord { parent: Some(record.node), bytes, state: NodeState::Live }),
                ),
                Update::Volume(volume, Some(VolumeRecord { node: next, ..record.clone() })),
            ]);
            self.set_map(record.node, map);
            self.holdings.lose(volume, left);
        }
        Ok(updates)
    }

    /// A number for a new snapshot, in a pool whose snapshots have some.
    fn snapshot_uuid(&mut self) -> Option<Uuid> {
        let format = self.superblock().format;
        self.uuids.as_mut().filter(|_| format >= FORMAT_2).map(|uuids| uuids())
    }

    /// Deletes a snapshot that nobody has open. Its space comes back by and by.
    pub(crate) fn delete_snapshot(&mut self, volume: &str, name: &str) -> Result<(), PoolError> {
        let node = self.snapshot_node(self.volume(volume)?, name)?;
        self.retire_snapshot(node, name)?;
        let leaving = self.leaving(node);
        self.commit(vec![leaving])
    }

    /// Makes a volume from a snapshot, of the same geometry. `new` gives its name, UUID, limits and
    /// whether it is thick.
    pub(crate) fn clone_snapshot(
        &mut self,
        volume: &str,
        name: &str,
        new: NewVolume,
    ) -> Result<u64, PoolError> {
        let of = self.volume(volume)?;
        let past = self.snapshot_node(of, name)?;
        self.is_new(&new.name)?;
        let bytes = self.node(past).bytes;
        if new.thick {
            self.may_reserve(
                bytes.div_ceil(EXTENT_BYTES),
                &format!("A thick volume \"{}\"", new.name),
            )?;
        }
        let (clone, node) = (self.number(), self.number());
        let record = VolumeRecord {
            name: new.name,
            uuid: new.uuid,
            node,
            block_bytes: self.records.volumes[&of].block_bytes,
            thick: new.thick,
            limits: new.limits,
            made_s: new.made_s,
            kind: VolumeKind::default(),
        };
        let live = NodeRecord { parent: Some(past), bytes, state: NodeState::Live };
        self.commit(vec![Update::Node(node, Some(live)), Update::Volume(clone, Some(record))])?;
        self.view_volume(clone);
        Ok(clone)
    }

    /// Makes a volume what one of its snapshots was. What has been written since is thrown away.
    pub(crate) fn roll_back(&mut self, volume: &str, name: &str) -> Result<(), PoolError> {
        let number = self.volume(volume)?;
        let past = self.snapshot_node(number, name)?;
        let record = self.records.volumes[&number].clone();
        let (old, next) = (record.node, self.number());
        if record.thick {
            self.may_reserve(self.holdings.held(number), "Rolling a thick volume back")?;
        }
        let bytes = self.node(past).bytes;
        let mut chain = vec![(past, self.maps[&past].clone())];
        chain.extend(self.chain(past));
        self.hold(&[number], Scope::Volume)?;
        let swapped = self.with(number, move |state| {
            state.commit();
            let (journal, shown) = (state.map.take_journal(), state.map.shown());
            let map = Volume::new(next, NodeMap::default(), chain);
            let map = map.with_journal(journal).with_shown(shown);
            std::mem::replace(&mut state.map, map).into_own()
        });
        self.view(number).resize(bytes);
        self.release(&[number]);
        let own = swapped?;
        self.holdings.lose(number, own.slots());
        self.set_map(old, Arc::new(own));
        let live = NodeRecord { parent: Some(past), bytes, state: NodeState::Live };
        let updates = vec![
            self.leaving(old),
            Update::Node(next, Some(live)),
            Update::Volume(number, Some(VolumeRecord { node: next, ..record })),
        ];
        self.commit(updates)?;
        self.holdings.promise(number, bytes.div_ceil(EXTENT_BYTES));
        Ok(())
    }

    /// Makes a clone the owner of the snapshots that it was made from, and of those before them.
    pub(crate) fn promote(&mut self, volume: &str) -> Result<(), PoolError> {
        let number = self.volume(volume)?;
        let owner_of = |record: &NodeRecord| match &record.state {
            NodeState::Snapshot { volume, .. } => Some(*volume),
            _ => None,
        };
        let behind = self.lineage(self.records.volumes[&number].node);
        let owners = behind.iter().filter_map(|node| owner_of(self.node(*node)));
        let Some(origin) = owners.clone().find(|owner| *owner != number) else {
            let why = format!("Volume \"{volume}\" is no clone: there is nothing to take over.");
            return Err(PoolError::new(Kind::Invalid, why));
        };
        let mut updates = Vec::new();
        for node in behind {
            let record = self.node(node).clone();
            let NodeState::Snapshot { volume: owner, name, taken_s, uuid } = record.state.clone()
            else {
                continue;
            };
            if owner != origin {
                continue;
            }
            if self.snapshot_node(number, &name).is_ok() {
                let why = format!(
                    "Volume \"{volume}\" would get a second snapshot \"{name}\": delete one of \
                     them first."
                );
                return Err(PoolError::new(Kind::Exists, why));
            }
            let state = NodeState::Snapshot { volume: number, name, taken_s, uuid };
            updates.push(Update::Node(node, Some(NodeRecord { state, ..record })));
        }
        self.commit(updates)
    }

    /// A snapshot to read. Opened as often as one likes, it is the same one.
    pub(crate) fn view_snapshot(
        &mut self,
        volume: &str,
        name: &str,
    ) -> Result<Arc<View>, PoolError> {
        let of = self.volume(volume)?;
        let node = self.snapshot_node(of, name)?;
        if let Some(view) = self.views.get(node) {
            return Ok(view.clone());
        }
        let mut chain = vec![(node, self.maps[&node].clone())];
        chain.extend(self.chain(node));
        // It has no node of its own, and nothing is ever written to it.
        let map = Volume::new(u64::MAX, NodeMap::default(), chain);
        let limits = crate::limits::Limits::default();
        let keeper = (self.own.clone(), self.directory.stock().clone());
        let state = VolumeState::new(node, map, limits, keeper);
        let new = NewView {
            block_bytes: self.records.volumes[&of].block_bytes,
            bytes: self.node(node).bytes,
            read_only: true,
            filled: false,
            home: self.next_home(),
            writers: Arc::new(Writers::none(self.own.clone())),
        };
        let view = Arc::new(View::new(new, state, self.wake.clone()));
        self.views.insert(node, self.tree(node), view.clone());
        Ok(view)
    }
}
