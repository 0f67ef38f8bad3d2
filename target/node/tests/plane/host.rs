//! A host: our own initiator, one operation after the other.

use bdev::{Addr, Bdev, DmaSlice, Io, IoFlags, Memory, Op, Stack, Tag};
use nvme_spec::Status;
use nvmf_host::{Options, Pattern, RemoteBdev};
use nvmf_wire::Nqn;
use reactor::thread::clock_ns;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Bytes of one operation.
const PIECE: usize = 256 << 10;

pub struct Host {
    pub bdev: Arc<RemoteBdev>,
    pub stack: Stack,
    pub addr: Addr,
    pub memory: Arc<Memory>,
}

pub fn options(address: SocketAddr, nqn: &str, id: u8) -> Options {
    let host = nvmf_host::Host::of_id([id; 16]);
    Options {
        reconnect_delay: Duration::from_millis(5),
        reconnect_delay_max: Duration::from_millis(50),
        ..Options::new(address, Nqn::new(nqn).unwrap(), host)
    }
}

impl Host {
    /// Connects to namespace `nsid`.
    pub fn connect(address: SocketAddr, nqn: &str, nsid: u32) -> Host {
        Host::with(options(address, nqn, 5), nsid).expect("it connects")
    }

    pub fn with(options: Options, nsid: u32) -> Result<Host, String> {
        let connected = RemoteBdev::connect(options, nsid);
        let bdev = Arc::new(connected.map_err(|error| error.to_string())?);
        let memory = Arc::new(Memory::map(1, 4 << 20).unwrap());
        let mut stack = Stack::new(0, memory.clone());
        let device: Arc<dyn Bdev> = bdev.clone();
        let addr = stack.open(&device, clock_ns()).unwrap();
        Ok(Host { bdev, stack, addr, memory })
    }

    pub fn one(&mut self, op: Op, lba: u64, blocks: u32, data: DmaSlice) -> Status {
        let (reply_to, reply_tag) = (Addr::edge(0), Tag(0));
        let io = Io { op, flags: IoFlags::NONE, lba, blocks, data, reply_to, reply_tag };
        self.stack.submit(self.addr, io, clock_ns());
        let mut done = Vec::new();
        while done.is_empty() {
            let now = clock_ns();
            if self.stack.poll(now) + self.stack.deliver(now, &mut done) == 0 {
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        done[0].status
    }

    fn pieces(&self, from: u64, bytes: u64) -> Vec<(u64, DmaSlice)> {
        let block = u64::from(self.bdev.geometry().block_bytes);
        let count = bytes.div_ceil(PIECE as u64);
        let piece = |n: u64| {
            let length = (bytes - n * PIECE as u64).min(PIECE as u64) as usize;
            ((from + n * PIECE as u64) / block, self.memory.slice(0, 0, length))
        };
        (0..count).map(piece).collect()
    }

    fn blocks(&self, data: DmaSlice) -> (usize, u32) {
        let block = self.bdev.geometry().block_bytes as usize;
        (block, (data.len() / block) as u32)
    }

    /// Writes the pattern of `seed`. Returns how many bytes until the first that failed, and how.
    pub fn fill(&mut self, seed: u64, from: u64, bytes: u64) -> (u64, Status) {
        let mut written = 0;
        for (lba, data) in self.pieces(from, bytes) {
            let (block, blocks) = self.blocks(data);
            let mut text = vec![0; data.len()];
            Pattern::new(seed).fill(lba, block, &mut text);
            data.copy_in(0, &text);
            let status = self.one(Op::Write, lba, blocks, data);
            if !status.is_success() {
                return (written, status);
            }
            written += data.len() as u64;
        }
        (written, Status::SUCCESS)
    }

    /// Writes the pattern of `seed` and flushes.
    pub fn write(&mut self, seed: u64, from: u64, bytes: u64) {
        let (written, status) = self.fill(seed, from, bytes);
        assert_eq!((written, status), (bytes, Status::SUCCESS));
        assert_eq!(self.one(Op::Flush, 0, 0, DmaSlice::EMPTY), Status::SUCCESS);
    }

    /// Checks that the pattern of `seed` is there.
    pub fn verify(&mut self, seed: u64, from: u64, bytes: u64) {
        for (lba, data) in self.pieces(from, bytes) {
            let (block, text) = self.read(lba, data);
            assert_eq!(Pattern::new(seed).check(lba, block, &text), Ok(()), "at block {lba}");
        }
    }

    /// Checks that all is zeros.
    pub fn is_zero(&mut self, from: u64, bytes: u64) {
        for (lba, data) in self.pieces(from, bytes) {
            let (_, text) = self.read(lba, data);
            assert!(text.iter().all(|byte| *byte == 0), "at block {lba}");
        }
    }

    fn read(&mut self, lba: u64, data: DmaSlice) -> (usize, Vec<u8>) {
        let (block, blocks) = self.blocks(data);
        assert_eq!(self.one(Op::Read, lba, blocks, data), Status::SUCCESS, "at block {lba}");
        let mut text = vec![0; data.len()];
        data.copy_out(0, &mut text);
        (block, text)
    }

    pub fn end(mut self) {
        self.stack.close(self.addr);
        self.bdev.disconnect();
    }
}
