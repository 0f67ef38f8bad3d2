//! A thin volume against the bare device below it, by turns in one process: what the map costs, what
//! filling an empty volume costs, and how much is written for 4 KiB random writes after a snapshot.

use crate::random::Random;
use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaPool, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_mem::Null;
use bdev_pool::{
    DiscardMode, FileMedium, Host, Journals, Limits, MEMORY_BYTES, Medium, NewMember, NewVolume,
    Pool, Reactors, SharedJournals,
};
use bdev_uring::{Options as FileOptions, UringBdev};
use clap::Args;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;

const MIB: u64 = 1 << 20;

/// Writes between two flushes, for the amplification.
const COMMITS: [u64; 4] = [128, 32, 8, 1];

/// The volume whose amplification is measured: a thousand rows of its map.
const SPARSE_BYTES: u64 = 64 << 30;

/// Snapshots behind the volume whose reads are measured: two of an hour for two days.
const SNAPSHOTS: u64 = 96;

/// What to measure.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Where the devices are made, as files.
    #[arg(long, default_value = "/dev/shm")]
    folder: PathBuf,
    /// Size of the volume in MiB.
    #[arg(long, default_value_t = 1024)]
    mib: u64,
    /// Pairs of samples.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds of each sample.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

/// Counts what the metadata takes.
#[derive(Debug)]
struct Counted {
    inner: FileMedium,
    written: AtomicU64,
}

impl Medium for Counted {
    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.inner.read(at, into)
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        let bytes: usize = pieces.iter().map(|(_, bytes)| bytes.len()).sum();
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
        self.inner.write(pieces)
    }

    fn flush(&self) -> io::Result<()> {
        self.inner.flush()
    }

    fn discard(&self, at: u64, bytes: u64) -> io::Result<()> {
        self.inner.discard(at, bytes)
    }
}

/// One reactor, which this thread polls all the time.
struct Polled;

impl Reactors for Polled {
    fn count(&self) -> usize {
        1
    }

    fn wake(&self, _reactor: usize) {}

    fn add_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) -> Result<(), String> {
        Err("devices are not added here".into())
    }

    fn remove_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) {}
}

/// Where I/O goes: a channel, and the block of it that counts as the first one.
#[derive(Clone, Copy)]
struct Target {
    addr: Addr,
    first: u64,
}

impl Target {
    fn whole(addr: Addr) -> Target {
        Target { addr, first: 0 }
    }
}

/// What a sample asks for.
#[derive(Clone, Copy)]
struct Load {
    op: Op,
    payload: u64,
    depth: usize,
    /// One place after the other, once; else places by chance.
    sequential: bool,
}

struct Lab {
    stack: Stack,
    buffers: Vec<DmaSlice>,
    dones: Vec<Done>,
    random: Random,
    start: Instant,
}

impl Lab {
    fn new() -> Result<(Lab, DmaSlice), String> {
        let plan = PoolPlan::for_bytes(64 * MIB as usize);
        let memory = Memory::map(1, plan.bytes()).map_err(|error| error.to_string())?;
        let memory = Arc::new(memory);
        let mut pool = DmaPool::new(memory.clone(), 0, &plan);
        let mut take = |bytes: usize| pool.take(bytes).map(|buffer| buffer.slice());
        let bounces = take(MEMORY_BYTES).ok_or("no memory")?;
        let buffers: Option<Vec<DmaSlice>> = (0..64).map(|_| take(128 << 10)).collect();
        let lab = Lab {
            stack: Stack::new(0, memory),
            buffers: buffers.ok_or("no memory")?,
            dones: Vec::new(),
            random: Random::new(1),
            start: Instant::now(),
        };
        Ok((lab, bounces))
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn submit(&mut self, to: Target, op: Op, place: u64, payload: u64, buffer: usize) {
        let blocks = payload / 4096;
        let (flags, lba) = (IoFlags::NONE, to.first + place * blocks);
        let data = match op {
            Op::Flush => DmaSlice::EMPTY,
            _ => self.buffers[buffer].sub(0, payload as usize),
        };
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(buffer as u64));
        let blocks = if op == Op::Flush { 0 } else { blocks as u32 };
        let now_ns = self.now_ns();
        let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(to.addr, io, now_ns);
    }

