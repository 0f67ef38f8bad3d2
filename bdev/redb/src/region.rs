//! The region of a device as redb's storage.

use crate::label::Label;
use crate::medium::{BLOCK_BYTES, Medium};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Length of the log, at the end of the region, in bytes.
pub const LOG_BYTES: u64 = 1 << 20;

/// Zeros are written in pieces of this many bytes.
const ZEROS_BYTES: usize = 1 << 20;

const BLOCK: u64 = BLOCK_BYTES as u64;

type Block = Box<[u8; BLOCK_BYTES]>;

/// The region of one device. Writes are queued, and submitted together by `sync_data`.
#[derive(Debug)]
pub struct Region<L: Label> {
    medium: Arc<dyn Medium>,
    /// Where it begins on the device, in bytes.
    offset: u64,
    state: Mutex<State<L>>,
}

/// The region, as redb owns it.
#[derive(Debug)]
pub struct Backend<L: Label>(pub Arc<Region<L>>);

#[derive(Debug)]
struct State<L> {
    /// As it is on the device.
    label: L,
    /// What redb set the length to.
    length: u64,
    /// By number in the region: what is written and not submitted yet.
    queued: BTreeMap<u64, Block>,
    /// Block 0, which redb changes in part with every commit.
    head: Option<Block>,
}

impl<L: Label> Region<L> {
    /// The region of the device that `label` is on.
    pub fn new(medium: Arc<dyn Medium>, label: L) -> Arc<Region<L>> {
        let (offset, length) = (label.offset(), label.length());
        let state = State { label, length, queued: BTreeMap::new(), head: None };
        Arc::new(Region { medium, offset, state: Mutex::new(state) })
    }

    /// Writes the label of its device with a change in it. Returns it.
    ///
    /// # Errors
    /// The device's.
    pub fn change_label(&self, change: impl FnOnce(&mut L)) -> io::Result<L> {
        let mut state = self.state();
        let mut next = state.label.clone();
        change(&mut next);
        next.write_next(&*self.medium)?;
        state.label = next.clone();
        Ok(next)
    }

    /// The label of its device, as it was written last.
    pub fn label(&self) -> L {
        self.state().label.clone()
    }

    /// Reads whole blocks of the redo log.
    pub(crate) fn read_log(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.medium.read(self.log_place() + at, into)
    }

    /// Writes a record, whole blocks, to the redo log, and makes it durable.
    pub(crate) fn write_log(&self, at: u64, record: &[u8]) -> io::Result<()> {
        self.medium.write(&[(self.log_place() + at, record)])?;
        self.medium.flush()
    }

    fn log_place(&self) -> u64 {
        self.offset + store_bytes(self.state().label.bytes())
    }

    fn state(&self) -> MutexGuard<'_, State<L>> {
        // The thread that panicked has left nothing half done: every change here is one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One block, as it was written last.
    fn block(&self, state: &State<L>, number: u64) -> io::Result<Block> {
        if let Some(block) = state.queued.get(&number) {
            return Ok(block.clone());
        }
        if let (0, Some(head)) = (number, &state.head) {
            return Ok(head.clone());
        }
        let mut block = Box::new([0; BLOCK_BYTES]);
        self.medium.read(self.offset + number * BLOCK, &mut block[..])?;
        Ok(block)
    }

    /// Writes zeros to what a longer store begins to use: what lay there is no concern of it.
    fn clear(&self, state: &mut State<L>, bytes: Range<u64>) -> io::Result<()> {
        let zeros = vec![0; ZEROS_BYTES];
        if let Some((number, inside, _)) = parts(bytes.start, (bytes.end - bytes.start) as usize)
            .next()
            .filter(|(_, inside, _)| inside.start > 0)
        {
            // The rest of a block whose beginning stays.
            let mut block = self.block(state, number)?;
            block[inside.start..].fill(0);
            state.queued.insert(number, block);
        }
        let mut at = bytes.start.next_multiple_of(BLOCK);
        let end = bytes.end.next_multiple_of(BLOCK);
        while at < end {
            let now = (end - at).min(ZEROS_BYTES as u64);
            self.medium.write(&[(self.offset + at, &zeros[..now as usize])])?;
            at += now;
        }
        Ok(())
    }

