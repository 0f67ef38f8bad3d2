//! The metadata store: one redb database in the metadata region of a device.

use crate::entry::{EXTENTS_PER_ROW, NotARow, Row, Slot};
use crate::record::{DeviceRecord, NodeRecord, NodeState, VolumeRecord, WriterRecord};
use crate::redo::RowLog;
use crate::superblock::{EXTENT_BYTES, Superblock};
pub use crate::update::{RecordKey, RowKey, Update, WriterKey};
use bdev_redb::{Backend, Medium, Region};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;

const DEVICES: TableDefinition<u32, &[u8]> = TableDefinition::new("devices");
const VOLUMES: TableDefinition<u64, &[u8]> = TableDefinition::new("volumes");
const NODES: TableDefinition<u64, &[u8]> = TableDefinition::new("nodes");
const NUMBERS: TableDefinition<u32, u64> = TableDefinition::new("numbers");
const MAP: TableDefinition<(u64, u32), &[u8]> = TableDefinition::new("map");
const RECORDS: TableDefinition<(u64, &str), &[u8]> = TableDefinition::new("records");
const WRITERS: TableDefinition<(u64, u128), &[u8]> = TableDefinition::new("writers");

/// In `numbers`: how often the pool was opened.
const SESSION: u32 = 0;

/// In `numbers`: the last record of the redo log that the store has.
const REDONE: u32 = 1;

/// What redb keeps in memory of the store, in bytes: the branches of the map of a large pool. The
/// map itself is in memory elsewhere.
const CACHE_BYTES: usize = 32 << 20;

/// Why the store cannot be used.
#[derive(Debug)]
pub enum StoreError {
    /// redb's, or the device's under it.
    Store(redb::Error),
    /// The superblock was not written.
    Device(io::Error),
    /// The device has no metadata, or making it was interrupted.
    None,
    /// What is stored cannot be: which table, and what is wrong.
    Damaged(&'static str, String),
}

impl std::fmt::Display for StoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            StoreError::Store(error) => write!(f, "the pool's metadata: {error}"),
            StoreError::Device(error) => write!(f, "the pool's superblock: {error}"),
            StoreError::None => f.write_str("the device has none of the pool's metadata"),
            StoreError::Damaged(table, what) => {
                write!(f, "the pool's metadata is damaged ({table}): {what}")
            }
        }
    }
}

impl std::error::Error for StoreError {}

impl<E: Into<redb::Error>> From<E> for StoreError {
    fn from(error: E) -> StoreError {
        StoreError::Store(error.into())
    }
}

/// Everything that is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// How often the pool was opened.
    pub session: u64,
    /// By number.
    pub devices: BTreeMap<u32, DeviceRecord>,
    /// By number.
    pub volumes: BTreeMap<u64, VolumeRecord>,
    /// By number.
    pub nodes: BTreeMap<u64, NodeRecord>,
    /// The map.
    pub rows: BTreeMap<RowKey, Row>,
    /// What layers above keep.
    pub records: BTreeMap<RecordKey, Vec<u8>>,
    /// Hosts that have written.
    pub writers: BTreeMap<WriterKey, WriterRecord>,
}

/// The metadata store of a pool. Its calls block: it belongs to a thread of its own.
#[derive(Debug)]
pub struct Store {
    db: Database,
    region: Arc<Region<Superblock>>,
    log: RowLog,
}

impl Store {
    /// Makes a store that holds `first`, on the device of `superblock`, whose metadata generation
    /// it gets. Until all of that is durable the device has no metadata.
    ///
    /// # Errors
    /// The device's, or redb's.
    pub fn create(
        medium: Arc<dyn Medium>,
        superblock: &Superblock,
        first: &[Update],
    ) -> Result<Store, StoreError> {
        let nothing =
            Superblock { metadata_length: 0, metadata_generation: 0, ..superblock.clone() };
        let region = Region::new(medium, nothing);
        let db = database(&region)?;
        let log = RowLog::new(region.clone(), 0);
        let mut store = Store { db, region, log };
        store.transact(first)?;
        let generation = superblock.metadata_generation;
        let published = store.region.change_label(|label| label.metadata_generation = generation);
        published.map_err(StoreError::Device)?;
        Ok(store)
    }

    /// Opens the store on the device of `superblock`.
    ///
    /// # Errors
    /// The device's, or redb's, or that there is none.
    pub fn open(medium: Arc<dyn Medium>, superblock: Superblock) -> Result<Store, StoreError> {
        match superblock.metadata_generation {
            0 => Err(StoreError::None),
            _ => {
                let region = Region::new(medium, superblock);
                let db = database(&region)?;
                let redone = number(&db.begin_read()?, REDONE)?;
                let log = RowLog::open(region.clone(), redone).map_err(StoreError::Device)?;
                Ok(Store { db, region, log })
            }
        }
    }

    /// Writes the superblock of its device, which it writes now and then itself, with a change in
    /// it. Returns it.
    pub(crate) fn change_superblock(
        &self,
        change: impl FnOnce(&mut Superblock),
    ) -> io::Result<Superblock> {
        self.region.change_label(change)
    }

