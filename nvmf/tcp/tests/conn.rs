//! Over a simulated network: every way to cut the bytes, every kind of bad host.

mod support;

use nvme_spec::{Sqe, Status};
use nvmf::transport::{CloseReason, Transport};
use nvmf_tcp::Config;
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use support::WAIT;
use support::host::Host;
use support::world::{Link, MS, World, data, plain, r2t};

fn small() -> Config {
    Config { requests: 64, qpairs: 8, ..Config::default() }
}

#[derive(Clone, Debug)]
enum Op {
    Read { slot: u16, bytes: u32 },
    InCapsule { slot: u16, bytes: u32, seed: u8 },
    Pulled { slot: u16, bytes: u32, seed: u8 },
}

const SLOT_BYTES: u64 = 128 << 10;

fn op() -> impl Strategy<Value = Op> {
    let slot = 0u16..8;
    prop_oneof![
        (slot.clone(), 1u32..40_000).prop_map(|(slot, bytes)| Op::Read { slot, bytes }),
        (slot.clone(), 1u32..=8192, any::<u8>()).prop_map(|(slot, bytes, seed)| Op::InCapsule {
            slot,
            bytes,
            seed
        }),
        (slot, 1u32..100_000, any::<u8>()).prop_map(|(slot, bytes, seed)| Op::Pulled {
            slot,
            bytes,
            seed
        }),
    ]
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    let cut = prop_oneof![1usize..10, 1usize..200, 1usize..100_000, Just(0usize)];
    proptest::collection::vec(cut, 0..12)
        .prop_filter("some progress", |cuts| cuts.iter().sum::<usize>() >= 60 * cuts.len())
}

