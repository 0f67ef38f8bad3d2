//! Random programs of two processes and the files that a pool is on: copies, moves, truncations,
//! imports in every order and form, kill -9 in between. An oracle knows what was answered, for every
//! file that was ever the pool's device.
//!
//! `COPIES_SEEDS=n` runs so many programs, from `COPIES_FIRST` on.

use crate::appliance::{Appliance, eventually};
use crate::host::Host;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const NQN: &str = "nqn.2026-01.io.forebay:tank:v";
const RAM: [&str; 2] = ["--ram", "1MiB"];
const MIB: u64 = 1 << 20;
const STEPS: u64 = 30;

/// Pieces of the volume that the oracle tells apart, and their length in bytes.
const PIECES: u64 = 8;
const PIECE: u64 = 512 << 10;

/// What a piece holds: the pattern of a seed, or what nobody said.
type Contents = BTreeMap<u64, Option<u64>>;

/// SplitMix64: the same numbers for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ x >> 31) % end
    }
}

/// A file that says that it is the pool's device. It is the same wherever it is moved.
struct Device {
    path: PathBuf,
    contents: Contents,
    /// It was served when its process was killed, or is: a copy of it may be of any moment.
    is_torn: bool,
    /// Its end was cut off.
    is_short: bool,
}

/// One of the two processes, or what it left.
struct Process {
    node: Option<Appliance>,
    left: Option<(TempDir, String)>,
    /// The device that it had the pool on, by inode, until it lets go of the pool.
    had: Option<u64>,
}

struct World {
    files: TempDir,
    devices: BTreeMap<u64, Device>,
    processes: [Process; 2],
    chance: Chance,
    next: u64,
    done: Vec<String>,
}

fn inode(path: &Path) -> Option<u64> {
    std::fs::metadata(path).ok().map(|meta| meta.ino())
}

impl Process {
    fn start() -> Process {
        Process { node: Some(Appliance::start(&RAM)), left: None, had: None }
    }

    /// Asks it for something that it may refuse. Whether it was done.
    fn tell(&mut self, args: &[&str]) -> bool {
        let Some(node) = &mut self.node else { return false };
        let output = node.ask(args);
        assert!(node.is_up(), "it ended at {args:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!text.contains("panicked"), "{args:?}: {text}");
        output.status.success()
    }

    /// The inode of the device that it serves the pool on, if it does.
    fn serves(&self) -> Option<u64> {
        let output = self.node.as_ref()?.ask(&["pool", "list", "--json"]);
        let pools: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let pool = pools["items"].as_array()?.first()?;
        if pool["status"] != "ok" {
            return None;
        }
        // A path is there no more when the file was moved; the descriptor is what counts.
        let device = pool["devices"][0]["path"].as_str()?;
        let open = inode(Path::new(device)).or(self.had);
        open.filter(|number| self.holds(*number))
    }

    /// Whether it has a file open.
    fn holds(&self, number: u64) -> bool {
        let Some(node) = &self.node else { return false };
        let open = Path::new("/proc").join(node.pid().to_string()).join("fd").read_dir();
        open.expect("it runs").flatten().any(|entry| inode(&entry.path()) == Some(number))
    }
}

impl World {
    fn new(seed: u64) -> World {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("disk.img");
        std::fs::File::create(&path).unwrap().set_len(48 * MIB).unwrap();
        let mut one = Process::start();
        assert!(one.tell(&["pool", "create", "tank", path.to_str().unwrap()]));
        assert!(one.tell(&["volume", "create", "tank/v", "8MiB", "--allow-any-host"]));
        let number = inode(&path).unwrap();
        one.had = Some(number);
        let contents = (0..PIECES).map(|piece| (piece, None)).collect();
        let device = Device { path, contents, is_torn: true, is_short: false };
        World {
            files,
            devices: [(number, device)].into(),
            processes: [one, Process::start()],
            chance: Chance(seed),
            next: 1,
            done: Vec::new(),
        }
    }

    fn one_device(&mut self) -> u64 {
        let numbers: Vec<u64> = self.devices.keys().copied().collect();
        numbers[self.chance.below(numbers.len() as u64) as usize]
    }

    fn path(&self, device: u64) -> String {
        self.devices[&device].path.to_str().expect("a plain path").to_owned()
    }

    fn fresh(&mut self, what: &str) -> PathBuf {
        self.next += 1;
        // So that they are looked at in no order of their making.
        let letter = char::from(b'a' + self.chance.below(26) as u8);
        self.files.path().join(format!("{letter}-{what}-{}.img", self.next))
    }

    fn is_open(&self, device: u64) -> bool {
        self.processes.iter().any(|process| process.serves() == Some(device))
    }

    fn step(&mut self) {
        let who = self.chance.below(2) as usize;
        let what = self.chance.below(16);
        self.done.push(format!("{what} by {who}"));
        match what {
            0..=3 => self.write(who),
            4..=5 => self.kill(who),
            6 => self.copy(),
            7 => self.rename(),
            8 => self.cut(),
            9..=10 => self.attach(who),
            11..=13 => self.import(who),
            14 => self.export(who),
            _ => self.stop(who),
        }
        self.check();
    }

    /// Some writes that are answered, the last one flushed or not.
    fn write(&mut self, who: usize) {
        let Some(device) = self.processes[who].serves() else { return };
        let node = self.processes[who].node.as_ref().expect("it serves");
        // Where the pool was not exported by this process before, nobody said to whom.
        node.ask(&["volume", "export", "tank/v", "--allow-any-host"]);
        let mut host = Host::connect(node.address, NQN, 1);
        for _ in 0..1 + self.chance.below(3) {
            self.next += 1;
            let (piece, seed) = (self.chance.below(PIECES), self.next);
            match self.chance.below(3) {
                0 => host.write(seed, piece * PIECE, PIECE),
                _ => {
                    let (written, status) = host.fill(seed, piece * PIECE, PIECE);
                    assert!(written == PIECE && status.is_success(), "{status}");
                }
            }
            let device = self.devices.get_mut(&device).expect("it is served");
            device.contents.insert(piece, Some(seed));
            device.is_torn = true;
        }
        host.end();
    }

