//! A queue pair against a fake target over a pipe that cuts the stream wherever it likes.

use super::*;
use crate::fake::strategy::{cuts, knobs};
use crate::fake::{BLOCK, Fake, Knobs, Pipe, Storage};
use bdev::{DmaSlice, Memory};
use nvme_spec::Status;
use nvme_spec::opcode::nvm;
use proptest::prelude::*;

/// One command: write or read, first block, blocks.
type Command = (bool, usize, usize);

const BLOCKS: usize = 256;
const DEPTH: usize = 16;
const SLOT_BYTES: usize = 128 * BLOCK;

fn commands() -> impl Strategy<Value = Vec<Command>> {
    let blocks = prop_oneof![Just(1usize), 1usize..16, 16usize..=128];
    let command = (any::<bool>(), 0..BLOCKS, blocks)
        .prop_map(|(write, lba, blocks)| (write, lba.min(BLOCKS - blocks), blocks));
    prop::collection::vec(command, 1..40)
}

fn params(knobs: &Knobs) -> QueueParams {
    QueueParams {
        framing: Framing { hdgst: knobs.hdgst, ddgst: knobs.ddgst, pda: knobs.cpda },
        max_h2c_data: knobs.maxh2cdata,
        in_capsule_bytes: (knobs.ioccsz * 16).saturating_sub(64),
        depth: DEPTH as u16,
    }
}

/// Runs `commands`, `together` at once (no two of which touch the same blocks if one writes).
/// Returns, for each in order of ending, its number, its end and what its memory holds; and why
/// the connection was lost, if it was.
#[allow(clippy::type_complexity)]
fn run(
    pipe: Pipe,
    knobs: &Knobs,
    commands: &[Command],
    together: usize,
) -> (Vec<(usize, Ended, Vec<u8>)>, Option<Broken>) {
    let memory = Memory::map(1, DEPTH * SLOT_BYTES).unwrap();
    let mut qpair: Qpair<Pipe, usize> = Qpair::new(pipe, params(knobs));
    let mut ends = Vec::new();
    let slice = |n: usize| -> DmaSlice {
        let (_, _, blocks) = commands[n];
        memory.slice(0, n % DEPTH * SLOT_BYTES, blocks * BLOCK)
    };
    let mut broken = None;
    'groups: for (group, chunk) in commands.chunks(together).enumerate() {
        for (index, &(write, lba, blocks)) in chunk.iter().enumerate() {
            let n = group * together + index;
            let mut sqe = Sqe::new(if write { nvm::WRITE } else { nvm::READ }, 0, 1);
            sqe.set_slba(lba as u64);
            sqe.set_blocks(blocks as u32);
            let data = slice(n);
            let payload = if write {
                data.copy_in(0, &content(n, blocks));
                Payload::ToController(data)
            } else {
                data.zero();
                Payload::ToHost(data)
            };
            qpair.submit(n, sqe, payload, u64::MAX);
        }
        let mut idle = 0;
        while qpair.outstanding() > 0 && idle < 200 {
            let result = qpair.poll(0, |n, ended| {
                let mut data = vec![0; slice(n).len()];
                slice(n).copy_out(0, &mut data);
                ends.push((n, ended, data));
            });
            match result {
                Ok(0) => idle += 1,
                Ok(_) => idle = 0,
                Err(why) => {
                    broken = Some(why);
                    break 'groups;
                }
            }
        }
    }
    qpair.drain(|_| {});
    (ends, broken)
}

fn content(n: usize, blocks: usize) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| (at * 7 + at / 512 + n * 31 + 1) as u8).collect()
}

