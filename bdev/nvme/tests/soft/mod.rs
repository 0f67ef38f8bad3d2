//! An NVMe controller made of software, behind the driver's own [`Hardware`] trait.
//!
//! It has registers, queues in the driver's memory, phase tags and doorbells, and looks at all of
//! it the way a drive does: through bus addresses, never through what the driver knows. It obeys
//! the specification except where a test tells it not to, and writes down every time the driver
//! does not ([`Soft::violations`]).
#![allow(dead_code, unused_imports)] // each program uses its part

mod admin;
mod bus;
mod engine;
mod nvm;

pub use engine::{Engine, Fate, Faults, Space};

use bdev::dma::Region;
use bdev_nvme::Hardware;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard};

/// What a controller is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// CAP.MQES: entries of a queue, zero-based.
    pub mqes: u16,
    /// CAP.DSTRD.
    pub dstrd: u8,
    /// MDTS.
    pub mdts: u8,
    /// I/O queues granted.
    pub io_queues: u16,
    /// Offers Doorbell Buffer Config.
    pub shadows: bool,
    /// Offers Write Zeroes.
    pub write_zeroes: bool,
    /// Offers Dataset Management, of so many blocks at most; 0: of any number.
    pub discards: Option<u32>,
    /// Has a volatile write cache.
    pub cache: bool,
    /// Interrupt vectors.
    pub vectors: u16,
    /// The namespaces.
    pub spaces: Vec<Space>,
    /// Reads of CSTS before a change of CC.EN shows.
    pub lag: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mqes: 1023,
            dstrd: 0,
            mdts: 5,
            io_queues: 4,
            shadows: false,
            write_zeroes: true,
            discards: None,
            cache: true,
            vectors: 0,
            spaces: vec![Space::new(1, 512, 32 << 10)],
            lag: 2,
        }
    }
}

/// The controller, as the driver and the test share it.
pub struct Soft {
    engine: Mutex<Engine>,
    /// Vector 1: what the interrupt of a real one is to a sleeper.
    line: Mutex<(io::PipeReader, io::PipeWriter)>,
}

impl Soft {
    /// As after power-on: disabled.
    pub fn new(config: Config) -> Soft {
        let line = io::pipe().expect("a pipe");
        Soft { engine: Mutex::new(Engine::new(config)), line: Mutex::new(line) }
    }

    /// Its insides.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().expect("the controller does not panic")
    }

    /// Does what a drive does by itself: takes in commands and completes those that are due.
    pub fn work(&self) {
        let raised = {
            let mut engine = self.engine();
            engine.work();
            std::mem::take(&mut engine.raised)
        };
        if raised {
            self.line.lock().expect("no panic").1.write_all(&[1]).expect("the pipe has room");
        }
    }

    /// What the driver did against the specification so far.
    pub fn violations(&self) -> Vec<String> {
        self.engine().violations.clone()
    }
}

impl Hardware for Soft {
    fn read32(&self, offset: usize) -> u32 {
        self.engine().read32(offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        let mut engine = self.engine();
        u64::from(engine.read32(offset)) | u64::from(engine.read32(offset + 4)) << 32
    }

    fn write32(&self, offset: usize, value: u32) {
        self.engine().write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        let mut engine = self.engine();
        engine.write32(offset, value as u32);
        engine.write32(offset + 4, (value >> 32) as u32);
    }

    fn register_bytes(&self) -> usize {
        0x4000
    }

    fn map(&self, region: &Region) -> io::Result<Vec<u64>> {
        Ok(self.engine().bus.map(region.as_ptr() as usize, region.len()))
    }

    fn unmap(&self, pages: &[u64], bytes: usize) {
        self.engine().unmap(pages, bytes);
    }

    fn vectors(&self) -> u16 {
        self.engine().config.vectors
    }

    fn arm(&self, vector: u16) -> Option<RawFd> {
        assert_eq!(vector, 1, "the test has one queue");
        let mut engine = self.engine();
        engine.armed = true;
        if std::mem::take(&mut engine.pending_interrupt) {
            self.line.lock().expect("no panic").1.write_all(&[1]).expect("the pipe has room");
        }
        Some(self.line.lock().expect("no panic").0.as_raw_fd())
    }

    fn disarm(&self, _vector: u16) {
        self.engine().armed = false;
        // Reading what is there would wait where nothing is: a new pipe is empty.
        *self.line.lock().expect("no panic") = io::pipe().expect("a pipe");
    }

    fn admit(&self) -> io::Result<()> {
        self.engine().isolated = false;
        Ok(())
    }

    fn isolate(&self) -> bool {
        self.engine().isolate()
    }

    fn is_wanted_back(&self) -> bool {
        std::mem::take(&mut self.engine().faults.wanted_back)
    }

    fn let_go(&self) {
        let mut engine = self.engine();
        if !engine.isolated && !engine.faults.gone {
            engine.violations.push("let go of a function that can write to memory".to_owned());
        }
        engine.let_go += 1;
    }
}
