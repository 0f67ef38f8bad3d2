//! Which commands of a queue pair are under way, by command identifier.

/// A fixed hash table from command identifiers to request places, filled at most half: open
/// addressing, neighbours in the order of the places they want (Robin Hood), so that a search and
/// a removal end at the first one that is where it wants to be. Hosts count their identifiers in
/// the low bits, which are the hash: then each is where it wants to be.
pub(crate) struct CidTable {
    places: Box<[Place]>,
    mask: usize,
    used: usize,
}

#[derive(Clone, Copy)]
struct Place {
    req: u32,
    cid: u16,
}

const EMPTY: Place = Place { req: u32::MAX, cid: 0 };

/// Why a command identifier could not be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CidError {
    /// A command with this identifier is under way.
    Conflict,
    /// More commands than the queue has entries.
    Full,
}

impl CidTable {
    /// A table for `commands` commands at once.
    pub(crate) fn new(commands: usize) -> CidTable {
        let places = (commands.max(1) * 2).next_power_of_two();
        CidTable { places: vec![EMPTY; places].into_boxed_slice(), mask: places - 1, used: 0 }
    }

    /// Commands under way.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.used
    }

    /// Enters command `cid`, whose request is `req`.
    pub(crate) fn insert(&mut self, cid: u16, req: u32) -> Result<(), CidError> {
        let at = match self.search(cid) {
            Ok(_) => return Err(CidError::Conflict),
            Err(at) => at,
        };
        if self.used * 2 >= self.places.len() {
            return Err(CidError::Full);
        }
        self.used += 1;
        let mut at = at;
        let mut moving = Place { req, cid };
        // What was there moves one further, as does what it meets.
        while moving.req != u32::MAX {
            std::mem::swap(&mut self.places[at], &mut moving);
            at = (at + 1) & self.mask;
        }
        Ok(())
    }

    /// The request of command `cid`.
    #[inline]
    pub(crate) fn get(&self, cid: u16) -> Option<u32> {
        self.search(cid).ok().map(|at| self.places[at].req)
    }

    /// Every request in the table.
    pub(crate) fn requests(&self) -> impl Iterator<Item = u32> + '_ {
        self.places.iter().map(|place| place.req).filter(|req| *req != u32::MAX)
    }

    /// How far from where it wants to be the command in place `at` is.
    #[inline]
    fn distance(&self, at: usize) -> usize {
        at.wrapping_sub(usize::from(self.places[at].cid)) & self.mask
    }

    /// The place of command `cid`, or the place that it would take.
    #[inline]
    fn search(&self, cid: u16) -> Result<usize, usize> {
        let mut at = usize::from(cid) & self.mask;
        let mut distance = 0;
        while self.places[at].req != u32::MAX {
            if self.places[at].cid == cid {
                return Ok(at);
            }
            if self.distance(at) < distance {
                break;
            }
            at = (at + 1) & self.mask;
            distance += 1;
        }
        Err(at)
    }

    /// Takes command `cid` out.
    ///
    /// # Panics
    /// If it is not in.
    #[inline(always)]
    pub(crate) fn remove(&mut self, cid: u16) {
        let mut hole = self.search(cid).expect("a command ends once");
        self.used -= 1;
        loop {
            let next = (hole + 1) & self.mask;
            if self.places[next].req == u32::MAX || self.distance(next) == 0 {
                break;
            }
            self.places[hole] = self.places[next];
            hole = next;
        }
        self.places[hole] = EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_like_a_bounded_map(
            ops in proptest::collection::vec((any::<bool>(), 0u16..6, 0u16..4), 1..300),
        ) {
            let mut table = CidTable::new(8);
            let mut model: HashMap<u16, u32> = HashMap::new();
            for (step, (insert, low, high)) in ops.into_iter().enumerate() {
                // Identifiers that collide in the low bits, some at the end of the table.
                let cid = high << 12 | (14 + low) & 0xf;
                if insert {
                    let expected = if model.contains_key(&cid) {
                        Err(CidError::Conflict)
                    } else if model.len() == 8 {
                        Err(CidError::Full)
                    } else {
                        model.insert(cid, step as u32);
                        Ok(())
                    };
                    prop_assert_eq!(table.insert(cid, step as u32), expected);
                } else if model.remove(&cid).is_some() {
                    table.remove(cid);
                }
                prop_assert_eq!(table.len(), model.len());
                for high in 0..4u16 {
                    for low in 0..16u16 {
                        let cid = high << 12 | low;
                        prop_assert_eq!(table.get(cid), model.get(&cid).copied());
                    }
                }
                let mut all: Vec<u32> = table.requests().collect();
                let mut wanted: Vec<u32> = model.values().copied().collect();
                all.sort_unstable();
                wanted.sort_unstable();
                prop_assert_eq!(all, wanted);
            }
        }
    }
}