/// How many of the commands from the front of `commands` can run at once.
fn compatible(commands: &[Command]) -> bool {
    commands.iter().enumerate().all(|(i, a)| {
        commands[..i].iter().all(|b| !(a.0 || b.0) || a.1 + a.2 <= b.1 || b.1 + b.2 <= a.1)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_command_ends_once_with_its_data(
        knobs in knobs(), cuts in cuts(), commands in commands(), together in 1usize..=DEPTH
    ) {
        let together = if commands.chunks(together).all(compatible) { together } else { 1 };
        let storage = Storage::new(BLOCKS);
        let pipe = Pipe::new(Fake::ready(knobs.clone(), storage.clone()), cuts);
        let (ends, broken) = run(pipe, &knobs, &commands, together);
        prop_assert!(broken.is_none(), "{:?}", broken);
        prop_assert_eq!(ends.len(), commands.len());
        // The oracle: blocks as the writes, in order, leave them.
        let mut model = vec![0; BLOCKS * BLOCK];
        let mut sorted = ends;
        sorted.sort_by_key(|(n, ..)| *n);
        for (n, (index, ended, data)) in sorted.into_iter().enumerate() {
            prop_assert_eq!(n, index);
            prop_assert_eq!(ended.status(), Status::SUCCESS);
            let (write, lba, blocks) = commands[n];
            let place = lba * BLOCK..(lba + blocks) * BLOCK;
            if write {
                model[place].copy_from_slice(&content(n, blocks));
            } else {
                prop_assert!(data == model[place]);
            }
        }
        prop_assert!(storage.lock().unwrap().ram == model);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), knobs in knobs()) {
        let storage = Storage::new(BLOCKS);
        let mut pipe = Pipe::new(Fake::ready(knobs.clone(), storage), vec![1 << 20]);
        pipe.to_host.extend(bytes);
        run(pipe, &knobs, &[(false, 0, 8), (true, 8, 1), (true, 16, 128)], 3);
    }

    #[test]
    fn a_flipped_bit_never_panics_and_is_found_with_digests(
        knobs in knobs(), commands in commands(), at in 0usize..20_000, bit in 0u32..8
    ) {
        let storage = Storage::new(BLOCKS);
        let mut pipe = Pipe::new(Fake::ready(knobs.clone(), storage), vec![3000, 1 << 20]);
        pipe.flip = Some((at, 1 << bit));
        let (ends, _) = run(pipe, &knobs, &commands, 1);
        let mut seen: Vec<usize> = ends.iter().map(|(n, ..)| *n).collect();
        seen.sort();
        seen.dedup();
        prop_assert_eq!(seen.len(), ends.len(), "ended twice");
        if knobs.hdgst && knobs.ddgst {
            let mut model = vec![0; BLOCKS * BLOCK];
            for (n, ended, data) in ends {
                let (write, lba, blocks) = commands[n];
                let place = lba * BLOCK..(lba + blocks) * BLOCK;
                if write {
                    model[place].copy_from_slice(&content(n, blocks));
                } else if ended.status().is_success() {
                    prop_assert!(data == model[place], "wrong data taken for right");
                }
            }
        }
    }
}

#[test]
fn a_wrong_data_digest_fails_its_command_alone() {
    let knobs = Knobs { ddgst: true, damage_reads_from: 2, ..Knobs::default() };
    let pipe = Pipe::new(Fake::ready(knobs.clone(), Storage::new(BLOCKS)), vec![1 << 20]);
    let (ends, broken) = run(pipe, &knobs, &[(false, 0, 4), (false, 4, 4), (true, 8, 4)], 1);
    assert!(broken.is_none());
    let statuses: Vec<Status> = ends.iter().map(|(_, ended, _)| ended.status()).collect();
    assert_eq!(statuses, [Status::SUCCESS, Status::TRANSIENT_TRANSPORT, Status::SUCCESS]);
}

#[test]
fn a_command_without_an_answer_is_given_up() {
    let knobs = Knobs::default();
    let pipe = Pipe::new(Fake::ready(knobs.clone(), Storage::new(BLOCKS)), vec![0]);
    let mut qpair: Qpair<Pipe, u32> = Qpair::new(pipe, params(&knobs));
    let mut sqe = Sqe::new(nvm::FLUSH, 0, 1);
    sqe.flags = 0;
    qpair.submit(7, sqe, Payload::None, 1_000_000_000);
    let mut end = |_, _| panic!("nothing ends");
    assert!(qpair.poll(1, &mut end).is_ok());
    assert!(qpair.is_blocked() && qpair.next_deadline_ns().is_some());
    assert!(qpair.poll(999_999_999, &mut end).is_ok());
    assert!(matches!(qpair.poll(1_100_000_000, &mut end), Err(Broken::Timeout)));
    let mut back = Vec::new();
    qpair.drain(|ticket| back.push(ticket));
    assert_eq!(back, [7]);
    assert!(qpair.outstanding() == 0);
}

/// Feeds PDUs of its own making to a queue pair with a 4 KiB read and a 64 KiB write under way.
fn fault(pdu: impl Fn(u16, u16, &mut [u8]) -> usize) -> Broken {
    let knobs = Knobs::default();
    let fake = Fake::ready(knobs.clone(), Storage::new(BLOCKS));
    let mut qpair: Qpair<Pipe, u32> = Qpair::new(Pipe::new(fake, vec![0]), params(&knobs));
    let memory = Memory::map(1, 1 << 20).unwrap();
    qpair.submit(0, Sqe::new(nvm::READ, 0, 1), Payload::ToHost(memory.slice(0, 0, 4096)), u64::MAX);
    let data = memory.slice(0, 4096, 65536);
    qpair.submit(1, Sqe::new(nvm::WRITE, 0, 1), Payload::ToController(data), u64::MAX);
    assert!(qpair.poll(0, |_, _| panic!("nothing ends")).is_ok());
    let (read, write) = (qpair.slots.at(0).cid, qpair.slots.at(1).cid);
    let mut out = [0; 1024];
    let bytes = pdu(read, write, &mut out);
    qpair.socket.cuts = vec![1 << 20];
    qpair.socket.to_host.extend(&out[..bytes]);
    qpair.poll(0, |_, _| {}).expect_err("the fault is found")
}

#[test]
fn faults_of_the_target_are_told_apart() {
    use nvmf_wire::pdu::{C2hEnd, encode_c2h_data, encode_r2t};
    let plain = Framing::default();
    let said = |why: Broken| why.to_string();
    let data = |cid: fn(u16, u16) -> u16, at, bytes| {
        said(fault(|r, w, out| encode_c2h_data(out, plain, cid(r, w), at, bytes, C2hEnd::Last)))
    };
    assert!(data(|_, _| 999, 0, 512).contains("data for no command"));
    assert!(data(|_, w| w, 0, 512).contains("reads none"));
    assert!(data(|r, _| r, 512, 512).contains("out of order"));
    assert!(data(|r, _| r, 0, 8192).contains("more data"));
    let r2t = |cid: fn(u16, u16) -> u16, at, bytes, times: usize| {
        said(fault(|r, w, out| {
            (0..times).fold(0, |n, _| n + encode_r2t(&mut out[n..], plain, cid(r, w), 1, at, bytes))
        }))
    };
    assert!(r2t(|r, _| r, 0, 512, 1).contains("does not have"));
    assert!(r2t(|_, w| w, 65000, 600, 1).contains("does not have"));
    assert!(r2t(|_, w| w, 0, 0, 1).contains("does not have"));
    assert!(r2t(|_, w| w, 0, 512, 5).contains("more R2Ts"));
    assert!(r2t(|_, _| 4000, 0, 512, 1).contains("no command"));
    let response = said(fault(|_, _, out| {
        let cqe = nvme_spec::Cqe::new(0x7777, Status::SUCCESS);
        pdu::encode_capsule_resp(out, plain, &cqe)
    }));
    assert!(response.contains("no command"), "{response}");
    let end = said(fault(|_, _, out| {
        let mut term = [0; 152];
        let n = pdu::encode_term_req(&mut term, Side::Controller, pdu::Fes::LimitExceeded, 4, &[1]);
        out[..n].copy_from_slice(&term[..n]);
        n
    }));
    assert!(end.contains("limit exceeded"), "{end}");
}

#[test]
fn a_write_that_is_answered_early_keeps_its_memory_until_it_is_sent() {
    let knobs = Knobs { ioccsz: 4, ..Knobs::default() };
    let fake = Fake::ready(knobs.clone(), Storage::new(BLOCKS));
    let mut qpair: Qpair<Pipe, u32> = Qpair::new(Pipe::new(fake, vec![72, 0]), params(&knobs));
    let memory = Memory::map(1, 1 << 20).unwrap();
    let data = memory.slice(0, 0, 65536);
    let mut sqe = Sqe::new(nvm::WRITE, 0, 1);
    sqe.set_blocks(128);
    qpair.submit(5, sqe, Payload::ToController(data), u64::MAX);
    let cid = qpair.slots.at(0).cid;
    let mut out = [0; 64];
    let plain = Framing::default();
    let n = pdu::encode_r2t(&mut out, plain, cid, cid ^ 0x5555, 0, 65536);
    let cqe = nvme_spec::Cqe::new(cid, Status::WRITE_FAULT);
    let m = pdu::encode_capsule_resp(&mut out[n..], plain, &cqe);
    qpair.socket.turns = [1, 1];
    qpair.socket.mute = true;
    // The capsule leaves, and nothing after it; an R2T and, too early, the response arrive.
    qpair.socket.to_host.extend(&out[..n + m]);
    assert!(qpair.poll(0, |_, _| panic!("its memory is still needed")).is_ok());
    assert!(qpair.is_blocked() && qpair.outstanding() == 1);
    qpair.socket.cuts = vec![1 << 20];
    let mut ended = None;
    let _ = qpair.poll(0, |ticket, how| ended = Some((ticket, how.status())));
    assert_eq!(ended, Some((5, Status::WRITE_FAULT)));
}
