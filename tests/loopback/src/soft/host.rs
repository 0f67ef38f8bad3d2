//! An initiator's end of the wire.

use super::{Conn, Wire, key_of};
use bdev::{DmaSlice, Memory};
use nvmf::transport::Origin;
use std::collections::VecDeque;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};
use verbs::initiator::{ConnectError, Cutter, Dialer, Ending, Landing, Link, Lost, Send, Wish};
use verbs::{Ask, ConnectionEvent, NicError};
use zerocopy::IntoBytes;

/// Runs the target for a turn, if no other thread does.
pub type Turn = Arc<dyn Fn() + std::marker::Send + Sync>;

/// Polls without anything to do after which an end may sleep.
const QUIET: u32 = 8;

/// Connects to the target of a wire, whose turns it does while it waits.
pub struct SoftDialer {
    wire: Wire,
    turn: Turn,
    /// Always readable: who sleeps on it looks again at once.
    awake: Arc<File>,
}

impl SoftDialer {
    /// On `wire`, whose target does a turn with `turn`.
    pub fn new(wire: &Wire, turn: Turn) -> SoftDialer {
        let awake = Arc::new(File::open("/dev/zero").expect("every machine has it"));
        SoftDialer { wire: wire.clone(), turn, awake }
    }

    fn ask(
        &self,
        wish: &Wish,
        memory: &Arc<Memory>,
        landings: &[Landing],
    ) -> Result<u32, ConnectError> {
        let mut state = self.wire.state();
        if let Some(why) = state.plan.reject {
            return Err(ConnectError::Rejected(why));
        }
        let ask = Ask::parse(wish.private_data().as_bytes(), 16, &nvmf_rdma::QUEUES)
            .map_err(ConnectError::Rejected)?;
        state.next += 1;
        let number = state.next;
        let conn = Conn {
            place: None,
            rejected: None,
            host: true,
            broken: false,
            disconnected: false,
            own: memory.clone(),
            lent: memory.clone(),
            landings: landings.iter().copied().collect(),
            sends: VecDeque::new(),
            arrived: VecDeque::new(),
            late: 0,
            endings: VecDeque::new(),
            work: VecDeque::new(),
            used: 0,
            silent: 0,
        };
        state.conns.insert(number, conn);
        if !state.plan.deaf {
            let (peer, local) = ("192.0.2.2:5".parse(), "192.0.2.1:4420".parse());
            let (peer, local) = (peer.expect("an address"), local.expect("an address"));
            let ask = ConnectionEvent::Asks {
                request: number,
                port: 0,
                ask,
                admission: Origin::alone(peer, local),
            };
            state.asks.push_back(ask);
        }
        Ok(number)
    }
}

impl Dialer for SoftDialer {
    fn connect(
        &self,
        _to: SocketAddr,
        wish: &Wish,
        memory: &Arc<Memory>,
        landings: &[Landing],
        limit: Duration,
    ) -> Result<Box<dyn Link>, ConnectError> {
        let number = self.ask(wish, memory, landings)?;
        let (wire, turn, awake) = (self.wire.clone(), self.turn.clone(), self.awake.clone());
        let link = SoftLink { wire, number, turn, awake, lent: false, quiet: 0 };
        let began = Instant::now();
        loop {
            (self.turn)();
            let state = self.wire.state();
            let conn = &state.conns[&number];
            if conn.place.is_some() {
                return Ok(Box::new(link));
            }
            if let Some(why) = conn.rejected {
                return Err(ConnectError::Rejected(why));
            }
            if began.elapsed() >= limit {
                return Err(ConnectError::Timeout);
            }
        }
    }
}

struct SoftLink {
    wire: Wire,
    number: u32,
    turn: Turn,
    awake: Arc<File>,
    lent: bool,
    quiet: u32,
}

impl Drop for SoftLink {
    fn drop(&mut self) {
        self.close();
    }
}

struct SoftCutter(Wire, u32);

impl Cutter for SoftCutter {
    fn cut(&self) {
        self.0.state().fail(self.1, 5);
    }
}

impl Link for SoftLink {
    fn lend(&mut self, memory: &Arc<Memory>) -> Result<(), NicError> {
        self.lent = true;
        if let Some(conn) = self.wire.state().conns.get_mut(&self.number) {
            conn.lent = memory.clone();
        }
        Ok(())
    }

    fn key(&self, payload: DmaSlice) -> u32 {
        key_of(self.number, self.lent, payload.region())
    }

    fn own_key(&self) -> u32 {
        key_of(self.number, false, 0)
    }

    fn receive(&mut self, landings: &[Landing]) -> Result<(), NicError> {
        if let Some(conn) = self.wire.state().conns.get_mut(&self.number) {
            for landing in landings {
                let twice = conn.landings.iter().any(|other| other.slot == landing.slot);
                assert!(!twice, "receive {} posted twice", landing.slot);
                conn.landings.push_back(*landing);
            }
        }
        Ok(())
    }

    fn send(&mut self, sends: &[Send]) -> Result<(), NicError> {
        let mut state = self.wire.state();
        let Some(conn) = state.conns.get_mut(&self.number) else { return Ok(()) };
        for send in sends {
            let mut under_way = conn.sends.iter().chain(&conn.arrived);
            assert!(under_way.all(|other| other.slot != send.slot), "its capsule is in use");
            conn.sends.push_back(*send);
        }
        if conn.broken {
            state.fail(self.number, 5);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<Ending>) -> Result<(), Lost> {
        (self.turn)();
        let mut state = self.wire.state();
        state.progress();
        let Some(conn) = state.conns.get_mut(&self.number) else { return Err(Lost::Disconnected) };
        self.quiet = if conn.endings.is_empty() { self.quiet + 1 } else { 0 };
        out.extend(conn.endings.drain(..));
        if conn.disconnected { Err(Lost::Disconnected) } else { Ok(()) }
    }

    fn close(&mut self) {
        let mut state = self.wire.state();
        let Some(conn) = state.conns.get_mut(&self.number).filter(|conn| conn.host) else { return };
        conn.host = false;
        let place = conn.place;
        state.disconnect(self.number);
        if place.is_none() {
            state.forget(self.number);
        }
    }

    fn cutter(&self) -> Box<dyn Cutter> {
        Box::new(SoftCutter(self.wire.clone(), self.number))
    }

    fn may_sleep(&self) -> bool {
        self.quiet > QUIET
    }

    fn wake_fd(&self) -> Option<RawFd> {
        Some(self.awake.as_raw_fd())
    }
}
