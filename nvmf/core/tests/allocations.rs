//! In steady state the target allocates nothing.

#[path = "../examples/read_path/lab.rs"]
#[allow(dead_code)]
mod lab;

mod counting;

use counting::ALLOCATIONS;
use lab::{DEPTH, Lab, connected};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sgl, Sqe};
use nvmf::transport::InCapsule;

/// Rounds of commands, all at once, each round answered in full.
fn rounds(lab: &mut Lab, rounds: u64, command: &Sqe, in_capsule: InCapsule) {
    for round in 0..rounds {
        let before = lab.target.transport().answers;
        for req in 0..DEPTH {
            let mut sqe = *command;
            sqe.cid = ((round as u16 & 0xf) << 12 | req as u16).into();
            // It is the number of ranges, too.
            sqe.set_slba(round % 100);
            lab.send(1, req, sqe, in_capsule);
        }
        for _ in 0..8 {
            lab.turn();
        }
        let succeeded = lab.target.transport().answers - before;
        assert_eq!(succeeded, u64::from(DEPTH), "{:#x}: {:?}", command.opcode, lab.last());
    }
}

/// Allocations while warmed-up rounds of a command run.
fn allocations(lab: &mut Lab, opcode: u8, sgl: Sgl, in_capsule: InCapsule) -> u64 {
    let mut sqe = Sqe::new(opcode, 0, 1);
    sqe.flags = Sqe::FLAGS_SGL;
    sqe.dptr = sgl;
    sqe.set_blocks(1);
    rounds(lab, 4, &sqe, in_capsule);
    let before = ALLOCATIONS.get();
    rounds(lab, 200, &sqe, in_capsule);
    ALLOCATIONS.get() - before
}

#[test]
fn commands_in_steady_state_allocate_nothing() {
    let mut lab = connected();
    let none = InCapsule::None;
    let pulled = Sgl::transport(4096);
    for opcode in [nvm::READ, nvm::WRITE, nvm::VERIFY, nvm::WRITE_ZEROES, nvm::FLUSH] {
        assert_eq!(allocations(&mut lab, opcode, pulled, none), 0, "opcode {opcode:#x}");
    }
    let block = lab.block();
    // As ranges: of Dataset Management of no block, of Copy the first block.
    block.slice().zero();
    let data = InCapsule::Data(block.slice());
    for opcode in [nvm::WRITE, nvm::DATASET_MANAGEMENT, nvm::COPY] {
        assert_eq!(allocations(&mut lab, opcode, Sgl::in_capsule(0, 4096), data), 0);
    }
    lab.give(block);
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(std::hint::black_box(vec![1u8; 100]));
    assert_eq!(ALLOCATIONS.get() - before, 1);
}
