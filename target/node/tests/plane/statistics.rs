//! What was done is counted where it was done: volume, host, device, queue, pool, reactor.

use crate::appliance::{PATIENCE, at, config, name, new_volume};
use crate::host::Host;
use node::config::{BdevConfig, BdevKind, Config};
use node::{ControlPlane, Node};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use webui_model::{Control, IoStatistics, PoolCreate, Size, Statistics};

const MIB: u64 = 1 << 20;

fn plane(config: Config, device: &str) -> (Arc<ControlPlane>, Host) {
    let plane = ControlPlane::start(Node::start(config).unwrap()).unwrap();
    let devices = vec![device.parse().unwrap()];
    plane
        .create_pool(PoolCreate { name: name("tank"), devices, force: false, discard: None })
        .unwrap();
    let volume = plane.create_volume(&name("tank"), new_volume("v", 16 * MIB)).unwrap();
    let nqn = volume.into_inner().export.unwrap().subsystem;
    let address = plane.listeners().unwrap()[0].address.0;
    let host = Host::connect(address, nqn.as_str(), 1);
    (plane, host)
}

fn ram(name: &str) -> BdevConfig {
    BdevConfig { name: name.into(), kind: BdevKind::Ram { size: Size(128 * MIB), block: 4096 } }
}

/// Of the one volume, of the one host, and of a device.
fn io_of(statistics: &Statistics, device: &str) -> [IoStatistics; 3] {
    assert_eq!((statistics.volumes.len(), statistics.hosts.len()), (1, 1), "{statistics:?}");
    let device = statistics.devices.iter().find(|d| d.device.as_str() == device).unwrap();
    [statistics.volumes[0].io.clone(), statistics.hosts[0].io.clone(), device.io.clone()]
}

#[test]
fn reads_and_writes_are_counted_and_timed_for_volume_host_and_device() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut config = config(dir.path(), ([127, 0, 0, 1], 0).into());
    config.bdevs = vec![ram("disk")];
    let (plane, mut host) = plane(config, "disk");
    let before = io_of(&plane.statistics().unwrap(), "disk");
    host.write(1, 0, 8 * MIB);
    host.verify(1, 0, 4 * MIB);
    let statistics = plane.statistics().unwrap();
    let after = io_of(&statistics, "disk");
    for (before, after) in before.iter().zip(&after) {
        // By pieces of 256 KiB; the pool writes its own metadata, too.
        assert!(after.writes >= before.writes + 32, "{after:?}");
        assert!(after.write_bytes >= before.write_bytes + 8 * MIB, "{after:?}");
        assert_eq!(after.reads, before.reads + 16);
        assert_eq!(after.read_bytes, before.read_bytes + 4 * MIB);
        assert_eq!(after.read_latency.count(), after.reads);
        assert_eq!(after.write_latency.count(), after.writes);
        assert!(after.write_latency.quantile_ns(0.9999).is_some(), "{after:?}");
    }
    assert!(statistics.pools[0].commits > 0, "{:?}", statistics.pools);
    // What a host did stays its own when it comes back with other controllers.
    let nqn = plane.volume(&at("tank", "v")).unwrap().export.unwrap().subsystem;
    host.end();
    let mut again = Host::connect(plane.listeners().unwrap()[0].address.0, nqn.as_str(), 1);
    again.verify(1, 0, MIB);
    let [_, of_host, _] = io_of(&plane.statistics().unwrap(), "disk");
    assert_eq!((of_host.reads, of_host.writes), (after[1].reads + 4, after[1].writes));
    assert_eq!(of_host.read_latency.count(), of_host.reads);
    again.end();
    plane.stop().unwrap();
}

#[test]
fn what_is_under_way_is_seen_in_every_queue() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut config = config(dir.path(), ([127, 0, 0, 1], 0).into());
    let base = "below".to_owned();
    let kind = BdevKind::Delay { base, read_us: 200_000, write_us: 0 };
    config.bdevs = vec![ram("below"), BdevConfig { name: "slow".into(), kind }];
    let (plane, mut host) = plane(config, "slow");
    host.write(1, 0, MIB);
    let stop = Arc::new(AtomicBool::new(false));
    let told = stop.clone();
    let reader = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            host.verify(1, 0, 4096);
        }
        host
    });
    let until = Instant::now() + PATIENCE;
    loop {
        let queues = plane.controllers().unwrap().remove(0).queues;
        let queued: u32 = queues.iter().filter(|q| q.qid != 0).map(|q| q.outstanding).sum();
        let depths = io_of(&plane.statistics().unwrap(), "slow").map(|io| io.queue_depth);
        if queued == 1 && depths == [1, 1, 1] {
            break;
        }
        assert!(Instant::now() < until, "{queued} {depths:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    stop.store(true, Ordering::Relaxed);
    let host = reader.join().unwrap();
    let statistics = io_of(&plane.statistics().unwrap(), "slow");
    for io in statistics {
        // Each read took what the device takes, and none is under way any more.
        assert_eq!(io.queue_depth, 0);
        assert!(io.read_latency.sum_ns >= io.reads * 200_000_000 && io.reads > 0, "{io:?}");
    }
    host.end();
    plane.stop().unwrap();
}
