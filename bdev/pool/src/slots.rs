//! Which slots of a pool's devices are free, and which of those may still hold data below. Nothing of
//! this is stored: what no entry names is free, and of what was free when the pool was opened nothing
//! is known.

use crate::entry::Slot;
use crate::sparse::Sparse;
use std::ops::Range;

/// Words in a page: 4 GiB of a device.
const PAGE_WORDS: u64 = 64;

/// The slots of all devices of a pool.
#[derive(Debug, Default)]
pub struct Slots {
    devices: Vec<DeviceSlots>,
    /// The device that is asked next: extents that are taken one after the other lie on different
    /// devices.
    next: usize,
}

#[derive(Debug)]
struct DeviceSlots {
    number: u16,
    /// A bit for each slot: taken. Pages of which none is taken are not there: a device can be
    /// much larger than what is on it.
    taken: Sparse<Page>,
    slots: u64,
    free: u64,
    /// The word that is looked at next.
    hint: u64,
    /// Slots are taken here.
    open: bool,
    stale: Stale,
    /// Free slots that are being discarded, which are not taken.
    busy: Range<u64>,
}

type Page = Box<[u64; PAGE_WORDS as usize]>;

/// Slots that may hold data, whoever may have them: when they are free nobody needs it.
#[derive(Debug, Default)]
struct Stale {
    /// A bit for each slot below `swept` that may.
    bits: Sparse<Page>,
    /// Of slots from here on nothing is known: any may.
    swept: u64,
    /// Free slots that may, below `swept` and from there on.
    known: u64,
    unknown: u64,
    /// The word that is looked at next.
    hint: u64,
}

impl Stale {
    fn word(&self, word: u64) -> u64 {
        let (page, at) = DeviceSlots::page(word);
        self.bits.get(page).map_or(0, |page| page[at])
    }

    fn word_mut(&mut self, word: u64) -> &mut u64 {
        let (page, at) = DeviceSlots::page(word);
        &mut self.bits.get_or_insert_with(page, empty_page)[at]
    }

    fn has(&self, slot: u64) -> bool {
        slot >= self.swept || self.word(slot / 64) >> (slot % 64) & 1 != 0
    }

    /// The count that a slot is in while it is free; none if it holds nothing.
    fn count_of(&mut self, slot: u64) -> Option<&mut u64> {
        match slot >= self.swept {
            true => Some(&mut self.unknown),
            false if self.has(slot) => Some(&mut self.known),
            false => None,
        }
    }

    fn set(&mut self, slot: u64) {
        if slot < self.swept {
            *self.word_mut(slot / 64) |= 1 << (slot % 64);
        }
    }
}

fn empty_page() -> Page {
    Box::new([0; PAGE_WORDS as usize])
}

/// The bits of `word` that stand for slots of `slots`.
fn bits_of(slots: &Range<u64>, word: u64) -> u64 {
    let (from, to) = (slots.start.max(word * 64), slots.end.min((word + 1) * 64));
    match to.saturating_sub(from) {
        0 => 0,
        count => (u64::MAX >> (64 - count)) << (from % 64),
    }
}

impl DeviceSlots {
    fn page(word: u64) -> (u32, usize) {
        let page = u32::try_from(word / PAGE_WORDS).expect("a device has less than 2^64 bytes");
        (page, (word % PAGE_WORDS) as usize)
    }

    /// 64 bits; what the last word has beyond the device is never free.
    fn word(&self, word: u64) -> u64 {
        let (page, at) = DeviceSlots::page(word);
        let taken = self.taken.get(page).map_or(0, |page| page[at]);
        match self.slots - word * 64 {
            left @ 1..64 => taken | u64::MAX << left,
            _ => taken,
        }
    }

    fn word_mut(&mut self, word: u64) -> &mut u64 {
        let (page, at) = DeviceSlots::page(word);
        &mut self.taken.get_or_insert_with(page, empty_page)[at]
    }

    fn take(&mut self) -> Option<Slot> {
        if self.free == self.busy.end - self.busy.start || !self.open {
            return None;
        }
        let words = self.slots.div_ceil(64);
        let barred = |at: u64| self.word(at) | bits_of(&self.busy, at);
        let at =
            (0..words).map(|step| (self.hint + step) % words).find(|at| barred(*at) != u64::MAX)?;
        let number = at * 64 + u64::from(barred(at).trailing_ones());
        self.mark_taken(number);
        self.hint = at;
        Some(Slot { device: self.number, number })
    }

