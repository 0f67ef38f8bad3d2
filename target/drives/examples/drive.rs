//! The NVMe driver on a real or emulated drive: takes it, works it, says what it saw. The tests in
//! the lab run this in a guest.
//!
//! ```text
//! drive list
//! drive bind|unbind ADDRESS [--unsafe-no-iommu] [--force]
//! drive verify ADDRESS [--unsafe-no-iommu]      overwrites the drive's first 16 MiB
//! drive compare PATH                            what verify left, through the kernel
//! drive slow ADDRESS                            overwrites them on a drive that takes too long
//! drive bench ADDRESS DEPTH SECONDS             4 KiB random reads
//! ```

use bdev::dma::PoolPlan;
use bdev::sleep::Sleeper;
use bdev::{Addr, Bdev, DmaBuf, DmaPool, DmaSlice, Done, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_nvme::{Controller, Hardware, Health, Options, Request};
use drives::{Access, Consent, Host, PciAddress};
use nvme_spec::Status;
use nvme_spec::log::SmartLog;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfio::{UioFunction, VfioFunction};
use zerocopy::FromBytes;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const SECOND_NS: u64 = 1_000_000_000;
/// What is overwritten, in bytes.
const SPAN_BYTES: u64 = 16 << 20;
/// Operations under way at once.
const DEPTH: usize = 32;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = act(&words) {
        eprintln!("drive: {error}");
        std::process::exit(1);
    }
}

fn act(words: &[String]) -> Result<()> {
    let has = |word: &str| words.iter().any(|other| other == word);
    let access = if has("--unsafe-no-iommu") { Access::UnsafeNoIommu } else { Access::Vfio };
    let consent = if has("--force") { Consent::Anything } else { Consent::Empty };
    let host = Host::new();
    let address = || -> Result<PciAddress> { Ok(words.get(1).ok_or("which drive?")?.parse()?) };
    match words.first().map(String::as_str) {
        Some("list") => list(&host),
        Some("bind") => Ok(host.bind(address()?, access, consent)?),
        Some("unbind") => Ok(host.unbind(address()?)?),
        Some("verify") => verify(&host, address()?, access),
        Some("compare") => compare(words.get(1).ok_or("which file?")?),
        Some("slow") => slow(&host, address()?),
        Some("bench") => {
            let number =
                |at: usize| -> Result<u64> { Ok(words.get(at).ok_or("how much?")?.parse()?) };
            bench(&host, address()?, number(2)? as usize, number(3)?)
        }
        _ => Err("say list, bind, unbind, verify, compare, slow or bench".into()),
    }
}

fn list(host: &Host) -> Result<()> {
    for drive in host.drives()? {
        let text = |of: &Option<String>| of.clone().unwrap_or_else(|| "-".to_owned());
        let health =
            host.smart_log(&drive).ok().and_then(|log| SmartLog::read_from_bytes(&log).ok());
        let used = health.map_or("-".to_owned(), |log| format!("{}% used", log.percentage_used));
        let (model, serial, driver) =
            (text(&drive.model), text(&drive.serial), text(&drive.driver));
        println!("{} {driver} {model} {serial} {used}", drive.address);
        host.contents(&drive).iter().for_each(|finding| println!("  {finding}"));
    }
    Ok(())
}

/// A drive and one reactor's worth of a stack over it.
struct Bench {
    controller: Controller,
    stack: Stack,
    pool: DmaPool,
    namespace: Addr,
    block_bytes: u32,
    blocks: u64,
    start: Instant,
    dones: Vec<Done>,
    /// How often an interrupt ended a sleep.
    woken: u64,
}

