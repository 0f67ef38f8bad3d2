//! The queue protocol: phase, wrap, identifiers, order, PRPs, doorbells.

mod rig;
mod soft;

use bdev::{Bdev, Discards, DmaSlice, IoFlags, Op};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use rig::Rig;
use soft::{Config, Fate, Space};
use std::sync::{Arc, Mutex};

fn small() -> Config {
    Config { mqes: 3, ..Config::default() }
}

#[test]
fn rings_wrap_many_times() {
    let mut rig = Rig::new(small());
    let ns = rig.open(1);
    for round in 0..200u64 {
        let fill = round as u8 | 1;
        assert_eq!(rig.write(ns, round % 50 * 8, 8, &[fill; 4096]), Status::SUCCESS);
        let (status, got) = rig.read(ns, round % 50 * 8, 8, 4096);
        assert!(status.is_success() && got == [fill; 4096], "round {round}");
    }
    rig.check();
    rig.stack.close(ns);
    assert_eq!(rig.controller.counts(), Default::default());
}

#[test]
fn more_than_the_queue_holds_waits_its_turn() {
    let mut rig = Rig::new(small());
    let ns = rig.open(1);
    let bufs: Vec<_> = (0..40).map(|n| rig.buffer(512, n as u8 + 1)).collect();
    for (n, buf) in bufs.iter().enumerate() {
        let data = buf.slice().sub(0, 512);
        rig.submit(ns, Op::Write, IoFlags::NONE, n as u64, 1, data, n as u64);
    }
    assert_eq!(rig.stack.outstanding(ns), 40);
    rig.run(40);
    assert_eq!(rig.stack.outstanding(ns), 0);
    rig.dones.clear();
    bufs.into_iter().for_each(|buf| rig.pool.give(buf));
    let (status, got) = rig.read(ns, 0, 40, 40 * 512);
    assert!(status.is_success());
    assert!(got.chunks(512).zip(1u8..).all(|(block, fill)| block == [fill; 512]));
    rig.check();
}

#[test]
fn one_doorbell_a_turn_for_any_number_of_commands() {
    let mut rig = Rig::new(Config::default());
    let ns = rig.open(1);
    rig.turns(20);
    let buf = rig.buffer(512, 0);
    for batch in [1u64, 32, 100] {
        rig.turns(3);
        let before = rig.soft.engine().doorbells;
        for tag in 0..batch {
            rig.submit(ns, Op::Read, IoFlags::NONE, tag, 1, buf.slice().sub(0, 512), tag);
        }
        rig.run(batch as usize);
        let after = rig.soft.engine().doorbells;
        // The admin queue rings none of its own in so few turns after a quiet time.
        assert_eq!((after[0] - before[0], after[1] - before[1]), (1, 1), "{batch} commands");
        rig.dones.clear();
    }
    rig.pool.give(buf);
    rig.check();
}

#[test]
fn completions_in_any_order_reach_their_operations() {
    let mut rig = Rig::new(Config::default());
    let ns = rig.open(1);
    rig.turns(10);
    rig.soft.engine().decide = Box::new(|qid, _| if qid > 0 { Fate::Later } else { Fate::Now });
    let bufs: Vec<_> = (0..16).map(|_| rig.buffer(512, 0)).collect();
    for (n, buf) in bufs.iter().enumerate() {
        rig.soft.engine().spaces[0].data[n * 512..][..512].fill(n as u8 + 1);
        let data = buf.slice().sub(0, 512);
        rig.submit(ns, Op::Read, IoFlags::NONE, n as u64, 1, data, n as u64);
    }
    rig.turns(3);
    assert_eq!(rig.dones.len(), 0);
    for at in [15, 0, 7, 7, 3, 0, 0] {
        rig.soft.engine().complete_at(at);
    }
    rig.turns(2);
    let order: Vec<u64> = rig.dones.iter().map(|done| done.tag.0).collect();
    assert_eq!(order, [15, 0, 8, 9, 4, 1, 2]);
    rig.soft.engine().complete_where(|held| held.qid > 0);
    rig.run(16);
    for (n, buf) in bufs.into_iter().enumerate() {
        let mut got = [0; 512];
        buf.slice().copy_out(0, &mut got);
        assert_eq!(got, [n as u8 + 1; 512]);
        rig.pool.give(buf);
    }
    rig.check();
}

