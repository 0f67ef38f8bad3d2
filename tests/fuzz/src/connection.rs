//! A whole connection of the NVMe/TCP transport: what a host sends in, events and bytes out.

// The target and the network of the transport's own tests.
#[path = "../../../nvmf/tcp/tests/support/mod.rs"]
mod support;

use bdev::dma::{ClassPlan, PoolPlan};
use bdev::{DmaPool, Memory};
use nvmf::transport::Transport;
use nvmf_tcp::{Config, TcpTransport};
use nvmf_wire::pdu::{IC_BYTES, Params, Pdu, Peek, Phase, Side, encode_icreq, peek};
use std::sync::Arc;

use support::network::Network;
use support::{Ram, STORE_BYTES};

const HOUR_NS: u64 = 3_600_000_000_000;

/// A few buffers of each size: enough for one of the largest commands, and soon used up.
fn plan() -> PoolPlan {
    let class = |bytes, count| ClassPlan { bytes, count };
    PoolPlan([class(4 << 10, 4), class(16 << 10, 4), class(128 << 10, 3), class(1 << 20, 1)])
}

thread_local! {
    static POOL: Arc<Memory> = Arc::new(Memory::map(1, plan().bytes()).expect("2 MiB"));
    static STORE: Arc<Memory> = Arc::new(Memory::map(1, STORE_BYTES).expect("4 MiB"));
}

/// The first byte says whether a right ICReq comes first, with which digests, and how the target
/// answers; the second how the bytes are cut, whether reads are answered with memory that is lent,
/// and whether data is written straight to where it is stored. Whatever comes after them, each
/// command is answered once, what is sent is well formed, and nothing is left when the host is
/// gone.
pub fn connection(bytes: &[u8]) {
    let [how, cut, stream @ ..] = bytes else { return };
    let network = Network::default();
    let requests = if how & 8 == 0 { 4 } else { 64 };
    let r2t_bytes = if how & 16 == 0 { 1 << 20 } else { 1000 };
    let config = Config { qpairs: 2, requests, r2t_bytes, ..Config::default() };
    let pool = DmaPool::new(POOL.with(Arc::clone), 0, &plan());
    let transport = TcpTransport::new(network.clone(), config);
    let mut ram = Ram::with_memory(transport, pool, STORE.with(Arc::clone));
    ram.delay = u32::from(how >> 5 & 3);
    ram.implied = how & 128 == 0;
    ram.lend = (cut & 64 != 0).then_some(true);
    ram.land = (cut & 32 != 0).then_some(true);
    let pipe = network.connect();
    {
        let mut pipe = pipe.lock().expect("one thread");
        if how & 1 != 0 {
            let mut icreq = [0; IC_BYTES];
            encode_icreq(&mut icreq, cut & 31, how & 2 != 0, how & 4 != 0, 4);
            pipe.to_target.extend(icreq);
        }
        pipe.to_target.extend(stream);
        if *cut > 0 {
            pipe.cuts = vec![usize::from(*cut) * 8, 1, usize::from(*cut)];
        }
    }
    (0..100u64).for_each(|turn| {
        ram.turn(turn * 1000);
    });
    pipe.lock().expect("one thread").host_ended = true;
    for hour in 1..4 {
        ram.turn(hour * HOUR_NS);
        ram.release_parked();
        // Slow answers take their turns.
        (0..8).for_each(|turn| {
            ram.turn(hour * HOUR_NS + turn);
        });
    }
    assert_eq!((ram.busy(), ram.pool.taken(), ram.open.len()), (0, [0; 4], 0));
    assert_eq!(ram.transport.connections(), 0);
    assert_eq!(ram.transport.next_deadline_ns(), None);
    well_formed(&pipe.lock().expect("one thread").from_target);
}

/// Whether a host could read it: PDUs one after the other, the last one maybe cut off.
fn well_formed(mut bytes: &[u8]) {
    let mut params = Params::initialize(Side::Host);
    params.pda = 0;
    params.max_data = u32::MAX;
    loop {
        match peek(bytes, &params) {
            Ok(Peek::NeedMore(_)) => return,
            Ok(Peek::Pdu(framed)) => {
                if let Pdu::IcResp(pdu) = framed.pdu {
                    params.phase = Phase::Ready;
                    (params.hdgst, params.ddgst) = (pdu.hdgst(), pdu.ddgst());
                }
                let Some(rest) = bytes.get(framed.total_len as usize..) else { return };
                bytes = rest;
            }
            Err(error) => panic!("the target sent a wrong PDU: {error}"),
        }
    }
}