/// Runs `ops`, each slot's in order, several slots at once; every read gives what was written.
fn run_ops(world: &mut World, link: &mut Link, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut model = vec![0u8; 8 * SLOT_BYTES as usize];
    let mut queues: Vec<Vec<&Op>> = vec![Vec::new(); 8];
    for op in ops.iter().rev() {
        let (Op::Read { slot, .. } | Op::InCapsule { slot, .. } | Op::Pulled { slot, .. }) = op;
        queues[usize::from(*slot)].push(op);
    }
    let mut under_way: Vec<Option<Vec<u8>>> = vec![None; 8];
    let mut left = ops.len();
    let mut idle = 0;
    while left > 0 {
        for slot in 0..8u16 {
            if under_way[usize::from(slot)].is_some() {
                continue;
            }
            let at = u64::from(slot) * SLOT_BYTES;
            let range = |bytes: u32| at as usize..at as usize + bytes as usize;
            let expected = match queues[usize::from(slot)].pop() {
                None => continue,
                Some(Op::Read { bytes, .. }) => {
                    link.host.read(slot, at, *bytes);
                    model[range(*bytes)].to_vec()
                }
                Some(Op::InCapsule { bytes, seed, .. }) => {
                    let data = data(*seed, *bytes);
                    model[range(*bytes)].copy_from_slice(&data);
                    link.host.write_in_capsule(slot, at, &data);
                    Vec::new()
                }
                Some(Op::Pulled { bytes, seed, .. }) => {
                    let data = data(*seed, *bytes);
                    model[range(*bytes)].copy_from_slice(&data);
                    link.host.write(slot, at, data);
                    Vec::new()
                }
            };
            under_way[usize::from(slot)] = Some(expected);
        }
        world.turn(&mut [&mut *link]);
        idle += 1;
        prop_assert!(idle < 200_000, "nothing more happens");
        for done in link.host.done.drain(..) {
            let expected = under_way[usize::from(done.cid)].take();
            prop_assert_eq!(Some(done.data), expected);
            prop_assert!(done.cqe.is_none_or(|cqe| cqe.status().is_success()));
            left -= 1;
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn bytes_may_be_cut_anywhere(
        ops in proptest::collection::vec(op(), 1..40),
        cuts in cuts(),
        (hdgst, ddgst) in any::<(bool, bool)>(),
        hpda in 0u8..=31,
        maxr2t in 1u32..6,
        implied in any::<bool>(),
        delay in 0u32..6,
        (r2t_bytes, max_h2c_data_bytes) in prop_oneof![
            Just((1u32 << 20, 1u32 << 20)),
            (1u32..20_000, (1024u32..5000).prop_map(|n| n * 4)),
        ],
        requests in prop_oneof![Just(64u32), 1u32..10],
    ) {
        let config = Config { r2t_bytes, max_h2c_data_bytes, requests, ..small() };
        let mut world = World::new(config, 8 << 20);
        world.ram.implied = implied;
        world.ram.delay = delay;
        let mut link = world.connect(Host::new(hdgst, ddgst, hpda, maxr2t));
        link.pipe.lock().unwrap().cuts = cuts;
        world.run_one(&mut link, |link| link.host.is_ready());
        run_ops(&mut world, &mut link, &ops)?;
        world.end(vec![link]);
    }

    #[test]
    fn garbage_is_survived(
        greet in any::<bool>(),
        (hdgst, ddgst) in any::<(bool, bool)>(),
        ops in proptest::collection::vec(op(), 0..6),
        changes in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..8),
        tail in proptest::collection::vec(any::<u8>(), 0..400),
        cuts in cuts(),
    ) {
        let mut world = World::new(small(), 8 << 20);
        let mut link = world.connect(Host::new(hdgst, ddgst, 0, 1));
        link.pipe.lock().unwrap().cuts = cuts;
        if greet {
            world.run_one(&mut link, |link| link.host.is_ready());
        }
        for (cid, op) in ops.iter().enumerate() {
            let cid = cid as u16;
            match op {
                Op::Read { bytes, .. } => link.host.read(cid, 0, *bytes),
                Op::InCapsule { bytes, seed, .. } => {
                    link.host.write_in_capsule(cid, 0, &data(*seed, *bytes));
                }
                Op::Pulled { bytes, seed, .. } => link.host.write(cid, 0, data(*seed, *bytes)),
            }
        }
        let len = link.host.out.len();
        for (at, value) in changes {
            if len > 0 {
                // Headers are rare among the bytes: most changes go to the first few.
                let at = if at % 2 == 0 { usize::from(at) % len.min(80) } else { usize::from(at) % len };
                link.host.out[at] = value;
            }
        }
        link.host.out.extend(tail);
        // What comes back need not make sense to the host's own half.
        link.pipe.lock().unwrap().to_target.extend(std::mem::take(&mut link.host.out));
        for _ in 0..200 {
            world.turn(&mut []);
        }
        world.end(vec![link]);
    }
}

#[test]
fn data_is_reached_behind_commands_that_have_no_place() {
    let mut world = World::new(Config { requests: 4, ..small() }, 8 << 20);
    let mut link = world.ready(plain());
    // Every place is taken by a command whose data comes after all the commands.
    for cid in 0..200 {
        link.host.write(cid, u64::from(cid) * 512, data(cid as u8, 512));
    }
    world.run_one(&mut link, |link| link.host.done.len() == 200);
    for cid in 0..200usize {
        assert_eq!(world.ram.store.get(cid * 512..cid * 512 + 512), data(cid as u8, 512));
    }
    world.end(vec![link]);
}

#[test]
fn more_commands_than_places_wait_and_all_are_served() {
    let mut world = World::new(Config { requests: 4, ..small() }, 8 << 20);
    world.ram.delay = 3;
    let mut link = world.ready(plain());
    for cid in 0..100 {
        link.host.write_in_capsule(cid, u64::from(cid) * 512, &data(cid as u8, 512));
    }
    world.run_one(&mut link, |link| link.host.done.len() == 100);
    assert!(world.ram.transport.stats().held_back.load(Ordering::Relaxed) > 0);
    world.end(vec![link]);
}

#[test]
fn data_in_capsules_is_copied_when_receive_buffers_run_short() {
    // The pool has two buffers of 128 KiB and two of 1 MiB: all are soon held by slow commands.
    let mut world = World::new(Config { requests: 512, ..small() }, 8 << 20);
    world.ram.delay = 50;
    let mut link = world.ready(plain());
    for cid in 0..500 {
        link.host.write_in_capsule(cid, u64::from(cid) * 8192, &data(cid as u8, 8192));
        if cid % 10 == 0 {
            world.turn(&mut [&mut link]);
        }
    }
    world.run_one(&mut link, |link| link.host.done.len() == 500);
    for cid in 0..500usize {
        assert_eq!(world.ram.store.get(cid * 8192..cid * 8192 + 8192), data(cid as u8, 8192));
    }
    world.end(vec![link]);
}

#[test]
fn a_host_that_floods_leaves_others_their_turn() {
    let mut world = World::new(Config { requests: 64, ..small() }, 8 << 20);
    world.ram.delay = 1;
    let mut flood = world.ready(plain());
    let mut other = world.ready(plain());
    for cid in 0..20_000u16 {
        flood.host.read(cid, 0, 512);
    }
    world.turn(&mut [&mut flood]);
    for round in 0..50 {
        other.host.read(round, 0, 512);
        let done = usize::from(round) + 1;
        let before = flood.host.done.len();
        world.run(&mut [&mut flood, &mut other], |links| links[1].host.done.len() == done);
        let meanwhile = flood.host.done.len() - before;
        assert!(meanwhile <= 64 * 8, "{meanwhile} commands of the flood for one of the other");
    }
    world.run(&mut [&mut flood], |links| links[0].host.done.len() == 20_000);
    world.end(vec![flood, other]);
}

/// What a TermReq says after `abuse`, which gets the tag of an outstanding R2T.
fn term_after(abuse: impl Fn(&mut Host, u16)) -> (u16, u32) {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(plain());
    let tag = r2t(&mut world, &mut link);
    abuse(&mut link.host, tag);
    world.run_one(&mut link, |link| link.host.term.is_some());
    assert!(matches!(world.ram.closed[..], [CloseReason::Protocol(_)]));
    let pipe = link.pipe.clone();
    assert!(pipe.lock().unwrap().target_ended && !pipe.lock().unwrap().dropped);
    let term = link.host.term.unwrap();
    world.end(vec![link]);
    term
}

#[test]
fn data_that_answers_no_r2t_ends_the_connection() {
    let chunk = data(1, 4096);
    let (field, range) = (1, 4);
    assert_eq!(term_after(|h, tag| h.h2c_data(7, tag ^ 1, 0, &chunk, false)), (field, 10));
    assert_eq!(term_after(|h, tag| h.h2c_data(7, tag | 1 << 13, 0, &chunk, false)), (field, 10));
    assert_eq!(term_after(|h, _| h.h2c_data(7, 0xffff, 0, &chunk, false)), (field, 10));
    assert_eq!(term_after(|h, tag| h.h2c_data(8, tag, 0, &chunk, false)), (field, 8));
    assert_eq!(term_after(|h, tag| h.h2c_data(7, tag, 4096, &chunk, true)), (range, 12));
    let long = data(1, 8193);
    assert_eq!(term_after(|h, tag| h.h2c_data(7, tag, 0, &long, true)), (range, 16));
    assert_eq!(term_after(|h, tag| h.h2c_data(7, tag, 0, &chunk, true)), (field, 1));
    let whole = data(1, 8192);
    assert_eq!(term_after(|h, tag| h.h2c_data(7, tag, 0, &whole, false)), (field, 1));
    let twice = |h: &mut Host, tag| {
        h.h2c_data(7, tag, 0, &whole, true);
        h.h2c_data(7, tag, 0, &whole, true);
    };
    assert_eq!(term_after(twice), (field, 10));
}

#[test]
fn data_before_its_r2t_has_left_is_refused() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(plain());
    link.host.answers = false;
    // The network takes nothing from the target, so that its R2T stays queued.
    link.pipe.lock().unwrap().send_most = Some(0);
    link.host.write(7, 0, data(1, 8192));
    world.turn(&mut [&mut link]);
    world.turn(&mut [&mut link]);
    // The first command's tag is 0: a good guess, but too early.
    link.host.h2c_data(7, 0, 0, &data(1, 8192), true);
    world.turn(&mut [&mut link]);
    link.pipe.lock().unwrap().send_most = None;
    world.run_one(&mut link, |link| link.host.term.is_some());
    assert_eq!(link.host.term, Some((1, 10)));
    world.end(vec![link]);
}