    fn set_durable_length(&self, state: &mut State<L>) -> io::Result<()> {
        let mut next = state.label.clone();
        next.set_length(state.length);
        next.write_next(&*self.medium)?;
        state.label = next;
        Ok(())
    }
}

/// Bytes of a region that the database may use: the redo log lies behind them.
pub fn store_bytes(region_bytes: u64) -> u64 {
    region_bytes.saturating_sub(LOG_BYTES)
}

/// The parts of `bytes` by block: its number, the part of it, and the part of `bytes`.
fn parts(at: u64, bytes: usize) -> impl Iterator<Item = (u64, Range<usize>, Range<usize>)> {
    let end = at + bytes as u64;
    (at / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let from = at.max(number * BLOCK);
        let to = end.min((number + 1) * BLOCK);
        let inside = (from - number * BLOCK) as usize..(to - number * BLOCK) as usize;
        (number, inside, (from - at) as usize..(to - at) as usize)
    })
}

/// Blocks next to each other, as the pieces of one submission.
fn runs(offset: u64, queued: &BTreeMap<u64, Block>) -> Vec<(u64, Vec<u8>)> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (number, block) in queued {
        let at = offset + number * BLOCK;
        match runs.last_mut() {
            Some((start, bytes)) if *start + bytes.len() as u64 == at => {
                bytes.extend_from_slice(&block[..]);
            }
            _ => runs.push((at, block.to_vec())),
        }
    }
    runs
}

impl<L: Label> redb::StorageBackend for Backend<L> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.state().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