    /// The superblock of its device, as it was written last.
    pub(crate) fn superblock(&self) -> Superblock {
        self.region.label()
    }

    /// Closes it, with nothing left in its redo log. Returns the superblock of its device.
    ///
    /// # Errors
    /// As of [`Store::commit`].
    pub(crate) fn close(mut self) -> Result<Superblock, StoreError> {
        self.transact(&[])?;
        Ok(self.end())
    }

    /// Closes it as it is. Returns the superblock of its device.
    pub(crate) fn end(self) -> Superblock {
        let Store { db, region, .. } = self;
        drop(db);
        region.label()
    }

    /// Makes all of `updates` durable, or none. Some rows go to the redo log, everything else into
    /// a transaction, with what the log has.
    ///
    /// # Errors
    /// The device's, or redb's: then the store is as before, or as after, and has to be opened
    /// anew.
    pub fn commit(&mut self, updates: &[Update]) -> Result<(), StoreError> {
        match self.log.append(updates).map_err(StoreError::Device)? {
            true => Ok(()),
            false => self.transact(updates),
        }
    }

    fn transact(&mut self, updates: &[Update]) -> Result<(), StoreError> {
        let mut transaction = self.db.begin_write()?;
        // A crash is followed by an open in milliseconds, for one more flush a commit.
        transaction.set_quick_repair(true);
        {
            let mut devices = transaction.open_table(DEVICES)?;
            let mut volumes = transaction.open_table(VOLUMES)?;
            let mut nodes = transaction.open_table(NODES)?;
            let mut map = transaction.open_table(MAP)?;
            let mut numbers = transaction.open_table(NUMBERS)?;
            for (key, row) in self.log.rows() {
                put_row(&mut map, key, row)?;
            }
            numbers.insert(REDONE, self.log.last())?;
            for update in updates {
                match update {
                    Update::Session(session) => drop(numbers.insert(SESSION, session)?),
                    Update::Device(number, record) => put(&mut devices, *number, record)?,
                    Update::Volume(number, record) => put(&mut volumes, *number, record)?,
                    Update::Node(number, record) => put(&mut nodes, *number, record)?,
                    Update::Row(key, row) => put_row(&mut map, key, row)?,
                    // Tables that a pool of format 1 does not have.
                    Update::Record((of, name), bytes) => {
                        let mut records = transaction.open_table(RECORDS)?;
                        match bytes {
                            Some(bytes) => drop(records.insert((*of, &name[..]), &bytes[..])?),
                            None => drop(records.remove((*of, &name[..]))?),
                        }
                    }
                    Update::Writer(key, record) => {
                        put(&mut transaction.open_table(WRITERS)?, *key, record)?;
                    }
                }
            }
        }
        transaction.commit()?;
        self.log.clear();
        Ok(())
    }

    /// Reads everything.
    ///
    /// # Errors
    /// The device's, redb's, or what is damaged.
    pub fn load(&self) -> Result<Contents, StoreError> {
        let transaction = self.db.begin_read()?;
        let mut contents = Contents {
            session: number(&transaction, SESSION)?,
            devices: records(&transaction.open_table(DEVICES)?, "devices")?,
            volumes: records(&transaction.open_table(VOLUMES)?, "volumes")?,
            nodes: records(&transaction.open_table(NODES)?, "nodes")?,
            rows: BTreeMap::new(),
            records: bytes_of(&transaction)?,
            writers: match transaction.open_table(WRITERS) {
                Err(redb::TableError::TableDoesNotExist(_)) => BTreeMap::new(),
                table => records(&table?, "writers")?,
            },
        };
        for row in transaction.open_table(MAP)?.iter()? {
            let (key, value) = row?;
            let row = Row::decode(value.value()).map_err(|NotARow| {
                StoreError::Damaged("map", format!("row {:?} is no row", key.value()))
            })?;
            contents.rows.insert(key.value(), row);
        }
        for (key, row) in self.log.rows() {
            contents.apply(&Update::Row(*key, row.clone()));
        }
        Ok(contents)
    }
}

fn database(region: &Arc<Region<Superblock>>) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    Ok(builder.create_with_backend(Backend(region.clone()))?)
}

fn number(transaction: &redb::ReadTransaction, which: u32) -> Result<u64, StoreError> {
    match transaction.open_table(NUMBERS) {
        // A pool that was made before there were any.
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(0),
        table => Ok(table?.get(which)?.map_or(0, |number| number.value())),
    }
}

/// What layers above keep: nothing in a pool of format 1.
fn bytes_of(
    transaction: &redb::ReadTransaction,
) -> Result<BTreeMap<RecordKey, Vec<u8>>, StoreError> {
    let table = match transaction.open_table(RECORDS) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
        table => table?,
    };
    let mut records = BTreeMap::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let (of, name) = key.value();
        records.insert((of, name.to_owned()), value.value().to_vec());
    }
    Ok(records)
}

fn put_row(
    map: &mut redb::Table<'_, RowKey, &'static [u8]>,
    key: &RowKey,
    row: &Row,
) -> Result<(), StoreError> {
    match row.is_empty() {
        true => drop(map.remove(key)?),
        false => drop(map.insert(key, &row.encode()[..])?),
    }
    Ok(())
}

