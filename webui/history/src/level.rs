//! How long steps are, and for how long they are kept.

/// A kind of steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// In memory.
    Seconds,
    /// On disk.
    Minutes,
    /// On disk.
    Hours,
}

/// Bytes of all steps in memory.
const MEMORY_BYTES: u64 = 40 << 20;
/// Bytes of a step in memory.
pub(crate) const SLOT_BYTES: u64 = 48;
/// Bytes of a step on disk, of something that is busy.
const SAMPLE_BYTES: u64 = 32;

impl Level {
    /// Lengths of steps, each a multiple of the one before.
    const fn ladder(self) -> &'static [u32] {
        match self {
            Level::Seconds => &[1, 5, 10, 30, 60, 300, 600, 1800, 3600],
            Level::Minutes => &[60, 300, 600, 1800, 3600],
            Level::Hours => &[3600, 7200, 21_600, 43_200, 86_400],
        }
    }

    /// The shortest step.
    pub(crate) const fn shortest(self) -> u32 {
        self.ladder()[0]
    }

    /// For how long they are kept, in seconds.
    pub(crate) const fn reach(self) -> u64 {
        match self {
            Level::Seconds => 3600,
            Level::Minutes => 86_400,
            Level::Hours => 31 * 86_400,
        }
    }

    /// Bytes that may be kept of it, where there are `disk` bytes on disk.
    pub(crate) const fn bytes(self, disk: u64) -> u64 {
        match self {
            Level::Seconds => MEMORY_BYTES,
            Level::Minutes => disk / 16 * 11,
            Level::Hours => disk / 16 * 5,
        }
    }

    /// The length of steps with which all of so many objects fit.
    pub(crate) fn step(self, objects: usize, disk: u64) -> u32 {
        let (one, kept) = match self {
            Level::Seconds => (SLOT_BYTES, self.bytes(disk)),
            Level::Minutes | Level::Hours => (SAMPLE_BYTES, self.bytes(disk) / 8 * 7),
        };
        let bytes =
            |step: u32| (objects as u64).saturating_mul(self.reach() / u64::from(step) * one);
        let ladder = self.ladder();
        let fits = ladder.iter().find(|step| bytes(**step) <= kept);
        *fits.unwrap_or(&ladder[ladder.len() - 1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_longer_for_more_objects() {
        let disk = 16 << 20;
        for (objects, steps) in [
            (1, [1, 60, 3600]),
            (200, [1, 60, 7200]),
            (1050, [5, 300, 21_600]),
            (11_000, [60, 3600, 86_400]),
        ] {
            let all = [Level::Seconds, Level::Minutes, Level::Hours];
            assert_eq!(all.map(|level| level.step(objects, disk)), steps, "{objects}");
        }
        for level in [Level::Seconds, Level::Minutes, Level::Hours] {
            let ladder = level.ladder();
            assert!(ladder.windows(2).all(|pair| pair[1] % pair[0] == 0), "{ladder:?}");
        }
    }
}