#[test]
fn completions_of_no_command_are_counted_and_ignored() {
    let mut rig = Rig::new(small());
    let ns = rig.open(1);
    for (fate, spurious) in [
        (Fate::Twice, 1),
        (Fate::StrayBefore(0xffff), 1),
        (Fate::StrayBefore(0x03ff), 1),
        (Fate::WrongQueue, 1),
        (Fate::Now, 0),
    ] {
        rig.turns(3);
        let before = rig.controller.counts().spurious;
        rig.soft.engine().decide = Box::new(move |qid, _| if qid > 0 { fate } else { Fate::Now });
        for n in 0..10 {
            assert_eq!(rig.write(ns, n, 1, &[n as u8; 512]), Status::SUCCESS, "{fate:?}");
        }
        rig.turns(3);
        assert_eq!(rig.controller.counts().spurious - before, spurious * 10, "{fate:?}");
    }
    rig.check();
}

#[test]
fn statuses_reach_the_operation_with_do_not_retry_and_nothing_else() {
    let mut rig = Rig::new(Config::default());
    let ns = rig.open(1);
    let odd = Status::from_bits(Status::UNRECOVERED_READ.dnr().more().bits() | 1 << 11);
    rig.soft.engine().decide =
        Box::new(move |qid, _| if qid > 0 { Fate::Fail(odd) } else { Fate::Now });
    let (status, got) = rig.read(ns, 0, 1, 512);
    assert_eq!((status, got), (Status::UNRECOVERED_READ.dnr(), vec![0xee; 512]));
    assert_eq!(rig.controller.counts().errors, 1);
    let buf = rig.buffer(4096, 0);
    let unaligned = buf.slice().sub(2, 512);
    assert_eq!(rig.one(ns, Op::Read, 0, 1, unaligned), Status::INVALID_PRP_OFFSET.dnr());
    rig.pool.give(buf);
    rig.check();
}

/// The commands that a drive saw on its I/O queues.
fn seen(rig: &Rig) -> Arc<Mutex<Vec<Sqe>>> {
    let seen: Arc<Mutex<Vec<Sqe>>> = Arc::default();
    let log = seen.clone();
    rig.soft.engine().decide = Box::new(move |qid, sqe| {
        if qid > 0 {
            log.lock().unwrap().push(*sqe);
        }
        Fate::Now
    });
    seen
}

#[test]
fn transfers_beyond_mdts_are_cut() {
    let mut rig = Rig::new(Config { mdts: 2, ..Config::default() });
    let ns = rig.open(1);
    rig.turns(10);
    let seen = seen(&rig);
    let bytes: Vec<u8> = (0..1 << 20).map(|n: u32| (n / 40) as u8).collect();
    assert_eq!(rig.write(ns, 100, 2048, &bytes), Status::SUCCESS);
    let (status, got) = rig.read(ns, 100, 2048, 1 << 20);
    assert!(status.is_success() && got == bytes);
    assert_eq!(seen.lock().unwrap().len(), 2 * 64);
    // A piece in the middle fails: the rest is not done.
    rig.soft.engine().decide = Box::new(|qid, sqe| match sqe.slba() {
        132.. if qid > 0 => Fate::Fail(Status::WRITE_FAULT),
        _ => Fate::Now,
    });
    assert_eq!(rig.write(ns, 100, 2048, &[0xaa; 1 << 20]), Status::WRITE_FAULT);
    assert_eq!(rig.soft.engine().spaces[0].data[132 * 512], bytes[32 * 512]);
    rig.check();
}

#[test]
fn prps_reach_every_page_at_every_offset() {
    let mut rig = Rig::new(Config { mdts: 8, ..Config::default() });
    let ns = rig.open(1);
    let whole = rig.pool.take(1 << 20).unwrap();
    let largest = (1 << 20) / 512;
    for (offset, blocks) in
        [(0, 1), (4, 8), (4092, 8), (512, 8), (0, 16), (4, 16), (2048, 17), (0, 600), (0, largest)]
    {
        let bytes = blocks * 512;
        let data = whole.slice().sub(offset, bytes);
        let pattern: Vec<u8> = (0..bytes).map(|n| (n / 7) as u8 ^ blocks as u8).collect();
        data.copy_in(0, &pattern);
        assert_eq!(rig.one(ns, Op::Write, 3, blocks as u32, data), Status::SUCCESS);
        data.zero();
        assert_eq!(rig.one(ns, Op::Read, 3, blocks as u32, data), Status::SUCCESS);
        let mut got = vec![0; bytes];
        data.copy_out(0, &mut got);
        assert!(got == pattern, "{blocks} blocks at {offset}");
    }
    rig.pool.give(whole);
    rig.check();
}

