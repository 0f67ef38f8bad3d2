//! What an operation costs does not grow with the volumes that there are: counted in instructions, by
//! valgrind, in a process of its own.

use bdev::{Bdev, DmaSlice};
use bdev_mem::Null;
use bdev_pool::{
    DiscardMode, Host, Limits, Medium, NewMember, NewVolume, Pool, Reactors, VolumeStatus,
};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const PATH: &str = "FOREBAY_TEST_DEVICE";

const BYTES: u64 = 96 << 20;

/// Volumes that are made one after the other: the average is taken.
const AT_ONCE: u64 = 8;

/// A device in memory.
#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

impl Medium for Memory {
    fn bytes(&self) -> u64 {
        BYTES
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        into.copy_from_slice(&self.0.lock().unwrap()[at as usize..][..into.len()]);
        Ok(())
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        let mut all = self.0.lock().unwrap();
        for (at, bytes) in pieces {
            all[*at as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn discard(&self, _at: u64, _bytes: u64) -> io::Result<()> {
        Ok(())
    }
}

struct Nobody;

impl Reactors for Nobody {
    fn count(&self) -> usize {
        1
    }

    fn wake(&self, _reactor: usize) {}

    fn add_child(&self, _parent: &Arc<dyn Bdev>, _child: &Arc<dyn Bdev>) -> Result<(), String> {
        Ok(())
    }

    fn remove_child(&self, _parent: &Arc<dyn Bdev>, _child: &Arc<dyn Bdev>) {}
}

fn host() -> Host {
    let (reactors, memory) = (Arc::new(Nobody), vec![DmaSlice::EMPTY]);
    let stepped: Option<Box<dyn FnMut() + Send>> = Some(Box::new(|| {}));
    Host { reactors, memory, journals: None, discard: DiscardMode::Off, stepped }
}

fn member(memory: &Arc<Memory>) -> NewMember {
    let bdev = Arc::new(Null::new(BYTES, 4096).unwrap());
    NewMember { name: "memory".into(), bdev, medium: memory.clone() }
}

/// Makes volume `number`.
fn create(pool: &Pool, number: u64) {
    let new = NewVolume {
        name: format!("volume-{number}"),
        uuid: Uuid::from_u128(u128::from(number)),
        bytes: 1 << 20,
        block_bytes: None,
        thick: false,
        limits: Limits::default(),
        made_s: 0,
    };
    pool.create_volume(new).unwrap();
}

/// What the page of a volume shows.
fn show(pool: &Pool, number: u64) -> VolumeStatus {
    let directory = pool.directory();
    let volume = directory.volume_named(&format!("volume-{number}")).unwrap();
    assert_eq!(directory.volume_by_uuid(volume.uuid).as_ref(), Some(&volume));
    assert_eq!(directory.snapshots_of(&volume.name).len(), volume.snapshots as usize);
    assert!(directory.space().free > 0 && directory.devices().len() == 1);
    volume
}

/// Valgrind counts within this.
#[inline(never)]
fn create_and_show(pool: &Pool, number: u64) {
    create(pool, number);
    std::hint::black_box(show(pool, number));
}

/// The same, of an operation on a volume that is there.
#[inline(never)]
fn change_and_delete(pool: &Pool, number: u64) {
    let name = format!("volume-{number}");
    pool.snapshot(std::slice::from_ref(&name), "s", 0).unwrap();
    pool.rename_volume(&name, "other").unwrap();
    pool.set_limits("other", Limits { iops: 7, ..Limits::default() }).unwrap();
    pool.resize_volume("other", 2 << 20, false).unwrap();
    pool.delete_volume("other", true).unwrap();
    while pool.step() {}
}

/// The child's part: volumes more than there are on the device.
#[test]
fn some_volumes_more() {
    let Some(path) = std::env::var_os(PATH).map(PathBuf::from) else { return };
    let memory = Arc::new(Memory(Mutex::new(std::fs::read(path).unwrap())));
    let pool = Pool::import(vec![member(&memory)], host()).unwrap();
    let first = pool.directory().counts().0 as u64;
    // What redb reads on its way is in its cache then.
    (first..first + 2).for_each(|number| create(&pool, number));
    (first + 2..first + 2 + AT_ONCE).for_each(|number| create_and_show(&pool, number));
    (first + 2..first + 2 + AT_ONCE).for_each(|number| change_and_delete(&pool, number));
    assert_eq!(pool.directory().counts(), (first as usize + 2, 0));
}

/// A device with a pool of so many volumes.
fn image(folder: &Path, volumes: u64) -> PathBuf {
    let memory = Arc::new(Memory(Mutex::new(vec![0; BYTES as usize])));
    let mut uuids = 1 << 64;
    let uuid = || {
        uuids += 1;
        Uuid::from_u128(uuids)
    };
    let pool = Pool::create("tank", vec![member(&memory)], false, host(), uuid).unwrap();
    (0..volumes).for_each(|number| create(&pool, number));
    assert_eq!(pool.status().volumes.len() as u64, volumes);
    pool.close().unwrap();
    let path = folder.join(format!("{volumes}"));
    std::fs::write(&path, &memory.0.lock().unwrap()[..]).unwrap();
    path
}

/// Instructions in `function`, once, on the device at `path`.
fn instructions(path: &Path, function: &str) -> u64 {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg(format!("--toggle-collect=*{function}*"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "some_volumes_more", "--nocapture", "--test-threads=1"])
        .env(PATH, path)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{said}{}", String::from_utf8_lossy(&out.stdout));
    let counted = said.lines().find_map(|line| line.split_once("Collected : "));
    let counted: u64 = counted.expect("valgrind counts").1.trim().parse().unwrap();
    counted / AT_ONCE
}

#[test]
fn the_ten_thousandth_volume_costs_what_the_tenth_did() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("SKIPPED: valgrind is not there to count instructions");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (few, many) = (image(folder.path(), 10), image(folder.path(), 10_000));
    for function in ["create_and_show", "change_and_delete"] {
        let [few, many] = [&few, &many].map(|path| instructions(path, function));
        println!("{function}: {few} instructions with 10 volumes, {many} with 10,000");
        assert!(many * 2 <= few * 3, "{function}: {few} grow to {many}");
    }
}
