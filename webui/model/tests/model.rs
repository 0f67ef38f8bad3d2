//! The data types: names, capacities, declarations, histograms, the list of events.

use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use webui_model::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn names_are_checked() {
    for good in ["a", "tank", "0", "A.b_c-d", &"x".repeat(63)] {
        assert!(good.parse::<Name>().is_ok(), "{good}");
    }
    for bad in ["", ".", "-a", "_a", "a b", "a/b", "a:b", "ä", "a\n", &"x".repeat(64)] {
        let error = bad.parse::<Name>().unwrap_err().to_string();
        assert!(error.contains("is no name"), "{error}");
    }
}

#[test]
fn nqns_are_checked() {
    let own = Nqn::of_volume(&name("tank"), &name("a"));
    assert_eq!(own.as_str(), "nqn.2026-01.io.forebay:tank:a");
    assert_eq!(own.as_str().parse::<Nqn>().unwrap(), own);
    let long = format!("nqn.2026-01.x{}", "y".repeat(211));
    for bad in ["nqn.2026-01.", "nqn.26-01.a", "nqn.2026-1.a", "nqn.2026-01.a b", "", &long] {
        assert!(bad.parse::<Nqn>().is_err(), "{bad}");
    }
    assert!(long[..223].parse::<Nqn>().is_ok());
}

#[test]
fn a_host_that_is_named_by_a_uuid_has_one() {
    let of = |uuid: &str| {
        let host: HostNqn = format!("nqn.2014-08.org.nvmexpress:uuid:{uuid}").parse().unwrap();
        let set = ExportSet { subsystem: None, hosts: vec![host.clone()], allow_any_host: false };
        assert_eq!(set.check(), host.check());
        host.check()
    };
    assert_eq!(of("2f9a1d9e-7d1d-4bd5-93b1-6a8f36a3d8a2"), Ok(()));
    for bad in [
        "x",
        "2f9a1d9e",
        "2f9a1d9e7d1d4bd593b16a8f36a3d8a2",
        "2f9a1d9e-7d1d-4bd5-93b1-6a8f36a3d8ag",
        "2f9a1d9e-7d1d-4bd5-93b1-6a8f36a3d8a2a",
    ] {
        assert!(of(bad).unwrap_err().contains("no UUID"), "{bad}");
    }
    let other: HostNqn = "nqn.2026-01.org.example:uuid:host-1".parse().unwrap();
    assert_eq!(other.check(), Ok(()));
}