    fn mark_taken(&mut self, number: u64) {
        *self.word_mut(number / 64) |= 1 << (number % 64);
        self.free -= 1;
        if let Some(count) = self.stale.count_of(number) {
            *count -= 1;
        }
    }

    /// Up to `most` free slots in a row that may hold data: first of those that were given back.
    fn next_stale(&mut self, most: u64) -> Option<Range<u64>> {
        if self.stale.known > 0 {
            return self.given_back(most);
        }
        match self.stale.unknown {
            0 => None,
            _ => self.swept(most),
        }
    }

    fn given_back(&mut self, most: u64) -> Option<Range<u64>> {
        // A page has more words than the end of a device.
        let left = |word: u64| match self.stale.word(word) {
            0 => 0,
            stale => stale & !self.word(word),
        };
        let words = |from: u64| {
            let (page, _) = DeviceSlots::page(from);
            let pages = self.stale.bits.from(page).map(|(page, _)| u64::from(page) * PAGE_WORDS);
            pages.flat_map(|first| first..first + PAGE_WORDS).filter(move |word| *word >= from)
        };
        let at = words(self.stale.hint).chain(words(0)).find(|word| left(*word) != 0);
        let at = at.expect("some are counted");
        let start = at * 64 + u64::from(left(at).trailing_zeros());
        let is_left = |slot: u64| left(slot / 64) >> (slot % 64) & 1 != 0;
        let end = (start + 1..start + most).find(|slot| !is_left(*slot)).unwrap_or(start + most);
        self.stale.hint = end / 64;
        Some(start..end)
    }

    /// Goes on with what nothing is known of. What is taken may hold data when it is free again.
    fn swept(&mut self, most: u64) -> Option<Range<u64>> {
        let is_free = |slot: u64| self.word(slot / 64) >> (slot % 64) & 1 == 0;
        let from = self.stale.swept;
        let mut start = from;
        while !is_free(start) {
            let taken = self.word(start / 64) >> (start % 64);
            start += u64::from(taken.trailing_ones());
        }
        let most = (start + most).min(self.slots);
        let end = (start + 1..most).find(|slot| !is_free(*slot)).unwrap_or(most);
        // Those that are discarded now have no bit unless that fails: a page for each would be as much
        // as the device is large.
        for word in (from / 64..start.div_ceil(64)).filter(|_| start > from) {
            *self.stale.word_mut(word) |= bits_of(&(from..start), word);
        }
        self.stale.swept = end;
        self.stale.unknown -= end - start;
        self.stale.known += end - start;
        Some(start..end)
    }
}

impl Slots {
    /// Adds a device with `slots` free slots.
    ///
    /// # Panics
    /// If it is there already.
    pub fn add_device(&mut self, number: u16, slots: u64) {
        assert!(self.device(number).is_none(), "a device is added once");
        let (taken, hint) = (Sparse::default(), 0);
        let stale = Stale { unknown: slots, ..Stale::default() };
        let (free, open, busy) = (slots, true, 0..0);
        let device = DeviceSlots { number, taken, slots, free, hint, open, stale, busy };
        self.devices.push(device);
    }

    /// A device has more slots than before.
    ///
    /// # Panics
    /// If it is not there, or would have fewer.
    pub fn grow_device(&mut self, number: u16, slots: u64) {
        let device = self.device(number).expect("a device that is there grows");
        let more = slots.checked_sub(device.slots).expect("it grows");
        device.slots = slots;
        device.free += more;
        device.stale.unknown += more;
    }

    /// A device is gone: no slot of it is taken.
    ///
    /// # Panics
    /// If one is being discarded.
    pub fn remove_device(&mut self, number: u16) {
        assert!(self.device(number).is_none_or(|device| device.busy.is_empty()), "it is used");
        self.devices.retain(|device| device.number != number);
        self.next = 0;
    }

    /// Slots of a device that are taken.
    pub fn taken_on(&self, number: u16) -> u64 {
        let device = self.devices.iter().find(|device| device.number == number);
        device.map_or(0, |device| device.slots - device.free)
    }

    /// Takes no more slots on a device.
    pub fn close_device(&mut self, number: u16) {
        if let Some(device) = self.device(number) {
            device.open = false;
        }
    }

    /// Takes slots on a device again.
    pub fn open_device(&mut self, number: u16) {
        if let Some(device) = self.device(number) {
            device.open = true;
        }
    }

    fn device(&mut self, number: u16) -> Option<&mut DeviceSlots> {
        self.devices.iter_mut().find(|device| device.number == number)
    }