    fn turn(&mut self) -> Result<Vec<usize>, String> {
        let now_ns = self.now_ns();
        self.stack.poll(now_ns);
        self.stack.deliver(now_ns, &mut self.dones);
        let ended = |done: Done| match done.status.is_success() {
            true => Ok(done.tag.0 as usize),
            false => Err(format!("an operation ended with {}", done.status)),
        };
        self.dones.drain(..).map(ended).collect()
    }

    /// Operations a second, over `places` places.
    fn sample(
        &mut self,
        to: Target,
        load: Load,
        places: u64,
        span: Duration,
    ) -> Result<f64, String> {
        let Load { op, payload, depth, sequential } = load;
        let (start, mut next, mut ended, mut in_flight) = (Instant::now(), 0, 0u64, 0);
        let mut idle: Vec<usize> = (0..depth).collect();
        loop {
            let more = match sequential {
                true => next < places,
                false => start.elapsed() < span,
            };
            while more && let Some(buffer) = idle.pop() {
                let place = if sequential { next } else { self.random.below(places) };
                if sequential && next == places {
                    idle.push(buffer);
                    break;
                }
                next += 1;
                in_flight += 1;
                self.submit(to, op, place, payload, buffer);
            }
            let done = self.turn()?;
            ended += done.len() as u64;
            in_flight -= done.len();
            idle.extend(done);
            if !more && in_flight == 0 {
                return Ok(ended as f64 / start.elapsed().as_secs_f64());
            }
        }
    }

    /// The longest time, in ms, in which nothing ended of 4 KiB writes at depth 32.
    fn longest_gap(&mut self, to: Target, places: u64, span: Duration) -> Result<f64, String> {
        let (start, mut last, mut longest) = (Instant::now(), Instant::now(), Duration::ZERO);
        let mut idle: Vec<usize> = (0..32).collect();
        while start.elapsed() < span || idle.len() < 32 {
            while start.elapsed() < span
                && let Some(buffer) = idle.pop()
            {
                let place = self.random.below(places);
                self.submit(to, Op::Write, place, 4096, buffer);
            }
            let done = self.turn()?;
            if !done.is_empty() {
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            idle.extend(done);
        }
        Ok(longest.as_secs_f64() * 1000.0)
    }

    fn one(&mut self, to: Target, op: Op) -> Result<(), String> {
        self.submit(to, op, 0, 4096, 0);
        while self.turn()?.is_empty() {}
        Ok(())
    }
}

/// A file of `bytes`, all of it allocated and in the page cache.
fn device(path: &Path, bytes: u64) -> Result<File, String> {
    use std::os::unix::fs::FileExt;
    let say = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    let file = file.map_err(say)?;
    let piece = vec![0xa5; MIB as usize];
    (0..bytes / MIB).try_for_each(|at| file.write_all_at(&piece, at * MIB)).map_err(say)?;
    file.sync_all().map_err(say)?;
    Ok(file)
}

fn bdev(path: &Path) -> Result<Arc<dyn Bdev>, String> {
    let options = FileOptions { block_bytes: 4096, ..FileOptions::default() };
    Ok(Arc::new(UringBdev::open(path, options).map_err(|error| error.0)?))
}

fn median(mut figures: Vec<f64>) -> (f64, f64, f64) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], figures[0], figures[figures.len() - 1])
}

struct Bench {
    options: Options,
    lab: Lab,
    pool: Pool,
    medium: Arc<Counted>,
}

impl Bench {
    /// A pool on `below`, whose metadata goes to `file`, of `bytes` bytes.
    fn new(
        options: &Options,
        folder: &Path,
        below: Arc<dyn Bdev>,
        (file, bytes): (File, u64),
    ) -> Result<Bench, String> {
        let (lab, bounces) = Lab::new()?;
        let inner = FileMedium::new(file, bytes);
        let medium = Arc::new(Counted { inner, written: AtomicU64::new(0) });
        let member = NewMember { name: "below".into(), bdev: below, medium: medium.clone() };
        // As `forebay serve` has them.
        let journals = Arc::new(SharedJournals::new(folder.join("journals")));
        let (memory, journals) = (vec![bounces], Some(journals as Arc<dyn Journals>));
        let (reactors, discard) = (Arc::new(Polled), DiscardMode::Off);
        let host = Host { reactors, memory, journals, discard, stepped: None };
        let mut number = 0;
        let uuid = || {
            number += 1;
            Uuid::from_u128(number)
        };
        let pool = Pool::create("bench", vec![member], true, host, uuid);
        let pool = pool.map_err(|error| error.message)?;
        Ok(Bench { options: options.clone(), lab, pool, medium })
    }

