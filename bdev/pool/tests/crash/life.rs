//! What an operator does with a pool, one thing after the other.

use crate::machine::{Machine, pattern, values};
use bdev::{Addr, Bdev, Op};
use bdev_pool::{Kind, Limits, NewVolume};
use nvme_spec::Status;
use std::sync::Arc;

const MIB: u64 = 1 << 20;
const DEVICE: (u64, u32) = (17 * MIB + 24 * MIB, 512);

pub fn new_volume(machine: &mut Machine, name: &str, bytes: u64, block_bytes: u32) -> NewVolume {
    let (name, uuid) = (name.to_owned(), machine.uuid());
    NewVolume { name, uuid, bytes, block_bytes, thick: false, limits: Limits::default(), made_s: 0 }
}

pub fn open(machine: &Machine, name: &str) -> Addr {
    let bdev: Arc<dyn Bdev> = machine.pool.volume(name).unwrap();
    machine.reactor.lock().unwrap().open(&bdev)
}

fn write(machine: &Machine, to: Addr, lba: u64, blocks: u32, value: u64) -> Status {
    let data = pattern(std::iter::repeat_n(value, blocks as usize * 8));
    machine.one(to, Op::Write, (lba, blocks, 4096), &data).status
}

fn read(machine: &Machine, from: Addr, lba: u64, blocks: u32) -> Vec<u64> {
    let ended = machine.one(from, Op::Read, (lba, blocks, 4096), &[]);
    assert_eq!(ended.status, Status::SUCCESS);
    values(&ended.data).into_iter().step_by(8).collect()
}

#[test]
fn a_volume_is_written_and_read_and_is_there_again() {
    let mut machine = Machine::new(&[DEVICE, DEVICE]);
    let new = new_volume(&mut machine, "a", 64 * MIB, 4096);
    machine.pool.create_volume(new).unwrap();
    let a = open(&machine, "a");
    assert_eq!(read(&machine, a, 0, 4), [0; 4]);
    assert!(write(&machine, a, 254, 4, 7).is_success());
    assert_eq!(read(&machine, a, 252, 8), [0, 0, 7, 7, 7, 7, 0, 0]);
    assert!(machine.one(a, Op::Flush, (0, 0, 4096), &[]).status.is_success());
    let status = machine.pool.status().unwrap();
    assert_eq!(status.space.used, 2 * MIB);
    machine.reactor.lock().unwrap().close(a);
    machine.pool.close().unwrap();
}

#[test]
fn names_that_are_taken_and_things_that_are_not_there_are_said() {
    let mut machine = Machine::new(&[DEVICE]);
    let new = new_volume(&mut machine, "a", MIB, 4096);
    machine.pool.create_volume(new.clone()).unwrap();
    assert_eq!(machine.pool.create_volume(new).unwrap_err().kind, Kind::Exists);
    assert_eq!(machine.pool.volume("b").err().unwrap().kind, Kind::NotFound);
    let a = open(&machine, "a");
    assert_eq!(machine.pool.delete_volume("a", false).unwrap_err().kind, Kind::InUse);
    machine.reactor.lock().unwrap().close(a);
    machine.pool.delete_volume("a", false).unwrap();
}