#[test]
fn declared_pools_have_devices_each_once() {
    let of = |devices: &str| {
        let text = format!(r#"{{"pool": [{{"name": "tank", "devices": {devices}}}]}}"#);
        serde_json::from_str::<Declaration>(&text).unwrap().check()
    };
    assert_eq!(of(r#"["d0", "d1"]"#), Ok(()));
    assert!(of("[]").unwrap_err().starts_with("Pool tank: A pool needs at least one device"));
    assert!(of(r#"["d0", "d0"]"#).unwrap_err().contains("names d0 twice"));
}

#[test]
fn addresses_are_checked() {
    for good in ["10.0.0.1:4420", "[fd00::1]:4420", "[::]:1"] {
        assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
    }
    assert_eq!("[::ffff:10.0.0.1]:4420".parse::<Address>().unwrap().to_string(), "10.0.0.1:4420");
    for bad in ["", "10.0.0.1", "host:4420", "10.0.0.1:70000", "[fe80::1%eth0]:4420"] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}

#[test]
fn a_volume_that_is_otherwise_says_how() {
    let request: VolumeCreate =
        serde_json::from_str(r#"{"name": "a", "bytes": 8192, "hosts": ["nqn.2014-08.x"]}"#)
            .unwrap();
    let mut there = Volume {
        pool: name("tank"),
        name: name("a"),
        uuid: String::new(),
        bytes: 8192,
        block_bytes: 4096,
        atomic_write_bytes: 4096,
        thick: false,
        limits: Limits::default(),
        space: VolumeSpace::default(),
        origin: None,
        snapshots: 0,
        export: Some(Export {
            subsystem: Nqn::of_volume(&name("tank"), &name("a")),
            nsid: 1,
            own: true,
            hosts: request.hosts.clone(),
            allow_any_host: false,
            controllers: 0,
        }),
        created_at_ms: 0,
        status: Status::Ok,
        reason: "Served.".into(),
    };
    assert_eq!(request.differences(&there), Vec::<String>::new());
    there.bytes = 4096;
    there.limits.iops = Some(5);
    there.export.as_mut().unwrap().allow_any_host = true;
    let said = request.differences(&there).join("; ");
    assert_eq!(said, "it has 4096 bytes, not 8192; it has other limits; any host may connect");
}

#[test]
fn unknown_fields_and_values_are_refused_in_words() {
    let error = serde_json::from_str::<VolumeCreate>(r#"{"name": "a", "bytes": 1, "size": 2}"#);
    assert!(error.unwrap_err().to_string().contains("unknown field `size`"));
    let error = serde_json::from_str::<VolumeCreate>(r#"{"name": "a b", "bytes": 1}"#);
    assert!(error.unwrap_err().to_string().contains("start with a letter or digit"));
    let both =
        r#"{"name": "a", "bytes": 4096, "hosts": ["nqn.2014-08.x"], "allow_any_host": true}"#;
    let both: VolumeCreate = serde_json::from_str(both).unwrap();
    assert!(both.check().unwrap_err().contains("exclude each other"));
}

const DOCUMENT: &str = r#"
[[device]]
name = "cache"
bytes = 1048576

[[device]]
name = "log"
path = "/dev/nvme2n1"

[[pool]]
name = "tank"
devices = ["/dev/nvme0n1", "/dev/nvme1n1"]

[[pool.volume]]
name = "scratch"
bytes = "100GiB"
hosts = ["nqn.2014-08.org.nvmexpress:uuid:2f9a1d9e-7d1d-4bd5-93b1-6a8f36a3d8a2"]

[pool.volume.limits]
iops = 50000

[[pool.volume]]
name = "shared"
bytes = 8192
block_bytes = 512
subsystem = "nqn.2026-01.org.example:a"

[[subsystem]]
nqn = "nqn.2026-01.org.example:a"
allow_any_host = true

[[subsystem.namespace]]
nsid = 7
source = { device = "cache" }

[[listener]]
address = "10.0.0.1:4420"
"#;

#[test]
fn a_declaration_is_read_and_printed_back() {
    let declaration = Declaration::from_toml(DOCUMENT).unwrap();
    assert_eq!(declaration.pools[0].volumes[0].bytes, Size(100 << 30));
    let printed = declaration.to_toml();
    assert!(printed.contains("bytes = \"100GiB\""), "{printed}");
    assert_eq!(Declaration::from_toml(&printed).unwrap(), declaration);
    let json = serde_json::to_string(&declaration).unwrap();
    assert_eq!(serde_json::from_str::<Declaration>(&json).unwrap(), declaration);
}

#[test]
fn a_declaration_that_cannot_be_is_refused() {
    for (from, to, says) in [
        ("\"shared\"", "\"scratch\"", "Two volumes of a pool are called scratch"),
        ("8192", "8191", "tank/shared: bytes is 8191"),
        ("block_bytes = 512", "block_bytes = 520", "give 512 or 4096"),
        ("100GiB", "100XB", "is no size"),
        ("allow_any_host", "allow_all", "unknown field `allow_all`"),
        ("1048576", "1048575", "Device cache: bytes must be between 1048576"),
        ("\"log\"", "\"cache\"", "Two devices are called cache"),
        ("path = \"/dev/nvme2n1\"", "force = true", "Device log: Give the path"),
        ("nsid = 7", "nsid = 1025", "example:a: nsid is 1025"),
    ] {
        let error = Declaration::from_toml(&DOCUMENT.replace(from, to)).unwrap_err();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn drives_are_named_by_pci_address() {
    for text in ["pci:0000:03:00.0", "pci:03:1f.7", "pci:10000:1:0.0/2", "pci:0000:03:00.0/99"] {
        let device: DeviceRef = text.parse().unwrap();
        assert!(device.is_pci() && device.is_path(), "{text}");
        assert_eq!(device.as_str(), text);
    }
    for text in [
        "pci:",
        "pci:0",
        "pci:03:20.0",
        "pci:03:00.8",
        "pci:03:00.0/0",
        "pci:03:00.0/",
        "pci:x:00.0",
        "pci:0000:03:00.0/+1",
        "pci:0000:03:00.0 ",
        "PCI:03:00.0",
        "pci:0000:03:0A.0",
    ] {
        assert!(text.parse::<DeviceRef>().is_err(), "{text}");
    }
    assert!(!"nvme0".parse::<DeviceRef>().unwrap().is_path());
    assert!(!"/dev/nvme0n1".parse::<DeviceRef>().unwrap().is_pci());
    let path = Some("pci:0000:03:00.0".parse().unwrap());
    let drive = DeviceAttach { path, force: true, ..DeviceAttach::default() };
    assert_eq!(drive.check(), Ok(()));
    assert!(DeviceAttach { bytes: Some(1 << 30), ..drive.clone() }.check().is_err());
    let file = DeviceAttach { path: Some("/srv/a.img".parse().unwrap()), ..drive };
    assert!(file.check().unwrap_err().contains("NVMe drive"));
}

proptest! {
    #[test]
    fn sizes_are_read_as_they_are_printed(bytes in 0..u64::MAX, shift in 0_u32..60) {
        for bytes in [bytes, bytes >> shift, (bytes >> shift) << shift] {
            let size = Size(bytes);
            prop_assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
    }

    #[test]
    fn no_text_panics(text in ".*") {
        let _ = (text.parse::<Name>(), text.parse::<Nqn>(), text.parse::<Address>());
        let _ = (text.parse::<DeviceRef>(), text.parse::<Size>());
        let _ = Declaration::from_toml(&text);
    }

    #[test]
    fn quantiles_are_those_of_the_values(mut values in prop::collection::vec(1_u64..5_000, 1..200),
                                         share in 0.0_f64..=1.0) {
        let bounds_ns: Vec<u64> = (1..=10).map(|n| n * 500).collect();
        let mut counts = vec![0; bounds_ns.len() + 1];
        for value in &values {
            counts[usize::try_from((value - 1) / 500).unwrap()] += 1;
        }
        values.sort_unstable();
        let rank = ((share * values.len() as f64).ceil() as usize).max(1);
        let exact = values[rank - 1];
        let histogram = LatencyHistogram { bounds_ns, counts, sum_ns: values.iter().sum() };
        let found = histogram.quantile_ns(share).unwrap();
        prop_assert!(found >= exact && found - exact < 500, "{found} for {exact}");
    }

    #[test]
    fn the_log_gives_what_came_after(capacity in 1_usize..20, published in 0_u64..50,
                                     after in 0_u64..80, limit in 0_usize..30) {
        const FIRST: u64 = 10;
        let log = EventLog::new(capacity, FIRST);
        let told = Arc::new(AtomicU64::new(FIRST - 1));
        log.follow({
            let told = Arc::clone(&told);
            move |id| told.store(id, Ordering::SeqCst)
        });
        for n in 0..published {
            let object = Object::new(ObjectKind::Pool, "tank");
            let id = log.publish(n, EventKind::Notice, Severity::Info, object, "x");
            prop_assert_eq!(id, FIRST + n);
        }
        let last = FIRST + published - 1;
        prop_assert_eq!(told.load(Ordering::SeqCst), last);
        let kept: Vec<u64> = (FIRST..=last).filter(|id| id + capacity as u64 > last).collect();
        let oldest = kept.first().copied().unwrap_or(FIRST);
        let lost = after != 0 && (after + 1 < oldest || after > last);
        let wanted: Vec<u64> =
            kept.iter().copied().filter(|id| lost || *id > after).take(limit).collect();
        let page = log.after(after, limit);
        prop_assert_eq!(page.items.iter().map(|e| e.id).collect::<Vec<_>>(), wanted);
        prop_assert_eq!(page.lost, lost);
    }
}

#[test]
fn numbers_that_no_client_was_given_are_no_harm() {
    let log = EventLog::new(4, 100);
    assert!(log.after(u64::MAX, 10).lost);
    assert!(log.after(1, 10).lost);
    assert!(!log.after(99, 10).lost);
}
