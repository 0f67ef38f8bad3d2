//! The script, byte by byte. What is not there reads as zero.

/// A reader of a script.
pub struct Input<'a> {
    rest: &'a [u8],
    steps: u32,
}

/// The most steps of one script: more find nothing new, only slower.
const MOST_STEPS: u32 = 200;

impl<'a> Input<'a> {
    /// Over the bytes of a script.
    pub fn new(rest: &'a [u8]) -> Input<'a> {
        Input { rest, steps: 0 }
    }

    /// The next step's code, until the script ends.
    pub fn step(&mut self) -> Option<u8> {
        self.steps += 1;
        (!self.rest.is_empty() && self.steps <= MOST_STEPS).then(|| self.byte())
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    /// Two bytes, little endian.
    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    /// Four bytes, little endian.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// The next `N` bytes.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let len = N.min(self.rest.len());
        let (head, rest) = self.rest.split_at(len);
        bytes[..len].copy_from_slice(head);
        self.rest = rest;
        bytes
    }
}