#[test]
fn a_capsule_too_long_ends_the_connection() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(plain());
    link.host.write_in_capsule(1, 0, &data(0, 8196));
    world.run_one(&mut link, |link| link.host.term.is_some());
    world.end(vec![link]);
}

#[test]
fn a_wrong_header_digest_ends_the_connection() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(Host::new(true, false, 0, 1));
    link.host.read(1, 0, 512);
    let last = link.host.out.len() - 1;
    link.host.out[last] ^= 1;
    world.run_one(&mut link, |link| link.host.term.is_some());
    assert_eq!(link.host.term.unwrap().0, 3, "header digest error");
    world.end(vec![link]);
}

#[test]
fn a_wrong_data_digest_fails_the_command_only() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(Host::new(false, true, 0, 1));
    link.host.spoil = true;
    link.host.write_in_capsule(1, 0, &data(1, 4096));
    world.run_one(&mut link, |link| link.host.done.len() == 1);
    // The digest is that of the second H2CData of three.
    let tag = r2t(&mut world, &mut link);
    let whole = data(2, 8192);
    link.host.h2c_data(7, tag, 0, &whole[..1000], false);
    link.host.spoil = true;
    link.host.h2c_data(7, tag, 1000, &whole[1000..2000], false);
    link.host.h2c_data(7, tag, 2000, &whole[2000..], true);
    world.run_one(&mut link, |link| link.host.done.len() == 2);
    for done in &link.host.done {
        assert_eq!(done.cqe.unwrap().status(), Status::TRANSIENT_TRANSPORT);
    }
    assert!(world.ram.store.get(0..8192).iter().all(|byte| *byte == 0), "nothing was written");
    assert_eq!(world.ram.transport.stats().digest_errors.load(Ordering::Relaxed), 2);
    link.host.write_in_capsule(2, 0, &data(1, 4096));
    world.run_one(&mut link, |link| link.host.done.len() == 3);
    world.end(vec![link]);
}