    fn places(&self, load: Load) -> u64 {
        self.options.mib * MIB / load.payload
    }

    fn open_new(&mut self, number: u128, bytes: u64) -> Result<(String, Target), String> {
        let name = format!("volume-{number}");
        let new = NewVolume {
            name: name.clone(),
            uuid: Uuid::from_u128(1000 + number),
            bytes,
            block_bytes: Some(4096),
            thick: false,
            limits: Limits::default(),
            made_s: 0,
        };
        self.pool.create_volume(new).map_err(|error| error.message)?;
        let volume: Arc<dyn Bdev> = self.pool.volume(&name).map_err(|error| error.message)?;
        let now_ns = self.lab.now_ns();
        let addr = self.lab.stack.open(&volume, now_ns).map_err(|error| error.0)?;
        Ok((name, Target::whole(addr)))
    }

    /// Fills an empty volume and the bare device by turns. Returns the last volume.
    fn fill(&mut self, bare: Target) -> Result<(String, Target), String> {
        let load = Load { op: Op::Write, payload: 128 << 10, depth: 16, sequential: true };
        let mut pairs = Vec::new();
        let mut last: Option<(String, Target)> = None;
        for pair in 0..self.options.pairs {
            if let Some((name, thin)) = last.take() {
                self.lab.stack.close(thin.addr);
                self.delete(&name)?;
            }
            let (name, volume) = self.open_new(pair as u128, self.options.mib * MIB)?;
            let places = self.places(load);
            let span = Duration::ZERO;
            let base = self.lab.sample(bare, load, places, span)?;
            let thin = self.lab.sample(volume, load, places, span)?;
            pairs.push((base, thin));
            last = Some((name, volume));
        }
        report("sequential fill, 128 KiB QD 16", &pairs);
        last.ok_or_else(|| "no pairs were asked for".into())
    }

