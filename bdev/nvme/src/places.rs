//! Command identifiers.

use crate::limits::PLACE_BITS;

struct Place<T> {
    /// The identifier of the command that is here, or that was here last.
    cid: u16,
    /// While nothing is here: the place to use after this one, or [`END`].
    next: u16,
    command: Option<T>,
}

/// No place.
const END: u16 = u16::MAX;

/// The commands under way in one queue, found by their identifiers. An identifier is the number of
/// a place and, above it, a count of how often the place was used: a completion that comes twice,
/// or after its time, names a use that is over.
pub(crate) struct Places<T> {
    places: Vec<Place<T>>,
    /// The place freed last: it is used first, while it is warm in the cache.
    free: u16,
    used: u32,
}

impl<T> Places<T> {
    /// `count` places.
    pub(crate) fn new(count: u32) -> Places<T> {
        assert!(count < 1 << PLACE_BITS);
        let after = |number| if number + 1 == count { END } else { number as u16 + 1 };
        let place = |number| Place { cid: number as u16, next: after(number), command: None };
        let free = if count == 0 { END } else { 0 };
        Places { places: (0..count).map(place).collect(), free, used: 0 }
    }

    /// Takes a place for `command`: its identifier.
    ///
    /// # Panics
    /// If every place is taken.
    #[inline(always)]
    pub(crate) fn insert(&mut self, command: T) -> u16 {
        let place = &mut self.places[usize::from(self.free)];
        self.free = place.next;
        self.used += 1;
        place.cid = place.cid.wrapping_add(1 << PLACE_BITS);
        place.command = Some(command);
        place.cid
    }

    /// The number of the place of `cid`, from 0.
    #[inline(always)]
    pub(crate) fn number(cid: u16) -> usize {
        usize::from(cid) & ((1 << PLACE_BITS) - 1)
    }

    /// Ends command `cid`, if it is under way; its place can be used again.
    #[inline(always)]
    pub(crate) fn remove(&mut self, cid: u16) -> Option<T> {
        let place = self.places.get_mut(Self::number(cid))?;
        if place.cid != cid {
            return None;
        }
        let command = place.command.take()?;
        place.next = self.free;
        self.free = Self::number(cid) as u16;
        self.used -= 1;
        Some(command)
    }

    /// Every command under way, with its identifier.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u16, &mut T)> {
        self.places.iter_mut().filter_map(|p| Some((p.cid, p.command.as_mut()?)))
    }

    /// Ends every command, in no order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        let cids = |place: &Place<T>| place.command.is_some().then_some(place.cid);
        let mut at = 0;
        std::iter::from_fn(move || {
            let cid = self.places[at..].iter().find_map(cids)?;
            at = Self::number(cid);
            self.remove(cid)
        })
    }

    /// Commands under way.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.used
    }

    /// Whether every place is taken.
    #[inline(always)]
    pub(crate) fn is_full(&self) -> bool {
        self.free == END
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn only_commands_under_way_are_found(
            ops in proptest::collection::vec((0u8..3, any::<prop::sample::Index>()), 1..300),
        ) {
            let mut places = Places::new(5);
            let mut model: HashMap<u16, usize> = HashMap::new();
            let mut over: Vec<u16> = Vec::new();
            for (step, (op, index)) in ops.into_iter().enumerate() {
                let live: Vec<u16> = model.keys().copied().collect();
                match op {
                    0 | 1 if !places.is_full() => {
                        let cid = places.insert(step);
                        prop_assert!(cid != 0xffff && model.insert(cid, step).is_none());
                        over.retain(|old| *old != cid);
                    }
                    2 if !live.is_empty() => {
                        let cid = *index.get(&live);
                        prop_assert_eq!(places.remove(cid), model.remove(&cid));
                        over.push(cid);
                    }
                    _ => {}
                }
                for cid in &over {
                    prop_assert!(places.remove(*cid).is_none());
                }
                prop_assert_eq!(places.len() as usize, model.len());
                prop_assert_eq!(places.is_full(), model.len() == 5);
            }
            prop_assert!(places.remove(0xffff).is_none() && places.remove(5).is_none());
        }
    }
}
