//! A host that breaks the rules of NVMe/RDMA: it connects, sends Connect, and has no receive for
//! the answer. `mute-host ADDRESS SECONDS` succeeds when the target ends the connection in time.

use bdev::Memory;
use nvmf_host::Host;
use nvmf_host::qpair::{Payload, RdmaQpair, Ring};
use nvmf_wire::Nqn;
use nvmf_wire::connect::{Connect, ConnectData};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};
use verbs::Initiator;
use verbs::initiator::{Dialer, Wish};
use zerocopy::IntoBytes;

const DEPTH: u16 = 31;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let told = args.next().zip(args.next()).and_then(|(address, seconds)| {
        Some((address.parse().ok()?, Duration::from_secs(seconds.parse().ok()?)))
    });
    let Some((address, limit)) = told else {
        eprintln!("mute-host ADDRESS SECONDS");
        return ExitCode::FAILURE;
    };
    match run(address, limit) {
        Ok(how) => {
            println!("{how}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// How the target ended the connection.
fn run(address: SocketAddr, limit: Duration) -> Result<String, String> {
    let initiator = Initiator::open()?;
    let memory = Memory::map(1, 4096 + Ring::bytes(DEPTH)).map_err(|error| error.to_string())?;
    let memory = Arc::new(memory);
    let ring = Ring::new(memory.clone(), 4096, DEPTH);
    let wish = Wish { qid: 0, cntlid: 0xffff, depth: DEPTH };
    let link = initiator.connect(address, &wish, &memory, &[], limit);
    let mut qpair = RdmaQpair::new(link.map_err(|why| why.to_string())?, ring, 0);
    let host = Host::local();
    let data = ConnectData::new(host.id, 0xffff, &Nqn::discovery(), &host.nqn);
    let payload = memory.slice(0, 0, 1024);
    payload.copy_in(0, data.as_bytes());
    let connect = Connect { recfmt: 0, qid: 0, sqsize: DEPTH, cattr: 0, kato_ms: 0 };
    qpair.submit(0u8, connect.sqe(0), Payload::ToController(payload), u64::MAX);
    let began = Instant::now();
    while began.elapsed() < limit {
        let mut answered = false;
        if let Err(why) = qpair.poll(0, |_, _| answered = true) {
            return Ok(format!("after {} ms: {why}", began.elapsed().as_millis()));
        }
        if answered {
            return Err("an answer came without a receive for it".into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err("the connection is still there".into())
}