    fn delete(&mut self, name: &str) -> Result<(), String> {
        self.pool.delete_volume(name, false).map_err(|error| error.message)?;
        // Slots come back when nothing can be using them: nothing is under way here.
        while !self.pool.directory().jobs().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// All of it is allocated.
    fn compare(&mut self, bare: Target, thin: Target) -> Result<(), String> {
        let span = Duration::from_secs_f64(self.options.seconds);
        for (op, payload, depth) in [
            (Op::Read, 4096, 1),
            (Op::Read, 4096, 32),
            (Op::Write, 4096, 1),
            (Op::Write, 4096, 32),
            (Op::Read, 128 << 10, 16),
            (Op::Write, 128 << 10, 16),
        ] {
            let load = Load { op, payload, depth, sequential: false };
            let places = self.places(load);
            let mut pairs = Vec::new();
            for pair in 0..self.options.pairs {
                // Neither is always the one that comes second.
                let volume_first = pair % 2 == 1;
                let (one, other) = if volume_first { (thin, bare) } else { (bare, thin) };
                let one = self.lab.sample(one, load, places, span)?;
                let other = self.lab.sample(other, load, places, span)?;
                pairs.push(if volume_first { (other, one) } else { (one, other) });
            }
            report(&format!("allocated, {} KiB {op:?} QD {depth}", payload >> 10), &pairs);
        }
        Ok(())
    }

    /// Bytes written for each byte of a 4 KiB random write after a snapshot.
    fn amplification(&mut self) -> Result<(), String> {
        let (name, thin) = self.open_new(0, SPARSE_BYTES)?;
        // Each extent is there in part.
        let load = Load { op: Op::Write, payload: 4096, depth: 32, sequential: false };
        for extent in 0..SPARSE_BYTES / MIB {
            self.write(thin, extent * (MIB / load.payload))?;
        }
        for every in COMMITS {
            self.snapshot(std::slice::from_ref(&name), &format!("before-{every}"))?;
            let (before, count) = (self.medium.written.load(Ordering::Relaxed), 64 * every.max(64));
            for written in 1..=count {
                let place = self.lab.random.below(SPARSE_BYTES / load.payload);
                self.write(thin, place)?;
                if written % every == 0 {
                    self.lab.one(thin, Op::Flush)?;
                }
            }
            let metadata = self.medium.written.load(Ordering::Relaxed) - before;
            let ratio = (metadata + count * 4096) as f64 / (count * 4096) as f64;
            println!(
                "4 KiB random writes after a snapshot, {every} to a flush: {ratio:.2} written"
            );
        }
        Ok(())
    }

    /// The longest that no write ended, in ms: undisturbed, and while a snapshot is taken.
    fn pauses(&mut self, name: &str, thin: Target) -> Result<(), String> {
        let span = Duration::from_millis(300);
        // Each snapshot makes all that is written after it new: there is room for so many.
        let places = self.options.mib * MIB / 4096 / (self.options.pairs as u64 + 1);
        let (mut calm, mut disturbed) = (Vec::new(), Vec::new());
        for pair in 0..self.options.pairs {
            calm.push(self.lab.longest_gap(thin, places, span)?);
            let (pool, lab, volumes) = (&self.pool, &mut self.lab, [name.to_owned()]);
            let gap = std::thread::scope(|scope| {
                let taken = scope.spawn(move || {
                    std::thread::sleep(span / 2);
                    pool.snapshot(&volumes, &format!("pause-{pair}"), 0)
                });
                let gap = lab.longest_gap(thin, places, span);
                while !taken.is_finished() {
                    lab.turn()?;
                }
                taken.join().expect("does not panic").map_err(|error| error.message)?;
                gap
            });
            disturbed.push(gap?);
        }
        let ((calm, ..), (pause, low, high)) = (median(calm), median(disturbed));
        println!(
            "longest gap between ends of 4 KiB writes QD 32: {pause:.2} ms ({low:.2} to \
             {high:.2}) while a snapshot is taken, {calm:.2} ms without"
        );
        Ok(())
    }

    /// What the volume itself adds to an I/O.
    fn over_nothing(
        &mut self,
        what: &str,
        op: Op,
        bare: Target,
        thin: Target,
    ) -> Result<(), String> {
        let span = Duration::from_secs_f64(self.options.seconds);
        let load = Load { op, payload: 4096, depth: 32, sequential: false };
        let (places, mut added) = (self.places(load), Vec::new());
        for _ in 0..self.options.pairs {
            let base = self.lab.sample(bare, load, places, span)?;
            added.push(1e9 / self.lab.sample(thin, load, places, span)? - 1e9 / base);
        }
        let (ns, low, high) = median(added);
        println!("over nothing, 4 KiB {what}, QD 32: {ns:.0} ns more ({low:.0} to {high:.0})");
        Ok(())
    }

    fn write(&mut self, to: Target, place: u64) -> Result<(), String> {
        self.lab.submit(to, Op::Write, place, 4096, 0);
        while self.lab.turn()?.is_empty() {}
        Ok(())
    }

    /// A snapshot, from beside the reactor, which goes on turning.
    fn snapshot(&mut self, volumes: &[String], name: &str) -> Result<(), String> {
        let pool = &self.pool;
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| pool.snapshot(volumes, name, 0));
            while !taken.is_finished() {
                self.lab.turn()?;
            }
            taken.join().expect("does not panic").map_err(|error| error.message)
        })
    }
}

/// `pairs`: operations a second of the bare device and of the volume.
fn report(what: &str, pairs: &[(f64, f64)]) {
    let (ratio, low, high) = median(pairs.iter().map(|(bare, thin)| thin / bare).collect());
    let (bare, ..) = median(pairs.iter().map(|(bare, _)| bare / 1000.0).collect());
    println!(
        "{what}: {ratio:.3} of the bare device ({low:.3} to {high:.3}), which does {bare:.1} k/s"
    );
}