impl Bench {
    /// Never dropped: what goes wrong leaves operations under way, and the process ends.
    fn open(
        host: &Host,
        address: PciAddress,
        access: Access,
        options: Options,
    ) -> Result<&'static mut Bench> {
        let start = Instant::now();
        let hardware: Arc<dyn Hardware> = match access {
            Access::Vfio => {
                let function = VfioFunction::open(host.sysfs(), address, 3)?;
                println!("opened through {}", function.way());
                Arc::new(function)
            }
            Access::UnsafeNoIommu => Arc::new(UioFunction::open(host.sysfs(), address)?),
        };
        println!("vectors {}", hardware.vectors());
        let controller = Controller::new(hardware, options)?;
        while controller.health() == Health::Starting {
            controller.poll(start.elapsed().as_nanos() as u64);
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Health::Dead(why) = controller.health() {
            return Err(format!("no drive: {why}").into());
        }
        let identity = controller.identity().expect("it is ready");
        println!("drive {identity:?}");
        let bdev = controller.bdev(1)?;
        let geometry = bdev.geometry();
        println!("namespace {geometry:?}");
        let plan = PoolPlan::for_bytes(64 << 20);
        let memory = Arc::new(Memory::map(1, plan.bytes())?);
        println!("memory in {}", memory.regions()[0].backing());
        let mut stack = Stack::new(0, memory.clone());
        let bdev: Arc<dyn Bdev> = Arc::new(bdev);
        let namespace = stack.open(&bdev, 0)?;
        let pool = DmaPool::new(memory, 0, &plan);
        let (block_bytes, blocks) = (geometry.block_bytes, geometry.blocks);
        let (dones, woken) = (Vec::new(), 0);
        let bench =
            Bench { controller, stack, pool, namespace, block_bytes, blocks, start, dones, woken };
        Ok(Box::leak(Box::new(bench)))
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn submit(&mut self, op: Op, lba: u64, blocks: u32, data: DmaSlice, tag: u64) {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(tag));
        let io = Io { op, flags: IoFlags::NONE, lba, blocks, data, reply_to, reply_tag };
        let now_ns = self.now_ns();
        self.stack.submit(self.namespace, io, now_ns);
    }

    /// One turn; sleeps for an interrupt after it if `sleeps` and nothing was done.
    fn turn(&mut self, sleeps: bool) {
        let now_ns = self.now_ns();
        let work = self.stack.poll(now_ns) + self.stack.deliver(now_ns, &mut self.dones);
        let due_ns = self.stack.next_deadline_ns().map_or(0, |at| at.saturating_sub(now_ns));
        if work > 0 || !sleeps || due_ns == 0 {
            return;
        }
        let Some(fd) = self.stack.wake_fds().next() else { return };
        let limit = Duration::from_nanos(due_ns.clamp(1_000_000, 1_000_000_000));
        let woken = Sleeper::default().until_readable(fd).sleep(Some(limit));
        self.woken += u64::from(woken.is_ok_and(|ready| ready));
    }

    fn one(&mut self, op: Op, lba: u64, blocks: u32, data: DmaSlice, sleeps: bool) -> Status {
        self.submit(op, lba, blocks, data, u64::MAX);
        while self.dones.is_empty() {
            self.turn(sleeps);
        }
        self.dones.pop().expect("just seen").status
    }

    fn close(&mut self) -> Result<()> {
        self.stack.close(self.namespace);
        let now_ns = self.now_ns();
        self.controller.shut_down(now_ns);
        while !matches!(self.controller.health(), Health::Dead(_)) {
            self.controller.poll(self.now_ns());
            std::thread::sleep(Duration::from_millis(1));
        }
        println!("counts {:?}, woken {}", self.controller.counts(), self.woken);
        Ok(())
    }
}

/// A generator of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// What byte `at` of the drive holds after round `round`.
fn pattern(round: u64, at: u64) -> u8 {
    ((at >> 9).wrapping_mul(0x9e37_79b9) ^ (at >> 3) ^ (round * 0x5d)) as u8
}

/// A piece of the span, and the buffer that it goes through.
struct Piece {
    at: u64,
    bytes: u64,
    buf: DmaBuf,
}

/// Cuts the span into pieces of 4 KiB to 128 KiB.
fn pieces(numbers: &mut Numbers) -> Vec<(u64, u64)> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < SPAN_BYTES {
        let bytes = (4096 * (1 + numbers.below(32))).min(SPAN_BYTES - at);
        pieces.push((at, bytes));
        at += bytes;
    }
    pieces
}