    /// Slots of all devices; of those that are closed, the ones that are taken.
    pub fn total(&self) -> u64 {
        let count = |device: &DeviceSlots| match device.open {
            true => device.slots,
            false => device.slots - device.free,
        };
        self.devices.iter().map(count).sum()
    }

    /// Slots that can be taken, some perhaps only when their discard has ended.
    pub fn free(&self) -> u64 {
        self.devices.iter().filter(|device| device.open).map(|device| device.free).sum()
    }

    /// Takes a free slot; `None` when the pool is full, or what is free is being discarded.
    pub fn take(&mut self) -> Option<Slot> {
        let devices = self.devices.len();
        (0..devices).find_map(|step| {
            let at = (self.next + step) % devices;
            let slot = self.devices[at].take()?;
            self.next = at + 1;
            Some(slot)
        })
    }

    /// Marks a slot as taken, as an entry says. False if it does not exist or is taken already.
    #[must_use]
    pub fn claim(&mut self, slot: Slot) -> bool {
        let Some(device) = self.device(slot.device).filter(|device| slot.number < device.slots)
        else {
            return false;
        };
        let (word, bit) = (slot.number / 64, 1 << (slot.number % 64));
        if device.word(word) & bit != 0 {
            return false;
        }
        device.mark_taken(slot.number);
        true
    }