impl<L: Label> Region<L> {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let past = offset.checked_add(out.len() as u64).is_none_or(|end| end > state.length);
        if past {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if offset.is_multiple_of(BLOCK) && out.len().is_multiple_of(BLOCK_BYTES) {
            self.medium.read(self.offset + offset, out)?;
            let numbers = offset / BLOCK..(offset + out.len() as u64) / BLOCK;
            for (number, block) in state.queued.range(numbers) {
                let at = (number * BLOCK - offset) as usize;
                out[at..at + BLOCK_BYTES].copy_from_slice(&block[..]);
            }
            return Ok(());
        }
        for (number, inside, outside) in parts(offset, out.len()) {
            out[outside].copy_from_slice(&self.block(&state, number)?[inside]);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        if len > store_bytes(state.label.bytes()) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if len > state.length {
            let more = state.length..len;
            self.clear(&mut state, more)?;
        }
        drop(state.queued.split_off(&len.div_ceil(BLOCK)));
        if len == 0 {
            state.head = None;
        }
        state.length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.length > state.label.length() {
            // The zeros first: what the length speaks of is there.
            self.medium.flush()?;
            self.set_durable_length(&mut state)?;
        }
        let runs = runs(self.offset, &state.queued);
        let pieces: Vec<(u64, &[u8])> = runs.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
        self.medium.write(&pieces)?;
        self.medium.flush()?;
        if let Some(head) = state.queued.remove(&0) {
            state.head = Some(head);
        }
        state.queued.clear();
        if state.length < state.label.length() {
            self.set_durable_length(&mut state)?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        for (number, inside, outside) in parts(offset, data.len()) {
            let mut block = match inside.len() {
                BLOCK_BYTES => Box::new([0; BLOCK_BYTES]),
                _ => self.block(&state, number)?,
            };
            block[inside].copy_from_slice(&data[outside]);
            state.queued.insert(number, block);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::medium::FileMedium;

    /// Where the region begins, behind the label.
    const OFFSET: u64 = 1 << 20;
    const REGION_BYTES: u64 = 1 << 20;

    /// A label that says the length and nothing else.
    #[derive(Clone, Debug)]
    struct Lengths(u64);

    impl Label for Lengths {
        fn offset(&self) -> u64 {
            OFFSET
        }

        fn bytes(&self) -> u64 {
            REGION_BYTES + LOG_BYTES
        }

        fn length(&self) -> u64 {
            self.0
        }

        fn set_length(&mut self, length: u64) {
            self.0 = length;
        }

        fn owner(&self) -> [u8; 24] {
            [7; 24]
        }

        fn write_next(&mut self, medium: &dyn Medium) -> io::Result<()> {
            let mut block = [0; BLOCK_BYTES];
            block[..8].copy_from_slice(&self.0.to_le_bytes());
            medium.write(&[(0, &block)])
        }
    }

    /// A region full of what others left there.
    fn region() -> Arc<Region<Lengths>> {
        let bytes = OFFSET + REGION_BYTES + LOG_BYTES;
        let medium = FileMedium::new(tempfile::tempfile().unwrap(), bytes);
        medium.write(&[(0, &vec![0xa5; bytes as usize])]).unwrap();
        Region::new(Arc::new(medium), Lengths(0))
    }

    fn again(region: &Region<Lengths>) -> Arc<Region<Lengths>> {
        let mut block = [0; BLOCK_BYTES];
        region.medium.read(0, &mut block).unwrap();
        let length = u64::from_le_bytes(block[..8].try_into().unwrap());
        Region::new(region.medium.clone(), Lengths(length))
    }

    fn read(region: &Region<Lengths>, at: u64, bytes: usize) -> Vec<u8> {
        let mut into = vec![1; bytes];
        region.read(at, &mut into).unwrap();
        into
    }

    #[test]
    fn what_it_grows_into_is_zeros_whatever_was_there() {
        let region = region();
        region.set_len(10_000).unwrap();
        assert_eq!(read(&region, 0, 10_000), [0; 10_000]);
        region.write(4000, &[7; 5000]).unwrap();
        region.set_len(4096).unwrap();
        region.set_len(3 * 4096).unwrap();
        assert_eq!(read(&region, 4096, 8192), [0; 8192]);
        region.set_len(4050).unwrap();
        region.set_len(3 * 4096).unwrap();
        assert_eq!(read(&region, 4000, 96), [vec![7; 50], vec![0; 46]].concat());
        region.sync_data().unwrap();
        let region = again(&region);
        assert_eq!(region.state().length, 3 * 4096);
        assert_eq!(read(&region, 0, 4000), [0; 4000]);
        assert_eq!(read(&region, 4000, 96), [vec![7; 50], vec![0; 46]].concat());
        assert_eq!(read(&region, 4096, 8192), [0; 8192]);
        region.write(0, &[7; 100]).unwrap();
        region.sync_data().unwrap();
        region.set_len(0).unwrap();
        region.set_len(4096).unwrap();
        assert_eq!(read(&region, 0, 4096), [0; 4096]);
        assert_eq!(read(&region, 10, 20), [0; 20], "nor in part");
    }

    #[test]
    fn its_length_is_kept_and_bounds_it() {
        let region = region();
        region.set_len(5 * 4096).unwrap();
        region.sync_data().unwrap();
        region.set_len(4096).unwrap();
        assert_eq!(region.read(4096, &mut [0]).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(again(&region).state().length, 5 * 4096, "not before it is synced");
        region.sync_data().unwrap();
        assert_eq!(again(&region).state().length, 4096);
        let too_long = region.set_len(REGION_BYTES + 1).unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn parts_of_blocks_are_changed_in_place() {
        let region = region();
        region.set_len(4 * 4096).unwrap();
        region.write(0, &[1; 320]).unwrap();
        region.write(4096, &[2; 8192]).unwrap();
        region.sync_data().unwrap();
        region.write(64, &[3; 128]).unwrap();
        region.write(8000, &[4; 400]).unwrap();
        for region in [region.clone(), {
            region.sync_data().unwrap();
            again(&region)
        }] {
            let whole = read(&region, 0, 4 * 4096);
            assert_eq!(whole[..64], [1; 64]);
            assert_eq!(whole[64..192], [3; 128]);
            assert_eq!(whole[192..320], [1; 128]);
            assert_eq!(whole[320..4096], [0; 3776]);
            assert_eq!(whole[4096..8000], [2; 3904]);
            assert_eq!(whole[8000..8400], [4; 400]);
            assert_eq!(whole[8400..12_288], [2; 3888]);
            assert_eq!(read(&region, 100, 9000), whole[100..9100]);
        }
    }

    #[test]
    fn parts_cover_what_is_asked_for_once() {
        let of = |at, bytes| parts(at, bytes).collect::<Vec<_>>();
        assert_eq!(of(0, 320), [(0, 0..320, 0..320)]);
        assert_eq!(of(4000, 200), [(0, 4000..4096, 0..96), (1, 0..104, 96..200)]);
        assert_eq!(of(8192, 4096), [(2, 0..4096, 0..4096)]);
    }
}
