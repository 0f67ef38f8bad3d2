//! What a change costs does not grow with what there is: counted in instructions, by valgrind, in a
//! process of its own, from the call of the API to its answer, on every thread that control has a
//! part in. What the pool does for it is counted in `bdev/pool/tests/cost.rs`.

use bdev::{Bdev, DmaSlice};
use bdev_mem::Null;
use bdev_pool::{DiscardMode, Host, Limits, Medium, NewMember, NewVolume, Reactors};
use node::config::{ApiAddress, Config};
use node::{ControlPlane, Node};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use wanted::{Device, DeviceSpec, FileStore, Ledger, Pool, Request, Uuid, Wanted};
use webui_model::{Control, ExportSet, Made, Size, VolumeCreate, VolumeRef};

const PATH: &str = "FOREBAY_TEST_DEVICE";

const BYTES: u64 = 160 << 20;

/// Volumes that are made one after the other: the average is taken.
const AT_ONCE: u64 = 8;

/// Of the volumes so many are exported at most: the start of more takes minutes under valgrind. (With all of
/// 10,000 it is the same: counted once, 0.74 million instructions with 10 and 0.99 with 10,000.)
const EXPORTED: u64 = 1000;

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

fn volume(number: u64) -> VolumeRef {
    let volume = format!("volume-{number}").parse().unwrap();
    VolumeRef { pool: "tank".parse().unwrap(), volume }
}

fn create(number: u64) -> VolumeCreate {
    VolumeCreate {
        name: volume(number).volume,
        bytes: 1 << 20,
        block_bytes: None,
        thick: false,
        limits: webui_model::Limits::default(),
        subsystem: None,
        hosts: Vec::new(),
        allow_any_host: true,
    }
}

/// A pool of so many volumes on a file in a folder. Returns its UUID.
fn pool(folder: &Path, volumes: u64) -> Uuid {
    let memory = Arc::new(Memory(Mutex::new(vec![0; BYTES as usize])));
    let bdev = Arc::new(Null::new(BYTES, 4096).unwrap());
    let member = NewMember { name: "a.img".into(), bdev, medium: memory.clone() };
    let (reactors, slices) = (Arc::new(Nobody), vec![DmaSlice::EMPTY]);
    let stepped: Option<Box<dyn FnMut() + Send>> = Some(Box::new(|| {}));
    let discard = DiscardMode::Off;
    let host = Host { reactors, memory: slices, journals: None, discard, stepped };
    let made = bdev_pool::Pool::create("tank", vec![member], false, host, Uuid::new_v4).unwrap();
    for number in 0..volumes {
        let new = NewVolume {
            name: volume(number).volume.to_string(),
            uuid: Uuid::from_u128(u128::from(number) + 1),
            bytes: 1 << 20,
            block_bytes: None,
            thick: false,
            limits: Limits::default(),
            made_s: 0,
        };
        made.create_volume(new).unwrap();
    }
    made.close().unwrap();
    std::fs::write(folder.join("a.img"), &memory.0.lock().unwrap()[..]).unwrap();
    made.uuid()
}

/// A data directory with a pool of so many volumes, which are exported.
fn folder(parent: &Path, volumes: u64) -> PathBuf {
    let folder = parent.join(volumes.to_string());
    std::fs::create_dir(&folder).unwrap();
    let uuid = pool(&folder, volumes);
    let store = Box::new(FileStore::new(&folder));
    let ledger = Ledger::open(store, |_| Ok(Wanted::default())).unwrap();
    let (path, name) = (folder.join("a.img"), "a.img".to_owned());
    let spec = DeviceSpec::File { path, make_bytes: None, block_bytes: None };
    let devices = vec![name.clone()];
    let (identities, discard) = (Default::default(), webui_model::DiscardMode::Off);
    let tank = Pool { name: "tank".into(), uuid, devices, identities, discard };
    ledger.edit(&Request::KeepDevice(Device { name, spec }), &()).unwrap();
    ledger.edit(&Request::KeepPool(tank), &()).unwrap();
    for number in 0..volumes.min(EXPORTED) {
        let uuid = Uuid::from_u128(u128::from(number) + 1);
        let request = Request::CreateVolume { pool: "tank".into(), create: create(number), uuid };
        ledger.edit(&request, &()).unwrap();
    }
    folder
}

/// Valgrind counts within this, and within each change on the thread that carries it out.
#[inline(never)]
fn create_show_and_export(plane: &ControlPlane, number: u64) {
    let of = volume(number);
    assert!(matches!(plane.create_volume(&of.pool, create(number)).unwrap(), Made::New(_)));
    assert!(plane.volume(&of).unwrap().export.is_some());
    plane.unexport_volume(&of).unwrap();
    let set = ExportSet { allow_any_host: true, ..ExportSet::default() };
    assert!(plane.export_volume(&of, set).unwrap().export.is_some());
    let nqn = webui_model::Nqn::of_volume(&of.pool, &of.volume);
    assert_eq!(plane.subsystem(&nqn).unwrap().namespaces.len(), 1);
}

/// The child's part: volumes more than there are.
#[test]
fn some_volumes_more() {
    let Some(folder) = std::env::var_os(PATH).map(PathBuf::from) else { return };
    let mut config = Config::plain(folder);
    config.listeners.clear();
    config.reactors.memory = Some(Size(64 << 20));
    config.reactors.cores = vec![0];
    config.api.address = ApiAddress::Off;
    let plane = ControlPlane::start(Node::start(config).unwrap()).unwrap();
    let until = Instant::now() + Duration::from_secs(600);
    let tank = "tank".parse().unwrap();
    // Each look costs, and on one core it is what is looked at that waits for it.
    while plane.pool(&tank).unwrap().status != webui_model::Status::Ok {
        assert!(Instant::now() < until, "{:?}", plane.alerts());
        std::thread::sleep(Duration::from_secs(1));
    }
    let first = u64::from(plane.pool(&tank).unwrap().volumes);
    let last = plane.volume(&volume(first.min(EXPORTED) - 1)).unwrap();
    assert_eq!(last.status, webui_model::Status::Ok, "{}", last.reason);
    for number in first..first + 2 {
        plane.create_volume(&tank, create(number)).unwrap();
    }
    (first + 2..first + 2 + AT_ONCE).for_each(|number| create_show_and_export(&plane, number));
    plane.stop().unwrap();
}

/// Instructions for one volume more in a data directory.
fn instructions(folder: &Path) -> u64 {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(["--toggle-collect=*create_show_and_export*", "--toggle-collect=*in_its_turn*"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "some_volumes_more", "--nocapture", "--test-threads=1"])
        .env(PATH, folder)
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
    let parent = tempfile::tempdir().unwrap();
    let (few, many) = (folder(parent.path(), 10), folder(parent.path(), 10_000));
    let [few, many] = [&few, &many].map(|folder| instructions(folder));
    println!("{few} instructions with 10 volumes, {many} with 10,000");
    assert!(many * 2 <= few * 3, "{few} grow to {many}");
}
