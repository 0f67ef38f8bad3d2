//! What a pool's threads do by themselves, and that they end before what they use: when the pool is
//! gone, so are they.

use bdev::{Bdev, Channel, Discards, DmaSlice, Geometry, OpenCx, OpenError};
use bdev_mem::Null;
use bdev_pool::{DiscardMode, DiscardStatus, FileMedium, Host, Limits, Medium, NewMember};
use bdev_pool::{NewVolume, Pool, Reactors};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use uuid::Uuid;

const BYTES: u64 = 64 << 20;

/// A device that takes its time.
#[derive(Debug)]
struct Slow {
    file: FileMedium,
    /// Discards fail.
    refuses: AtomicBool,
    /// Whoever writes to it panics.
    panics: AtomicBool,
    /// How often it was asked to discard.
    asked: AtomicU64,
    /// What was discarded.
    given: Mutex<Vec<(u64, u64)>>,
}

impl Slow {
    fn new() -> Arc<Slow> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES).unwrap();
        let file = FileMedium::new(file, BYTES);
        let (asked, given) = (AtomicU64::new(0), Mutex::default());
        let (refuses, panics) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Slow { file, refuses, panics, asked, given })
    }
}

impl Medium for Slow {
    fn bytes(&self) -> u64 {
        self.file.bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.file.read(at, into)
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        assert!(!self.panics.load(Ordering::Relaxed), "planted");
        std::thread::sleep(Duration::from_millis(5));
        self.file.write(pieces)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.flush()
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
        if self.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::other("no"));
        }
        self.given.lock().unwrap().push((at, bytes));
        self.file.discard(at, bytes)
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

/// Where volumes would be written to: nothing is, here.
struct Sink(Null, Discards);

impl Bdev for Sink {
    fn geometry(&self) -> Geometry {
        self.0.geometry()
    }

    fn discards(&self) -> Discards {
        self.1.clone()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        self.0.open(cx)
    }
}

fn well() -> Discards {
    Discards::Well("it does".into())
}

fn member(medium: &Arc<Slow>, discards: Discards) -> NewMember {
    let bdev = Arc::new(Sink(Null::new(BYTES, 4096).unwrap(), discards));
    NewMember { name: "slow".into(), bdev, medium: medium.clone() }
}

/// A pool on `medium`, and nothing open in it.
fn pool(medium: &Arc<Slow>, discards: Discards, discard: DiscardMode) -> Pool {
    let member = member(medium, discards);
    let (reactors, memory) = (Arc::new(Nobody), vec![DmaSlice::EMPTY]);
    let host = Host { reactors, memory, journals: None, discard, stepped: None };
    let mut number = 0;
    let uuid = || {
        number += 1;
        Uuid::from_u128(number)
    };
    Pool::create("tank", vec![member], true, host, uuid).unwrap()
}

fn status(pool: &Pool) -> DiscardStatus {
    pool.status().devices[0].discard.clone()
}

/// What the device is given back, when all has been done.
fn settled(pool: &Pool) -> DiscardStatus {
    let until = Instant::now() + Duration::from_secs(60);
    while status(pool).on && status(pool).waiting > 0 {
        assert!(Instant::now() < until, "it never ends: {:?}", status(pool));
        std::thread::sleep(Duration::from_millis(5));
    }
    status(pool)
}

#[test]
fn a_pool_that_is_dropped_has_no_thread_any_more() {
    // Not closed: as where it failed, or something else did on the way.
    for wait_ms in [0, 10, 60, 100] {
        let medium = Slow::new();
        let dropped = pool(&medium, well(), DiscardMode::Auto);
        std::thread::sleep(Duration::from_millis(wait_ms));
        drop(dropped);
        // Its store writes when it ends, something is being discarded, and whatever its threads had
        // they have let go of.
        assert_eq!(Arc::strong_count(&medium), 1);
    }
}

#[test]
fn all_that_is_free_is_given_back_once_and_then_what_is_freed() {
    let medium = Slow::new();
    let pool = pool(&medium, well(), DiscardMode::Auto);
    let total = pool.status().space.total;
    let done = settled(&pool);
    assert_eq!((done.on, done.why.as_str()), (true, "it does"));
    assert_eq!((done.done, done.waiting), (total, 0));
    let given = medium.given.lock().unwrap().clone();
    let bytes: u64 = given.iter().map(|(_, bytes)| bytes).sum();
    assert_eq!(bytes, total, "each byte once: {given:?}");
    let begin = BYTES - total;
    assert!(given.iter().all(|(at, _)| *at >= begin), "nothing but slots: {given:?}");
    assert!(given.iter().all(|(_, bytes)| *bytes <= total / 4), "a piece at a time: {given:?}");
    pool.close().unwrap();
}

#[test]
fn it_can_be_switched_off_and_is_left_alone_where_it_is_no_use() {
    let badly = || Discards::Badly("it is no use".into());
    for (discards, mode, on) in [
        (well(), DiscardMode::Off, false),
        (badly(), DiscardMode::Auto, false),
        (badly(), DiscardMode::On, true),
        (Discards::Never("it cannot".into()), DiscardMode::On, false),
    ] {
        let medium = Slow::new();
        let pool = pool(&medium, discards.clone(), mode);
        let done = settled(&pool);
        assert_eq!(done.on, on, "{discards:?}, {mode:?}");
        assert_eq!(medium.given.lock().unwrap().is_empty(), !on);
        assert_eq!(pool.status().discard, mode);
        if mode == DiscardMode::Off {
            assert!(done.why.contains("switched off"), "{}", done.why);
            pool.set_discard(DiscardMode::Auto).unwrap();
            assert_eq!(settled(&pool).waiting, 0, "from now on it is done");
        }
    }
}

#[test]
fn a_device_that_fails_to_is_asked_once_until_an_operator_wants_it_again() {
    let medium = Slow::new();
    medium.refuses.store(true, Ordering::Relaxed);
    let pool = pool(&medium, well(), DiscardMode::Auto);
    let failed = settled(&pool);
    assert!(!failed.on && failed.why.contains("it failed: no"), "{failed:?}");
    assert_eq!(failed.done, 0);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(medium.asked.load(Ordering::Relaxed), 1);
    assert_eq!(pool.status().failed, None, "the pool works");
    medium.refuses.store(false, Ordering::Relaxed);
    pool.set_discard(DiscardMode::Auto).unwrap();
    assert_eq!(settled(&pool).waiting, 0);
}

/// Set by a test for its own child.
const CHILD: &str = "FOREBAY_TEST_DEVICE";

/// The child's part of the next test.
#[test]
fn a_keeper_that_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let medium = Slow::new();
    let pool = pool(&medium, well(), DiscardMode::Off);
    medium.panics.store(true, Ordering::Relaxed);
    let new = NewVolume {
        name: "a".into(),
        uuid: Uuid::from_u128(9),
        bytes: 1 << 20,
        block_bytes: None,
        thick: false,
        limits: Limits::default(),
        made_s: 0,
    };
    println!("it went on: {:?}", pool.create_volume(new));
}

#[test]
fn a_panic_of_a_keeper_ends_the_process() {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_keeper_that_panics", "--nocapture", "--test-threads=1"])
        .env(CHILD, "none")
        .output()
        .unwrap();
    assert_eq!(out.status.signal(), Some(6), "SIGABRT: {out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("planted"), "{out:?}");
}
