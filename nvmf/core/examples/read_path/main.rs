//! A bounded number of 4 KiB reads through the target and nothing else: a fabric that costs nothing
//! and a bdev that does nothing, for an instruction count.
//!
//! ```text
//! valgrind --tool=callgrind --toggle-collect='*read_path::measured*' read_path 20000
//! ```

#[allow(dead_code)]
mod lab;

use lab::{DEPTH, Lab, connected};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sgl, Sqe};
use nvmf::transport::InCapsule;

/// What is counted: nothing but the turns.
#[inline(never)]
fn measured(lab: &mut Lab, rounds: u64, command: &Sqe) {
    for round in 0..rounds {
        for req in 0..DEPTH {
            let mut sqe = *command;
            sqe.cid = ((round as u16 & 0xf) << 12 | req as u16).into();
            sqe.set_slba(round);
            lab.send(1, req, sqe, InCapsule::None);
        }
        lab.turn();
    }
}

fn main() {
    let rounds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(20_000);
    let mut lab = connected();
    let mut sqe = Sqe::new(nvm::READ, 0, 1);
    sqe.flags = Sqe::FLAGS_SGL;
    sqe.dptr = Sgl::transport(4096);
    sqe.set_blocks(1);
    let before = lab.target.transport().answers;
    let start = std::time::Instant::now();
    measured(&mut lab, rounds, &sqe);
    let reads = lab.target.transport().answers - before;
    assert_eq!(reads, rounds * u64::from(DEPTH), "every read succeeds");
    let ns = start.elapsed().as_nanos() as f64 / reads as f64;
    println!("{reads} reads, {ns:.1} ns each");
}
