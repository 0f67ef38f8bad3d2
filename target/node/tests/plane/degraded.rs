//! A start without everything that was there before.

use crate::appliance::{Appliance, at, config, name, new_volume, refused};
use crate::host::Host;
use node::config::{BdevConfig, BdevKind, ErrorRule};
use node::{ControlPlane, Node};
use std::sync::Arc;
use std::time::{Duration, Instant};
use webui_model::{
    Control, DeviceAdd, JobStatus, Limits, MemberState, PoolCreate, RefusalKind, Size, Status,
};

const MIB: u64 = 1 << 20;

/// How long a pool that was opened again is left in peace, at first.
const FIRST_WAIT: Duration = Duration::from_secs(5);

#[test]
fn a_device_that_is_missing_is_named_and_all_is_well_when_it_is_back() {
    let node = Appliance::new();
    node.make_pool("tank", &["a.img", "b.img"], 64 * MIB);
    node.make_pool("other", &["c.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    node.make_volume("other", "v", 8 * MIB);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.write(1, 0, 8 * MIB);
    host.end();
    let (dir, address) = (node.dir.clone(), node.address);
    let (there, away) = (node.file("b.img"), node.file("b.img.away"));
    let mut node = node;
    node.stop();
    std::fs::rename(&there, &away).unwrap();

    let node = Appliance::start(dir, address);
    let pool = node.pool(&name("tank")).unwrap();
    assert_eq!(pool.status, Status::Failed);
    assert!(pool.reason.contains("b.img"), "{}", pool.reason);
    let missing = pool.devices.iter().filter(|device| device.state == MemberState::Missing);
    assert_eq!(missing.count(), 1, "{pool:?}");
    let text = refused(node.volume(&at("tank", "v")), RefusalKind::Unavailable);
    assert!(text.contains("b.img"), "{text}");
    assert_eq!(node.appliance().unwrap().status, Status::Degraded);
    let subsystems = node.subsystems().unwrap();
    let statuses: Vec<Status> = subsystems.iter().map(|subsystem| subsystem.status).collect();
    assert_eq!(statuses, [Status::Ok, Status::Degraded]);
    let mut other = Host::connect(node.address, "nqn.2026-01.io.forebay:other:v", 1);
    other.write(2, 0, MIB);
    refused(node.detach_device(&name("a.img")), RefusalKind::InUse);

    std::fs::rename(&away, &there).unwrap();
    node.eventually("the pool is back", |node| {
        node.pool(&name("tank")).unwrap().status == Status::Ok
    });
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.verify(1, 0, 8 * MIB);
    other.verify(2, 0, MIB);
    host.end();
    other.end();
    node.eventually("no alert is left", |node| node.alerts().unwrap().is_empty());
}

/// A pool with 16 MiB of a volume on a device whose data cannot be read for so many times, and one
/// more device. Returns the plane, its folder, and a host that has the volume open.
fn with_a_bad_device(times: Option<u64>) -> (Arc<ControlPlane>, tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), ([127, 0, 0, 1], 0).into());
    let size = Size(128 * MIB);
    let ram =
        |name: &str| BdevConfig { name: name.into(), kind: BdevKind::Ram { size, block: 4096 } };
    // Reads of what lies behind the metadata fail, some times.
    let rule = ErrorRule {
        ops: vec!["read".into()],
        lba: 17 * MIB / 4096,
        blocks: u64::MAX,
        status: [2, 0x81],
        count: times,
    };
    let kind = BdevKind::Error { base: "below".into(), rules: vec![rule] };
    let bad = BdevConfig { name: "bad".into(), kind };
    config.bdevs = vec![ram("below"), bad, ram("good")];
    let plane = ControlPlane::start(Node::start(config).unwrap()).unwrap();
    let devices = vec!["bad".parse().unwrap()];
    // By force: what cannot be read is not looked at.
    let tank = PoolCreate { name: name("tank"), devices, force: true, discard: None };
    plane.create_pool(tank).unwrap();
    let volume = plane.create_volume(&name("tank"), new_volume("v", 16 * MIB)).unwrap();
    let nqn = volume.into_inner().export.unwrap().subsystem;
    let address = plane.listeners().unwrap()[0].address.0;
    let mut host = Host::connect(address, nqn.as_str(), 1);
    host.write(1, 0, 16 * MIB);
    let add = DeviceAdd { device: "good".parse().unwrap(), force: false };
    plane.add_device(&name("tank"), add).unwrap();
    (plane, dir, host)
}

