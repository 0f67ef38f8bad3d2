//! What blocks hold: a value that names the write it comes from and the place it belongs to, in
//! every byte.

use crate::rng::mix;

/// Bytes in a block.
pub const BLOCK_BYTES: usize = 512;

/// A block's content: 0 for zeros, else the number of the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u64);

/// Zeros.
pub const ZEROS: Value = Value(0);

fn word(value: Value, lba: u64, index: usize) -> u64 {
    match index {
        0 => value.0,
        1 => lba,
        _ => mix(value.0.wrapping_mul(31) ^ lba << 20 ^ index as u64),
    }
}

/// Fills a block at `lba` with `value`.
pub fn fill(block: &mut [u8], value: Value, lba: u64) {
    if value == ZEROS {
        return block.fill(0);
    }
    for (index, bytes) in block.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&word(value, lba, index).to_le_bytes());
    }
}

/// The value in a block read at `lba`; `None` if it is not exactly what [`fill`] makes.
pub fn value_of(block: &[u8], lba: u64) -> Option<Value> {
    let first = u64::from_le_bytes(block.first_chunk().copied()?);
    let value = Value(first);
    if value == ZEROS {
        return block.iter().all(|byte| *byte == 0).then_some(ZEROS);
    }
    let mut words = block.chunks_exact(8).enumerate();
    words.all(|(index, bytes)| bytes == word(value, lba, index).to_le_bytes()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_changed_byte_and_any_other_place_is_seen() {
        let mut block = [0; BLOCK_BYTES];
        fill(&mut block, Value(7), 3);
        assert_eq!(value_of(&block, 3), Some(Value(7)));
        assert_eq!(value_of(&block, 4), None);
        for at in 0..BLOCK_BYTES {
            block[at] ^= 1;
            assert_eq!(value_of(&block, 3), None, "byte {at}");
            block[at] ^= 1;
        }
        let mut zeros = [0; BLOCK_BYTES];
        assert_eq!(value_of(&zeros, 9), Some(ZEROS));
        zeros[500] = 1;
        assert_eq!(value_of(&zeros, 9), None);
    }
}
