//! What can be opened, and what is said when it cannot.

mod rig;

use bdev::{Bdev, DmaSlice, IoFlags, Op};
use bdev_uring::{Options, UringBdev};
use nvme_spec::Status;
use rig::Rig;
use std::path::Path;

const SMALL: Options = Options { block_bytes: 512, read_only: false, buffered: false };

fn refusal(path: &Path, options: Options) -> String {
    UringBdev::open(path, options).err().expect("refused").0
}

#[test]
fn wrong_paths_and_sizes_are_refused_in_sentences() {
    let folder = rig::on_disk();
    let at = |name: &str| folder.path().join(name);
    assert!(refusal(&at("none"), SMALL).ends_with("none does not exist"));
    let said = refusal(folder.path(), SMALL);
    assert!(said.ends_with("is a directory: a file or a block device is needed"), "{said}");
    let said = refusal(Path::new("/dev/null"), SMALL);
    assert_eq!(
        said,
        "/dev/null is neither file nor block device: a file or a block device is needed"
    );
    std::fs::write(at("empty"), []).unwrap();
    assert!(refusal(&at("empty"), SMALL).ends_with("is empty: give it a size first (truncate -s)"));
    std::fs::write(at("tiny"), [0; 511]).unwrap();
    assert!(refusal(&at("tiny"), SMALL).contains("is smaller than one block"));
    let odd = Options { block_bytes: 1024, ..SMALL };
    assert_eq!(refusal(&at("tiny"), odd), "blocks of 1024 bytes: only 512 and 4096 exist");
    let say = |bytes, block| UringBdev::create(&at("new"), bytes, block).err().expect("refused").0;
    assert!(say(4095, 4096).contains("less than one block of 4096 bytes"));
    assert!(say(1 << 20, 3).contains("only 512 and 4096 exist"));
    assert!(say(u64::MAX, 512).contains("cannot be made"));
    assert!(!at("new").exists(), "nothing stays behind");
    let lost = UringBdev::create(&at("no/such/folder"), 4096, 512).err().expect("refused").0;
    assert!(lost.contains("cannot be made"), "{lost}");
}

#[test]
fn a_file_has_one_user_at_a_time() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    let first = UringBdev::create(&path, 1 << 20, 512).unwrap();
    assert!(refusal(&path, SMALL).ends_with("is in use by another device or process"));
    let again = UringBdev::create(&path, 1 << 20, 512).err().expect("exists").0;
    assert!(again.contains("exists"), "{again}");
    drop(first);
    UringBdev::open(&path, SMALL).unwrap();
}

#[test]
fn a_block_device_in_use_or_with_larger_blocks_is_refused() {
    let Some(device) = rig::Loop::or_skip(8 << 20, 4096) else { return };
    let said = refusal(&device.path, SMALL);
    assert!(said.contains("needs blocks of at least 4096 bytes for direct I/O"), "{said}");
    let options = Options::default();
    let first = UringBdev::open(&device.path, options).unwrap();
    assert_eq!(first.geometry().bytes(), 8 << 20);
    assert!(first.geometry().deallocates);
    let said = refusal(&device.path, options);
    assert!(said.contains("is in use: it is mounted, or part of another device"), "{said}");
}

#[test]
fn geometry_is_what_the_file_has() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    std::fs::File::create(&path).unwrap().set_len(10_000).unwrap();
    let device = UringBdev::open(&path, Options::default()).unwrap();
    let geometry = device.geometry();
    assert_eq!((geometry.block_bytes, geometry.blocks, geometry.optimal_blocks), (4096, 2, 1));
    assert!(geometry.volatile_cache && !geometry.read_only);
    assert!(geometry.align_bytes.is_power_of_two() && geometry.align_bytes <= 4096);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(5 * 4096).unwrap();
    assert_eq!(device.rescan().unwrap(), 5);
    assert_eq!(device.geometry().blocks, 5);
}

#[test]
fn read_only_refuses_what_writes_and_out_of_range_everything() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    std::fs::write(&path, [3; 2048]).unwrap();
    let options = Options { read_only: true, ..SMALL };
    let mut rig = Rig::new(UringBdev::open(&path, options).unwrap());
    assert!(rig.device.geometry().read_only);
    assert_eq!(rig.read(2, 2).unwrap(), [3; 1024]);
    assert_eq!(rig.write(0, &[1; 512], IoFlags::NONE), Status::WRITE_PROTECTED.dnr());
    for op in [Op::WriteZeroes, Op::Deallocate] {
        let status = rig.one(op, IoFlags::NONE, 0, 1, DmaSlice::EMPTY);
        assert_eq!(status, Status::WRITE_PROTECTED.dnr());
    }
    for lba in [3, 4, u64::MAX, u64::MAX - 1, 1 << 55] {
        assert_eq!(rig.read(lba, 2), Err(Status::LBA_OUT_OF_RANGE.dnr()));
    }
    assert_eq!(rig.flush(), Status::SUCCESS);
    assert_eq!(rig.device.errors(), 0);
    rig.end();
}

#[test]
fn a_file_cut_short_while_open_fails_reads_and_is_counted() {
    let folder = rig::on_disk();
    let path = folder.path().join("device");
    let mut rig = Rig::new(UringBdev::create(&path, 64 << 10, 4096).unwrap());
    assert_eq!(rig.read(8, 1).unwrap(), [0; 4096]);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(16 << 10).unwrap();
    assert_eq!(rig.read(8, 1), Err(Status::UNRECOVERED_READ));
    assert_eq!(rig.read(2, 4), Err(Status::UNRECOVERED_READ), "half of it is there");
    assert_eq!(rig.device.errors(), 2);
    assert_eq!(rig.device.rescan().unwrap(), 4);
    assert_eq!(rig.read(8, 1), Err(Status::LBA_OUT_OF_RANGE.dnr()));
    assert_eq!(rig.read(0, 4).unwrap(), [0; 16 << 10]);
    rig.end();
}

#[test]
fn a_full_file_system_is_capacity_exceeded_and_reads_go_on() {
    let Some(disk) = rig::SmallDisk::or_skip(1 << 20) else { return };
    let path = disk.path().join("device");
    let mut rig = Rig::new(UringBdev::create(&path, 4 << 20, 4096).unwrap());
    let mib = vec![5; 1 << 20];
    let first = rig.write(0, &mib[..512 << 10], IoFlags::NONE);
    assert_eq!(first, Status::SUCCESS);
    assert_eq!(rig.write(256, &mib, IoFlags::NONE), Status::CAPACITY_EXCEEDED);
    assert_eq!(rig.read(0, 1).unwrap(), [5; 4096]);
    assert_eq!(rig.one(Op::Deallocate, IoFlags::NONE, 0, 1024, DmaSlice::EMPTY), Status::SUCCESS);
    assert_eq!(rig.read(0, 1).unwrap(), [0; 4096]);
    assert_eq!(rig.write(256, &mib[..4096], IoFlags::NONE), Status::SUCCESS, "space is back");
    rig.end();
}
