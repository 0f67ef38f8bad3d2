//! The steps of a script.

use super::input::Input;
use super::transport::QPAIRS;
use super::world::{CLOSED, HOST, OPEN, World};
use nvme_spec::log::AnaState;
use nvme_spec::opcode::{admin, nvm};
use nvme_spec::property::{self, Cc};
use nvme_spec::{Sgl, Sqe, Status};
use nvmf::subsystem::Hosts;
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect, ConnectData};
use nvmf_wire::property::{PropertyGet, PropertySet, Width};
use nvmf_wire::{Nqn, nqn};
use std::sync::atomic::Ordering;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

const ADMIN_OPCODES: [u8; 8] = [
    admin::IDENTIFY,
    admin::GET_LOG_PAGE,
    admin::GET_FEATURES,
    admin::SET_FEATURES,
    admin::ASYNC_EVENT,
    admin::KEEP_ALIVE,
    admin::ABORT,
    admin::CREATE_SQ,
];

const IO_OPCODES: [u8; 8] = [
    nvm::READ,
    nvm::WRITE,
    nvm::COMPARE,
    nvm::WRITE_ZEROES,
    nvm::DATASET_MANAGEMENT,
    nvm::VERIFY,
    nvm::FLUSH,
    nvm::WRITE_UNCORRECTABLE,
];

const STATUSES: [Status; 4] =
    [Status::SUCCESS, Status::UNRECOVERED_READ, Status::WRITE_FAULT, Status::CAPACITY_EXCEEDED];

/// Plays the step `code` with what follows it in the script.
pub fn play(code: u8, input: &mut Input<'_>, world: &mut World) {
    let at = usize::from(code >> 6) % QPAIRS;
    match code & 15 {
        0 => world.target.transport_mut().connect(at),
        1 => connect(at, input, world),
        2 => configure(at, input, world),
        3 => admin_command(at, input, world),
        4 | 5 => io_command(at, input, world),
        6 => raw_command(at, input, world),
        7 => property_get(at, input, world),
        8 => world.turn(),
        9 => pass_time(input, world),
        10 => world.target.transport_mut().hang_up(at),
        11 => administer(input, world),
        12 => namespaces(input, world),
        13 => disks(input, world),
        14 => pulls(input, world),
        _ => fused(at, input, world),
    }
}

fn connect(at: usize, input: &mut Input<'_>, world: &mut World) {
    let how = input.byte();
    let connect = Connect {
        recfmt: u16::from(how == 0xff),
        qid: u16::from(how & 3),
        sqsize: if how & 4 == 0 { 31 } else { input.half() },
        cattr: how >> 1 & 4,
        kato_ms: if how & 16 == 0 { 0 } else { u32::from(input.half()) },
    };
    let subsystem = match input.byte() & 7 {
        0..=3 => OPEN,
        4 | 5 => CLOSED,
        6 => nqn::DISCOVERY,
        _ => "nobody",
    };
    let cntlid = match (how & 3, how & 32) {
        (0, 0) => CNTLID_DYNAMIC,
        (_, 0) => world.target.transport().cntlid,
        _ => input.half(),
    };
    let host = if how & 64 == 0 { HOST } else { "somebody" };
    let name = |text| Nqn::lenient(text).expect("short");
    let data = ConnectData::new([1; 16], cntlid, &name(subsystem), &name(host));
    let sqe = connect.sqe(u16::from(input.byte()));
    let bytes = if how & 128 == 0 { data.as_bytes() } else { &data.as_bytes()[..512] };
    world.target.transport_mut().command(at, sqe, Some(bytes));
}

fn configure(at: usize, input: &mut Input<'_>, world: &mut World) {
    let value = match input.byte() {
        0..=159 => Cc::ENABLE.0,
        160..=191 => Cc::ENABLE.with_normal_shutdown().0,
        192..=223 => 0,
        _ => input.word(),
    };
    let set = PropertySet { width: Width::Four, offset: property::CC, value: value.into() };
    let sqe = set.sqe(u16::from(input.byte()));
    world.target.transport_mut().command(at, sqe, None);
}

fn property_get(at: usize, input: &mut Input<'_>, world: &mut World) {
    let how = input.byte();
    let width = if how & 128 == 0 { Width::Four } else { Width::Eight };
    let get = PropertyGet { width, offset: u32::from(how & 127) };
    let sqe = get.sqe(u16::from(input.byte()));
    world.target.transport_mut().command(at, sqe, None);
}

fn admin_command(at: usize, input: &mut Input<'_>, world: &mut World) {
    let [which, cid, nsid, len] = input.take();
    let opcode = ADMIN_OPCODES[usize::from(which & 7)];
    let mut sqe =
        Sqe::new(opcode, cid.into(), if nsid == 255 { Sqe::NSID_ALL } else { nsid.into() });
    sqe.flags = Sqe::FLAGS_SGL;
    sqe.dptr = Sgl::transport(u32::from(len) * 64);
    sqe.cdw10 = U32::new(input.half().into());
    if which & 8 != 0 {
        // The upper half is a length in Get Log Page, a controller in Identify.
        sqe.cdw10 = U32::new(sqe.cdw10.get() | u32::from(input.half()) << 16);
    }
    if which & 16 != 0 {
        sqe.cdw11 = U32::new(input.word());
    }
    if which & 32 != 0 {
        sqe.cdw12 = U32::new(input.word());
        sqe.cdw14 = U32::new(input.word());
    }
    world.target.transport_mut().command(at, sqe, None);
}

