//! Volumes: made, renamed, resized, limited, deleted.

use super::Keeper;
use crate::entry::{BLOCKS_PER_EXTENT, EXTENTS_PER_ROW, Entry, Slot};
use crate::error::{Kind, PoolError};
use crate::journal::Journal;
use crate::limits::Limits;
use crate::record::{NodeRecord, NodeState, VolumeKind, VolumeRecord, WriterRecord};
use crate::state::{NewView, Scope, View, VolumeState};
use crate::store::Update;
use crate::superblock::EXTENT_BYTES;
use crate::volume::{NodeMap, Volume};
use crate::writers::{OTHERS, WRITERS, Writers};
use bdev_redb::BLOCK_BYTES;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

/// The largest volume: as many extents as rows of the map can be counted for, and then some less.
const LARGEST_BYTES: u64 = 1 << 50;

/// The largest volume that is filled: its zeros are written while nothing else is committed.
const MOST_FILLED_BYTES: u64 = 256 << 20;

/// What layers above keep: the name of one thing, its bytes, and all of them together.
const RECORD_NAME_BYTES: usize = 128;
const RECORD_BYTES: usize = 64 << 10;
const POOL_RECORDS_BYTES: usize = 4 << 20;
const VOLUME_RECORDS_BYTES: usize = 256 << 10;

/// What a volume is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// As people call it: letters, digits, `-`, `_` and `.`, at most 64.
    pub name: String,
    /// Its own, for ever.
    pub uuid: Uuid,
    /// Size in bytes, a multiple of 4096.
    pub bytes: u64,
    /// Bytes in a block: 512 or 4096; unless given, 4096 where all devices write so many atomically.
    pub block_bytes: Option<u32>,
    /// Slots for all of it are set aside.
    pub thick: bool,
    /// How fast it may be.
    pub limits: Limits,
    /// Now, in seconds since 1970.
    pub made_s: u64,
}

/// Whether `name` can be a volume's or a snapshot's.
pub fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=64).contains(&name.len()) && name.chars().all(fits) && !name.starts_with(['.', '-'])
}

pub(super) fn check_name(name: &str) -> Result<(), PoolError> {
    if is_name(name) {
        return Ok(());
    }
    Err(PoolError::new(
        Kind::Invalid,
        format!(
            "\"{}\" is no name: take 1 to 64 letters, digits, -, _ and ., beginning with none of \
             - and .",
            name.escape_debug()
        ),
    ))
}

fn check_size(bytes: u64) -> Result<u64, PoolError> {
    let why = match bytes {
        0 => "A volume of no size cannot be: take 4096 bytes or more.",
        LARGEST_BYTES.. if bytes > LARGEST_BYTES => "A volume is at most 1 PiB large.",
        _ if !bytes.is_multiple_of(BLOCK_BYTES as u64) => {
            "The size of a volume is a multiple of 4096 bytes."
        }
        _ => return Ok(bytes),
    };
    Err(PoolError::new(Kind::Invalid, why))
}

impl Keeper {
    /// The number of a volume.
    pub(super) fn volume(&self, name: &str) -> Result<u64, PoolError> {
        self.directory.tables().named(name).ok_or_else(|| PoolError::no_volume(name))
    }

    pub(super) fn is_new(&self, name: &str) -> Result<(), PoolError> {
        check_name(name)?;
        match self.volume(name) {
            Ok(_) => Err(PoolError::new(
                Kind::Exists,
                format!("There is a volume \"{name}\" already: take another name."),
            )),
            Err(_) => Ok(()),
        }
    }

    /// What lies behind a node.
    pub(super) fn chain(&self, node: u64) -> Vec<(u64, Arc<NodeMap>)> {
        let behind = self.lineage(node).into_iter().skip(1);
        behind.map(|node| (node, self.maps[&node].clone())).collect()
    }