    fn kill(&mut self, who: usize) {
        let process = &mut self.processes[who];
        match process.node.take() {
            Some(node) => process.left = Some(node.kill()),
            None => self.start(who),
        }
    }

    fn stop(&mut self, who: usize) {
        let served = self.processes[who].serves();
        let Some(node) = self.processes[who].node.take() else { return self.start(who) };
        let address = node.address();
        let (ended_well, log, dir) = node.terminate();
        assert!(ended_well && !log.contains("panicked"), "{log}");
        self.processes[who].left = Some((dir, address));
        if let Some(device) = served {
            self.devices.get_mut(&device).expect("it was served").is_torn = false;
        }
    }

    /// It comes back with what it had, if that is there, whole and nobody else's.
    fn start(&mut self, who: usize) {
        let Some((dir, address)) = self.processes[who].left.take() else { return };
        self.processes[who].node = Some(Appliance::start_in(dir, &address, &RAM));
        let Some(had) = self.processes[who].had else { return };
        let other = &self.processes[1 - who];
        let is_taken = other.serves().is_some() || other.holds(had);
        if is_taken || self.devices[&had].is_short {
            return;
        }
        // It may have been moved meanwhile: then somebody has to say where to.
        let path = self.path(had);
        self.processes[who].tell(&["device", "attach", &path]);
        let process = &self.processes[who];
        eventually("the pool is back", || process.serves() == Some(had));
    }

    fn copy(&mut self) {
        let from = self.one_device();
        let path = self.fresh("copy");
        std::fs::copy(&self.devices[&from].path, &path).unwrap();
        let torn = self.devices[&from].is_torn || self.is_open(from);
        let contents = self.devices[&from].contents.iter();
        let contents = contents.map(|(piece, seed)| (*piece, seed.filter(|_| !torn))).collect();
        let is_short = self.devices[&from].is_short;
        let device = Device { path: path.clone(), contents, is_torn: torn, is_short };
        self.devices.insert(inode(&path).unwrap(), device);
    }

    fn rename(&mut self) {
        let device = self.one_device();
        let path = self.fresh("moved");
        std::fs::rename(&self.devices[&device].path, &path).unwrap();
        self.devices.get_mut(&device).unwrap().path = path;
    }

    /// A copy that no process has loses its end.
    fn cut(&mut self) {
        let device = self.one_device();
        let is_had = self.processes.iter().any(|process| process.had == Some(device));
        if !is_had && self.devices.len() > 2 {
            let file = std::fs::OpenOptions::new().write(true).open(&self.devices[&device].path);
            file.unwrap().set_len(24 * MIB).unwrap();
            self.devices.get_mut(&device).unwrap().is_short = true;
        }
    }

    fn attach(&mut self, who: usize) {
        let device = self.one_device();
        let path = self.path(device);
        self.processes[who].tell(&["device", "attach", &path]);
    }

    /// In any form. Whichever device it is on then is what that process has.
    fn import(&mut self, who: usize) {
        let device = self.one_device();
        let path = self.path(device);
        let all: [&[&str]; 6] = [
            &["pool", "import"],
            &["pool", "import", "tank"],
            &["pool", "import", "--device", &path],
            &["pool", "import", "tank", "--device", &path],
            &["pool", "import", "tank", "--force", "--device", &path],
            &["pool", "import", "--force"],
        ];
        let args = all[self.chance.below(all.len() as u64) as usize];
        let before = self.processes[who].serves();
        let done = self.processes[who].tell(args);
        let after = self.processes[who].serves();
        self.done.push(format!("{args:?}: {done}, on {before:?} and then {after:?}"));
        match before {
            Some(before) => assert_eq!(after, Some(before), "{args:?}"),
            None if done => self.processes[who].had = after,
            None => {}
        }
    }

    fn export(&mut self, who: usize) {
        let served = self.processes[who].serves();
        if self.processes[who].tell(&["pool", "export", "tank", "--yes"]) {
            self.processes[who].had = None;
            if let Some(device) = served {
                self.devices.get_mut(&device).expect("it was served").is_torn = false;
            }
        }
    }

    /// At most one of them serves the pool, on the device that it had, and all is there that was
    /// answered.
    fn check(&self) {
        let served: Vec<Option<u64>> = self.processes.iter().map(Process::serves).collect();
        assert!(served.iter().flatten().count() < 2, "both serve it: {served:?}");
        for (process, served) in self.processes.iter().zip(served) {
            let Some(device) = served else { continue };
            assert_eq!(process.had, Some(device), "it took another device by itself");
            let node = process.node.as_ref().expect("it serves");
            if !node.ask(&["connect-info", "tank/v"]).status.success() {
                continue;
            }
            let mut host = Host::connect(node.address, NQN, 1);
            for (piece, seed) in &self.devices[&device].contents {
                if let Some(seed) = seed {
                    host.verify(*seed, piece * PIECE, PIECE);
                }
            }
            host.end();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("done: {:#?}", self.done);
        }
    }
}

#[test]
fn what_was_answered_is_there_whatever_is_copied_moved_and_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (first, seeds) = (number("COPIES_FIRST").unwrap_or(1), number("COPIES_SEEDS").unwrap_or(3));
    for seed in first..first + seeds {
        eprintln!("COPIES_FIRST={seed}");
        let mut world = World::new(seed);
        (0..STEPS).for_each(|_| world.step());
    }
}