#[test]
fn zeroing_uses_the_command_where_there_is_one() {
    for write_zeroes in [true, false] {
        let spaces = vec![Space::new(1, 512, 200_000)];
        let mut rig = Rig::new(Config { write_zeroes, spaces, mdts: 8, ..Config::default() });
        let ns = rig.open(1);
        rig.soft.engine().spaces[0].data.fill(0x77);
        let seen = seen(&rig);
        let (lba, blocks) = (10, 150_000);
        let status = rig.one(ns, Op::WriteZeroes, lba, blocks, DmaSlice::EMPTY);
        assert_eq!(status, Status::SUCCESS);
        assert_eq!(rig.one(ns, Op::Deallocate, 199_990, 10, DmaSlice::EMPTY), Status::SUCCESS);
        let engine = rig.soft.engine();
        let data = &engine.spaces[0].data;
        assert!(data[10 * 512..150_010 * 512].iter().all(|byte| *byte == 0));
        assert!(data[199_990 * 512..].iter().all(|byte| *byte == 0));
        assert!(data[..10 * 512].iter().all(|byte| *byte == 0x77));
        assert!(data[150_010 * 512..199_990 * 512].iter().all(|byte| *byte == 0x77));
        let seen = seen.lock().unwrap();
        let wanted = if write_zeroes { nvm::WRITE_ZEROES } else { nvm::WRITE };
        assert!(seen.iter().all(|sqe| sqe.opcode == wanted));
        let deallocates: Vec<bool> = seen.iter().map(|sqe| sqe.deac()).collect();
        assert_eq!(*deallocates.last().unwrap(), write_zeroes);
        assert!(!deallocates[0]);
        drop(engine);
        rig.check();
    }
}

#[test]
fn what_nobody_needs_is_discarded_and_never_zeroed() {
    for most in [0, 60_000] {
        let spaces = vec![Space::new(1, 512, 200_000)];
        let mut rig = Rig::new(Config { discards: Some(most), spaces, ..Config::default() });
        assert!(matches!(rig.bdev(1).unwrap().discards(), Discards::Well(_)));
        let ns = rig.open(1);
        rig.soft.engine().spaces[0].data.fill(0x77);
        let seen = seen(&rig);
        rig.submit(ns, Op::Deallocate, IoFlags::ANY_CONTENT, 10, 150_000, DmaSlice::EMPTY, 1);
        rig.run(1);
        assert_eq!(rig.dones.pop().unwrap().status, Status::SUCCESS);
        let engine = rig.soft.engine();
        let data = &engine.spaces[0].data;
        assert!(data[10 * 512..150_010 * 512].iter().all(|byte| *byte == 0xdd));
        assert!(data[..10 * 512].iter().chain(&data[150_010 * 512..]).all(|byte| *byte == 0x77));
        let seen = seen.lock().unwrap();
        assert!(seen.iter().all(|sqe| sqe.opcode == nvm::DATASET_MANAGEMENT));
        assert_eq!(seen.len(), if most == 0 { 1 } else { 3 });
        drop(engine);
        rig.check();
    }
}

#[test]
fn a_drive_without_a_command_for_it_is_not_filled_with_zeros() {
    for write_zeroes in [true, false] {
        let mut rig = Rig::new(Config { write_zeroes, ..Config::default() });
        let deallocates = rig.bdev(1).unwrap().geometry().deallocates;
        let discards = rig.bdev(1).unwrap().discards();
        assert_eq!(matches!(discards, Discards::Well(_)), deallocates, "{discards:?}");
        let ns = rig.open(1);
        rig.submit(ns, Op::Deallocate, IoFlags::ANY_CONTENT, 0, 8, DmaSlice::EMPTY, 1);
        rig.run(1);
        let status = rig.dones.pop().unwrap().status;
        assert_eq!(status.is_success(), deallocates, "{status}");
        rig.check();
    }
}

#[test]
fn flush_and_fua_go_to_drives_with_a_cache_only() {
    for cache in [true, false] {
        let mut rig = Rig::new(Config { cache, ..Config::default() });
        let ns = rig.open(1);
        let seen = seen(&rig);
        assert_eq!(rig.one(ns, Op::Flush, 0, 0, DmaSlice::EMPTY), Status::SUCCESS);
        let flushes = seen.lock().unwrap().iter().filter(|sqe| sqe.opcode == nvm::FLUSH).count();
        assert_eq!(flushes, usize::from(cache));
        let buf = rig.buffer(512, 1);
        let data = buf.slice().sub(0, 512);
        rig.submit(ns, Op::Write, IoFlags::FUA, 0, 1, data, 1);
        rig.run(1);
        assert!(seen.lock().unwrap().last().unwrap().fua());
        rig.pool.give(buf);
        rig.check();
    }
}

