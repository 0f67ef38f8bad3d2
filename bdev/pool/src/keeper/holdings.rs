//! Slots that volumes have, and those that thick ones are still to get.

use crate::state::ViewId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    volumes: BTreeMap<ViewId, Holding>,
    /// What all thick volumes lack.
    lacking: u64,
}

#[derive(Debug)]
struct Holding {
    /// Slots that its live node names, those in its stock, and those that it gave up in commits that
    /// have not ended.
    held: u64,
    /// Of a thick volume: slots for all of it.
    promised: Option<u64>,
}

impl Holding {
    fn lacking(&self) -> u64 {
        self.promised.map_or(0, |promised| promised.saturating_sub(self.held))
    }
}

impl Holdings {
    /// A volume has so many slots; a thick one is promised so many in all.
    pub(super) fn add(&mut self, volume: ViewId, held: u64, promised: Option<u64>) {
        let holding = Holding { held, promised };
        self.lacking += holding.lacking();
        self.volumes.insert(volume, holding);
    }

    pub(super) fn remove(&mut self, volume: ViewId) {
        if let Some(holding) = self.volumes.remove(&volume) {
            self.lacking -= holding.lacking();
        }
    }

    fn change(&mut self, volume: ViewId, change: impl FnOnce(&mut Holding)) {
        let Some(holding) = self.volumes.get_mut(&volume) else { return };
        self.lacking -= holding.lacking();
        change(holding);
        self.lacking += holding.lacking();
    }

    /// It has so many slots more.
    pub(super) fn gain(&mut self, volume: ViewId, slots: u64) {
        self.change(volume, |holding| holding.held += slots);
    }

    /// It has so many slots less. What is gained and lost comes in any order, so only the sum of it
    /// all counts.
    pub(super) fn lose(&mut self, volume: ViewId, slots: u64) {
        self.change(volume, |holding| {
            debug_assert!(holding.held >= slots, "it gives up {slots} of {} slots", holding.held);
            holding.held = holding.held.saturating_sub(slots);
        });
    }

    /// A thick volume has another size.
    pub(super) fn promise(&mut self, volume: ViewId, slots: u64) {
        self.change(volume, |holding| {
            holding.promised = holding.promised.map(|_| slots);
        });
    }

    pub(super) fn held(&self, volume: ViewId) -> u64 {
        self.volumes.get(&volume).map_or(0, |holding| holding.held)
    }

    /// Slots that a thick volume would need more if all of it were written.
    pub(super) fn lacking_of(&self, volume: ViewId) -> u64 {
        self.volumes.get(&volume).map_or(0, Holding::lacking)
    }

    /// The same of all of them.
    pub(super) fn lacking(&self) -> u64 {
        self.lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_sum_is_that_of_all(
            steps in proptest::collection::vec((0u8..5, 0u64..6, 0u64..40), 0..200),
        ) {
            let mut holdings = Holdings::default();
            for (step, volume, slots) in steps {
                match step {
                    0 if holdings.volumes.contains_key(&volume) => holdings.remove(volume),
                    0 => holdings.add(volume, slots, (slots % 2 == 0).then_some(2 * slots)),
                    1 => holdings.gain(volume, slots),
                    2 => holdings.lose(volume, slots.min(holdings.held(volume))),
                    _ => holdings.promise(volume, slots),
                }
                let all = (0..6).map(|volume| holdings.lacking_of(volume)).sum::<u64>();
                prop_assert_eq!(holdings.lacking(), all);
            }
        }
    }
}
