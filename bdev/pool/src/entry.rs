//! The map from extents to slots, as rows of the metadata store.

/// Extents in one row of the map.
pub const EXTENTS_PER_ROW: usize = 64;

/// Blocks in an extent.
pub const BLOCKS_PER_EXTENT: usize = 256;

const WORD_BYTES: usize = 8;
const BITMAP_BYTES: usize = BLOCKS_PER_EXTENT / 8;
const NUMBER_BITS: u32 = 48;
const DEVICE_BITS: u32 = 14;
const KIND_SHIFT: u32 = NUMBER_BITS + DEVICE_BITS;

const NOTHING: u64 = 0;
const ZEROS: u64 = 1;
const WHOLE: u64 = 2;
const PART: u64 = 3;

/// The place of an extent on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    /// Number of the device in the pool, below [`Slot::DEVICES`].
    pub device: u16,
    /// Number of the slot on it, below [`Slot::NUMBERS`].
    pub number: u64,
}

impl Slot {
    /// Devices that can be named.
    pub const DEVICES: u32 = 1 << DEVICE_BITS;
    /// Slots of a device that can be named.
    pub const NUMBERS: u64 = 1 << NUMBER_BITS;
}

/// A set of the blocks of an extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocks([u64; BLOCKS_PER_EXTENT / 64]);

impl Blocks {
    /// No block.
    pub const NONE: Blocks = Blocks([0; BLOCKS_PER_EXTENT / 64]);
    /// Every block.
    pub const ALL: Blocks = Blocks([u64::MAX; BLOCKS_PER_EXTENT / 64]);

    /// Whether block `at` is in it.
    pub fn has(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 != 0
    }

    /// Adds block `at`.
    pub fn add(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Takes block `at` out.
    pub fn remove(&mut self, at: usize) {
        self.0[at / 64] &= !(1 << (at % 64));
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Blocks::NONE
    }
}

/// What a node says of one extent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Entry {
    /// Its parent knows.
    #[default]
    Nothing,
    /// It is zeros, whatever the parent has.
    Zeros,
    /// All of it is in the slot.
    Whole(Slot),
    /// These blocks of it are in the slot; of the others, its parent knows.
    Part(Slot, Blocks),
}

impl Entry {
    /// The slot that it names.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Entry::Nothing | Entry::Zeros => None,
            Entry::Whole(slot) | Entry::Part(slot, _) => Some(*slot),
        }
    }

    fn word(&self) -> u64 {
        let (kind, slot) = match self {
            Entry::Nothing => return NOTHING << KIND_SHIFT,
            Entry::Zeros => return ZEROS << KIND_SHIFT,
            Entry::Whole(slot) => (WHOLE, slot),
            Entry::Part(slot, _) => (PART, slot),
        };
        assert!(u32::from(slot.device) < Slot::DEVICES && slot.number < Slot::NUMBERS);
        kind << KIND_SHIFT | u64::from(slot.device) << NUMBER_BITS | slot.number
    }
}

/// Bytes that are no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotARow;

impl std::fmt::Display for NotARow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a row of the map is damaged")
    }
}

impl std::error::Error for NotARow {}

/// The entries of [`EXTENTS_PER_ROW`] extents next to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(pub [Entry; EXTENTS_PER_ROW]);

impl Default for Row {
    fn default() -> Row {
        Row([Entry::Nothing; EXTENTS_PER_ROW])
    }
}

impl Row {
    /// Whether it says nothing of any extent: such a row is not stored.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|entry| *entry == Entry::Nothing)
    }

    /// Its bytes: a word for each extent, then a bitmap for each that is there in part.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            self.0.iter().flat_map(|entry| entry.word().to_le_bytes()).collect();
        for entry in &self.0 {
            if let Entry::Part(_, blocks) = entry {
                bytes.extend(blocks.0.iter().flat_map(|word| word.to_le_bytes()));
            }
        }
        bytes
    }

    /// The row that `bytes` are.
    ///
    /// # Errors
    /// If [`Row::encode`] does not give these bytes for any row.
    pub fn decode(bytes: &[u8]) -> Result<Row, NotARow> {
        let (words, bitmaps) =
            bytes.split_at_checked(EXTENTS_PER_ROW * WORD_BYTES).ok_or(NotARow)?;
        let mut bitmaps = bitmaps.chunks(BITMAP_BYTES);
        let mut row = Row::default();
        for (entry, word) in row.0.iter_mut().zip(words.chunks(WORD_BYTES)) {
            let word = u64_of(word)?;
            let device = (word >> NUMBER_BITS) as u16 & (Slot::DEVICES - 1) as u16;
            let slot = Slot { device, number: word & (Slot::NUMBERS - 1) };
            *entry = match word >> KIND_SHIFT {
                WHOLE => Entry::Whole(slot),
                PART => Entry::Part(slot, blocks_of(bitmaps.next().ok_or(NotARow)?)?),
                ZEROS if word == ZEROS << KIND_SHIFT => Entry::Zeros,
                NOTHING if word == 0 => Entry::Nothing,
                _ => return Err(NotARow),
            };
        }
        if bitmaps.next().is_some() { Err(NotARow) } else { Ok(row) }
    }
}

