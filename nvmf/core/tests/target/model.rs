//! The oracle: what each block may hold, given what hosts asked for and what they were told.
//!
//! A block may hold every value whose write could have been the last to take effect. A write takes
//! effect at some time between its issue and its end; so when one succeeds, the values that were
//! settled before it was issued are gone.

use std::ops::Range;

/// A value that a block may hold.
#[derive(Clone, Copy, Debug)]
struct Version {
    value: u64,
    /// Which write put it there; 0 for the beginning.
    write: u64,
    /// When the write ended; nothing while it may still take effect.
    ended: Option<u64>,
}

/// What a reader may see, block by block: it grows while the read is under way.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<Vec<u64>>);

/// The blocks of one namespace.
pub struct Model {
    blocks: Vec<Vec<Version>>,
    time: u64,
}

impl Model {
    pub fn new(blocks: usize) -> Model {
        let start = Version { value: 0, write: 0, ended: Some(0) };
        Model { blocks: vec![vec![start]; blocks], time: 1 }
    }

    /// A time later than all before.
    pub fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// A write, known by its time of issue, may take effect from now on. Whoever reads the blocks
    /// at this time is in `readers`.
    pub fn write_issued<'a>(
        &mut self,
        write: u64,
        range: Range<usize>,
        value: u64,
        readers: impl Iterator<Item = (usize, &'a mut Allowed)>,
    ) {
        for block in range.clone() {
            self.blocks[block].push(Version { value, write, ended: None });
        }
        for (first, allowed) in readers {
            for (offset, values) in allowed.0.iter_mut().enumerate() {
                if range.contains(&(first + offset)) {
                    values.push(value);
                }
            }
        }
    }

    /// A write succeeded.
    pub fn write_done(&mut self, write: u64, range: Range<usize>) {
        let now = self.tick();
        for block in &mut self.blocks[range] {
            block.retain(|v| v.write == write || v.ended.is_none_or(|ended| ended > write));
            Self::settle(block, write, now);
        }
    }

    /// A write failed, in a way that says that it had no effect.
    pub fn write_without_effect(&mut self, write: u64, range: Range<usize>) {
        for block in &mut self.blocks[range] {
            block.retain(|v| v.write != write);
        }
    }

    /// A write has ended, and nobody knows whether it had an effect.
    pub fn write_unknown(&mut self, write: u64, range: Range<usize>) {
        let now = self.tick();
        for block in &mut self.blocks[range] {
            Self::settle(block, write, now);
        }
    }

    fn settle(block: &mut [Version], write: u64, now: u64) {
        for version in block.iter_mut().filter(|v| v.write == write) {
            version.ended = Some(now);
        }
    }

    /// What a read that is issued now may see.
    pub fn allowed(&self, range: Range<usize>) -> Allowed {
        let values = |block: &Vec<Version>| block.iter().map(|v| v.value).collect();
        Allowed(self.blocks[range].iter().map(values).collect())
    }

    /// A value that the block may hold.
    pub fn likely(&self, block: usize) -> u64 {
        self.blocks[block].last().expect("something is always there").value
    }
}

impl Allowed {
    /// Checks what a read brought, in blocks of 512 bytes.
    pub fn check(&self, data: &[u8]) -> Result<(), String> {
        if data.len() != self.0.len() * 512 {
            return Err(format!("{} bytes for {} blocks", data.len(), self.0.len()));
        }
        for (offset, (bytes, values)) in data.chunks(512).zip(&self.0).enumerate() {
            let value = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            if bytes.chunks(8).any(|word| word != &bytes[..8]) {
                return Err(format!("block {offset} of the data is torn"));
            }
            if !values.contains(&value) {
                return Err(format!("wrong data in block {offset}: {value}, not of {values:?}"));
            }
        }
        Ok(())
    }

    /// Checks the outcome of a comparison of every block with `value`.
    pub fn check_compare(&self, value: u64, equal: bool) -> Result<(), String> {
        let can_be = self.0.iter().all(|values| values.contains(&value));
        let must_be = self.0.iter().all(|values| values.iter().all(|v| *v == value));
        match equal {
            true if !can_be => Err("a compare found what cannot be there".into()),
            false if must_be => Err("a compare did not find what must be there".into()),
            _ => Ok(()),
        }
    }
}

#[test]
fn the_oracle_knows_what_can_be_there() {
    let mut model = Model::new(1);
    let is = |model: &Model, value: u64| {
        model.allowed(0..1).check(&value.to_le_bytes().repeat(64)).is_ok()
    };
    let a = model.tick();
    model.write_issued(a, 0..1, 7, std::iter::empty());
    assert!(is(&model, 0) && is(&model, 7), "under way");
    let b = model.tick();
    model.write_issued(b, 0..1, 8, std::iter::empty());
    model.write_done(a, 0..1);
    assert!(!is(&model, 0) && is(&model, 7) && is(&model, 8), "both at once");
    model.write_done(b, 0..1);
    assert!(is(&model, 7) && is(&model, 8), "either may have been the last");
    let c = model.tick();
    model.write_issued(c, 0..1, 9, std::iter::empty());
    model.write_done(c, 0..1);
    assert!(!is(&model, 7) && !is(&model, 8) && is(&model, 9));
    let d = model.tick();
    let mut reader = model.allowed(0..1);
    model.write_issued(d, 0..1, 10, [(0, &mut reader)].into_iter());
    model.write_without_effect(d, 0..1);
    assert!(is(&model, 9) && !is(&model, 10));
    assert!(reader.check(&10u64.to_le_bytes().repeat(64)).is_ok(), "it read meanwhile");
    let mut torn = 9u64.to_le_bytes().repeat(64);
    torn[511] = 1;
    assert!(model.allowed(0..1).check(&torn).is_err());
    assert!(model.allowed(0..1).check_compare(9, false).is_err());
    assert!(model.allowed(0..1).check_compare(8, true).is_err());
}
