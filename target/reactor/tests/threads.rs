//! Reactors on real threads: tasks, sleeping and waking, hops between them.

use bdev::dma::PoolPlan;
use bdev::{Addr, DmaSlice, Op, OpenCx, OpenError, Stack, Tag};
use bdev::{Bdev, Channel, Cx, DmaPool, Done, Edge, EdgeCx, Geometry, Home, Io, IoFlags, Memory};
use nvme_spec::Status;
use reactor::client::{Channels, Driver, Ended, Operation, Submitter, drive};
use reactor::{Handle, Poll, Reactor, hop, spawn};
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

struct Node {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
}

fn start(count: usize, poll: Poll) -> Node {
    let plan = PoolPlan::for_bytes(8 << 20);
    let memory = Arc::new(Memory::map(count, plan.bytes()).unwrap());
    let handles: Vec<Handle> = (0..count).map(|i| Handle::new(i).unwrap()).collect();
    let threads = handles.iter().map(|handle| {
        let (handle, memory, plan) = (handle.clone(), memory.clone(), plan.clone());
        let number = handle.number();
        spawn(handle.clone(), None, poll, move || {
            let pool = DmaPool::new(memory.clone(), number as u16, &plan);
            Reactor::new(handle, Stack::new(number, memory), pool)
        })
        .unwrap()
    });
    let threads = threads.collect();
    Node { handles, threads }
}

impl Node {
    fn stop(self) {
        self.handles.iter().for_each(Handle::stop);
        self.threads.into_iter().for_each(|t| t.join().unwrap());
    }
}

/// A leaf that lives on reactor 0 and counts what it is asked for; odd blocks fail.
struct Counting(Arc<AtomicU64>);
struct CountingChannel(Arc<AtomicU64>);

impl Bdev for Counting {
    fn geometry(&self) -> Geometry {
        Geometry::plain(4096, 1000)
    }
    fn home(&self) -> Home {
        Home::One(0)
    }
    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        assert_eq!(cx.reactor, 0);
        Ok(Box::new(CountingChannel(self.0.clone())))
    }
}

impl Channel for CountingChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
        let status = if io.lba % 2 == 1 { Status::UNRECOVERED_READ } else { Status::SUCCESS };
        cx.complete(io, status);
    }
    fn outstanding(&self) -> u32 {
        0
    }
}

/// As many operations under way as there is room for until `total` have ended, then reports the
/// failures.
struct Load {
    next: u64,
    ended: u64,
    failed: u64,
    total: u64,
    report: mpsc::Sender<u64>,
}

impl Driver for Load {
    fn poll(&mut self, io: &mut Submitter<'_, '_>) -> u32 {
        let mut work = 0;
        while self.next < self.total && io.has_room() {
            let read = Operation::new(Op::Read, self.next, 1, DmaSlice::EMPTY);
            io.submit(0, read, None, self.next);
            self.next += 1;
            work += 1;
        }
        work
    }
    fn ended(&mut self, ended: Ended, _io: &mut Submitter<'_, '_>) {
        self.ended += 1;
        let expected = if ended.tag % 2 == 1 { Status::UNRECOVERED_READ } else { Status::SUCCESS };
        assert_eq!(ended.status, expected);
        self.failed += u64::from(!ended.status.is_success());
        if self.ended == self.total {
            self.report.send(self.failed).unwrap();
        }
    }
}

fn load_over_a_hop(poll: Poll) {
    let node = start(2, poll);
    let count = Arc::new(AtomicU64::new(0));
    let bdev: Arc<dyn Bdev> = Arc::new(Counting(count.clone()));
    let all = node.handles.clone();
    let (report, failures) = mpsc::channel();
    let edge = node.handles[1].call(move |reactor| {
        let local = hop::local(&bdev, reactor.handle(), &all);
        let to = reactor.stack.open(&local, reactor.now_ns()).unwrap();
        let load = Load { next: 0, ended: 0, failed: 0, total: 10_000, report };
        drive(reactor, Channels::Own(vec![to]), 32, load)
    });
    assert_eq!(failures.recv().unwrap(), 5_000);
    assert_eq!(count.load(Ordering::Relaxed), 10_000);
    let left = node.handles[1].call(move |reactor| {
        reactor.remove_edge(edge.unwrap());
        reactor.stack.channels()
    });
    assert_eq!(left, Some(0));
    // The home reactor gives its channel up when the hop's task has reached it.
    assert_eq!(node.handles[0].call(|reactor| reactor.stack.channels()), Some(0));
    node.stop();
}

#[test]
fn a_bdev_on_another_reactor_is_reached_by_a_hop() {
    load_over_a_hop(Poll::Busy);
}

/// Holds every operation back until it is recalled.
struct Holding;

struct HoldingChannel(Vec<Io>);

impl Bdev for Holding {
    fn geometry(&self) -> Geometry {
        Geometry::plain(512, 1 << 20)
    }
    fn home(&self) -> Home {
        Home::One(0)
    }
    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Ok(Box::new(HoldingChannel(Vec::new())))
    }
}

