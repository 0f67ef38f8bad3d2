//! Frames, as `FORMAT.md` has them.

use crate::Key;
use crate::step::{Step, Times};
use crc_fast::CrcAlgorithm::Crc32Iscsi;
use webui_model::HistoryKind;

/// What a file begins with.
pub(crate) const MAGIC: &[u8; 8] = b"FBHISTO1";

/// Bytes before a payload.
const HEAD: usize = 8;
/// Bytes of a sample at most: an identifier and ten numbers.
const LARGEST_SAMPLE: usize = 11 * 10;
/// Bytes of a frame without names and samples, at most.
pub(crate) const FRAME_BYTES: usize = HEAD + 6 * 10;

const KINDS: [HistoryKind; 5] = [
    HistoryKind::Appliance,
    HistoryKind::Pool,
    HistoryKind::Device,
    HistoryKind::Volume,
    HistoryKind::Host,
];

/// Bytes at most that an object takes in the first frame of a file.
pub(crate) fn object_bytes(key: &Key) -> usize {
    LARGEST_SAMPLE + 10 + 1 + 10 + key.1.len()
}

/// One step of all objects.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) step_s: u32,
    pub(crate) at_s: u64,
    pub(crate) until_ms: u64,
    /// Objects that are gone.
    pub(crate) gone: Vec<u64>,
    /// Objects that are there from now on.
    pub(crate) new: Vec<(u64, Key)>,
    /// What objects did, by identifier; of those that did something.
    pub(crate) samples: Vec<(u64, Step)>,
}

fn put(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

/// What is left of a payload. Nothing comes of one that ends too early.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u64> {
        let mut n = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    /// How many of something follow, each of a byte at least.
    fn many(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok().filter(|many| *many <= self.0.len())
    }

    fn text(&mut self) -> Option<String> {
        let bytes = self.many()?;
        let (text, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(str::to_owned)
    }

    fn time(&mut self) -> Option<Option<u64>> {
        self.number().map(|ns| ns.checked_sub(1))
    }

    fn times(&mut self) -> Option<Times> {
        Some(Times { p50: self.time()?, p99: self.time()? })
    }

    fn sample(&mut self, at_s: u64, seconds: u32) -> Option<(u64, Step)> {
        let id = self.number()?;
        let step = Step {
            at_s,
            seconds,
            reads: self.number()?,
            writes: self.number()?,
            read_bytes: self.number()?,
            write_bytes: self.number()?,
            errors: self.number()?,
            depth: self.number()? as f64 / 1000.0,
            read_times: self.times()?,
            write_times: self.times()?,
        };
        Some((id, step))
    }

    fn object(&mut self) -> Option<(u64, Key)> {
        let id = self.number()?;
        let kind = *KINDS.get(usize::from(self.byte()?))?;
        Some((id, (kind, self.text()?)))
    }
}

fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(Crc32Iscsi);
    digest.update(&length);
    digest.update(payload);
    // A CRC of 32 bits in 64.
    digest.finalize() as u32
}

impl Frame {
    /// As it is written.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD];
        let out = &mut bytes;
        [u64::from(self.step_s), self.at_s, self.until_ms].into_iter().for_each(|n| put(out, n));
        put(out, self.gone.len() as u64);
        self.gone.iter().for_each(|id| put(out, *id));
        put(out, self.new.len() as u64);
        for (id, (kind, name)) in &self.new {
            put(out, *id);
            out.push(KINDS.iter().position(|known| known == kind).unwrap_or_default() as u8);
            put(out, name.len() as u64);
            out.extend(name.as_bytes());
        }
        put(out, self.samples.len() as u64);
        for (id, step) in &self.samples {
            let Step { reads, writes, read_bytes, write_bytes, errors, .. } = *step;
            let depth = (step.depth * 1000.0).round() as u64;
            let counts = [*id, reads, writes, read_bytes, write_bytes, errors, depth];
            counts.into_iter().for_each(|n| put(out, n));
            for Times { p50, p99 } in [step.read_times, step.write_times] {
                for ns in [p50, p99] {
                    put(out, ns.map_or(0, |ns| ns.saturating_add(1)));
                }
            }
        }
        let length = u32::try_from(bytes.len() - HEAD).unwrap_or(u32::MAX).to_le_bytes();
        let sum = checksum(length, &bytes[HEAD..]).to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        bytes[4..HEAD].copy_from_slice(&sum);
        bytes
    }

    fn of_payload(payload: &[u8]) -> Option<Frame> {
        let mut rest = Rest(payload);
        let step_s = u32::try_from(rest.number()?).ok().filter(|step_s| *step_s > 0)?;
        let (at_s, until_ms) = (rest.number()?, rest.number()?);
        let gone = (0..rest.many()?).map(|_| rest.number()).collect::<Option<_>>()?;
        let new = (0..rest.many()?).map(|_| rest.object()).collect::<Option<_>>()?;
        let many = rest.many()?;
        let samples = (0..many).map(|_| rest.sample(at_s, step_s)).collect::<Option<_>>()?;
        rest.0.is_empty().then_some(Frame { step_s, at_s, until_ms, gone, new, samples })
    }
}