fn u64_of(bytes: &[u8]) -> Result<u64, NotARow> {
    bytes.try_into().map(u64::from_le_bytes).map_err(|_| NotARow)
}

/// A bitmap; one with every block would be a whole extent.
fn blocks_of(bytes: &[u8]) -> Result<Blocks, NotARow> {
    let mut blocks = Blocks::NONE;
    if bytes.len() != BITMAP_BYTES {
        return Err(NotARow);
    }
    for (word, bytes) in blocks.0.iter_mut().zip(bytes.chunks(WORD_BYTES)) {
        *word = u64_of(bytes)?;
    }
    if blocks == Blocks::ALL { Err(NotARow) } else { Ok(blocks) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slot() -> impl Strategy<Value = Slot> {
        (0..Slot::DEVICES as u16, 0..Slot::NUMBERS)
            .prop_map(|(device, number)| Slot { device, number })
    }

    fn entry() -> impl Strategy<Value = Entry> {
        prop_oneof![
            Just(Entry::Nothing),
            Just(Entry::Zeros),
            slot().prop_map(Entry::Whole),
            (slot(), any::<[u64; 4]>())
                .prop_filter("a whole extent is no part", |(_, words)| *words != [u64::MAX; 4])
                .prop_map(|(slot, words)| Entry::Part(slot, Blocks(words))),
        ]
    }

    proptest! {
        #[test]
        fn rows_are_read_as_written(entries in proptest::collection::vec(entry(), 64)) {
            let row = Row(entries.try_into().unwrap());
            prop_assert_eq!(Row::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn what_is_read_is_written_the_same(
            entries in proptest::collection::vec(entry(), 64),
            change in any::<(usize, u8)>(),
            cut in prop_oneof![Just(0usize), 1usize..40],
        ) {
            let mut bytes = Row(entries.try_into().unwrap()).encode();
            let at = change.0 % bytes.len();
            bytes[at] ^= change.1;
            bytes.truncate(bytes.len() - cut);
            if let Ok(row) = Row::decode(&bytes) {
                prop_assert_eq!(row.encode(), bytes);
            }
        }

        #[test]
        fn blocks_are_a_set(changes in proptest::collection::vec((0usize..256, any::<bool>()), 0..600)) {
            let (mut blocks, mut oracle) = (Blocks::NONE, std::collections::BTreeSet::new());
            for (at, add) in changes {
                if add {
                    blocks.add(at);
                    oracle.insert(at);
                } else {
                    blocks.remove(at);
                    oracle.remove(&at);
                }
                prop_assert_eq!(blocks.has(at), add);
            }
            prop_assert_eq!(blocks.len() as usize, oracle.len());
            prop_assert_eq!(blocks.is_empty(), oracle.is_empty());
        }
    }

    #[test]
    fn a_word_is_what_the_page_says() {
        let mut row = Row::default();
        row.0[1] = Entry::Zeros;
        row.0[2] = Entry::Whole(Slot { device: 5, number: 7 });
        let mut blocks = Blocks::NONE;
        blocks.add(9);
        row.0[3] = Entry::Part(Slot { device: 1, number: 2 }, blocks);
        let bytes = row.encode();
        assert_eq!(bytes.len(), 64 * 8 + 32);
        assert_eq!(bytes[..8], [0; 8]);
        assert_eq!(bytes[8..16], 0x4000_0000_0000_0000u64.to_le_bytes());
        assert_eq!(bytes[16..24], 0x8005_0000_0000_0007u64.to_le_bytes());
        assert_eq!(bytes[24..32], 0xc001_0000_0000_0002u64.to_le_bytes());
        assert_eq!(bytes[512..516], [0, 2, 0, 0]);
    }
}