impl Channel for HoldingChannel {
    fn submit(&mut self, io: Io, _cx: &mut Cx<'_>) {
        self.0.push(io);
    }
    fn recall(&mut self, reply_to: Addr, reply_tag: Tag, cx: &mut Cx<'_>) {
        let is_it = |io: &Io| (io.reply_to, io.reply_tag) == (reply_to, reply_tag);
        if let Some(at) = self.0.iter().position(is_it) {
            cx.complete(self.0.remove(at), Status::ABORT_REQUESTED);
        }
    }
    fn outstanding(&self) -> u32 {
        self.0.len() as u32
    }
}

/// Submits operations and asks each of them back, twice, until `total` have ended.
struct Recalling {
    to: Addr,
    next: u64,
    total: u64,
    report: mpsc::Sender<u64>,
}

impl Edge for Recalling {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        if self.next == self.total {
            return 0;
        }
        let (tag, to) = (Tag(self.next), self.to);
        let (op, flags, data) = (Op::Read, IoFlags::NONE, DmaSlice::EMPTY);
        cx.submit(to, Io { op, flags, lba: 0, blocks: 1, data, reply_to: cx.me, reply_tag: tag });
        for _ in 0..2 {
            cx.stack.recall(to, cx.me, tag, cx.now_ns);
        }
        self.next += 1;
        1
    }
    fn done(&mut self, done: Done, _cx: &mut EdgeCx<'_>) {
        assert_eq!(done.status, Status::ABORT_REQUESTED);
        self.report.send(done.tag.0).unwrap();
    }
    fn closed(&mut self, stack: &mut Stack) {
        stack.close(self.to);
    }
}

#[test]
fn an_operation_is_asked_back_over_a_hop() {
    const TOTAL: u64 = 500;
    let node = start(2, Poll::Adaptive { spin_ns: 0 });
    let bdev: Arc<dyn Bdev> = Arc::new(Holding);
    let all = node.handles.clone();
    let (report, ended) = mpsc::channel();
    let edge = node.handles[1].call(move |reactor| {
        let local = hop::local(&bdev, reactor.handle(), &all);
        let to = reactor.stack.open(&local, reactor.now_ns()).unwrap();
        reactor.add_edge(Box::new(Recalling { to, next: 0, total: TOTAL, report }))
    });
    // The task that asks one back may come before the operation, which then stays: it is asked
    // again by who wants it, as a target does at each of its ticks.
    let asked_again = node.handles[1].clone();
    let mut tags = std::collections::BTreeSet::new();
    while tags.len() < TOTAL as usize {
        match ended.recv_timeout(std::time::Duration::from_millis(10)) {
            Ok(tag) => assert!(tags.insert(tag), "{tag} ended twice"),
            Err(_) => {
                let missing: Vec<u64> = (0..TOTAL).filter(|tag| !tags.contains(tag)).collect();
                asked_again.call(move |reactor| {
                    let (to, me, now_ns) = (Addr::channel(0), edge.unwrap(), reactor.now_ns());
                    for tag in missing {
                        reactor.stack.recall(to, me, Tag(tag), now_ns);
                    }
                });
            }
        }
    }
    node.handles[1].call(move |reactor| reactor.remove_edge(edge.unwrap()));
    node.stop();
}

#[test]
fn hops_wake_sleeping_reactors() {
    load_over_a_hop(Poll::Adaptive { spin_ns: 0 });
}

#[test]
fn a_sleeping_reactor_takes_every_task() {
    let node = start(1, Poll::Adaptive { spin_ns: 0 });
    for i in 0..2_000u64 {
        assert_eq!(node.handles[0].call(move |_| i), Some(i));
    }
    let stats = node.handles[0].stats().read();
    assert_eq!(stats.messages, 2_000);
    assert!(stats.sleeps > 0, "it slept between tasks: {stats:?}");
    node.stop();
}

#[test]
fn an_idle_reactor_takes_few_steps() {
    let node = start(1, Poll::ADAPTIVE);
    node.handles[0].call(|_| ()).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let before = node.handles[0].stats().read();
    std::thread::sleep(std::time::Duration::from_millis(200));
    let after = node.handles[0].stats().read();
    // Nothing has a deadline and nothing arrives: it is asleep, not spinning.
    assert!(after.turns - before.turns < 10, "{before:?} {after:?}");
    node.stop();
}

#[test]
fn calls_to_a_reactor_that_has_ended_return_nothing() {
    let node = start(1, Poll::ADAPTIVE);
    let handle = node.handles[0].clone();
    node.stop();
    assert_eq!(handle.call(|_| 1), None);
}

#[test]
fn a_core_that_does_not_exist_is_refused() {
    let handle = Handle::new(0).unwrap();
    let error = spawn(handle, Some(100_000), Poll::Busy, || unreachable!("never built"));
    assert!(error.is_err());
}

/// Set by a test for its own child.
const CHILD: &str = "FOREBAY_TEST_DEVICE";

/// The child's part of the next test.
#[test]
fn a_reactor_that_panics() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let node = start(1, Poll::ADAPTIVE);
    let answer = node.handles[0].call(|_| panic!("planted"));
    println!("it went on: {answer:?}");
}

#[test]
fn a_panic_on_a_reactor_ends_the_process() {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_reactor_that_panics", "--nocapture", "--test-threads=1"])
        .env(CHILD, "none")
        .output()
        .unwrap();
    assert_eq!(out.status.signal(), Some(6), "SIGABRT: {out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("planted"), "{out:?}");
}
