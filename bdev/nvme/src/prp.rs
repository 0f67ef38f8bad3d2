//! Physical region pages of one contiguous buffer (Base Specification, "Physical Region Page Entry
//! and List").

use crate::limits::{LIST_ENTRIES, PAGE_BYTES};

/// The two entries of a command for the `bytes` bytes at address `start`, at least 1. Where they
/// are on the bus, `bus` says; the pages past the second need a list, whose entries go to `put` and
/// which lies at `list()` on the bus.
///
/// # Panics
/// If the buffer has more pages than a list: transfers are cut before.
#[inline(always)]
pub(crate) fn prps(
    start: usize,
    bytes: usize,
    list: impl FnOnce() -> u64,
    bus: impl Fn(usize) -> u64,
    mut put: impl FnMut(usize, u64),
) -> (u64, u64) {
    let in_first = PAGE_BYTES - start % PAGE_BYTES;
    let first = bus(start);
    if bytes <= in_first {
        return (first, 0);
    }
    let second = start + in_first;
    if bytes <= in_first + PAGE_BYTES {
        return (first, bus(second));
    }
    list_prps(first, second, bytes - in_first, list, bus, &mut put)
}

/// The same for a buffer with more than two pages.
#[inline(never)]
fn list_prps(
    first: u64,
    second: usize,
    rest_bytes: usize,
    list: impl FnOnce() -> u64,
    bus: impl Fn(usize) -> u64,
    put: &mut impl FnMut(usize, u64),
) -> (u64, u64) {
    let pages = rest_bytes.div_ceil(PAGE_BYTES);
    assert!(pages <= LIST_ENTRIES, "a transfer of {rest_bytes} bytes does not fit a list");
    for page in 0..pages {
        put(page, bus(second + page * PAGE_BYTES));
    }
    (first, list())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A bus on which no two pages are neighbours.
    fn bus(address: usize) -> u64 {
        let page = (address / PAGE_BYTES) as u64;
        (page * 3 + 7) * PAGE_BYTES as u64 + (address % PAGE_BYTES) as u64
    }

    /// Every byte that the entries stand for, as a controller reads them.
    fn walk(prp1: u64, prp2: u64, bytes: usize, list: &[u64]) -> Vec<(u64, usize)> {
        let first = (PAGE_BYTES - prp1 as usize % PAGE_BYTES).min(bytes);
        let mut runs = vec![(prp1, first)];
        let mut left = bytes - first;
        let one = [prp2];
        let mut entries = if left > PAGE_BYTES { list.iter() } else { one.iter() };
        while left > 0 {
            let run = left.min(PAGE_BYTES);
            runs.push((*entries.next().expect("an entry for each page"), run));
            left -= run;
        }
        assert_eq!(left, 0);
        runs
    }

    proptest! {
        #[test]
        fn a_controller_reaches_every_byte_and_no_other(
            start in 0usize..3 * PAGE_BYTES,
            bytes in 1usize..=1 << 20,
        ) {
            let start = start & !3;
            let mut list = Vec::new();
            let (prp1, prp2) = prps(start, bytes, || 0xabc000, bus, |at, entry| {
                assert_eq!(at, list.len());
                list.push(entry);
            });
            prop_assert_eq!(list.is_empty(), prp2 != 0xabc000);
            let mut address = start;
            for (at, run) in walk(prp1, prp2, bytes, &list) {
                prop_assert_eq!(at, bus(address));
                address += run;
            }
            prop_assert_eq!(address, start + bytes);
        }
    }
}
