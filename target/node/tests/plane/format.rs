//! A pool that is upgraded under a host, and hosts that hear of what a power cut may have lost.

use crate::appliance::{Appliance, name};
use crate::host::{Host, options};
use bdev::{DmaSlice, Op};
use bdev_pool::{FileMedium, Held, Label, Superblock};
use nvme_spec::Status;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};
use uuid::Uuid;
use webui_model::Control;

const MIB: u64 = 1 << 20;
const NQN: &str = "nqn.2026-01.io.forebay:tank:v";

fn flush(host: &mut Host) -> Status {
    host.one(Op::Flush, 0, 0, DmaSlice::EMPTY).code()
}

fn second() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The file as the machine finds it whose power went: its owner was another boot of it.
fn power_cut(file: &Path, held: &[u8]) {
    std::fs::write(file, held).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(file).unwrap();
    let medium = FileMedium::new(file, held.len() as u64);
    let mut superblock = Superblock::read(&medium).unwrap();
    let Held::By { owner, .. } = &mut superblock.tenure.held else { panic!("it was open") };
    owner.boot = Uuid::from_u128(1);
    superblock.write_next(&medium).unwrap();
}

#[test]
fn a_host_that_wrote_hears_of_a_power_cut_once_and_one_that_came_later_never() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    let mut host = Host::connect(node.address, NQN, 1);
    host.write(1, 0, MIB);
    let pool = node.pool(&name("tank")).unwrap();
    assert_eq!((pool.format, pool.losses), (1, 0));
    assert_eq!(node.upgrade_pool(&name("tank")).unwrap().format, 2);
    host.write(2, MIB, MIB);
    host.verify(1, 0, MIB);
    assert_eq!(flush(&mut host), Status::SUCCESS);
    assert_eq!(node.upgrade_pool(&name("tank")).unwrap().format, 2, "once more is nothing");
    let held = std::fs::read(node.file("a.img")).unwrap();

    // In order: nobody hears anything.
    let node = node.again();
    let pool = node.pool(&name("tank")).unwrap();
    assert_eq!((pool.format, pool.losses), (2, 0));
    assert_eq!(flush(&mut host), Status::SUCCESS);

    // The power went where the file was kept.
    let file = node.file("a.img");
    let node = node.again_after(|| power_cut(&file, &held));
    let mut later = Host::with(options(node.address, NQN, 6), 1).unwrap();
    later.write(3, 2 * MIB, MIB);
    assert_eq!(flush(&mut later), Status::SUCCESS, "it came later");
    assert_eq!(flush(&mut host), Status::INTERNAL_ERROR);
    assert_eq!(flush(&mut host), Status::SUCCESS, "once");
    host.verify(2, MIB, MIB);
    assert_eq!(node.pool(&name("tank")).unwrap().losses, 1);
    let is_loss = |node: &dyn Control| {
        node.alerts().unwrap().iter().any(|alert| alert.id == "pool-loss:tank")
    };
    node.eventually("an alert", is_loss);
    // Openings are told apart by their seconds.
    let opened = second();
    node.eventually("the next second", |_| second() > opened);
    let node = node.again();
    node.eventually("no alert", |node| !is_loss(node));
    assert_eq!(node.pool(&name("tank")).unwrap().losses, 1);
    assert_eq!(flush(&mut host), Status::SUCCESS);
    later.end();
    host.end();
}