fn put<K: redb::Key + for<'a> std::borrow::Borrow<K::SelfType<'a>> + 'static, R: Serialize>(
    table: &mut redb::Table<'_, K, &'static [u8]>,
    key: K,
    record: &Option<R>,
) -> Result<(), StoreError> {
    match record {
        Some(record) => {
            let bytes = serde_json::to_vec(record).expect("plain fields");
            table.insert(key, &bytes[..])?;
        }
        None => drop(table.remove(key)?),
    }
    Ok(())
}

fn records<K, R>(
    table: &redb::ReadOnlyTable<K, &'static [u8]>,
    name: &'static str,
) -> Result<BTreeMap<K, R>, StoreError>
where
    K: redb::Key + for<'a> redb::Value<SelfType<'a> = K> + Ord + Copy + std::fmt::Debug + 'static,
    R: DeserializeOwned,
{
    let mut records = BTreeMap::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let record = serde_json::from_slice(value.value()).map_err(|error| {
            StoreError::Damaged(name, format!("record {:?}: {error}", key.value()))
        })?;
        records.insert(key.value(), record);
    }
    Ok(records)
}

impl Contents {
    /// Applies what a commit of `update` does.
    pub fn apply(&mut self, update: &Update) {
        fn put<K: Ord, R: Clone>(map: &mut BTreeMap<K, R>, key: K, record: &Option<R>) {
            match record {
                Some(record) => drop(map.insert(key, record.clone())),
                None => drop(map.remove(&key)),
            }
        }
        match update {
            Update::Session(session) => self.session = *session,
            Update::Device(number, record) => put(&mut self.devices, *number, record),
            Update::Volume(number, record) => put(&mut self.volumes, *number, record),
            Update::Node(number, record) => put(&mut self.nodes, *number, record),
            Update::Row(key, row) => {
                put(&mut self.rows, *key, &(!row.is_empty()).then(|| Row::clone(row)))
            }
            Update::Record(key, bytes) => put(&mut self.records, key.clone(), bytes),
            Update::Writer(key, record) => put(&mut self.writers, *key, record),
        }
    }

    /// All but the map, in an order in which each is there before what speaks of it.
    pub(crate) fn records(&self) -> impl Iterator<Item = Update> + '_ {
        let volumes = self.volumes.iter();
        let volumes = volumes.map(|(number, record)| Update::Volume(*number, Some(record.clone())));
        let nodes = self.nodes.iter();
        volumes.chain(nodes.map(|(number, record)| Update::Node(*number, Some(record.clone()))))
    }

    /// Checks what every commit has to keep (`FORMAT.md`): each slot exists and is named once,
    /// each node has its parent, each volume its live node, and no entry lies past its node's end.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), StoreError> {
        let wrong = |table, what| Err(StoreError::Damaged(table, what));
        for (number, node) in &self.nodes {
            if let Some(parent) = node.parent
                && (parent >= *number || !self.nodes.contains_key(&parent))
            {
                return wrong("nodes", format!("node {number} has no parent {parent}"));
            }
            if let NodeState::Snapshot { volume, .. } = &node.state
                && !self.volumes.contains_key(volume)
            {
                return wrong("nodes", format!("snapshot {number} has no volume {volume}"));
            }
        }
        for (number, volume) in &self.volumes {
            let node = self.nodes.get(&volume.node);
            if node.is_none_or(|node| node.state != NodeState::Live) {
                return wrong("volumes", format!("volume {number} has no live node"));
            }
        }
        let of = self.records.keys().map(|(of, _)| of).filter(|of| **of != 0);
        let mut of = of.chain(self.writers.keys().map(|(of, _)| of));
        if let Some(of) = of.find(|of| !self.volumes.contains_key(of)) {
            return wrong("records", format!("there is one of volume {of}, which there is not"));
        }
        self.check_map()
    }

    fn check_map(&self) -> Result<(), StoreError> {
        let wrong = |what| Err(StoreError::Damaged("map", what));
        let mut owners: HashMap<Slot, (u64, u64)> = HashMap::new();
        for ((node, chunk), row) in &self.rows {
            let Some(record) = self.nodes.get(node) else {
                return wrong(format!("a row of node {node}, which there is not"));
            };
            let extents = record.bytes.div_ceil(EXTENT_BYTES);
            for (at, entry) in row.entries().enumerate() {
                let extent = u64::from(*chunk) * EXTENTS_PER_ROW as u64 + at as u64;
                let Some(slot) = entry.slot() else { continue };
                if extent >= extents {
                    return wrong(format!("extent {extent} of node {node} is past its end"));
                }
                let device = self.devices.get(&u32::from(slot.device));
                if device.is_none_or(|device| slot.number >= device.slots) {
                    return wrong(format!(
                        "extent {extent} of node {node} names no slot: {slot:?}"
                    ));
                }
                if let Some(other) = owners.insert(slot, (*node, extent)) {
                    let what = format!("{slot:?} is named by {other:?} and {:?}", (node, extent));
                    return wrong(what);
                }
            }
        }
        Ok(())
    }
}
