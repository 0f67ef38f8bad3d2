//! Contents for blocks that can be checked later: every block tells its own address and the seed
//! it was written with, so that a block that is old, misplaced or torn is told apart.

use std::fmt;

/// A pattern, by its seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// A block that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which block.
    pub lba: u64,
    /// First wrong byte within it.
    pub offset: usize,
    /// What kind of wrong.
    pub kind: MismatchKind,
}

/// What a wrong block looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MismatchKind {
    /// All zeros: never written, or written elsewhere.
    Zeros,
    /// A whole block of this pattern, from another address.
    Misplaced {
        /// Which.
        lba: u64,
    },
    /// Anything else: torn, old or damaged.
    Damaged,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} is wrong from byte {}: ", self.lba, self.offset)?;
        match self.kind {
            MismatchKind::Zeros => f.write_str("it reads as zeros"),
            MismatchKind::Misplaced { lba } => write!(f, "it holds the data of block {lba}"),
            MismatchKind::Damaged => f.write_str("it holds something else"),
        }
    }
}

/// One step of SplitMix64.
fn mix(mut z: u64) -> u64 {
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

impl Pattern {
    /// The pattern of `seed`.
    pub const fn new(seed: u64) -> Pattern {
        Pattern { seed }
    }

    /// Word `index` of block `lba`: the address first, then words that depend on all three.
    fn word(self, lba: u64, index: usize) -> [u8; 8] {
        if index == 0 {
            return lba.to_le_bytes();
        }
        let start = mix(self.seed ^ mix(lba));
        mix(start.wrapping_add((index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))).to_le_bytes()
    }

    /// Fills `data`, whole blocks of `block_bytes` bytes (a multiple of eight) from `lba`.
    pub fn fill(self, lba: u64, block_bytes: usize, data: &mut [u8]) {
        for (lba, block) in (lba..).zip(data.chunks_exact_mut(block_bytes)) {
            for (index, word) in block.chunks_exact_mut(8).enumerate() {
                word.copy_from_slice(&self.word(lba, index));
            }
        }
    }

    /// Checks `data`, whole blocks of `block_bytes` bytes from `lba`.
    ///
    /// # Errors
    /// The first block that is wrong.
    pub fn check(self, lba: u64, block_bytes: usize, data: &[u8]) -> Result<(), Mismatch> {
        for (lba, block) in (lba..).zip(data.chunks_exact(block_bytes)) {
            if let Some(offset) = self.first_wrong(lba, block) {
                return Err(Mismatch { lba, offset, kind: self.kind(block) });
            }
        }
        Ok(())
    }

    fn first_wrong(self, lba: u64, block: &[u8]) -> Option<usize> {
        let words = block.chunks_exact(8).enumerate();
        words.map(|(index, word)| (index, word, self.word(lba, index))).find_map(
            |(index, word, right)| {
                let wrong = word.iter().zip(right).position(|(is, should)| *is != should)?;
                Some(index * 8 + wrong)
            },
        )
    }

    fn kind(self, block: &[u8]) -> MismatchKind {
        if block.iter().all(|byte| *byte == 0) {
            return MismatchKind::Zeros;
        }
        let told = block.first_chunk().map_or(0, |lba| u64::from_le_bytes(*lba));
        match self.first_wrong(told, block) {
            None => MismatchKind::Misplaced { lba: told },
            Some(_) => MismatchKind::Damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_changed_byte_is_found(seed: u64, lba in 0u64..1 << 40, at in 0usize..2048, by in 1u8..) {
            let pattern = Pattern::new(seed);
            let mut data = vec![0; 2048];
            pattern.fill(lba, 512, &mut data);
            prop_assert_eq!(pattern.check(lba, 512, &data), Ok(()));
            data[at] ^= by;
            let wrong = pattern.check(lba, 512, &data).unwrap_err();
            prop_assert_eq!(wrong.lba, lba + at as u64 / 512);
            prop_assert_eq!(wrong.offset, at % 512);
        }
    }

    #[test]
    fn the_kinds_of_wrong_are_told_apart() {
        let pattern = Pattern::new(1);
        let mut data = vec![0; 1024];
        let kind = |data: &[u8]| pattern.check(7, 512, data).unwrap_err().kind;
        assert_eq!(kind(&data), MismatchKind::Zeros);
        pattern.fill(8, 512, &mut data);
        assert_eq!(kind(&data), MismatchKind::Misplaced { lba: 8 });
        Pattern::new(2).fill(7, 512, &mut data);
        assert_eq!(kind(&data), MismatchKind::Damaged);
        let text = pattern.check(7, 512, &data).unwrap_err().to_string();
        assert!(text.starts_with("block 7 is wrong from byte 8"), "{text}");
    }
}