    /// Gives a slot back that was used, perhaps.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn give(&mut self, slot: Slot) {
        self.device(slot.device).expect("a slot of a device that is there").stale.set(slot.number);
        self.give_unused(slot);
    }

    /// Gives a slot back to which nothing was written since it was taken.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn give_unused(&mut self, slot: Slot) {
        let device = self.device(slot.device).expect("a slot of a device that is there");
        let (word, bit) = (slot.number / 64, 1 << (slot.number % 64));
        assert!(slot.number < device.slots && device.word(word) & bit != 0, "given back once");
        *device.word_mut(word) &= !bit;
        device.free += 1;
        if let Some(count) = device.stale.count_of(slot.number) {
            *count += 1;
        }
    }

    /// Free slots of a device that may hold data.
    pub fn stale_on(&self, number: u16) -> u64 {
        let device = self.devices.iter().find(|device| device.number == number);
        device.map_or(0, |device| device.stale.known + device.stale.unknown)
    }

    /// Up to `most` free slots of a device in a row that may hold data, to be discarded: until
    /// [`Slots::end_discard`] they are not taken. None where there are none.
    ///
    /// # Panics
    /// If some of the device are being discarded already.
    pub fn begin_discard(&mut self, number: u16, most: u64) -> Option<Range<u64>> {
        let device = self.device(number)?;
        assert!(device.busy.is_empty(), "one at a time");
        device.busy = device.next_stale(most)?;
        Some(device.busy.clone())
    }

    /// The slots that were being discarded can be taken again. They hold nothing if it is done.
    pub fn end_discard(&mut self, number: u16, done: bool) {
        let device = self.device(number).expect("a device stays until its discards have ended");
        let slots = std::mem::take(&mut device.busy);
        let words = slots.start / 64..slots.end.div_ceil(64);
        if !done {
            return words.for_each(|word| *device.stale.word_mut(word) |= bits_of(&slots, word));
        }
        device.stale.known -= slots.end - slots.start;
        for word in words {
            if device.stale.word(word) != 0 {
                *device.stale.word_mut(word) &= !bits_of(&slots, word);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_device_that_grows_has_its_new_slots_free() {
        let mut slots = Slots::default();
        slots.add_device(3, 70);
        (0..70).for_each(|_| assert!(slots.take().is_some()));
        slots.grow_device(3, 131);
        assert_eq!((slots.total(), slots.free(), slots.taken_on(3)), (131, 61, 70));
        let mut new: Vec<u64> = std::iter::from_fn(|| slots.take()).map(|s| s.number).collect();
        new.sort();
        assert!(new.into_iter().eq(70..131));
        slots.remove_device(3);
        assert_eq!((slots.total(), slots.take()), (0, None));
    }

    #[test]
    fn slots_are_spread_over_devices_until_all_are_taken() {
        let mut slots = Slots::default();
        slots.add_device(0, 3);
        slots.add_device(7, 65);
        assert_eq!((slots.total(), slots.free()), (68, 68));
        let first: Vec<u16> = (0..6).map(|_| slots.take().unwrap().device).collect();
        assert_eq!(first, [0, 7, 0, 7, 0, 7]);
        let rest: BTreeSet<Slot> = std::iter::from_fn(|| slots.take()).collect();
        assert_eq!(rest.len(), 62);
        assert!(rest.iter().all(|slot| slot.device == 7 && slot.number < 65));
        assert_eq!(slots.free(), 0);
        slots.close_device(7);
        slots.give(Slot { device: 7, number: 64 });
        assert_eq!((slots.take(), slots.free()), (None, 0), "nothing is taken on a closed device");
        slots.give(Slot { device: 0, number: 1 });
        assert_eq!(slots.take(), Some(Slot { device: 0, number: 1 }));
        slots.open_device(7);
        assert_eq!(slots.take(), Some(Slot { device: 7, number: 64 }));
    }

    #[test]
    fn knowing_what_holds_nothing_is_not_as_large_as_the_device() {
        let mut slots = Slots::default();
        slots.add_device(0, 1 << 24);
        assert!(slots.claim(Slot { device: 0, number: 1 << 23 }));
        let mut pieces = 0;
        while slots.begin_discard(0, 1 << 14).is_some() {
            slots.end_discard(0, true);
            pieces += 1;
        }
        assert_eq!((slots.stale_on(0), pieces), (0, 1 << 10));
        assert_eq!(slots.devices[0].stale.bits.from(0).count(), 1, "a page for what is taken");
    }

    const SIZES: [u64; 3] = [64, 0, 130];

    fn all() -> impl Iterator<Item = Slot> {
        (0u16..)
            .zip(SIZES)
            .flat_map(|(device, slots)| (0..slots).map(move |number| Slot { device, number }))
    }

    /// What slots are, one by one.
    struct Model {
        taken: BTreeSet<Slot>,
        stale: BTreeSet<Slot>,
        busy: [BTreeSet<Slot>; 3],
    }

    impl Model {
        fn free(&self) -> impl Iterator<Item = Slot> {
            all().filter(|slot| !self.taken.contains(slot))
        }

        fn is_busy(&self, slot: &Slot) -> bool {
            self.busy.iter().any(|busy| busy.contains(slot))
        }

        /// Begins to discard, or ends it, well or not.
        fn discard(&mut self, slots: &mut Slots, device: u16, most: u64) {
            let busy = std::mem::take(&mut self.busy[usize::from(device)]);
            if !busy.is_empty() {
                slots.end_discard(device, most > 3);
                if most > 3 {
                    self.stale.retain(|slot| !busy.contains(slot));
                }
                return;
            }
            let of_it = |slot: &Slot| slot.device == device && self.stale.contains(slot);
            let left = self.free().filter(of_it).count();
            let begun = slots.begin_discard(device, most).unwrap_or(0..0);
            assert_eq!(begun.is_empty(), left == 0);
            assert!(begun.end - begun.start <= most);
            self.busy[usize::from(device)] = begun.map(|number| Slot { device, number }).collect();
            let busy = &self.busy[usize::from(device)];
            assert!(busy.iter().all(|slot| !self.taken.contains(slot) && of_it(slot)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn they_behave_like_sets(
            claimed in proptest::collection::vec((0u16..3, 0u64..140), 0..100),
            steps in proptest::collection::vec((0u8..5, 0u16..3, 0u64..140), 1..400),
        ) {
            let mut slots = Slots::default();
            (0..3).for_each(|number| slots.add_device(number, SIZES[usize::from(number)]));
            let stale = all().collect();
            let mut model = Model { taken: BTreeSet::new(), stale, busy: Default::default() };
            for (device, number) in claimed {
                let (slot, exists) = (Slot { device, number }, number < SIZES[usize::from(device)]);
                prop_assert_eq!(slots.claim(slot), exists && model.taken.insert(slot));
            }
            for (step, device, number) in steps {
                let slot = Slot { device, number };
                match step {
                    0 => match slots.take() {
                        Some(slot) => {
                            prop_assert!(!model.is_busy(&slot), "it is being discarded");
                            prop_assert!(model.taken.insert(slot));
                        }
                        None => prop_assert!(model.free().all(|slot| model.is_busy(&slot))),
                    },
                    1 | 2 => {
                        if model.taken.remove(&slot) {
                            match step {
                                1 => slots.give(slot),
                                _ => slots.give_unused(slot),
                            }
                            if step == 1 {
                                model.stale.insert(slot);
                            }
                        }
                    }
                    _ => model.discard(&mut slots, device, number % 7 + 1),
                }
                prop_assert_eq!(slots.free(), model.free().count() as u64);
                for device in 0..3 {
                    let stale = |slot: &Slot| slot.device == device && model.stale.contains(slot);
                    let expected = model.free().filter(stale).count() as u64;
                    prop_assert_eq!(slots.stale_on(device), expected);
                }
            }
        }
    }
}
