//! An appliance in this process, and what is asked of it.

use node::config::{ApiAddress, Config, ListenerConfig};
use node::{ControlPlane, Node};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use webui_model::{
    Control, DeviceRef, ExportSet, HostNqn, Limits, Name, Pool, PoolCreate, Refusal, Size,
    SnapshotRef, Volume, VolumeCreate, VolumeRef,
};

/// How long anything may take on a machine that is busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An appliance. Its folder outlives it.
pub struct Appliance {
    plane: Option<Arc<ControlPlane>>,
    pub dir: Arc<TempDir>,
    pub address: SocketAddr,
}

/// Nothing but a listener.
pub fn config(dir: &Path, address: SocketAddr) -> Config {
    let mut config = Config::plain(dir.to_owned());
    config.listeners = vec![ListenerConfig::tcp(address, false)];
    config.reactors.memory = Some(Size(64 << 20));
    config.api.address = ApiAddress::Off;
    config.api.device_folders = Some(vec![dir.to_owned(), std::env::temp_dir()]);
    config
}

impl Appliance {
    /// A new one.
    pub fn new() -> Appliance {
        let dir = Arc::new(tempfile::tempdir().expect("a folder"));
        Appliance::start(dir, ([127, 0, 0, 1], 0).into())
    }

    /// One with what was left in a folder.
    pub fn start(dir: Arc<TempDir>, address: SocketAddr) -> Appliance {
        let node = Node::start(config(dir.path(), address)).expect("it starts");
        let address = node.listening().first().expect("there is one").0;
        let plane = ControlPlane::start(node).expect("it starts");
        Appliance { plane: Some(plane), dir, address }
    }

    /// Stops it and starts it again at the same address.
    pub fn again(self) -> Appliance {
        self.again_after(|| ())
    }

    /// The same, when something else was done.
    pub fn again_after(mut self, then: impl FnOnce()) -> Appliance {
        let (dir, address) = (self.dir.clone(), self.address);
        self.stop();
        then();
        Appliance::start(dir, address)
    }

    pub fn stop(&mut self) {
        if let Some(plane) = self.plane.take() {
            plane.stop().expect("it ends well");
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes a sparse file, to be a device.
    pub fn make(&self, name: &str, bytes: u64) -> DeviceRef {
        let path = self.file(name);
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path.to_str().unwrap().parse().unwrap()
    }

    /// A pool on new files of `bytes` bytes.
    pub fn make_pool(&self, pool: &str, files: &[&str], bytes: u64) -> Pool {
        let devices = files.iter().map(|file| self.make(file, bytes)).collect();
        let request = PoolCreate { name: name(pool), devices, force: false, discard: None };
        self.create_pool(request).unwrap().into_inner()
    }

    /// A volume that is open to any host.
    pub fn make_volume(&self, pool: &str, volume: &str, bytes: u64) -> Volume {
        self.create_volume(&name(pool), new_volume(volume, bytes)).unwrap().into_inner()
    }

    /// Waits until `is` holds.
    pub fn eventually(&self, what: &str, mut is: impl FnMut(&dyn Control) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is(&**self.plane.as_ref().expect("it runs")) {
            assert!(Instant::now() < until, "{what} did not come true");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl std::ops::Deref for Appliance {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        self.plane.as_ref().expect("it runs")
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            // A test that fails has said why.
            let _ = plane.stop();
        }
    }
}

pub fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub fn host(text: &str) -> HostNqn {
    text.parse().unwrap()
}

pub fn at(pool: &str, volume: &str) -> VolumeRef {
    VolumeRef { pool: name(pool), volume: name(volume) }
}

pub fn snapshot_at(pool: &str, volume: &str, snapshot: &str) -> SnapshotRef {
    SnapshotRef { pool: name(pool), volume: name(volume), snapshot: name(snapshot) }
}

pub fn open_to_all() -> ExportSet {
    ExportSet { allow_any_host: true, ..ExportSet::default() }
}

pub fn new_volume(volume: &str, bytes: u64) -> VolumeCreate {
    VolumeCreate {
        name: name(volume),
        bytes,
        block_bytes: None,
        thick: false,
        limits: Limits::default(),
        subsystem: None,
        hosts: Vec::new(),
        allow_any_host: true,
    }
}

/// The sentence of a refusal of this kind.
pub fn refused<T: std::fmt::Debug>(
    answer: Result<T, Refusal>,
    kind: webui_model::RefusalKind,
) -> String {
    let refusal = answer.expect_err("it is refused");
    assert_eq!(refusal.kind, kind, "{refusal}");
    refusal.message
}