    /// Makes a volume that is recorded one that can be opened.
    pub(super) fn view_volume(&mut self, volume: u64) {
        let record = self.records.volumes[&volume].clone();
        let own = self.take_map(record.node).unwrap_or_default();
        let own = Arc::unwrap_or_clone(own);
        let held = own.slots();
        let journal = self.journals.clone().map(|source| Journal::new(source, volume));
        let map = Volume::new(record.node, own, self.chain(record.node)).with_journal(journal);
        let keeper = (self.own.clone(), self.directory.stock().clone());
        let state = VolumeState::new(volume, map, record.limits, keeper);
        let bytes = self.node(record.node).bytes;
        let new = NewView {
            block_bytes: record.block_bytes,
            bytes,
            read_only: false,
            filled: record.kind.filled,
            home: self.home_of(record.kind),
            writers: Arc::new(self.writers_of(volume)),
        };
        let view = Arc::new(View::new(new, state, self.wake.clone()));
        self.views.insert(volume, self.tree(record.node), view.clone());
        self.holdings.add(volume, held, record.thick.then(|| bytes.div_ceil(EXTENT_BYTES)));
        self.directory.change(|tables| tables.set_view(volume, view));
    }

    /// Volumes live on one reactor after the other.
    pub(super) fn next_home(&mut self) -> usize {
        self.next_home += 1;
        (self.next_home - 1) % self.reactors.count().max(1)
    }

    /// The reactor that was wished for, or the next one.
    fn home_of(&mut self, kind: VolumeKind) -> usize {
        let wished = kind.home.map(|home| home as usize);
        match wished.filter(|home| *home < self.reactors.count()) {
            Some(home) => home,
            None => self.next_home(),
        }
    }

    /// Hosts that have written to a volume, as they are recorded.
    fn writers_of(&self, volume: u64) -> Writers {
        let recorded = self.records.writers.range((volume, 0)..=(volume, u128::MAX));
        let recorded = recorded.map(|((_, host), record)| (*host, record));
        Writers::new(volume, self.ledger.clone(), recorded, self.own.clone())
    }

    /// Notes hosts that are about to write, and those that were told of losses, durably.
    pub(super) fn note_writers(&mut self) {
        let losses = self.ledger.losses();
        let (mut updates, mut noted) = (Vec::new(), Vec::new());
        for (volume, host, name) in std::mem::take(&mut self.writers) {
            let Some(view) = self.views.get(volume).filter(|view| !view.read_only) else {
                continue;
            };
            let writers = view.writers.clone();
            let recorded = self.records.writers.range((volume, 0)..=(volume, u128::MAX)).count();
            let record = WriterRecord { name, knows: losses };
            if recorded + updates.len() < WRITERS && host != OTHERS {
                updates.push(Update::Writer((volume, host), Some(record)));
            } else if !writers.has_others() {
                let record = WriterRecord { name: String::new(), ..record };
                updates.push(Update::Writer((volume, OTHERS), Some(record)));
                noted.push((writers.clone(), OTHERS));
            }
            noted.push((writers, host));
        }
        for (volume, host, knows) in std::mem::take(&mut self.told) {
            if let Some(record) = self.records.writers.get(&(volume, host)) {
                let record = WriterRecord { knows, ..record.clone() };
                updates.push(Update::Writer((volume, host), Some(record)));
            }
        }
        let done = match updates.is_empty() {
            true => Ok(()),
            false => self.commit(updates),
        };
        noted.into_iter().for_each(|(writers, host)| writers.noted(host, done.is_ok()));
    }

    fn owner_of_records(&self, volume: Option<&str>) -> Result<u64, PoolError> {
        volume.map_or(Ok(0), |volume| self.volume(volume))
    }

    /// What layers above keep with a volume, or the pool.
    pub(crate) fn records_of(
        &self,
        volume: Option<&str>,
    ) -> Result<BTreeMap<String, Vec<u8>>, PoolError> {
        let of = self.owner_of_records(volume)?;
        let records = self.records.records.range((of, String::new())..(of + 1, String::new()));
        Ok(records.map(|((_, name), bytes)| (name.clone(), bytes.clone())).collect())
    }

