//! How long a large pool takes to import after `kill -9`: 1,000 volumes with 5
//! million extents between them, 10 TiB of slots, every entry a slot of its own.
//!
//! `cargo run --release -p bdev-pool --example recovery`

use bdev::{Bdev, DmaSlice};
use bdev_mem::Null;
use bdev_pool::{
    DeviceRecord, DeviceState, DiscardMode, EXTENTS_PER_ROW, Entry, FORMAT_1, FileMedium, Host,
    NewMember, NodeRecord, NodeState, Pool, Reactors, Row, Slot, Store, Superblock, Update,
    VolumeRecord,
};
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;

const VOLUMES: u64 = 1000;
const EXTENTS: u64 = 5_000_000;
const DEVICE_BYTES: u64 = 10 << 40;
const METADATA_BYTES: u64 = DEVICE_BYTES / 2048;

fn medium(path: &Path) -> Arc<FileMedium> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.expect("a file");
    file.set_len(DEVICE_BYTES).expect("a sparse file");
    Arc::new(FileMedium::new(file, DEVICE_BYTES))
}

fn volume(number: u64) -> [Update; 2] {
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
    [Update::Node(number, Some(node)), Update::Volume(number, Some(volume))]
}

/// Makes the pool, and dies without closing it.
fn make(path: &Path) {
    let slots = (DEVICE_BYTES - METADATA_BYTES - (1 << 20)) >> 20;
    let superblock = Superblock {
        format: FORMAT_1,
        device: 0,
        pool: Uuid::from_u128(1),
        uuid: Uuid::from_u128(2),
        sequence: 0,
        data_offset: METADATA_BYTES + (1 << 20),
        slots,
        metadata_bytes: METADATA_BYTES,
        metadata_generation: 1,
        metadata_length: 0,
        name: "large".to_owned(),
        tenure: Default::default(),
    };
    let device =
        DeviceRecord { uuid: superblock.uuid, slots, power: 0, state: DeviceState::Member };
    let first = [Update::Device(0, Some(device))];
    let mut store = Store::create(medium(path), &superblock, &first).expect("a store");
    let rows = (EXTENTS / VOLUMES).div_ceil(EXTENTS_PER_ROW as u64) as u32;
    let mut next = 0;
    for number in 1..=VOLUMES {
        let mut updates = volume(number).to_vec();
        for chunk in 0..rows {
            let mut row = Row::default();
            for at in 0..EXTENTS_PER_ROW {
                // Scattered, as after years.
                let slot = Slot { device: 0, number: next * 7_919 % slots };
                row.set(at, Entry::Whole(slot));
                next += 1;
            }
            updates.push(Update::Row((number, chunk), Box::new(row)));
        }
        store.commit(&updates).expect("a commit");
    }
    println!("{next} extents");
    let me = std::process::id().to_string();
    Command::new("kill").args(["-9", &me]).status().expect("kill");
}

/// Nobody opens a volume here.
struct Nobody;

impl Reactors for Nobody {
    fn count(&self) -> usize {
        1
    }

    fn wake(&self, _: usize) {}

    fn add_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) -> Result<(), String> {
        Ok(())
    }

    fn remove_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) {}
}

fn open(path: &Path) {
    let start = Instant::now();
    let bdev = Arc::new(Null::new(DEVICE_BYTES, 4096).expect("a device"));
    let member = NewMember { name: "device".into(), bdev, medium: medium(path) };
    let host = Host {
        reactors: Arc::new(Nobody),
        memory: vec![DmaSlice::EMPTY],
        journals: None,
        discard: DiscardMode::Off,
        stepped: None,
    };
    let pool = Pool::import(vec![member], host).expect("a pool");
    let imported = start.elapsed().as_secs_f64();
    let status = pool.status();
    println!(
        "imported in {imported:.3} s: {} volumes, {} MiB used, status after {:.3} s",
        status.volumes.len(),
        status.space.used >> 20,
        start.elapsed().as_secs_f64() - imported
    );
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    if let (Some(_), Some(path)) = (arguments.next(), arguments.next()) {
        return make(Path::new(&path));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("device");
    let me = std::env::current_exe().expect("a path");
    let status = Command::new(me).arg("make").arg(&path).status().expect("it starts");
    assert!(!status.success(), "it was killed");
    for _ in 0..3 {
        open(&path);
    }
}
