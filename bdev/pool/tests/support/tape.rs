//! A device that remembers everything that was done to it, and what is left of it when the power
//! goes at any moment.

use super::chance::Chance;
use bdev_pool::{BLOCK_BYTES, Medium};
use std::io;
use std::sync::Mutex;

/// What devices write atomically, in bytes.
const SECTOR_BYTES: usize = 512;

/// Something that was done to a device.
#[derive(Clone, Debug)]
pub enum Action {
    Write(u64, Vec<u8>),
    Flush,
}

/// A device in memory with a volatile cache, and the log of its actions.
#[derive(Debug)]
pub struct Tape {
    inner: Mutex<(Vec<u8>, Vec<Action>)>,
    /// The bug: flushes do nothing.
    pub lies: bool,
}

impl Tape {
    pub fn new(image: Vec<u8>) -> Tape {
        Tape { inner: Mutex::new((image, Vec::new())), lies: false }
    }

    /// How many actions there were.
    pub fn len(&self) -> usize {
        self.inner.lock().unwrap().1.len()
    }

    pub fn actions(&self) -> Vec<Action> {
        self.inner.lock().unwrap().1.clone()
    }
}

impl Medium for Tape {
    fn bytes(&self) -> u64 {
        self.inner.lock().unwrap().0.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        assert!(at.is_multiple_of(BLOCK_BYTES as u64) && into.len().is_multiple_of(BLOCK_BYTES));
        let inner = self.inner.lock().unwrap();
        let image = inner.0.get(at as usize..at as usize + into.len());
        into.copy_from_slice(image.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, pieces: &[(u64, &[u8])]) -> io::Result<()> {
        let (image, log) = &mut *self.inner.lock().unwrap();
        for (at, bytes) in pieces {
            assert!(
                at.is_multiple_of(BLOCK_BYTES as u64) && bytes.len().is_multiple_of(BLOCK_BYTES)
            );
            let place = image.get_mut(*at as usize..*at as usize + bytes.len());
            place.ok_or(io::ErrorKind::StorageFull)?.copy_from_slice(bytes);
            log.push(Action::Write(*at, bytes.to_vec()));
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        if !self.lies {
            self.inner.lock().unwrap().1.push(Action::Flush);
        }
        Ok(())
    }

    fn discard(&self, _at: u64, _bytes: u64) -> io::Result<()> {
        unreachable!("a store discards nothing")
    }
}

/// Power cuts, one after the other along a tape.
pub struct PowerCuts<'a> {
    actions: &'a [Action],
    /// What is on the medium for certain.
    durable: Vec<u8>,
    /// The first action that is not.
    pending: usize,
}

impl<'a> PowerCuts<'a> {
    /// Over `actions`, done to a device that was `image`.
    pub fn new(image: Vec<u8>, actions: &'a [Action]) -> PowerCuts<'a> {
        PowerCuts { actions, durable: image, pending: 0 }
    }

    /// What a device may be when the power goes after the first `done` actions: of what was not
    /// flushed, any sector may be there or not. `done` never goes back.
    pub fn image(&mut self, done: usize, chance: &mut Chance) -> Vec<u8> {
        let flushed = self.actions[..done].iter().rposition(|a| matches!(a, Action::Flush));
        if let Some(flushed) = flushed.filter(|at| *at >= self.pending) {
            for action in &self.actions[self.pending..flushed] {
                if let Action::Write(at, bytes) = action {
                    self.durable[*at as usize..][..bytes.len()].copy_from_slice(bytes);
                }
            }
            self.pending = flushed + 1;
        }
        let mut image = self.durable.clone();
        // Now and then all of it, or nothing.
        let odds = [0, 1, 1, 2][chance.below(4) as usize];
        for action in &self.actions[self.pending..done] {
            let Action::Write(at, bytes) = action else { continue };
            for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if chance.below(2) < odds {
                    let at = *at as usize + number * SECTOR_BYTES;
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        image
    }
}