#[test]
fn a_host_that_says_nothing_is_given_up() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.connect(plain());
    link.host.out.truncate(100);
    world.turn(&mut [&mut link]);
    world.now_ns += 4_900 * MS;
    world.turn(&mut [&mut link]);
    assert!(!link.pipe.lock().unwrap().dropped);
    world.now_ns += 200 * MS;
    world.turn(&mut [&mut link]);
    assert!(link.pipe.lock().unwrap().dropped);
    assert!(world.ram.closed.is_empty(), "it was never announced");
    world.end(vec![link]);
}

#[test]
fn a_pdu_that_trickles_is_given_up_but_silence_is_not() {
    let mut world = World::new(small(), 8 << 20);
    let mut quiet = world.ready(plain());
    let mut slow = world.ready(plain());
    slow.host.read(1, 0, 512);
    let command = std::mem::take(&mut slow.host.out);
    for byte in &command[..60] {
        slow.host.out.push(*byte);
        world.now_ns += 200 * MS;
        world.turn(&mut [&mut slow]);
    }
    assert!(slow.pipe.lock().unwrap().dropped);
    assert_eq!(world.ram.closed.len(), 1);
    world.now_ns += 3_600_000 * MS;
    quiet.host.read(1, 0, 512);
    world.run_one(&mut quiet, |link| link.host.done.len() == 1);
    world.end(vec![quiet, slow]);
}

