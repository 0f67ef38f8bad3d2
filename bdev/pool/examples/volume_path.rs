//! Reads or writes of an allocated volume over a device that does nothing, for callgrind: what one
//! costs from submit to completion.
//!
//! `cargo build --release -p bdev-pool --example volume_path`, then
//! `valgrind --tool=callgrind --toggle-collect='*VolumeChannel*' ... build/release/examples/volume_path read N`

use bdev::dma::PoolPlan;
use bdev::{Addr, Bdev, DmaPool, DmaSlice, Io, IoFlags, Memory, Op, Stack, Tag};
use bdev_mem::Null;
use bdev_pool::{
    DiscardMode, FileMedium, Host, Limits, MEMORY_BYTES, NewMember, NewVolume, Pool, Reactors,
};
use std::sync::{Arc, Mutex};
use uuid::Uuid;

const DEPTH: u64 = 32;
const VOLUME_BYTES: u64 = 256 << 20;
const DEVICE_BYTES: u64 = 512 << 20;

struct One;

impl Reactors for One {
    fn count(&self) -> usize {
        1
    }
    fn wake(&self, _: usize) {}
    fn add_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) -> Result<(), String> {
        Ok(())
    }
    fn remove_child(&self, _: &Arc<dyn Bdev>, _: &Arc<dyn Bdev>) {}
}

struct Lab {
    stack: Stack,
    now_ns: u64,
}

impl Lab {
    fn turn(&mut self) -> usize {
        self.now_ns += 1000;
        let mut ended = Vec::new();
        self.stack.poll(self.now_ns);
        self.stack.deliver(self.now_ns, &mut ended);
        assert!(ended.iter().all(|done| done.status.is_success()));
        ended.len()
    }

    fn submit(&mut self, to: Addr, op: Op, lba: u64, blocks: u32, data: DmaSlice) {
        let (flags, reply_to, reply_tag) = (IoFlags::NONE, Addr::edge(0), Tag(0));
        let io = Io { op, flags, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(to, io, self.now_ns);
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let op = match arguments.next().as_deref() {
        Some("write") => Op::Write,
        _ => Op::Read,
    };
    let rounds: u64 = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let plan = PoolPlan::for_bytes(16 << 20);
    let memory = Arc::new(Memory::map(1, plan.bytes()).expect("memory"));
    let mut buffers = DmaPool::new(memory.clone(), 0, &plan);
    let bounces = buffers.take(MEMORY_BYTES).expect("memory").slice().sub(0, MEMORY_BYTES);
    let data = buffers.take(1 << 20).expect("memory").slice();
    let lab = Arc::new(Mutex::new(Lab { stack: Stack::new(0, memory), now_ns: 0 }));
    let file = tempfile::tempfile().expect("a file");
    file.set_len(DEVICE_BYTES).expect("a sparse file");
    let member = NewMember {
        name: "null".into(),
        bdev: Arc::new(Null::new(DEVICE_BYTES, 4096).expect("a device")),
        medium: Arc::new(FileMedium::new(file, DEVICE_BYTES)),
    };
    let pumped = lab.clone();
    let stepped: Box<dyn FnMut() + Send> = Box::new(move || {
        pumped.lock().expect("not held").turn();
    });
    let journals: Arc<dyn bdev_pool::Journals> =
        Arc::new(bdev_pool::SharedJournals::new("/dev/shm/forebay-volume-path"));
    let host = Host {
        reactors: Arc::new(One),
        memory: vec![bounces],
        journals: Some(journals),
        discard: DiscardMode::Off,
        stepped: Some(stepped),
    };
    let pool =
        Pool::create("path", vec![member], true, host, || Uuid::from_u128(1)).expect("a pool");
    let new = NewVolume {
        name: "volume".into(),
        uuid: Uuid::from_u128(2),
        bytes: VOLUME_BYTES,
        block_bytes: Some(4096),
        thick: false,
        limits: Limits::default(),
        made_s: 0,
    };
    pool.create_volume(new).expect("a volume");
    let volume: Arc<dyn Bdev> = pool.volume("volume").expect("a volume");
    let to = lab.lock().expect("not held").stack.open(&volume, 0).expect("it opens");
    for extent in 0..VOLUME_BYTES >> 20 {
        lab.lock().expect("not held").submit(to, Op::Write, extent * 256, 256, data);
        while lab.lock().expect("not held").turn() == 0 {
            pool.step();
        }
    }
    let mut lab = lab.lock().expect("not held");
    let mut place = 1u64;
    for _ in 0..rounds {
        for _ in 0..DEPTH {
            place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            lab.submit(to, op, (place >> 33) % (VOLUME_BYTES / 4096), 1, data.sub(0, 4096));
        }
        let mut ended = 0;
        while ended < DEPTH as usize {
            ended += lab.turn();
        }
    }
    println!("{} of {op:?}", rounds * DEPTH);
}
