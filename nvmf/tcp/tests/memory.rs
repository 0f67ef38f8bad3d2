//! Data that is read and written where it is stored: no block is ever seen half.

mod support;

use nvmf_tcp::Config;
use proptest::prelude::*;
use support::host::{Done, Host};
use support::world::{World, data, plain, r2t};

/// Reads of memory that changes from turn to turn, over a connection that takes a few bytes at a
/// time. Whether some block came that was part old and part new.
fn some_block_is_torn(lent: bool, hdgst: bool, hpda: u8, implied: bool, cuts: &[usize]) -> bool {
    let mut world = World::new(Config::default(), 8 << 20);
    world.ram.lend = Some(lent);
    world.ram.implied = implied;
    let mut link = world.ready(Host::new(hdgst, false, hpda, 1));
    link.pipe.lock().unwrap().cuts = cuts.to_vec();
    for (cid, bytes) in [4096, 12_288, 512, 20_480, 4096].into_iter().enumerate() {
        link.host.read(cid as u16, 8192, bytes);
    }
    for age in 1..20_000u32 {
        if link.host.done.len() == 5 {
            break;
        }
        world.ram.store.put(0, &age.to_le_bytes().repeat(8192));
        world.turn(&mut [&mut link]);
    }
    assert_eq!(link.host.done.len(), 5, "every read is answered");
    let mut done = std::mem::take(&mut link.host.done);
    done.sort_by_key(|done| done.cid);
    let lengths: Vec<usize> = done.iter().map(|done| done.data.len()).collect();
    assert_eq!(lengths, [4096, 12_288, 512, 20_480, 4096]);
    world.end(vec![link]);
    let torn = |block: &[u8]| block.chunks(4).any(|word| word != &block[..4]);
    done.iter().any(|done| done.data.chunks(4096).any(torn))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_that_are_lent_arrive_whole(
        hdgst in any::<bool>(),
        hpda in 0u8..32,
        implied in any::<bool>(),
        cuts in proptest::collection::vec(0usize..9000, 1..8),
    ) {
        prop_assume!(cuts.iter().any(|cut| *cut > 200));
        prop_assert!(!some_block_is_torn(true, hdgst, hpda, implied, &cuts));
    }
}

#[test]
fn the_checker_catches_a_transport_that_does_not_know_what_is_lent() {
    assert!(some_block_is_torn(false, false, 0, true, &[3000, 1000]));
}

/// Writes to memory over a connection that brings a few bytes at a time, in PDUs of at most
/// `pdu_bytes`, until it ends after `turns` turns. Whether a block was ever written in part, or
/// written when it was not allowed.
fn some_block_lands_in_part(
    land: bool,
    hdgst: bool,
    pdu_bytes: u32,
    cuts: &[usize],
    turns: u32,
) -> bool {
    const OLD: u8 = 0xee;
    let mut world = World::new(Config { r2t_bytes: 8192, ..Config::default() }, 8 << 20);
    world.ram.land = Some(land);
    let mut link = world.ready(Host::new(hdgst, false, 0, 3));
    link.pipe.lock().unwrap().cuts = cuts.to_vec();
    link.host.maxh2cdata = pdu_bytes;
    let writes: Vec<(usize, Vec<u8>)> = [4096, 12_288, 512, 20_480, 66_048, 10_240]
        .into_iter()
        .enumerate()
        .map(|(number, bytes)| (number * 128 * 1024 + 512, data(number as u8, bytes)))
        .collect();
    for (number, (at, bytes)) in writes.iter().enumerate() {
        world.ram.store.put(*at, &vec![OLD; bytes.len()]);
        link.host.write(number as u16, *at as u64, bytes.clone());
    }
    let stored = |world: &World| -> Vec<Vec<u8>> {
        writes.iter().map(|(at, new)| world.ram.store.get(*at..*at + new.len())).collect()
    };
    let in_part = |stored: &[Vec<u8>]| {
        stored.iter().zip(&writes).any(|(stored, (_, new))| {
            let blocks = stored.chunks(4096).zip(new.chunks(4096));
            blocks.into_iter().any(|(is, new)| is != new && is.iter().any(|byte| *byte != OLD))
        })
    };
    let mut torn = false;
    for _ in 0..turns {
        let before = stored(&world);
        world.turn(&mut [&mut link]);
        let now = stored(&world);
        torn |= in_part(&now) || (!world.ram.may_land() && before != now);
    }
    let done = link.host.done.len();
    let whole = |done: &Done| {
        let (at, new) = &writes[usize::from(done.cid)];
        world.ram.store.get(*at..*at + new.len()) == *new
    };
    assert!(link.host.done.iter().all(whole), "what is acknowledged is there");
    assert!(done == writes.len() || turns < 5_000, "every write is answered: {done}");
    world.end(vec![link]);
    torn
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn blocks_land_whole(
        hdgst in any::<bool>(),
        pdu_bytes in prop_oneof![Just(1u32 << 20), (1u32..8000).prop_map(|words| words * 4)],
        cuts in proptest::collection::vec(
            prop_oneof![0usize..9000, 0usize..200_000, Just(64 << 10)],
            0..8,
        ),
        turns in prop_oneof![Just(5_000u32), 1u32..60],
    ) {
        prop_assume!(cuts.is_empty() || cuts.iter().any(|cut| *cut > 500));
        prop_assert!(!some_block_lands_in_part(true, hdgst, pdu_bytes, &cuts, turns));
    }
}

#[test]
fn the_checker_catches_a_transport_that_does_not_know_where_it_writes() {
    assert!(some_block_lands_in_part(false, false, 1 << 20, &[3000, 1000], 5_000));
}

#[test]
fn a_block_that_is_cut_over_two_pdus_lands_whole_wherever_the_second_is_cut() {
    const OLD: u8 = 0xee;
    const FIRST: usize = 2000;
    let new = data(1, 8192);
    for cut in 1..80 {
        let mut world = World::new(Config::default(), 8 << 20);
        world.ram.land = Some(true);
        let mut link = world.ready(plain());
        world.ram.store.put(0, &[OLD; 8192]);
        let tag = r2t(&mut world, &mut link);
        link.host.h2c_data(7, tag, 0, &new[..FIRST], false);
        link.host.h2c_data(7, tag, FIRST as u32, &new[FIRST..], true);
        let out = std::mem::take(&mut link.host.out);
        let (before, after) = out.split_at(24 + FIRST + cut);
        for piece in [before, after] {
            let stored = world.ram.store.get(0..8192);
            let whole = stored.chunks(4096).zip(new.chunks(4096));
            let torn = whole.into_iter().any(|(is, new)| is != new && is != [OLD; 4096]);
            assert!(!torn, "cut after {cut} bytes of the second");
            link.host.out = piece.to_vec();
            for _ in 0..4 {
                world.turn(&mut [&mut link]);
            }
        }
        assert_eq!(link.host.done.len(), 1);
        assert!(world.ram.store.get(0..8192) == new, "cut after {cut} bytes of the second");
        world.end(vec![link]);
    }
}