/// Does `op` over the whole span at depth; operations that a reset cut short are done again.
/// Resets the controller once, half way, if `resets`.
fn sweep(bench: &mut Bench, op: Op, round: u64, resets: bool, sleeps: bool) -> Result<u64> {
    let mut todo = pieces(&mut Numbers(round + 1));
    let half = todo.len() / 2;
    let mut flying: Vec<Option<Piece>> = (0..DEPTH).map(|_| None).collect();
    let (mut again, mut has_reset) = (0, !resets);
    while !todo.is_empty() || flying.iter().any(Option::is_some) {
        for (slot, place) in flying.iter_mut().enumerate() {
            if place.is_none()
                && let Some((at, bytes)) = todo.pop()
            {
                let buf = bench.pool.take(bytes as usize).ok_or("memory")?;
                let data = buf.slice().sub(0, bytes as usize);
                let content: Vec<u8> = match op {
                    Op::Write => (at..at + bytes).map(|at| pattern(round, at)).collect(),
                    _ => vec![0xee; bytes as usize],
                };
                data.copy_in(0, &content);
                let block = u64::from(bench.block_bytes);
                bench.submit(op, at / block, (bytes / block) as u32, data, slot as u64);
                *place = Some(Piece { at, bytes, buf });
            }
        }
        bench.turn(sleeps);
        if !has_reset && todo.len() < half {
            has_reset = true;
            bench.controller.reset(bench.now_ns());
        }
        for done in std::mem::take(&mut bench.dones) {
            let piece = flying[done.tag.0 as usize].take().ok_or("completed twice")?;
            match done.status {
                Status::SUCCESS if op == Op::Read => check(&piece, round)?,
                Status::SUCCESS => {}
                Status::COMMAND_INTERRUPTED if resets => {
                    again += 1;
                    todo.push((piece.at, piece.bytes));
                }
                status => return Err(format!("{op:?} at {}: {status}", piece.at).into()),
            }
            bench.pool.give(piece.buf);
        }
    }
    Ok(again)
}

fn check(piece: &Piece, round: u64) -> Result<()> {
    let mut got = vec![0; piece.bytes as usize];
    piece.buf.slice().copy_out(0, &mut got);
    match got.iter().zip(piece.at..).position(|(byte, at)| *byte != pattern(round, at)) {
        Some(wrong) => Err(format!("wrong data at byte {}", piece.at + wrong as u64).into()),
        None => Ok(()),
    }
}

fn verify(host: &Host, address: PciAddress, access: Access) -> Result<()> {
    let bench = Bench::open(host, address, access, Options::default())?;
    if bench.blocks * u64::from(bench.block_bytes) < SPAN_BYTES {
        return Err("the drive is too small".into());
    }
    sweep(bench, Op::Write, 1, false, false)?;
    sweep(bench, Op::Read, 1, false, false)?;
    println!("polled: ok");
    sweep(bench, Op::Write, 2, false, true)?;
    sweep(bench, Op::Read, 2, false, true)?;
    println!("interrupts: ok, woken {}", bench.woken);
    let again = sweep(bench, Op::Write, 3, true, false)?;
    sweep(bench, Op::Read, 3, false, false)?;
    println!("reset under load: ok, {again} done again");
    let blocks = (SPAN_BYTES / 2 / u64::from(bench.block_bytes)) as u32;
    let status = bench.one(Op::Deallocate, 0, blocks, DmaSlice::EMPTY, false);
    let buf = bench.pool.take(1 << 20).ok_or("memory")?;
    buf.slice().copy_in(0, &vec![0xee; 1 << 20]);
    let count = (1 << 20) / bench.block_bytes;
    let read = bench.one(Op::Read, 0, count, buf.slice(), true);
    let mut got = vec![0; 1 << 20];
    buf.slice().copy_out(0, &mut got);
    bench.pool.give(buf);
    if !status.is_success() || !read.is_success() || got.iter().any(|byte| *byte != 0) {
        return Err(format!("deallocated blocks are not zeros: {status}, {read}").into());
    }
    if !bench.one(Op::Flush, 0, 0, DmaSlice::EMPTY, false).is_success() {
        return Err("flush".into());
    }
    println!("zeroes: ok");
    let ticket = bench.controller.ask(Request::smart_log());
    let smart = loop {
        bench.turn(false);
        bench.controller.poll(bench.now_ns());
        if let Some(answer) = bench.controller.answer(ticket) {
            break SmartLog::read_from_bytes(&answer?).map_err(|_| "a short log")?;
        }
    };
    println!("smart: {} K", smart.temperature.get());
    bench.close()
}