#[test]
fn doorbells_in_memory_save_the_real_ones_and_lose_nothing() {
    let mut rig = Rig::new(Config { shadows: true, mqes: 6, ..Config::default() });
    assert!(rig.controller.identity().unwrap().shadow_doorbells);
    let ns = rig.open(1);
    rig.turns(10);
    for round in 0..100u64 {
        let fill = round as u8 | 1;
        assert_eq!(rig.write(ns, round, 1, &[fill; 512]), Status::SUCCESS);
        let (status, got) = rig.read(ns, round, 1, 512);
        assert!(status.is_success() && got == [fill; 512]);
    }
    // A drive that keeps up with memory by itself is rung once a batch at most.
    let buf = rig.buffer(512, 0);
    let before = rig.soft.engine().doorbells[0];
    for tag in 0..30 {
        rig.submit(ns, Op::Read, IoFlags::NONE, tag, 1, buf.slice().sub(0, 512), tag);
        // The drive does not look: its event index stays, and it is rung for the first only.
        rig.half_turn();
        if tag % 5 == 4 {
            rig.soft.work();
            rig.half_turn();
        }
    }
    rig.run(30);
    let rung = rig.soft.engine().doorbells[0] - before;
    assert!((1..=10).contains(&rung), "{rung} doorbells for 30 commands");
    rig.pool.give(buf);
    rig.check();
}

#[test]
fn doorbells_in_memory_begin_at_zero_when_a_queue_is_made_again() {
    let mut rig = Rig::new(Config { shadows: true, ..Config::default() });
    rig.soft.engine().faults.dozes = true;
    for round in 0..3 {
        let ns = rig.open(1);
        rig.turns(10);
        let before = rig.soft.engine().doorbells[0];
        // A drive that finds the last queue's doorbell takes in entries that nobody wrote; one that
        // is not rung, because the last one's index is there, may never look.
        assert_eq!(rig.write(ns, 0, 1, &[round; 512]), Status::SUCCESS);
        assert_eq!(rig.soft.engine().doorbells[0] - before, 1, "the first command rings");
        for lba in 1..8 {
            assert_eq!(rig.write(ns, lba, 1, &[round; 512]), Status::SUCCESS);
        }
        assert_eq!(rig.read(ns, 7, 1, 512), (Status::SUCCESS, vec![round; 512]));
        rig.stack.close(ns);
        for _ in 0..50 {
            rig.now_ns += 1_000_000;
            rig.controller.poll(rig.now_ns);
            rig.soft.work();
        }
        assert!(rig.soft.engine().sqs.keys().all(|qid| *qid == 0), "the queue is deleted");
        rig.check();
    }
    // The last queue's are still there when a reset gives the pages to the controller again.
    rig.controller.reset(rig.now_ns);
    rig.settle();
    let ns = rig.open(1);
    assert_eq!(rig.write(ns, 0, 1, &[9; 512]), Status::SUCCESS);
    rig.check();
}

#[test]
fn doorbells_lie_where_the_stride_says() {
    let mut rig = Rig::new(Config { dstrd: 3, ..Config::default() });
    let ns = rig.open(1);
    for n in 0..20 {
        assert_eq!(rig.write(ns, n, 1, &[n as u8; 512]), Status::SUCCESS);
    }
    rig.check();
}

#[test]
fn a_sleeper_is_woken_by_the_interrupt_and_only_when_armed() {
    let mut rig = Rig::new(Config { vectors: 2, ..Config::default() });
    let ns = rig.open(1);
    rig.turns(10);
    assert!(!rig.soft.engine().armed);
    let buf = rig.buffer(512, 0);
    let data = buf.slice().sub(0, 512);
    rig.submit(ns, Op::Read, IoFlags::NONE, 0, 1, data, 0);
    rig.half_turn();
    // Something is under way, and yet no polling is due: the interrupt will come.
    assert!(rig.stack.next_deadline_ns().unwrap() > rig.now_ns);
    assert_eq!(rig.stack.wake_fds().count(), 1);
    rig.soft.work();
    assert!(rig.soft.engine().armed && !rig.soft.engine().pending_interrupt);
    rig.half_turn();
    assert!(!rig.soft.engine().armed, "polling again: no interrupts");
    assert_eq!(rig.dones.len(), 1);
    // What was completed before the sleeper armed the vector is not lost.
    rig.submit(ns, Op::Read, IoFlags::NONE, 0, 1, data, 1);
    rig.half_turn();
    rig.soft.work();
    assert!(rig.soft.engine().pending_interrupt);
    assert_eq!(rig.stack.wake_fds().count(), 1);
    assert!(!rig.soft.engine().pending_interrupt, "the descriptor is readable at once");
    rig.run(2);
    rig.pool.give(buf);
    rig.check();
}
