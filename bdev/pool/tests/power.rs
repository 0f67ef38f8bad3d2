//! The power goes at every boundary of what the metadata store does to its device: what was
//! committed is there, what was being committed is there as a whole or not at all.
//!
//! `POOL_IMAGES=n` makes n images of each boundary (2 by default), `POOL_SEEDS=n` runs of so many
//! seeds (4).

mod support;

use bdev_pool::{
    Blocks, Contents, DeviceRecord, DeviceState, Entry, FORMAT_1, Label, NodeRecord, NodeState,
    Rest, Row, Slot, Store, StoreError, Superblock, SuperblockError, Tenure, Update, VolumeRecord,
};
use std::sync::Arc;
use support::chance::Chance;
use support::tape::{PowerCuts, Tape};
use uuid::Uuid;

const MIB: usize = 1 << 20;
const REGION_BYTES: usize = 4 * MIB;

fn env(name: &str, default: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn superblock() -> Superblock {
    Superblock {
        format: FORMAT_1,
        device: 0,
        pool: Uuid::from_u128(1),
        uuid: Uuid::from_u128(2),
        sequence: 0,
        data_offset: (MIB + REGION_BYTES) as u64,
        slots: 1 << 40,
        metadata_bytes: REGION_BYTES as u64,
        metadata_generation: 0,
        metadata_length: 0,
        name: "crash".to_owned(),
        tenure: Tenure::default(),
    }
}

/// A device with a superblock whose metadata region holds what others left there.
fn device() -> Vec<u8> {
    let tape = Tape::new(vec![0; MIB + REGION_BYTES]);
    superblock().write_next(&tape).unwrap();
    let mut image = vec![0; MIB + REGION_BYTES];
    bdev_pool::Medium::read(&tape, 0, &mut image).unwrap();
    image[MIB..].fill(0xa5);
    image
}

fn open(tape: &Arc<Tape>) -> Result<Store, StoreError> {
    let superblock = Superblock::read(&**tape).expect("it was there before");
    Store::open(tape.clone(), superblock)
}

/// A store with a first transaction.
fn create(tape: &Arc<Tape>, changes: &mut Changes) -> Store {
    let first = changes.first();
    first.iter().for_each(|update| changes.contents.apply(update));
    let superblock = Superblock { metadata_generation: 1, ..Superblock::read(&**tape).unwrap() };
    Store::create(tape.clone(), &superblock, &first).unwrap()
}

/// Changes that keep what [`Contents::check`] checks.
struct Changes {
    chance: Chance,
    contents: Contents,
    next_slot: u64,
    next_node: u64,
}

impl Changes {
    fn new(seed: u64) -> Changes {
        Changes {
            chance: Chance::new(seed),
            contents: Contents::default(),
            next_slot: 0,
            next_node: 1,
        }
    }

    fn first(&mut self) -> Vec<Update> {
        let device = DeviceRecord {
            uuid: Uuid::from_u128(2),
            slots: 1 << 40,
            power: 0,
            state: DeviceState::Member,
        };
        let mut updates = vec![Update::Device(0, Some(device))];
        updates.extend(self.volume());
        updates
    }

    fn volume(&mut self) -> Vec<Update> {
        let number = self.next_node;
        self.next_node += 1;
        let node = NodeRecord { parent: None, bytes: 1 << 40, state: NodeState::Live };
        let volume = VolumeRecord {
            name: format!("volume-{number}"),
            uuid: Uuid::from_u128(number.into()),
            node: number,
            block_bytes: 4096,
            thick: false,
            limits: Default::default(),
            made_s: 0,
            kind: Default::default(),
        };
        vec![Update::Node(number, Some(node)), Update::Volume(number, Some(volume))]
    }

    fn entry(&mut self) -> Entry {
        self.next_slot += 1;
        let slot = Slot { device: 0, number: self.next_slot };
        let mut blocks = Blocks::NONE;
        match self.chance.below(4) {
            0 => Entry::Zeros,
            1 => Entry::Whole(slot),
            2 => Entry::Nothing,
            _ => {
                (0..7).for_each(|_| blocks.add(self.chance.below(256) as usize));
                Entry::Part { slot, blocks, rest: Rest::Parent }
            }
        }
    }

    fn row(&mut self, node: u64) -> Update {
        let key = (node, self.chance.below(400) as u32);
        let mut row = self.contents.rows.get(&key).cloned().unwrap_or_default();
        for _ in 0..1 + self.chance.below(8) {
            let at = self.chance.below(64) as usize;
            row.set(at, self.entry());
        }
        if self.chance.below(12) == 0 {
            row = Row::default();
        }
        Update::Row(key, Box::new(row))
    }

    /// The next transaction.
    fn next(&mut self) -> Vec<Update> {
        if self.chance.below(10) == 0 {
            return self.volume();
        }
        let nodes: Vec<u64> = self.contents.nodes.keys().copied().collect();
        let most = [1, 4, 40][self.chance.below(3) as usize];
        (0..1 + self.chance.below(most))
            .map(|_| {
                let node = nodes[self.chance.below(nodes.len() as u64) as usize];
                let update = self.row(node);
                self.contents.apply(&update);
                update
            })
            .collect()
    }
}

/// What was done to a device, and what it should hold after each commit.
struct Run {
    tape: Arc<Tape>,
    /// Actions when the commit began and when it was acknowledged, and the contents after it.
    commits: Vec<(usize, usize, Contents)>,
}

fn run(seed: u64, commits: usize, lies: bool) -> Run {
    let mut tape = Tape::new(device());
    tape.lies = lies;
    let tape = Arc::new(tape);
    let mut changes = Changes::new(seed);
    let mut store = create(&tape, &mut changes);
    let mut run = Run { tape: tape.clone(), commits: Vec::new() };
    run.commits.push((0, tape.len(), changes.contents.clone()));
    for _ in 0..commits {
        let began = tape.len();
        let updates = changes.next();
        updates.iter().for_each(|update| changes.contents.apply(update));
        store.commit(&updates).unwrap();
        run.commits.push((began, tape.len(), changes.contents.clone()));
        if changes.chance.below(15) == 0 {
            // Closed in order and opened again.
            drop(store);
            store = open(&tape).unwrap();
        }
    }
    assert_eq!(store.load().unwrap(), changes.contents);
    run
}

/// Opens `image` and says whether it holds one of `allowed`, and can be changed; or, if it `may_be_none`, no
/// store.
fn look(image: Vec<u8>, may_be_none: bool, allowed: &[&Contents]) -> Result<(), String> {
    let tape = Arc::new(Tape::new(image));
    let mut store = match open(&tape) {
        Err(StoreError::None) if may_be_none => return Ok(()),
        store => store.map_err(|error| error.to_string())?,
    };
    let found = store.load().map_err(|error| error.to_string())?;
    found.check().map_err(|error| error.to_string())?;
    if !allowed.iter().any(|contents| **contents == found) {
        return Err("it holds neither what was committed nor what was being committed".into());
    }
    let more = Update::Node(
        1 << 50,
        Some(NodeRecord { parent: None, bytes: 0, state: NodeState::Leaving }),
    );
    store.commit(&[more]).map_err(|error| error.to_string())
}

/// Cuts the power at every boundary of a run. Returns the number of images.
fn cut(run: &Run, images: u64, seed: u64) -> Result<u64, String> {
    let actions = run.tape.actions();
    let mut cuts = PowerCuts::new(device(), &actions);
    let mut chance = Chance::new(seed + 1000);
    let mut made = 0;
    for done in 0..=actions.len() {
        let acknowledged = run.commits.iter().rposition(|(_, ended, _)| *ended <= done);
        let before = acknowledged.map(|at| &run.commits[at].2);
        let next = run.commits.get(acknowledged.map_or(0, |at| at + 1));
        let under_way = next.filter(|(began, ..)| *began < done).map(|(.., contents)| contents);
        let allowed: Vec<&Contents> = before.into_iter().chain(under_way).collect();
        for _ in 0..images {
            made += 1;
            let image = cuts.image(done, &mut chance);
            look(image, before.is_none(), &allowed)
                .map_err(|what| format!("seed {seed}, after {done} actions: {what}"))?;
        }
    }
    Ok(made)
}

#[test]
fn a_power_cut_at_any_moment_loses_no_commit() {
    let (seeds, images) = (env("POOL_SEEDS", 4), env("POOL_IMAGES", 2));
    let mut made = 0;
    for seed in 1..=seeds {
        made += cut(&run(seed, 60, false), images, seed).unwrap_or_else(|what| panic!("{what}"));
    }
    println!("{made} images");
    assert!(made > seeds * images * 200, "only {made} images");
}

#[test]
fn the_checker_catches_a_device_that_lies_about_flushes() {
    assert!((1..5).any(|seed| cut(&run(seed, 30, true), 2, seed).is_err()));
}

#[test]
fn a_superblock_is_the_old_or_the_new_one_whatever_is_torn() {
    let tape = Tape::new(device());
    let mut block = Superblock::read(&tape).unwrap();
    let first = block.clone();
    for length in 1..6 {
        block.metadata_length = length;
        block.write_next(&tape).unwrap();
    }
    let actions = tape.actions();
    let mut cuts = PowerCuts::new(device(), &actions);
    let mut chance = Chance::new(7);
    for done in 0..=actions.len() {
        for _ in 0..50 {
            let found = Superblock::read(&Tape::new(cuts.image(done, &mut chance))).unwrap();
            let flushed = first.sequence + done as u64 / 2;
            assert!((flushed..=flushed + done as u64 % 2).contains(&found.sequence));
            let writes = found.sequence - first.sequence;
            assert_eq!(found, Superblock { metadata_length: writes, ..found.clone() });
        }
    }
}

#[test]
fn what_is_not_a_pools_is_said() {
    let say = |image| Superblock::read(&Tape::new(image)).err();
    assert!(matches!(say(vec![0; 2 * MIB]), Some(SuperblockError::Empty)));
    assert!(matches!(say(vec![7; 2 * MIB]), Some(SuperblockError::Foreign)));
    let mut late = vec![0; 2 * MIB];
    late[MIB - 1] = 1;
    assert!(matches!(say(late), Some(SuperblockError::Foreign)), "the first MiB counts");
    assert!(matches!(say(vec![0; 4096]), Some(SuperblockError::Empty)), "however small");
    assert!(matches!(say(Vec::new()), Some(SuperblockError::Empty)));
}

#[test]
fn a_full_region_is_an_error_and_what_was_committed_stays() {
    let tape = Arc::new(Tape::new(device()));
    let mut changes = Changes::new(3);
    let mut store = create(&tape, &mut changes);
    let mut kept = changes.contents.clone();
    let full = (0..4000).any(|_| {
        let updates = changes.next();
        updates.iter().for_each(|update| changes.contents.apply(update));
        let full = store.commit(&updates).is_err();
        if !full {
            kept = changes.contents.clone();
        }
        full
    });
    assert!(full, "400 rows of many nodes do not fit into 4 MiB with a redo log of one");
    drop(store);
    assert_eq!(open(&tape).unwrap().load().unwrap(), kept);
}
