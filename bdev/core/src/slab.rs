//! Fixed storage with stable indices.

/// A bounded number of places; an index stays valid until it is removed. Never allocates after
/// `new`; the place freed last is used first, while it is warm in the cache.
pub struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
    limit: u32,
}

impl<T> Slab<T> {
    /// A slab of `limit` places.
    pub fn new(limit: u32) -> Slab<T> {
        let places = (0..limit).map(|_| None).collect();
        Slab { places, free: (0..limit).rev().collect(), limit }
    }

    /// A slab of at most `limit` places that has none at first and allocates them as it fills: for
    /// what there are many of, most of them idle.
    pub fn growing(limit: u32) -> Slab<T> {
        Slab { places: Vec::new(), free: Vec::new(), limit }
    }

    /// Stores `value`, or gives it back when every place is taken.
    pub fn insert(&mut self, value: T) -> Result<u32, T> {
        let Some(index) = self.free.pop() else { return self.grow(value) };
        self.places[index as usize] = Some(value);
        Ok(index)
    }

    #[cold]
    fn grow(&mut self, value: T) -> Result<u32, T> {
        let index = self.places.len() as u32;
        if index == self.limit {
            return Err(value);
        }
        self.places.push(Some(value));
        self.free.reserve(self.places.len());
        Ok(index)
    }

    /// Takes the value at `index`, if there is one.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.places.get_mut(index as usize)?.take()?;
        self.free.push(index);
        Some(value)
    }

    /// The value at `index`, if there is one.
    pub fn get(&self, index: u32) -> Option<&T> {
        self.places.get(index as usize)?.as_ref()
    }

    /// The value at `index`, to change, if there is one.
    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.places.get_mut(index as usize)?.as_mut()
    }

    /// Number of values.
    pub fn len(&self) -> u32 {
        (self.places.len() - self.free.len()) as u32
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.free.len() == self.places.len()
    }

    /// Whether every place is taken.
    pub fn is_full(&self) -> bool {
        self.len() == self.limit
    }

    /// Every value with its index.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.places.iter().enumerate().filter_map(|(i, v)| Some((i as u32, v.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn behaves_like_a_bounded_map(grows: bool, ops in proptest::collection::vec((any::<bool>(), 0u32..12), 1..200)) {
            let mut slab = if grows { Slab::growing(8) } else { Slab::new(8) };
            let mut model: HashMap<u32, u32> = HashMap::new();
            for (step, (insert, index)) in ops.into_iter().enumerate() {
                let step = step as u32;
                if insert {
                    match slab.insert(step) {
                        Ok(at) => prop_assert!(model.insert(at, step).is_none()),
                        Err(back) => { prop_assert_eq!(back, step); prop_assert_eq!(model.len(), 8); }
                    }
                } else {
                    prop_assert_eq!(slab.remove(index), model.remove(&index));
                }
                prop_assert_eq!(slab.len() as usize, model.len());
                prop_assert_eq!(slab.is_full(), model.len() == 8);
            }
            for (index, value) in slab.iter() {
                prop_assert_eq!(model.get(&index), Some(value));
            }
        }
    }
}
