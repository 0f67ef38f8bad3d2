//! The map from extents to slots, as rows of the metadata store.

/// Extents in one row of the map.
pub const EXTENTS_PER_ROW: usize = 64;

/// Blocks in an extent.
pub const BLOCKS_PER_EXTENT: usize = 256;

const WORD_BYTES: usize = 8;
const BITMAP_BYTES: usize = BLOCKS_PER_EXTENT / 8;
const NUMBER_BITS: u32 = 48;
const DEVICE_BITS: u32 = 13;
const REST_SHIFT: u32 = NUMBER_BITS + DEVICE_BITS;
const KIND_SHIFT: u32 = REST_SHIFT + 1;

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

    /// The blocks from `range.start` up to `range.end`.
    pub fn range(range: std::ops::Range<usize>) -> Blocks {
        let below = |end: usize, word: usize| match end.saturating_sub(word * 64) {
            0 => 0,
            bits @ 1..64 => (1 << bits) - 1,
            _ => u64::MAX,
        };
        Blocks(std::array::from_fn(|word| below(range.end, word) & !below(range.start, word)))
    }

    /// Its blocks as ranges, each as long as can be, in their order.
    pub fn runs(self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let start = self.next(from, true)?;
            let end = self.next(start, false).unwrap_or(BLOCKS_PER_EXTENT);
            from = end;
            Some(start..end)
        })
    }

    /// The first block from `from` on that is in it, or that is not.
    fn next(&self, from: usize, is_in: bool) -> Option<usize> {
        let flip = if is_in { 0 } else { u64::MAX };
        let mut word = from / 64;
        let mut bits = (self.0.get(word)? ^ flip) & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = self.0.get(word)? ^ flip;
        }
        Some(word * 64 + bits.trailing_zeros() as usize)
    }

    /// Those of both.
    pub fn both(self, other: Blocks) -> Blocks {
        Blocks(std::array::from_fn(|at| self.0[at] & other.0[at]))
    }

    /// Those of either.
    pub fn union(self, other: Blocks) -> Blocks {
        Blocks(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    /// Those that `other` does not have.
    pub fn without(self, other: Blocks) -> Blocks {
        Blocks(std::array::from_fn(|at| self.0[at] & !other.0[at]))
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

/// What the blocks of an extent are that are not in its slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// What the parent says.
    #[default]
    Parent,
    /// Zeros, whatever the parent has.
    Zeros,
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
    /// Some blocks of it are in the slot.
    Part {
        /// The slot.
        slot: Slot,
        /// Which are.
        blocks: Blocks,
        /// What the others are.
        rest: Rest,
    },
}

impl Entry {
    /// The slot that it names.
    pub fn slot(&self) -> Option<Slot> {
        match self {
            Entry::Nothing | Entry::Zeros => None,
            Entry::Whole(slot) | Entry::Part { slot, .. } => Some(*slot),
        }
    }

    /// The same in another slot.
    pub fn moved_to(self, slot: Slot) -> Entry {
        match self {
            Entry::Nothing | Entry::Zeros => self,
            Entry::Whole(_) => Entry::Whole(slot),
            Entry::Part { blocks, rest, .. } => Entry::Part { slot, blocks, rest },
        }
    }

    /// The blocks that are in its slot.
    pub fn blocks(&self) -> Blocks {
        match self {
            Entry::Nothing | Entry::Zeros => Blocks::NONE,
            Entry::Whole(_) => Blocks::ALL,
            Entry::Part { blocks, .. } => *blocks,
        }
    }

    /// These blocks in `slot`, or all of it.
    pub fn of(slot: Slot, blocks: Blocks, rest: Rest) -> Entry {
        match blocks {
            Blocks::ALL => Entry::Whole(slot),
            blocks => Entry::Part { slot, blocks, rest },
        }
    }

    /// Words that say it: as in a row, and its bitmap.
    pub(crate) const WORDS: usize = 1 + BLOCKS_PER_EXTENT / 64;

    /// See [`Entry::WORDS`]. The bitmap of what is no part is zeros.
    pub(crate) fn words(&self) -> [u64; Entry::WORDS] {
        let bitmap = match self {
            Entry::Part { blocks, .. } => blocks.0,
            _ => Blocks::NONE.0,
        };
        let mut words = [self.word(); Entry::WORDS];
        words[1..].copy_from_slice(&bitmap);
        words
    }

    /// What [`Entry::words`] say. The bitmap of what is no part is not looked at.
    pub(crate) fn from_words(words: &[u64]) -> Result<Entry, NotARow> {
        let (word, bitmap) = words.split_first().ok_or(NotARow)?;
        if !is_plain(*word) {
            return Err(NotARow);
        }
        let blocks = Blocks(bitmap.try_into().map_err(|_| NotARow)?);
        Ok(match word >> KIND_SHIFT {
            WHOLE => Entry::Whole(slot_of(*word)),
            PART => Entry::Part { slot: slot_of(*word), blocks, rest: rest_of(*word) },
            ZEROS => Entry::Zeros,
            _ => Entry::Nothing,
        })
    }

    fn word(&self) -> u64 {
        let (kind, rest, slot) = match self {
            Entry::Nothing => return NOTHING << KIND_SHIFT,
            Entry::Zeros => return ZEROS << KIND_SHIFT,
            Entry::Whole(slot) => (WHOLE, Rest::Parent, slot),
            Entry::Part { slot, rest, .. } => (PART, *rest, slot),
        };
        let rest = u64::from(rest == Rest::Zeros) << REST_SHIFT;
        assert!(u32::from(slot.device) < Slot::DEVICES && slot.number < Slot::NUMBERS);
        kind << KIND_SHIFT | rest | u64::from(slot.device) << NUMBER_BITS | slot.number
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

/// The entries of [`EXTENTS_PER_ROW`] extents next to each other, as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    words: [u64; EXTENTS_PER_ROW],
    /// Of the extents that are there in part, in their order.
    parts: Vec<Blocks>,
}

impl Default for Row {
    fn default() -> Row {
        Row { words: [NOTHING; EXTENTS_PER_ROW], parts: Vec::new() }
    }
}

impl Row {
    /// What it says of extent `at` of it.
    pub fn get(&self, at: usize) -> Entry {
        let word = self.words[at];
        match word >> KIND_SHIFT {
            WHOLE => Entry::Whole(slot_of(word)),
            PART => {
                let blocks = self.parts[self.part(at)];
                Entry::Part { slot: slot_of(word), blocks, rest: rest_of(word) }
            }
            ZEROS => Entry::Zeros,
            _ => Entry::Nothing,
        }
    }

    /// Has it say `entry` of extent `at` of it. All blocks of an extent are the whole of it.
    pub fn set(&mut self, at: usize, entry: Entry) {
        let part = self.part(at);
        if self.words[at] >> KIND_SHIFT == PART {
            self.parts.remove(part);
        }
        let entry = match entry {
            Entry::Part { slot, blocks, rest } => Entry::of(slot, blocks, rest),
            entry => entry,
        };
        if let Entry::Part { blocks, .. } = entry {
            self.parts.insert(part, blocks);
        }
        self.words[at] = entry.word();
    }

    /// Its entries.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..EXTENTS_PER_ROW).map(|at| self.get(at))
    }

    /// The place of the bitmap of extent `at`.
    fn part(&self, at: usize) -> usize {
        self.words[..at].iter().filter(|word| **word >> KIND_SHIFT == PART).count()
    }

    /// Whether it says nothing of any extent: such a row is not stored.
    pub fn is_empty(&self) -> bool {
        self.words == [NOTHING; EXTENTS_PER_ROW]
    }

    /// Its bytes: a word for each extent, then a bitmap for each that is there in part.
    pub fn encode(&self) -> Vec<u8> {
        let bitmaps = self.parts.iter().flat_map(|blocks| blocks.0.iter());
        self.words.iter().chain(bitmaps).flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The row that `bytes` are.
    ///
    /// # Errors
    /// If [`Row::encode`] does not give these bytes for any row.
    pub fn decode(bytes: &[u8]) -> Result<Row, NotARow> {
        let (words, bitmaps) =
            bytes.split_at_checked(EXTENTS_PER_ROW * WORD_BYTES).ok_or(NotARow)?;
        let mut row = Row::default();
        for (word, bytes) in row.words.iter_mut().zip(words.chunks(WORD_BYTES)) {
            *word = u64_of(bytes)?;
            if !is_plain(*word) {
                return Err(NotARow);
            }
        }
        row.parts = bitmaps.chunks(BITMAP_BYTES).map(blocks_of).collect::<Result<_, _>>()?;
        if row.parts.len() == row.part(EXTENTS_PER_ROW) { Ok(row) } else { Err(NotARow) }
    }
}

/// Whether a word has nothing in it that its kind does not have.
fn is_plain(word: u64) -> bool {
    match word >> KIND_SHIFT {
        PART => true,
        WHOLE => word >> REST_SHIFT & 1 == 0,
        _ => word << 2 == 0,
    }
}

fn rest_of(word: u64) -> Rest {
    if word >> REST_SHIFT & 1 != 0 { Rest::Zeros } else { Rest::Parent }
}

fn slot_of(word: u64) -> Slot {
    let device = (word >> NUMBER_BITS) as u16 & (Slot::DEVICES - 1) as u16;
    Slot { device, number: word & (Slot::NUMBERS - 1) }
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
            (slot(), any::<[u64; 4]>(), prop_oneof![Just(Rest::Parent), Just(Rest::Zeros)])
                .prop_filter("a whole extent is no part", |(_, words, _)| *words != [u64::MAX; 4])
                .prop_map(|(slot, words, rest)| Entry::Part { slot, blocks: Blocks(words), rest }),
        ]
    }

    proptest! {
        #[test]
        fn rows_say_what_they_were_told(
            changes in proptest::collection::vec((0usize..64, entry()), 0..200),
        ) {
            let (mut row, mut oracle) = (Row::default(), [Entry::Nothing; 64]);
            for (at, entry) in changes {
                row.set(at, entry);
                oracle[at] = entry;
            }
            prop_assert!(row.entries().eq(oracle));
            prop_assert_eq!(row.is_empty(), oracle == [Entry::Nothing; 64]);
            prop_assert_eq!(Row::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn what_is_read_is_written_the_same(
            entries in proptest::collection::vec(entry(), 64),
            change in any::<(usize, u8)>(),
            cut in prop_oneof![Just(0usize), 1usize..40],
        ) {
            let mut row = Row::default();
            entries.into_iter().enumerate().for_each(|(at, entry)| row.set(at, entry));
            let mut bytes = row.encode();
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
            prop_assert!(blocks.runs().flatten().eq(oracle.iter().copied()));
            prop_assert!(blocks.runs().zip(blocks.runs().skip(1)).all(|(a, b)| a.end < b.start));
            let (first, end) = (oracle.len(), 256 - oracle.len() / 2);
            prop_assert!(Blocks::range(first..end).runs().flatten().eq(first..end));
            prop_assert_eq!(blocks.len() as usize, oracle.len());
            prop_assert_eq!(blocks.is_empty(), oracle.is_empty());
        }
    }

    #[test]
    fn a_word_is_what_the_page_says() {
        let mut row = Row::default();
        row.set(1, Entry::Zeros);
        row.set(2, Entry::Whole(Slot { device: 5, number: 7 }));
        let mut blocks = Blocks::NONE;
        blocks.add(9);
        let slot = Slot { device: 1, number: 2 };
        row.set(3, Entry::Part { slot, blocks, rest: Rest::Parent });
        row.set(4, Entry::Part { slot, blocks: Blocks::NONE, rest: Rest::Zeros });
        let bytes = row.encode();
        assert_eq!(bytes.len(), 64 * 8 + 2 * 32);
        assert_eq!(bytes[..8], [0; 8]);
        assert_eq!(bytes[8..16], 0x4000_0000_0000_0000u64.to_le_bytes());
        assert_eq!(bytes[16..24], 0x8005_0000_0000_0007u64.to_le_bytes());
        assert_eq!(bytes[24..32], 0xc001_0000_0000_0002u64.to_le_bytes());
        assert_eq!(bytes[32..40], 0xe001_0000_0000_0002u64.to_le_bytes());
        assert_eq!(bytes[512..516], [0, 2, 0, 0]);
    }
}
