//! Places that are mostly empty: as much memory as there is in them, wherever they lie.

/// What is at some of the places 0 to `u32::MAX`.
#[derive(Clone, Debug)]
pub(crate) struct Sparse<T>(Vec<(u32, T)>);

impl<T> Default for Sparse<T> {
    fn default() -> Sparse<T> {
        Sparse(Vec::new())
    }
}

impl<T> Sparse<T> {
    /// Where `place` is, or would be. Where nothing is left out, it is where one would look first.
    fn position(&self, place: u32) -> Result<usize, usize> {
        match self.0.get(place as usize) {
            Some((at, _)) if *at == place => Ok(place as usize),
            _ => self.0.binary_search_by_key(&place, |(at, _)| *at),
        }
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.position(place).ok().map(|at| &self.0[at].1)
    }

    /// What is at `place`; what `new` makes if that was nothing.
    pub(crate) fn get_or_insert_with(&mut self, place: u32, new: impl FnOnce() -> T) -> &mut T {
        let at = self.position(place).unwrap_or_else(|at| {
            self.0.insert(at, (place, new()));
            at
        });
        &mut self.0[at].1
    }

    /// What there is from `place` on, in order.
    pub(crate) fn from(&self, place: u32) -> impl Iterator<Item = (u32, &T)> + '_ {
        let at = self.position(place).unwrap_or_else(|at| at);
        self.0[at..].iter().map(|(place, value)| (*place, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn it_behaves_like_a_map(places in proptest::collection::vec(0..40u32, 0..60), from in 0..42u32) {
            let (mut sparse, mut model) = (Sparse::default(), BTreeMap::new());
            for (number, place) in places.into_iter().enumerate() {
                sparse.get_or_insert_with(place, || number);
                model.entry(place).or_insert(number);
                prop_assert_eq!(sparse.get(place), model.get(&place));
            }
            prop_assert_eq!(sparse.get(from), model.get(&from));
            let left: Vec<_> = sparse.from(from).collect();
            let expected: Vec<_> = model.range(from..).map(|(place, value)| (*place, value)).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