    /// Changes what layers above keep, durably.
    pub(crate) fn set_records(
        &mut self,
        volume: Option<&str>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), PoolError> {
        self.needs_format_2("Keeping something with a pool or its volumes")?;
        let of = self.owner_of_records(volume)?;
        let mut after = self.records_of(volume)?;
        for (name, bytes) in &changes {
            match bytes {
                Some(bytes) => drop(after.insert(name.clone(), bytes.clone())),
                None => drop(after.remove(name)),
            }
        }
        let fits = |(name, bytes): (&String, &Vec<u8>)| {
            (1..=RECORD_NAME_BYTES).contains(&name.len()) && bytes.len() <= RECORD_BYTES
        };
        let most = if of == 0 { POOL_RECORDS_BYTES } else { VOLUME_RECORDS_BYTES };
        let sum: usize = after.iter().map(|(name, bytes)| name.len() + bytes.len()).sum();
        if !after.iter().all(fits) || sum > most {
            let why = format!(
                "What is kept with a pool or a volume has a name of 1 to {RECORD_NAME_BYTES} bytes \
                 and at most {RECORD_BYTES} bytes, and all of it at most {most}."
            );
            return Err(PoolError::new(Kind::Full, why));
        }
        let update = |(name, bytes)| Update::Record((of, name), bytes);
        self.commit(changes.into_iter().map(update).collect())
    }

    /// Makes a volume.
    pub(crate) fn create_volume(
        &mut self,
        new: NewVolume,
        kind: VolumeKind,
    ) -> Result<u64, PoolError> {
        self.is_new(&new.name)?;
        if !kind.is_plain() {
            self.needs_format_2("A volume of this kind")?;
        }
        let bytes = check_size(new.bytes)?;
        let thick = new.thick || kind.filled;
        let block_bytes = self.new_block_bytes(new.block_bytes)?;
        if thick {
            self.may_reserve(
                bytes.div_ceil(EXTENT_BYTES),
                &format!("A thick volume \"{}\"", new.name),
            )?;
        }
        let (volume, node) = (self.number(), self.number());
        let record = VolumeRecord {
            name: new.name,
            uuid: new.uuid,
            node,
            block_bytes,
            thick,
            limits: new.limits,
            made_s: new.made_s,
            kind,
        };
        let map = if kind.filled { self.fill(bytes)? } else { NodeMap::default() };
        let live = NodeRecord { parent: None, bytes, state: NodeState::Live };
        let mut updates =
            vec![Update::Node(node, Some(live)), Update::Volume(volume, Some(record))];
        for chunk in map.chunks() {
            let (_, row) = map.row_of(u64::from(chunk) * EXTENTS_PER_ROW as u64);
            updates.push(Update::Row((node, chunk), Box::new(row)));
        }
        if let Err(error) = self.commit(updates) {
            map.entries().filter_map(|(_, entry)| entry.slot()).for_each(|s| self.slots.give(s));
            return Err(error);
        }
        self.set_map(node, Arc::new(map));
        self.view_volume(volume);
        Ok(volume)
    }

    /// Slots for all of a volume, with zeros in them: durable with the next commit.
    fn fill(&mut self, bytes: u64) -> Result<NodeMap, PoolError> {
        if bytes > MOST_FILLED_BYTES {
            let most = MOST_FILLED_BYTES >> 20;
            let why = format!("A volume that is filled has at most {most} MiB.");
            return Err(PoolError::new(Kind::Invalid, why));
        }
        let mut map = NodeMap::default();
        let zeros = vec![0; EXTENT_BYTES as usize];
        for extent in 0..bytes.div_ceil(EXTENT_BYTES) {
            let written = match self.take_slot() {
                None => Err(PoolError::new(Kind::Full, "There is no space left to fill it with.")),
                Some(slot) => {
                    map.set(extent, Entry::Whole(slot));
                    self.write_slot(slot, 0, &zeros)
                }
            };
            if let Err(error) = written {
                map.entries()
                    .filter_map(|(_, entry)| entry.slot())
                    .for_each(|s| self.slots.give(s));
                return Err(error);
            }
        }
        Ok(map)
    }

