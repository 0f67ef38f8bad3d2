//! Which slots of a pool's devices are free. Nothing of this is stored: what no entry names is
//! free.

use crate::entry::Slot;
use crate::sparse::Sparse;

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
    taken: Sparse<Box<[u64; PAGE_WORDS as usize]>>,
    slots: u64,
    free: u64,
    /// The word that is looked at next.
    hint: u64,
    /// Slots are taken here.
    open: bool,
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
        &mut self.taken.get_or_insert_with(page, || Box::new([0; PAGE_WORDS as usize]))[at]
    }

    fn take(&mut self) -> Option<Slot> {
        if self.free == 0 || !self.open {
            return None;
        }
        let words = self.slots.div_ceil(64);
        let at = (0..words)
            .map(|step| (self.hint + step) % words)
            .find(|at| self.word(*at) != u64::MAX)?;
        let bit = self.word(at).trailing_ones();
        *self.word_mut(at) |= 1 << bit;
        self.free -= 1;
        self.hint = at;
        Some(Slot { device: self.number, number: at * 64 + u64::from(bit) })
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
        let device = DeviceSlots { number, taken, slots, free: slots, hint, open: true };
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
    }

    /// A device is gone: no slot of it is taken.
    pub fn remove_device(&mut self, number: u16) {
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

    /// Slots that can be taken.
    pub fn free(&self) -> u64 {
        self.devices.iter().filter(|device| device.open).map(|device| device.free).sum()
    }

    /// Takes a free slot; `None` when the pool is full.
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
        *device.word_mut(word) |= bit;
        device.free -= 1;
        true
    }

    /// Gives a slot back.
    ///
    /// # Panics
    /// If it was not taken.
    pub fn give(&mut self, slot: Slot) {
        let device = self.device(slot.device).expect("a slot of a device that is there");
        let (word, bit) = (slot.number / 64, 1 << (slot.number % 64));
        assert!(slot.number < device.slots && device.word(word) & bit != 0, "given back once");
        *device.word_mut(word) &= !bit;
        device.free += 1;
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

    proptest! {
        #[test]
        fn they_behave_like_a_set(
            steps in proptest::collection::vec((0u8..3, 0u16..3, 0u64..140), 1..400),
        ) {
            let sizes = [64, 0, 130];
            let mut slots = Slots::default();
            (0..3).for_each(|number| slots.add_device(number, sizes[usize::from(number)]));
            let mut taken = BTreeSet::new();
            for (step, device, number) in steps {
                let slot = Slot { device, number };
                match step {
                    0 => match slots.take() {
                        Some(slot) => prop_assert!(taken.insert(slot)),
                        None => prop_assert_eq!(taken.len(), 194),
                    },
                    1 => {
                        let exists = number < sizes[usize::from(device)];
                        prop_assert_eq!(slots.claim(slot), exists && taken.insert(slot));
                    }
                    _ => {
                        if taken.remove(&slot) {
                            slots.give(slot);
                        }
                    }
                }
                prop_assert_eq!(slots.free(), 194 - taken.len() as u64);
            }
        }
    }
}
