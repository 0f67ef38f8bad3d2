//! Pools that the releases before made: of format 1, in which nothing has changed.

use crate::disk::Image;
use crate::life::{close, make, new_volume, open, read, write};
use crate::machine::Machine;
use bdev::{Addr, Op};
use bdev_pool::Limits;
use std::path::PathBuf;

const MIB: u64 = 1 << 20;

/// The devices that it is on.
pub const DEVICES: [(u64, u32); 2] = [(17 * MIB + 12 * MIB, 512), (17 * MIB + 20 * MIB, 512)];

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/pool/format1.images")
}

/// What the pool of the golden images was made by: volumes, a snapshot, a clone, a thick volume, rows
/// in the store and in its redo log. Its process was killed, with nothing left to commit.
pub fn life(devices: &[(u64, u32)]) -> Machine {
    let mut machine = Machine::new(devices, 4096);
    let a = make(&mut machine, "a", 8 * MIB);
    assert!(write(&machine, a, 0, 256, 1).is_success());
    assert!(write(&machine, a, 256, 8, 2).is_success());
    flush(&machine, a);
    machine.pool.snapshot(&["a".to_owned()], "s", 77).unwrap();
    assert!(write(&machine, a, 0, 4, 3).is_success());
    let new = new_volume(&mut machine, "c", 0);
    machine.pool.clone_snapshot("a", "s", new).unwrap();
    let c = open(&machine, "c");
    assert!(write(&machine, c, 1, 1, 4).is_success());
    let mut new = new_volume(&mut machine, "t", 4 * MIB);
    (new.thick, new.made_s) = (true, 99);
    new.limits = Limits { iops: 5000, ..Limits::default() };
    machine.pool.create_volume(new).unwrap();
    let t = open(&machine, "t");
    assert!(write(&machine, t, 300, 2, 5).is_success());
    for addr in [a, c, t] {
        flush(&machine, addr);
        close(&machine, addr);
    }
    machine
}

fn flush(machine: &Machine, addr: Addr) {
    assert!(machine.one(addr, Op::Flush, (0, 0, 4096), &[]).status.is_success());
}

/// What [`life`] left, as it is read.
pub fn shows(machine: &Machine) {
    let of = |name: &str, lba: u64, blocks: u32| {
        let addr = open(machine, name);
        let found = read(machine, addr, lba, blocks);
        close(machine, addr);
        found
    };
    assert_eq!(of("a", 0, 6), [3, 3, 3, 3, 1, 1]);
    assert_eq!(of("a", 254, 12), [1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 0, 0]);
    assert_eq!(of("c", 0, 4), [1, 4, 1, 1]);
    assert_eq!(of("t", 299, 4), [0, 5, 5, 0]);
}

/// The images that the last commit before format 2, 34b4263, made by [`life`].
pub fn golden() -> Vec<Image> {
    Image::unpack(&std::fs::read(path()).expect("it is in the repository"))
}