    /// Writes to a slot, from a byte of it on.
    fn write_slot(&self, slot: Slot, at: u64, bytes: &[u8]) -> Result<(), PoolError> {
        let member = &self.members[&slot.device];
        let offset = member.superblock.data_offset + slot.number * EXTENT_BYTES + at;
        member.medium.write(&[(offset, bytes)]).map_err(|error| {
            let why = format!("Device {} cannot be written: {error}.", member.name);
            PoolError::new(Kind::Device, why)
        })
    }

    /// A filled volume stays as it is made.
    pub(super) fn is_not_filled(&self, volume: u64, what: &str) -> Result<(), PoolError> {
        let record = &self.records.volumes[&volume];
        match record.kind.filled {
            false => Ok(()),
            true => Err(PoolError::new(
                Kind::Invalid,
                format!("Volume \"{}\" is filled: it cannot {what}.", record.name),
            )),
        }
    }

    /// The blocks of a new volume: a power cut leaves each as it was or as it is written.
    fn new_block_bytes(&self, wanted: Option<u32>) -> Result<u32, PoolError> {
        let atomic = self.devices.atomic_bytes();
        match wanted {
            None => Ok(if atomic >= 4096 { 4096 } else { 512 }),
            Some(512) => Ok(512),
            Some(4096) if atomic >= 4096 => Ok(4096),
            Some(4096) => Err(PoolError::new(
                Kind::Invalid,
                format!(
                    "The pool's devices write {atomic} bytes atomically: a power cut could leave \
                     half a block of 4096. Take blocks of 512 bytes."
                ),
            )),
            Some(_) => {
                Err(PoolError::new(Kind::Invalid, "Blocks of a volume have 512 or 4096 bytes."))
            }
        }
    }

    /// Gives a volume another name.
    pub(crate) fn rename_volume(&mut self, name: &str, to: &str) -> Result<(), PoolError> {
        let volume = self.volume(name)?;
        if name == to {
            return Ok(());
        }
        self.is_new(to)?;
        let record = VolumeRecord { name: to.to_owned(), ..self.records.volumes[&volume].clone() };
        self.commit(vec![Update::Volume(volume, Some(record))])
    }

    /// Makes a volume larger; smaller only if `may_shrink`. Returns its size.
    pub(crate) fn resize_volume(
        &mut self,
        name: &str,
        bytes: u64,
        may_shrink: bool,
    ) -> Result<u64, PoolError> {
        let volume = self.volume(name)?;
        self.is_not_filled(volume, "have another size")?;
        let bytes = check_size(bytes)?;
        let record = self.records.volumes[&volume].clone();
        let node = self.node(record.node).clone();
        if bytes < node.bytes && !may_shrink {
            return Err(PoolError::new(
                Kind::Refused,
                format!(
                    "Volume \"{name}\" has {} bytes: making it smaller throws away what lies \
                     behind byte {bytes}. Say so if you mean it.",
                    node.bytes
                ),
            ));
        }
        let update = Update::Node(record.node, Some(NodeRecord { bytes, ..node.clone() }));
        if bytes >= node.bytes {
            if record.thick {
                let more = bytes.div_ceil(EXTENT_BYTES) - node.bytes.div_ceil(EXTENT_BYTES);
                self.may_reserve(more, &format!("Making \"{name}\" larger"))?;
            }
            self.commit(vec![update])?;
            self.view(volume).resize(bytes);
        } else {
            self.shrink(volume, bytes)?;
            self.commit(vec![update])?;
        }
        self.holdings.promise(volume, bytes.div_ceil(EXTENT_BYTES));
        Ok(bytes)
    }

    /// Gives up what lies behind `bytes`: it reads as zeros if the volume grows again.
    fn shrink(&mut self, volume: u64, bytes: u64) -> Result<(), PoolError> {
        let view = self.view(volume);
        self.hold(&[volume], Scope::Volume)?;
        let before = view.bytes();
        view.resize(bytes);
        let done = self.clear_behind(volume, bytes);
        if done.is_err() {
            view.resize(before);
        }
        self.release(&[volume]);
        done
    }