fn io_command(at: usize, input: &mut Input<'_>, world: &mut World) {
    let [which, cid, nsid, slba, nlb, how] = input.take();
    let opcode = IO_OPCODES[usize::from(which & 7)];
    let mut sqe =
        Sqe::new(opcode, cid.into(), if nsid == 255 { Sqe::NSID_ALL } else { nsid.into() });
    sqe.flags = Sqe::FLAGS_SGL | how & 3;
    sqe.set_slba(slba.into());
    sqe.set_blocks(u32::from(nlb) + 1);
    if how & 4 != 0 {
        sqe.set_fua();
    }
    if how & 8 != 0 {
        sqe.set_deac();
    }
    let mut bytes = sqe.blocks() * 512;
    let mut capsule = vec![nlb; bytes.min(8192) as usize];
    if opcode == nvm::DATASET_MANAGEMENT {
        sqe.cdw10 = U32::new(u32::from(slba));
        sqe.cdw11 = U32::new(u32::from(nlb));
        bytes = (u32::from(slba) + 1) * 16;
        capsule = vec![0; bytes as usize];
        capsule[4] = nlb;
        capsule[8] = nlb;
        capsule.iter_mut().skip(16).zip(input.take::<32>()).for_each(|(to, from)| *to = from);
    }
    let in_capsule = how & 16 != 0;
    sqe.dptr = match how >> 5 {
        0..=4 if in_capsule => Sgl::in_capsule(0, bytes),
        0..=4 => Sgl::transport(bytes),
        5 => Sgl::transport(bytes / 2),
        6 => Sgl::in_capsule(8, bytes),
        _ => Sgl { kind: input.byte(), ..Sgl::transport(bytes) },
    };
    let capsule = in_capsule.then_some(&capsule[..]);
    world.target.transport_mut().command(at, sqe, capsule);
}

/// A fused Compare and Write on the same blocks.
fn fused(at: usize, input: &mut Input<'_>, world: &mut World) {
    let [cid, slba, nlb, how] = input.take();
    let halves = [(nvm::COMPARE, Sqe::FUSE_FIRST), (nvm::WRITE, Sqe::FUSE_SECOND)];
    for (n, (opcode, fuse)) in (0u8..).zip(halves) {
        let mut sqe = Sqe::new(opcode, u16::from(cid.wrapping_add(n)), 1);
        sqe.flags = Sqe::FLAGS_SGL | fuse;
        sqe.set_slba(u64::from(slba & 63));
        sqe.set_blocks(u32::from(nlb & 7) + 1);
        let bytes = sqe.blocks() * 512;
        let data = vec![if n == 0 { how >> 2 } else { nlb }; bytes as usize];
        let in_capsule = how & (1 << n) != 0;
        sqe.dptr = if in_capsule { Sgl::in_capsule(0, bytes) } else { Sgl::transport(bytes) };
        world.target.transport_mut().command(at, sqe, in_capsule.then_some(&data[..]));
    }
}

fn raw_command(at: usize, input: &mut Input<'_>, world: &mut World) {
    let len = input.byte();
    let bytes: [u8; 64] = input.take();
    let sqe = Sqe::read_from_bytes(&bytes).expect("as long as it is");
    let data = vec![len; usize::from(len) * 4];
    world.target.transport_mut().command(at, sqe, (len > 0).then_some(&data[..]));
}

fn pass_time(input: &mut Input<'_>, world: &mut World) {
    world.now_ns += u64::from(input.half()) * 1_000_000;
    world.turn();
}

fn administer(input: &mut Input<'_>, world: &mut World) {
    let registry = &world.registry;
    let states = [
        AnaState::Optimized,
        AnaState::NonOptimized,
        AnaState::Inaccessible,
        AnaState::PersistentLoss,
        AnaState::Change,
    ];
    // What is refused here was asked for twice.
    let _ = match input.byte() {
        n @ 0..=63 => registry.set_ana_state(OPEN, states[usize::from(n) % states.len()]),
        64..=95 => registry.set_hosts(OPEN, Hosts::Any),
        96..=127 => registry.set_hosts(OPEN, Hosts::Listed(Default::default())),
        128..=159 => registry.add_host(CLOSED, "somebody"),
        160..=191 => registry.remove_host(CLOSED, HOST),
        192..=223 => {
            world.stop_listening();
            Ok(())
        }
        224..=253 => {
            world.listen();
            Ok(())
        }
        254 => registry.remove_subsystem(CLOSED).map(drop),
        255 => {
            registry.shut_down();
            Ok(())
        }
    };
}

fn namespaces(input: &mut Input<'_>, world: &mut World) {
    let how = input.byte();
    let nsid = u32::from(how & 3);
    if how & 4 == 0 {
        world.add_namespace(OPEN, nsid);
    } else {
        // It may not be there.
        let _ = world.registry.remove_namespace(OPEN, nsid);
    }
}

fn disks(input: &mut Input<'_>, world: &mut World) {
    let [how, value] = input.take();
    let knobs = &world.knobs[usize::from(how & 1)];
    match how >> 1 & 3 {
        0 => knobs.let_go.store(value.into(), Ordering::Relaxed),
        1 => knobs.let_go.store(u32::MAX, Ordering::Relaxed),
        2 => {
            let status = STATUSES[usize::from(value & 3)];
            knobs.next_status.store(status.bits(), Ordering::Relaxed);
        }
        _ => {
            let blocks = u64::from(value).clamp(1, super::disk::BLOCKS);
            knobs.blocks.store(blocks, Ordering::Relaxed);
            // It may not be there.
            let _ = world.registry.refresh_namespace(OPEN, u32::from(how & 1));
        }
    }
}

fn pulls(input: &mut Input<'_>, world: &mut World) {
    let how = input.byte();
    let transport = world.target.transport_mut();
    transport.hold_pulls = how & 1 != 0;
    transport.pull_status =
        if how & 2 == 0 { Status::SUCCESS } else { Status::TRANSIENT_TRANSPORT };
}
