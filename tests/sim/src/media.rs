//! What a drive holds: the medium, and a volatile cache before it.

use crate::Rng;
use crate::block::BLOCK_BYTES;
use std::collections::BTreeMap;

type Block = Box<[u8; BLOCK_BYTES]>;

/// A block in the cache: its contents since it was last made durable, oldest first, each with the
/// number of the change.
type Versions = Vec<(u64, Block)>;

/// The contents of a drive.
///
/// Reads see the cache. After a power cut each block of the cache holds any one of the contents it
/// had since it was last made durable: a drive writes back when and in what order it likes.
pub struct Media {
    durable: Vec<Block>,
    cache: BTreeMap<u64, Versions>,
    changes: u64,
}

impl Media {
    /// Zeros.
    pub fn new(blocks: u64) -> Media {
        let zeros = || Box::new([0; BLOCK_BYTES]);
        Media {
            durable: (0..blocks).map(|_| zeros()).collect(),
            cache: BTreeMap::new(),
            changes: 0,
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> u64 {
        self.durable.len() as u64
    }

    /// What a read of `lba` returns.
    pub fn read(&self, lba: u64) -> &[u8; BLOCK_BYTES] {
        match self.cache.get(&lba).and_then(|versions| versions.last()) {
            Some((_, block)) => block,
            None => &self.durable[lba as usize],
        }
    }

    /// Writes one block: into the cache, or through to the medium.
    pub fn write(&mut self, lba: u64, block: &[u8; BLOCK_BYTES], through: bool) {
        self.changes += 1;
        if through {
            self.cache.remove(&lba);
            *self.durable[lba as usize] = *block;
        } else {
            self.cache.entry(lba).or_default().push((self.changes, Box::new(*block)));
        }
    }

    /// A point in time, for [`Media::flush`].
    pub fn mark(&self) -> u64 {
        self.changes
    }

    /// Makes durable what was written up to `mark`, and no more.
    pub fn flush(&mut self, mark: u64) {
        let Media { durable, cache, .. } = self;
        cache.retain(|lba, versions| {
            let covered = versions.iter().take_while(|(change, _)| *change <= mark).count();
            if let Some((_, block)) = versions.drain(..covered).next_back() {
                durable[*lba as usize] = block;
            }
            !versions.is_empty()
        });
    }

    /// The drive writes some blocks back on its own.
    pub fn write_back(&mut self, rng: &mut Rng) {
        let Media { durable, cache, .. } = self;
        cache.retain(|lba, versions| {
            if !rng.one_in(3) {
                return true;
            }
            let (_, block) = versions.pop().expect("a block in the cache has a content");
            durable[*lba as usize] = block;
            false
        });
    }

    /// The power goes: what is in the cache is lost, but for what happened to be written back.
    pub fn lose_power(&mut self, rng: &mut Rng) {
        for (lba, mut versions) in std::mem::take(&mut self.cache) {
            let kept = rng.below(versions.len() as u64 + 1) as usize;
            if kept < versions.len() {
                self.durable[lba as usize] = versions.swap_remove(kept).1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(byte: u8) -> [u8; BLOCK_BYTES] {
        [byte; BLOCK_BYTES]
    }

    fn after_power_cut(seed: u64, prepare: impl Fn(&mut Media)) -> u8 {
        let mut media = Media::new(4);
        prepare(&mut media);
        media.lose_power(&mut Rng::new(seed));
        media.read(1)[0]
    }

    #[test]
    fn a_flush_covers_what_was_written_before_its_mark_and_nothing_later() {
        let prepare = |media: &mut Media| {
            media.write(1, &block(1), false);
            media.write(1, &block(2), false);
            let mark = media.mark();
            media.write(1, &block(3), false);
            media.flush(mark);
            assert_eq!(media.read(1), &block(3));
        };
        let seen: Vec<u8> = (0..64).map(|seed| after_power_cut(seed, prepare)).collect();
        assert!(seen.contains(&2) && seen.contains(&3) && !seen.contains(&1) && !seen.contains(&0));
    }

    #[test]
    fn without_a_flush_any_content_may_be_there_after_a_power_cut() {
        let prepare = |media: &mut Media| {
            media.write(1, &block(1), false);
            media.write(1, &block(2), false);
        };
        let seen: Vec<u8> = (0..64).map(|seed| after_power_cut(seed, prepare)).collect();
        assert!([0, 1, 2].iter().all(|byte| seen.contains(byte)));
        let through = |media: &mut Media| {
            media.write(1, &block(1), false);
            media.write(1, &block(2), true);
        };
        assert!((0..64).all(|seed| after_power_cut(seed, through) == 2));
    }
}