    fn clear_behind(&mut self, volume: u64, bytes: u64) -> Result<(), PoolError> {
        let inside = (bytes % EXTENT_BYTES) as usize / BLOCK_BYTES;
        let last = bytes / EXTENT_BYTES;
        let blocks = inside..BLOCKS_PER_EXTENT;
        let said = self.with(volume, move |state| {
            let mut at = bytes.div_ceil(EXTENT_BYTES);
            while let Some(extent) = state.map.next_from(at) {
                state.map.clear(extent);
                at = extent + 1;
            }
            inside == 0 || state.map.clear_blocks(last, inside..BLOCKS_PER_EXTENT, false)
        })?;
        if !said {
            self.zero_blocks(volume, last, blocks)?;
        }
        self.with(volume, |state| state.commit())
    }

    /// Writes zeros where the map cannot say that, while writes wait.
    fn zero_blocks(
        &mut self,
        volume: u64,
        extent: u64,
        blocks: std::ops::Range<usize>,
    ) -> Result<(), PoolError> {
        let own = self.with(volume, move |state| state.map.own(extent))?;
        let slot = match own.slot() {
            Some(slot) => slot,
            None => {
                self.may_reserve(1, "Making a volume smaller beside its snapshots")?;
                let slot = self.take_slot().expect("there is one");
                self.holdings.gain(volume, 1);
                self.with(volume, move |state| state.map.adopt(extent, slot))?;
                slot
            }
        };
        let zeros = vec![0; blocks.len() * BLOCK_BYTES];
        self.write_slot(slot, (blocks.start * BLOCK_BYTES) as u64, &zeros)?;
        self.with(volume, move |state| state.map.written(extent, slot, blocks))
    }

    /// Changes how fast a volume may be.
    pub(crate) fn set_limits(&mut self, name: &str, limits: Limits) -> Result<(), PoolError> {
        let volume = self.volume(name)?;
        let record = VolumeRecord { limits, ..self.records.volumes[&volume].clone() };
        self.commit(vec![Update::Volume(volume, Some(record))])?;
        self.with(volume, move |state| {
            state.limits = limits;
            state.limits_changed = true;
        })
    }

    /// Deletes a volume that nobody has open, with its snapshots if told so.
    pub(crate) fn delete_volume(&mut self, name: &str, snapshots: bool) -> Result<(), PoolError> {
        let volume = self.volume(name)?;
        let past = self.snapshots_of(volume);
        if !snapshots && !past.is_empty() {
            let names: Vec<&str> = past.iter().map(|(_, name)| name.as_str()).collect();
            return Err(PoolError::new(
                Kind::Refused,
                format!(
                    "Volume \"{name}\" has snapshots ({}): delete them first, or say that they go \
                     with it.",
                    names.join(", ")
                ),
            ));
        }
        past.iter().try_for_each(|(node, snapshot)| self.retire_snapshot(*node, snapshot))?;
        let Some(mut state) = self.view(volume).retire() else {
            return Err(PoolError::new(
                Kind::InUse,
                format!("Volume \"{name}\" is exported: stop exporting it first."),
            ));
        };
        state.commit();
        let stock = state.give_stock();
        let live = self.records.volumes[&volume].node;
        let mut updates = vec![Update::Volume(volume, None)];
        let records = self.records_of(Some(name))?.into_keys();
        updates.extend(records.map(|name| Update::Record((volume, name), None)));
        let writers = self.records.writers.range((volume, 0)..=(volume, u128::MAX));
        updates.extend(writers.map(|(key, _)| Update::Writer(*key, None)));
        for node in std::iter::once(live).chain(past.iter().map(|(node, _)| *node)) {
            updates.push(self.leaving(node));
        }
        self.commit(updates)?;
        self.take_back(stock);
        // What it gave up before, and nobody could be told of any more.
        state.all_committed().into_iter().for_each(|slot| self.slots.give(slot));
        state.map.discard_journal();
        self.set_map(live, Arc::new(state.map.into_own()));
        self.views.remove(volume);
        self.holdings.remove(volume);
        Ok(())
    }

    /// Says that a node is nobody's any more.
    pub(super) fn leaving(&self, node: u64) -> Update {
        let record = NodeRecord { state: NodeState::Leaving, ..self.node(node).clone() };
        Update::Node(node, Some(record))
    }
}