/// The frames of a file, up to the first that is not whole.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Frames<'a> {
        Frames { bytes, at: if bytes.starts_with(MAGIC) { MAGIC.len() } else { usize::MAX } }
    }

    /// Bytes that were read so far, all of them whole; 0 if the file does not begin as one.
    pub(crate) fn whole(&self) -> usize {
        if self.at == usize::MAX { 0 } else { self.at }
    }
}

impl Iterator for Frames<'_> {
    type Item = Frame;

    fn next(&mut self) -> Option<Frame> {
        let (head, rest) = self.bytes.get(self.at..)?.split_first_chunk::<HEAD>()?;
        let (length, sum) = head.split_first_chunk::<4>()?;
        let payload = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
        if checksum(*length, payload).to_le_bytes() != *sum {
            return None;
        }
        let frame = Frame::of_payload(payload)?;
        self.at += HEAD + payload.len();
        Some(frame)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step() -> impl Strategy<Value = Step> {
        let time = prop::option::of(0_u64..u64::MAX);
        let times = (time.clone(), time).prop_map(|(p50, p99)| Times { p50, p99 });
        let counts = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
        (counts, 0..1_000_000_u64, times.clone(), times).prop_map(|(c, depth, read, write)| Step {
            reads: c.0,
            writes: c.1,
            read_bytes: c.2,
            write_bytes: c.3,
            errors: c.4,
            depth: depth as f64 / 1000.0,
            read_times: read,
            write_times: write,
            ..Step::default()
        })
    }

    pub(crate) fn frame() -> impl Strategy<Value = Frame> {
        let object = (any::<u64>(), 0..5_usize, "[a-zö/.]{0,40}");
        let object = object.prop_map(|(id, kind, name)| (id, (KINDS[kind], name)));
        let lists = (
            prop::collection::vec(any::<u64>(), 0..4),
            prop::collection::vec(object, 0..4),
            prop::collection::vec((any::<u64>(), step()), 0..4),
        );
        (1..=u32::MAX, any::<u64>(), any::<u64>(), lists).prop_map(|(step_s, at_s, until_ms, l)| {
            let timed = |(id, step)| (id, Step { at_s, seconds: step_s, ..step });
            let samples = l.2.into_iter().map(timed).collect();
            Frame { step_s, at_s, until_ms, gone: l.0, new: l.1, samples }
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frames in prop::collection::vec(frame(), 0..5)) {
            let mut bytes = MAGIC.to_vec();
            frames.iter().for_each(|frame| bytes.extend(frame.bytes()));
            let mut read = Frames::of(&bytes);
            prop_assert_eq!(read.by_ref().collect::<Vec<_>>(), frames);
            prop_assert_eq!(read.whole(), bytes.len());
        }

        /// Cut off at any byte, what was written whole is there.
        #[test]
        fn a_torn_end_is_dropped(frames in prop::collection::vec(frame(), 1..4)) {
            let mut bytes = MAGIC.to_vec();
            let mut ends = Vec::new();
            for frame in &frames {
                bytes.extend(frame.bytes());
                ends.push(bytes.len());
            }
            for cut in 0..bytes.len() {
                let whole = ends.iter().filter(|end| **end <= cut).count();
                let read: Vec<Frame> = Frames::of(&bytes[..cut]).collect();
                prop_assert_eq!(&read[..], &frames[..whole]);
            }
        }

        /// A byte that has changed ends what is read there; whatever a file holds, nothing panics.
        #[test]
        fn a_changed_byte_is_noticed(frame in frame(), at in any::<prop::sample::Index>(), bits in 1..=u8::MAX) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend(frame.bytes());
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
            prop_assert_eq!(Frames::of(&bytes).next(), None);
        }

        #[test]
        fn no_payload_panics(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Frame::of_payload(&payload);
        }

        #[test]
        fn an_object_takes_no_more_than_is_reckoned(frame in frame()) {
            let objects = frame.new.iter().map(|(_, key)| object_bytes(key)).sum::<usize>();
            let samples = frame.samples.len().saturating_sub(frame.new.len()) * LARGEST_SAMPLE;
            let gone = frame.gone.len() * 10;
            prop_assert!(frame.bytes().len() <= FRAME_BYTES + objects + samples + gone);
        }
    }
}