/// What `verify` left on a drive: zeros in the first half, the last round in the second.
fn compare(path: &str) -> Result<()> {
    let mut got = vec![0; SPAN_BYTES as usize];
    std::fs::File::open(path)?.read_exact(&mut got)?;
    let half = SPAN_BYTES / 2;
    let is_right = |(byte, at): (&u8, u64)| *byte == if at < half { 0 } else { pattern(3, at) };
    match got.iter().zip(0..).position(|pair| !is_right(pair)) {
        Some(wrong) => Err(format!("wrong data at byte {wrong}").into()),
        None => Ok(()),
    }
}

/// On a drive that is slower than the time-outs: what is late is aborted, then the controller is
/// reset; every operation ends, and the drive works afterwards.
fn slow(host: &Host, address: PciAddress) -> Result<()> {
    let options =
        Options { io_timeout_ns: SECOND_NS, abort_grace_ns: SECOND_NS / 2, ..Options::default() };
    let bench = Bench::open(host, address, Access::Vfio, options)?;
    let bufs: Vec<DmaBuf> = (0..DEPTH).filter_map(|_| bench.pool.take(4096)).collect();
    for (buf, tag) in bufs.iter().zip(0..) {
        let blocks = 4096 / bench.block_bytes;
        bench.submit(Op::Read, tag * u64::from(blocks), blocks, buf.slice(), tag);
    }
    while bench.dones.len() < bufs.len() {
        bench.turn(false);
        if bench.now_ns() > 120 * SECOND_NS {
            return Err(format!("{} of {DEPTH} ended", bench.dones.len()).into());
        }
    }
    let well = bench.dones.iter().filter(|done| done.status.is_success()).count();
    bench.dones.clear();
    println!("all ended: {well} of {DEPTH} well, {:?}", bench.controller.counts());
    while bench.controller.health() == Health::Starting {
        bench.turn(false);
    }
    println!("afterwards: {:?}", bench.controller.health());
    bufs.into_iter().for_each(|buf| bench.pool.give(buf));
    bench.close()
}

/// 4 KiB random reads over the span.
fn bench(host: &Host, address: PciAddress, depth: usize, seconds: u64) -> Result<()> {
    let bench = Bench::open(host, address, Access::Vfio, Options::default())?;
    let bufs: Vec<DmaBuf> = (0..depth).filter_map(|_| bench.pool.take(4096)).collect();
    let mut numbers = Numbers(7);
    let blocks = 4096 / bench.block_bytes;
    let mut next = |bench: &mut Bench, tag: u64| {
        let lba = numbers.below(SPAN_BYTES / 4096) * u64::from(blocks);
        bench.submit(Op::Read, lba, blocks, bufs[tag as usize].slice(), tag);
    };
    (0..depth as u64).for_each(|tag| next(bench, tag));
    let (begin, mut reads, mut under_way) = (Instant::now(), 0u64, depth);
    while under_way > 0 {
        bench.turn(false);
        let is_over = begin.elapsed() > Duration::from_secs(seconds);
        for done in std::mem::take(&mut bench.dones) {
            if !done.status.is_success() {
                return Err(format!("a read: {}", done.status).into());
            }
            reads += 1;
            if is_over {
                under_way -= 1;
            } else {
                next(bench, done.tag.0);
            }
        }
    }
    println!("iops {:.0}", reads as f64 / begin.elapsed().as_secs_f64());
    bench.close()
}