/// Speed, against the device that the volume is on, through the same channel of it. What the pool
/// has there is written over: of the data only, which nobody looks at.
fn speed(options: &Options, folder: &Path) -> Result<(), String> {
    let (bytes, path) = (options.mib * MIB, folder.join("below"));
    // Beside the volume, what is written after the snapshots.
    let below_bytes = 2 * bytes + bytes / 8 + 64 * MIB;
    let file = device(&path, below_bytes)?;
    let below = bdev(&path)?;
    let mut bench = Bench::new(options, folder, below.clone(), (file, below_bytes))?;
    let addr = bench.lab.stack.open(&below, 0).map_err(|error| error.0)?;
    let bare = Target { addr, first: (below_bytes - bytes) / 4096 };
    let (name, thin) = bench.fill(bare)?;
    bench.compare(bare, thin)?;
    bench.pauses(&name, thin)
}

/// A file of `bytes` with nothing in it.
fn sparse(path: &Path, bytes: u64) -> Result<File, String> {
    let say = |error: io::Error| format!("{}: {error}", path.display());
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path);
    let file = file.map_err(say)?;
    file.set_len(bytes).map_err(say)?;
    Ok(file)
}

/// What the volume itself costs: over a device that does nothing.
fn cost(options: &Options, folder: &Path) -> Result<(), String> {
    let bytes = options.mib * MIB;
    let below_bytes = 16 * bytes;
    let null = |bytes| match Null::new(bytes, 4096) {
        Ok(null) => Ok(Arc::new(null) as Arc<dyn Bdev>),
        Err(error) => Err(error.0),
    };
    let file = sparse(&folder.join("metadata"), below_bytes)?;
    let mut bench = Bench::new(options, folder, null(below_bytes)?, (file, below_bytes))?;
    let bare = bench.lab.stack.open(&null(bytes)?, 0).map_err(|error| error.0)?;
    let bare = Target::whole(bare);
    let (name, thin) = bench.open_new(0, bytes)?;
    let fill = Load { op: Op::Write, payload: 128 << 10, depth: 16, sequential: true };
    bench.lab.sample(thin, fill, bench.places(fill), Duration::ZERO)?;
    for op in [Op::Read, Op::Write] {
        bench.over_nothing(&format!("{op:?}"), op, bare, thin)?;
    }
    for taken in 1..=SNAPSHOTS {
        bench.snapshot(std::slice::from_ref(&name), &format!("{taken}"))?;
        for _ in 0..bytes / MIB / 16 {
            let place = bench.lab.random.below(bytes / 4096);
            bench.write(thin, place)?;
        }
    }
    bench.over_nothing(
        &format!("Read of a volume with {SNAPSHOTS} snapshots"),
        Op::Read,
        bare,
        thin,
    )
}

/// Amplification: a volume so large that no two writes of a commit meet in a row of its map.
fn amplification(options: &Options, folder: &Path) -> Result<(), String> {
    let below = folder.join("sparse");
    let bytes = 2 * SPARSE_BYTES;
    let file = sparse(&below, bytes)?;
    Bench::new(options, folder, bdev(&below)?, (file, bytes))?.amplification()
}

/// Files in memory can take all that the machine has, and stop it.
fn check_memory(options: &Options) -> Result<(), String> {
    if !options.folder.starts_with("/dev/shm") {
        return Ok(());
    }
    let memory = std::fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = kib.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let (available, needed) = (kib.unwrap_or(0) / 1024, 3 * options.mib);
    match needed <= available / 2 {
        true => Ok(()),
        false => Err(format!(
            "{needed} MiB of files would be made in {}, and {available} MiB of memory are free: \
             give a smaller --mib, or a --folder on a disk",
            options.folder.display()
        )),
    }
}

/// Runs it.
///
/// # Errors
/// A sentence.
pub fn run(options: &Options) -> Result<(), String> {
    check_memory(options)?;
    let folder = options.folder.join(format!("forebay-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let measured = cost(options, &folder)
        .and_then(|()| speed(options, &folder))
        .and_then(|()| amplification(options, &folder));
    // What is left behind there is seen and harmless.
    let _ = std::fs::remove_dir_all(&folder);
    measured
}