fn looks_until(plane: &ControlPlane, job: u64, status: JobStatus) {
    let until = std::time::Instant::now() + crate::appliance::PATIENCE;
    while plane.job(job).unwrap().status != status {
        assert!(std::time::Instant::now() < until, "{:?}", plane.job(job));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn a_job_can_be_ended_and_its_device_stays() {
    let (plane, _dir, host) = with_a_bad_device(None);
    refused(plane.cancel_job(99), RefusalKind::NotFound);
    let job = plane.drain_device(&name("tank"), 0).unwrap();
    looks_until(&plane, job.id, JobStatus::Waiting);
    assert_eq!(plane.pool_device(&name("tank"), 0).unwrap().state, MemberState::Draining);
    let ended = plane.cancel_job(job.id).unwrap();
    assert_eq!((ended.status, ended.ended_at_ms.is_some()), (JobStatus::Cancelled, true));
    assert_eq!(plane.pool_device(&name("tank"), 0).unwrap().state, MemberState::Member);
    let text = refused(plane.cancel_job(job.id), RefusalKind::Refused);
    assert!(text.contains("has ended"), "{text}");
    // It can be asked for again: another job.
    let again = plane.drain_device(&name("tank"), 0).unwrap();
    assert_ne!(again.id, job.id);
    looks_until(&plane, again.id, JobStatus::Waiting);
    plane.cancel_job(again.id).unwrap();
    assert_eq!(plane.job(job.id).unwrap().status, JobStatus::Cancelled);
    assert_eq!(plane.jobs().unwrap().iter().filter(|job| job.ended_at_ms.is_none()).count(), 0);
    host.end();
    plane.stop().unwrap();
}

#[test]
fn a_job_that_cannot_go_on_says_why_and_goes_on_when_it_can() {
    let (plane, _dir, mut host) = with_a_bad_device(Some(3));
    let job = plane.drain_device(&name("tank"), 0).unwrap();
    looks_until(&plane, job.id, JobStatus::Waiting);
    let stopped = plane.job(job.id).unwrap();
    assert!(
        stopped.reason.contains("has stopped") && stopped.seconds_left.is_none(),
        "{stopped:?}"
    );
    assert!(plane.alerts().unwrap().iter().any(|alert| alert.id == "job-stopped:tank"));
    // Looking does not make it go on; an operator does, as often as it takes.
    for round in 0..4 {
        let limits = Limits { iops: Some(100_000 + round), ..Limits::default() };
        plane.set_limits(&at("tank", "v"), limits).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    looks_until(&plane, job.id, JobStatus::Done);
    host.verify(1, 0, 16 * MIB);
    host.end();
    plane.stop().unwrap();
}

#[test]
fn a_damaged_state_file_gets_a_sentence_and_the_pools_are_not_lost() {
    let mut node = Appliance::new();
    node.make_pool("tank", &["a.img"], 64 * MIB);
    node.make_volume("tank", "v", 8 * MIB);
    node.stop();
    let path = node.file("wanted.log");
    let whole = std::fs::read(&path).unwrap();
    // A line that has good ones behind it was not being written when the power failed.
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bytes in [&flipped[..], b"", b"\xff\xfe garbage"] {
        std::fs::write(&path, bytes).unwrap();
        let started = Node::start(config(node.dir.path(), node.address));
        let why = started.err().expect("it does not start");
        assert!(why.contains("wanted.log") && why.contains("is damaged"), "{why}");
    }
    std::fs::remove_file(&path).unwrap();
    let node = Appliance::start(node.dir.clone(), node.address);
    assert!(node.pools().unwrap().is_empty());
    let devices = vec![node.file("a.img").to_str().unwrap().parse().unwrap()];
    let import = webui_model::PoolImport { devices, ..Default::default() };
    node.import_pool(import).unwrap();
    assert_eq!(node.volumes(None).unwrap().len(), 1);
}

/// A pool with a volume on a device whose redo log cannot be written, some times; nor, with `probes`,
/// what is written to see whether it works. Returns a host that has the volume open, and has had 8 MiB answered that are in no transaction.
fn with_a_bad_log(
    times: Option<u64>,
    probes: bool,
) -> (Arc<ControlPlane>, tempfile::TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), ([127, 0, 0, 1], 0).into());
    let size = Size(128 * MIB);
    let below = BdevConfig { name: "below".into(), kind: BdevKind::Ram { size, block: 4096 } };
    let (lba, blocks) = (16 * MIB / 4096, MIB / 4096);
    let ops = vec!["write".into()];
    let rule = ErrorRule { ops, lba, blocks, status: [2, 0x80], count: times };
    let probe = ErrorRule { lba: 2, blocks: 1, ..rule.clone() };
    let rules = if probes { vec![rule, probe] } else { vec![rule] };
    let kind = BdevKind::Error { base: "below".into(), rules };
    config.bdevs = vec![below, BdevConfig { name: "bad".into(), kind }];
    let plane = ControlPlane::start(Node::start(config).unwrap()).unwrap();
    let devices = vec!["bad".parse().unwrap()];
    plane
        .create_pool(PoolCreate { name: name("tank"), devices, force: false, discard: None })
        .unwrap();
    let volume = plane.create_volume(&name("tank"), new_volume("v", 16 * MIB)).unwrap();
    let nqn = volume.into_inner().export.unwrap().subsystem;
    let address = plane.listeners().unwrap()[0].address.0;
    let mut host = Host::connect(address, nqn.as_str(), 1);
    assert!(host.fill(1, 0, 8 * MIB).1.is_success());
    let flushed = host.one(bdev::Op::Flush, 0, 0, bdev::DmaSlice::EMPTY);
    assert!(!flushed.is_success(), "{flushed}");
    (plane, dir, host)
}

#[test]
fn a_pool_that_failed_is_open_again_when_its_device_works() {
    let (plane, _dir, host) = with_a_bad_log(Some(1), false);
    host.end();
    let until = std::time::Instant::now() + crate::appliance::PATIENCE;
    while plane.pool(&name("tank")).unwrap().status != Status::Ok {
        assert!(std::time::Instant::now() < until, "{:?}", plane.pool(&name("tank")));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let volume = plane.volume(&at("tank", "v")).unwrap();
    let nqn = volume.export.unwrap().subsystem;
    let mut host = Host::connect(plane.listeners().unwrap()[0].address.0, nqn.as_str(), 1);
    // What was answered before it failed was in its journal.
    host.verify(1, 0, 8 * MIB);
    host.write(2, 8 * MIB, 8 * MIB);
    host.end();
    plane.stop().unwrap();
}

#[test]
fn a_device_that_works_when_it_is_looked_at_and_no_further_is_left_in_peace() {
    let (plane, _dir, host) = with_a_bad_log(None, false);
    host.end();
    let volume = plane.volume(&at("tank", "v")).unwrap();
    let nqn = volume.export.unwrap().subsystem;
    let address = plane.listeners().unwrap()[0].address.0;
    let works = || {
        let until = Instant::now() + crate::appliance::PATIENCE;
        while plane.pool(&name("tank")).unwrap().status != Status::Ok {
            assert!(Instant::now() < until, "{:?}", plane.pool(&name("tank")));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    // Blocks that are new to the map each time.
    let mut mib = 8..16;
    // Once the wait after it was opened at `since` is over it may be open again, or be tried any moment.
    let mut fails_again = |since: Instant| {
        let from = mib.next().unwrap() * MIB;
        let mut host = Host::connect(address, nqn.as_str(), 1);
        assert!(host.fill(2, from, MIB).1.is_success());
        let flushed = host.one(bdev::Op::Flush, 0, 0, bdev::DmaSlice::EMPTY);
        assert!(!flushed.is_success() || since.elapsed() >= FIRST_WAIT, "{flushed}");
        host.end();
        let failed = plane.pool(&name("tank")).unwrap();
        let is_told = failed.status == Status::Failed
            && failed.reason.contains("could not be written")
            && failed.reason.contains("The next attempt is at ");
        assert!(is_told || since.elapsed() >= FIRST_WAIT, "{failed:?}");
        is_told
    };
    // It was opened again just now, and that was in vain; on a machine that takes longer for this than
    // the wait, which doubles, it is seen the next time.
    let begun = Instant::now();
    works();
    let mut told = usize::from(fails_again(begun));
    // An operator does not wait; and then it is as at first.
    for _ in 0..2 {
        let import = webui_model::PoolImport { name: Some(name("tank")), ..Default::default() };
        let since = Instant::now();
        plane.import_pool(import).unwrap();
        works();
        told += usize::from(fails_again(since));
    }
    if told == 0 {
        println!("SKIPPED: this machine is too busy to see a pool between two attempts");
    }
    plane.export_pool(&name("tank"), true).unwrap();
}

#[test]
fn a_failed_pool_can_be_exported_by_force() {
    let (plane, _dir, host) = with_a_bad_log(None, true);
    host.end();
    while !plane.controllers().unwrap().is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let alerts = plane.alerts().unwrap();
    let pool = plane.pool(&name("tank")).unwrap();
    assert!(pool.reason.contains("exported by force"), "{pool:?} {alerts:?}");
    let import = webui_model::PoolImport { name: Some(name("tank")), ..Default::default() };
    let why = refused(plane.import_pool(import), RefusalKind::Device);
    assert!(why.contains("not all of its devices take writes yet"), "{why}");
    let why = refused(plane.export_pool(&name("tank"), false), RefusalKind::Device);
    assert!(why.contains("exported by force"), "{why}");
    plane.export_pool(&name("tank"), true).unwrap();
    assert!(plane.pools().unwrap().is_empty());
    let device = plane.device(&name("bad")).unwrap();
    assert!(device.reason.contains("not in use"), "{device:?}");
    plane.stop().unwrap();
}
