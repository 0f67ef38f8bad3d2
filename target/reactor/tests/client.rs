//! Clients on real threads: data, back-pressure, deadlines, and who has the memory meanwhile.

use bdev::dma::PoolPlan;
use bdev::{Bdev, Channel, Cx, DmaPool, DmaSlice, Geometry, Io, Memory, Op, OpenCx, OpenError};
use bdev::{IoFlags, Stack};
use nvme_spec::Status;
use reactor::client::{Client, Finished, Full, Operation, Size, Unanswered};
use reactor::{Handle, Poll, Reactor, spawn};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;

fn start() -> (Handle, JoinHandle<()>) {
    let plan = PoolPlan::for_bytes(8 << 20);
    let memory = Arc::new(Memory::map(1, plan.bytes()).unwrap());
    let handle = Handle::new(0).unwrap();
    let own = handle.clone();
    let thread = spawn(handle.clone(), None, Poll::Adaptive { spin_ns: 0 }, move || {
        let pool = DmaPool::new(memory.clone(), 0, &plan);
        Reactor::new(own, Stack::new(0, memory), pool)
    });
    (handle, thread.unwrap())
}

fn stop(handle: &Handle, thread: JoinHandle<()>) {
    handle.stop();
    thread.join().unwrap();
}

/// Buffers and channels that the reactor has lent and opened.
fn used(handle: &Handle) -> (u32, usize) {
    handle.call(|reactor| (reactor.pool.taken().iter().sum(), reactor.stack.channels())).unwrap()
}

/// What the device does with operations.
#[derive(Default)]
struct Mood {
    /// It takes them and does nothing.
    hangs: bool,
}

/// Blocks in memory, with moods.
#[derive(Default)]
struct Device {
    blocks: Arc<Mutex<Vec<u8>>>,
    mood: Arc<Mutex<Mood>>,
}

struct DeviceChannel {
    blocks: Arc<Mutex<Vec<u8>>>,
    mood: Arc<Mutex<Mood>>,
    taken: Vec<Io>,
}

impl Device {
    fn new() -> Arc<Device> {
        let blocks = Arc::new(Mutex::new(vec![0; 64 * BLOCK]));
        Arc::new(Device { blocks, mood: Arc::default() })
    }

    fn hangs(&self, hangs: bool) {
        self.mood.lock().unwrap().hangs = hangs;
    }
}

impl Bdev for Device {
    fn geometry(&self) -> Geometry {
        Geometry::plain(BLOCK as u32, 64)
    }
    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let (blocks, mood) = (self.blocks.clone(), self.mood.clone());
        Ok(Box::new(DeviceChannel { blocks, mood, taken: Vec::new() }))
    }
}

impl Channel for DeviceChannel {
    fn submit(&mut self, io: Io, _cx: &mut Cx<'_>) {
        self.taken.push(io);
    }
    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        if self.mood.lock().unwrap().hangs {
            return 0;
        }
        let mut blocks = self.blocks.lock().unwrap();
        let work = self.taken.len() as u32;
        for io in self.taken.drain(..) {
            let range = io.lba as usize * BLOCK..(io.lba as usize + io.blocks as usize) * BLOCK;
            match (io.op, blocks.get_mut(range)) {
                (Op::Read, Some(blocks)) => io.data.copy_in(0, blocks),
                (Op::Write, Some(blocks)) => io.data.copy_out(0, blocks),
                (Op::Read | Op::Write, None) => {
                    cx.complete(io, Status::LBA_OUT_OF_RANGE);
                    continue;
                }
                _ => {}
            }
            cx.complete(io, Status::SUCCESS);
        }
        work
    }
    fn polled(&self) -> bool {
        true
    }
    /// Moods change while the reactor sleeps.
    fn next_deadline_ns(&self) -> Option<u64> {
        (!self.taken.is_empty()).then_some(0)
    }
    fn outstanding(&self) -> u32 {
        self.taken.len() as u32
    }
}

fn client(handle: &Handle, device: &Arc<Device>, depth: u32, buffers: u32) -> Client {
    let size = Size { depth, buffers, buffer_bytes: BLOCK };
    Client::open(handle, vec![device.clone()], size).unwrap()
}

fn soon() -> Option<Instant> {
    Some(Instant::now() + Duration::from_millis(20))
}