#[test]
fn an_r2t_without_answer_is_given_up() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(plain());
    r2t(&mut world, &mut link);
    world.now_ns += 29_000 * MS;
    world.turn(&mut [&mut link]);
    assert!(!link.pipe.lock().unwrap().dropped);
    world.now_ns += 2_000 * MS;
    world.turn(&mut [&mut link]);
    assert!(link.pipe.lock().unwrap().dropped);
    world.end(vec![link]);
}

#[test]
fn a_queue_pair_that_is_closed_sends_what_was_answered() {
    let mut world = World::new(small(), 8 << 20);
    let mut link = world.ready(plain());
    world.ram.store.put(0, &[9; 512]);
    let mut wait = Sqe::new(WAIT, 9, 1);
    wait.flags = Sqe::FLAGS_SGL;
    link.host.send(&wait, &[]);
    let tag = r2t(&mut world, &mut link);
    link.host.read(1, 0, 512);
    // One byte at a time leaves the target, so that the close comes before the answer has left.
    link.pipe.lock().unwrap().send_most = Some(1);
    world.turn(&mut [&mut link]);
    let qpair = world.ram.open[0];
    world.ram.transport.close(qpair, CloseReason::Disconnect);
    link.host.h2c_data(7, tag, 0, &data(1, 8192), true);
    world.run_one(&mut link, |link| link.pipe.lock().unwrap().target_ended);
    assert_eq!(link.host.done.len(), 1);
    assert_eq!(link.host.done[0].data, [9; 512]);
    assert_eq!(world.ram.closed, [CloseReason::Disconnect]);
    assert!(world.ram.store.get(1000..8192).iter().all(|byte| *byte == 0), "the pull had ended");
    assert!(!link.pipe.lock().unwrap().dropped, "waits for the host");
    world.end(vec![link]);
}

#[test]
fn a_place_used_again_is_told_apart() {
    let mut world = World::new(Config { qpairs: 1, ..small() }, 8 << 20);
    let mut first = world.ready(plain());
    let mut wait = Sqe::new(WAIT, 9, 1);
    wait.flags = Sqe::FLAGS_SGL;
    first.host.send(&wait, &[]);
    world.turn(&mut [&mut first]);
    let old = world.ram.open[0];
    first.pipe.lock().unwrap().host_ended = true;
    world.turn(&mut [&mut first]);
    assert_eq!(world.ram.closed, [CloseReason::Peer]);

    let mut second = world.ready(plain());
    let new = world.ram.open[0];
    assert_eq!(new.index, old.index);
    assert_ne!(new.generation, old.generation);
    assert_eq!(world.ram.transport.counters(old), None);
    // The answer to the first one's command goes nowhere, and closing it again does nothing.
    world.ram.release_parked();
    world.ram.transport.close(old, CloseReason::Shutdown);
    second.host.read(1, 0, 512);
    world.run_one(&mut second, |link| link.host.done.len() == 1);
    assert_eq!(second.host.done[0].cid, 1);
    assert_eq!(world.ram.transport.counters(new).unwrap().commands, 1);

    let third = world.connect(plain());
    world.turn(&mut []);
    assert!(third.pipe.lock().unwrap().dropped, "no place is left");
    world.end(vec![first, second, third]);
}

#[test]
fn discarded_commands_are_not_answered_and_make_room_for_others() {
    let mut world = World::new(Config { requests: 2048, ..small() }, 8 << 20);
    let mut link = world.ready(plain());
    let mut wait = Sqe::new(WAIT, 9, 1);
    wait.flags = Sqe::FLAGS_SGL;
    // More, together, than one connection may have under way.
    for _ in 0..3 {
        let before = world.ram.commands;
        (0..1000).for_each(|_| link.host.send(&wait, &[]));
        for _ in 0..1000 {
            world.turn(&mut [&mut link]);
        }
        assert_eq!(world.ram.commands - before, 1000);
        world.ram.discard_parked();
        world.turn(&mut [&mut link]);
        assert_eq!(world.ram.busy(), 0);
    }
    assert!(link.host.done.is_empty());
    world.end(vec![link]);
}