fn until_true(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn data_goes_there_and_back_under_back_pressure() {
    let (handle, thread) = start();
    let device = Device::new();
    let mut client = client(&handle, &device, 4, 3);
    for round in 0..500u64 {
        let lba = round % 64;
        let buffer = client.take().unwrap();
        buffer.slice().copy_in(0, &[round as u8; BLOCK]);
        let write = Operation::new(Op::Write, lba, 1, buffer.slice()).with(IoFlags::FUA);
        client.submit(0, write, Some(buffer), round).unwrap();
        assert_eq!(client.wait(None), Ok(Finished { tag: round, status: Status::SUCCESS }));
        let buffer = client.take().unwrap();
        let read = Operation::new(Op::Read, lba, 1, buffer.slice());
        assert_eq!(client.carry([(0, read, Some(buffer.clone()))], None), Ok(Status::SUCCESS));
        let mut data = [0; BLOCK];
        buffer.slice().copy_out(0, &mut data);
        assert_eq!(data, [round as u8; BLOCK]);
    }
    // More than there are places go one after the other, and the first bad end is told.
    let flush = || (0, Operation::flush(), None);
    assert_eq!(client.carry((0..100).map(|_| flush()), None), Ok(Status::SUCCESS));
    let past = || (0, Operation::new(Op::Read, 64, 1, DmaSlice::EMPTY), None);
    let some = [flush(), past(), flush(), flush(), flush(), flush()];
    assert_eq!(client.carry(some, None), Ok(Status::LBA_OUT_OF_RANGE));
    assert!(client.close(None));
    assert_eq!(used(&handle), (0, 0));
    stop(&handle, thread);
}

#[test]
fn who_gives_up_waiting_leaves_the_buffer_with_the_operation() {
    let (handle, thread) = start();
    let device = Device::new();
    let mut client = client(&handle, &device, 2, 2);
    let silence = client.silence();
    assert_eq!(silence.span(), None);
    device.hangs(true);
    let buffer = client.take().unwrap();
    buffer.slice().copy_in(0, &[7; BLOCK]);
    let at = buffer.slice().as_ptr();
    let write = Operation::new(Op::Write, 5, 1, buffer.slice());
    assert_eq!(client.carry([(0, write, Some(buffer))], soon()), Err(Unanswered::Late));
    assert!(silence.span().is_some_and(|span| span >= Duration::from_millis(15)));
    let other = client.take().unwrap();
    assert_ne!(other.slice().as_ptr(), at, "the first is not free");
    assert!(client.take().is_none());
    client.submit(0, Operation::flush(), None, 9).unwrap();
    assert_eq!(client.submit(0, Operation::flush(), None, 9), Err(Full));
    device.hangs(false);
    // A later call is told of its own operations alone.
    assert_eq!(client.carry([(0, Operation::flush(), None)], None), Ok(Status::SUCCESS));
    until_true("all end", || silence.span().is_none() || used(&handle).0 == 2);
    while client.under_way() > 0 {
        client.wait(None).unwrap();
    }
    assert_eq!(silence.span(), None);
    assert_eq!(device.blocks.lock().unwrap()[5 * BLOCK], 7, "it was done in the end");
    drop(other);
    assert!(client.take().is_some());
    stop(&handle, thread);
}

#[test]
fn a_client_that_is_dropped_gives_everything_back_when_all_has_ended() {
    let (handle, thread) = start();
    let device = Device::new();
    let mut client = client(&handle, &device, 8, 2);
    device.hangs(true);
    let buffer = client.take().unwrap();
    buffer.slice().copy_in(0, &[3; BLOCK]);
    client.submit(0, Operation::new(Op::Write, 1, 1, buffer.slice()), Some(buffer), 0).unwrap();
    drop(client);
    handle.call(|_| ()).unwrap();
    assert_eq!(used(&handle), (2, 1), "memory is used until then");
    device.hangs(false);
    until_true("it gives all back", || used(&handle) == (0, 0));
    assert_eq!(device.blocks.lock().unwrap()[BLOCK], 3);
    stop(&handle, thread);
}

#[test]
fn a_client_of_a_reactor_that_ends_is_told() {
    let (handle, thread) = start();
    let device = Device::new();
    let mut client = client(&handle, &device, 8, 0);
    assert_eq!(client.carry([(0, Operation::flush(), None)], None), Ok(Status::SUCCESS));
    device.hangs(true);
    client.submit(0, Operation::flush(), None, 1).unwrap();
    let waits = std::thread::spawn(move || (client.wait(None), client));
    handle.call(|_| ()).unwrap();
    // Operations under way are the devices': they are not asked for an end here.
    device.hangs(false);
    let (ended, mut client) = waits.join().unwrap();
    assert_eq!(ended.map(|finished| finished.tag), Ok(1));
    stop(&handle, thread);
    client.submit(0, Operation::flush(), None, 2).unwrap();
    assert_eq!(client.wait(None), Err(Unanswered::Gone));
    assert!(client.close(None));
    assert!(
        Client::open(&handle, Vec::new(), Size { depth: 1, buffers: 0, buffer_bytes: 0 }).is_err()
    );
}

#[test]
fn channels_that_are_lent_stay_open_and_a_device_that_cannot_be_opened_is_said() {
    struct Shut;
    impl Bdev for Shut {
        fn geometry(&self) -> Geometry {
            Geometry::plain(512, 1)
        }
        fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
            Err(OpenError("it is shut".into()))
        }
    }
    let (handle, thread) = start();
    let device = Device::new();
    let size = Size { depth: 4, buffers: 2, buffer_bytes: BLOCK };
    let why = Client::open(&handle, vec![device.clone(), Arc::new(Shut)], size).err();
    assert_eq!(why.as_deref(), Some("it is shut"));
    assert_eq!(used(&handle), (0, 0), "nothing stays open, no buffer is lost");
    let bdev: Arc<dyn Bdev> = device;
    let addr = handle.call(move |reactor| reactor.stack.open(&bdev, 0).unwrap()).unwrap();
    let mut client = Client::over(&handle, vec![addr], size).unwrap();
    assert_eq!(client.carry([(0, Operation::flush(), None)], None), Ok(Status::SUCCESS));
    assert!(client.close(None));
    assert_eq!(used(&handle), (0, 1));
    handle.call(move |reactor| reactor.stack.close(addr)).unwrap();
    stop(&handle, thread);
}

/// A thread that waits on a descriptor is woken by every end.
#[test]
fn a_descriptor_tells_of_ends() {
    let (handle, thread) = start();
    let device = Device::new();
    let mut client = client(&handle, &device, 16, 0);
    let mut sleeper = bdev::sleep::Sleeper::default();
    for round in 0..2_000 {
        client.submit(0, Operation::flush(), None, round).unwrap();
        while client.watch() {
            sleeper.until_readable(client.fd()).sleep(None).unwrap();
        }
        assert_eq!(client.poll().map(|finished| finished.tag), Some(round));
    }
    stop(&handle, thread);
}
