//! Queue pairs: how they come and go.

use super::{Port, RdmaTransport};
use crate::conn::{Conn, State};
use crate::limits::{LINGER_NS, WORK_PER_ENTRY};
use crate::receives::Receives;
use bdev::DmaPool;
use nvmf::transport::{CloseReason, Event, Origin, QpairId};
use nvmf_wire::rdma::Reject;
use verbs::Ask;
use verbs::limits::{CQE_BYTES, PORTS};
use verbs::{ConnectionEvent, Gone, Nic, PortId, Sizes};

impl<N: Nic<Admission = Origin>> RdmaTransport<N> {
    pub(super) fn connection_event(
        &mut self,
        event: ConnectionEvent<N::Request, Origin>,
        pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) {
        match event {
            ConnectionEvent::Asks { request, port, ask, admission } => {
                if self.admit(request, port, &ask, admission, pool, out).is_none() {
                    self.stats.refused.add(1);
                }
            }
            ConnectionEvent::Gone { place, why } => {
                let why = match why {
                    Gone::Disconnected => CloseReason::Peer,
                    Gone::Broken(what) => CloseReason::Network(what),
                };
                self.cut(place, why, out);
            }
        }
    }

    /// Takes on a connection, or turns it away.
    fn admit(
        &mut self,
        request: N::Request,
        port: PortId,
        ask: &Ask,
        origin: Origin,
        pool: &mut DmaPool,
        out: &mut Vec<Event>,
    ) -> Option<()> {
        let ready = !self.free.is_empty() && self.open_port(port, pool);
        let Some(index) = ready.then(|| self.free.pop()).flatten() else {
            self.nic.reject(request, Reject::NoResources);
            return None;
        };
        let work = u32::from(ask.entries) * WORK_PER_ENTRY;
        let sizes = Sizes { work, receives: ask.entries };
        let accepted = match self.nic.accept(index, port, request, ask, sizes) {
            Ok(accepted) => accepted,
            Err(_) => {
                self.free.push(index);
                return None;
            }
        };
        let place = &mut self.places[usize::from(index)];
        place.generation = place.generation.wrapping_add(1);
        let id = QpairId { index, generation: place.generation };
        let crowd = &mut self.crowd;
        let conn = Conn::new(id, port, accepted.work, ask.entries, origin.clone(), crowd);
        place.conn = Some(conn);
        self.ports[usize::from(port)].as_mut().expect("just opened").conns += 1;
        self.stats.opened.add(1);
        out.push(Event::Connected { qpair: id, origin, direct: false });
        Some(())
    }

    /// Makes a port ready for queue pairs. False if there is no memory for it, or the device says
    /// no.
    fn open_port(&mut self, port: PortId, pool: &mut DmaPool) -> bool {
        let Some(at) = self.ports.get(usize::from(port)) else { return false };
        if at.is_some() {
            return true;
        }
        if self.cqes.is_none() {
            self.cqes = pool.take(self.requests.limit() as usize * CQE_BYTES);
        }
        let receives = self.cqes.as_ref().and_then(|_| {
            let receives = Receives::take(self.config.receives, pool)?;
            match self.nic.open_port(port, receives.count()) {
                Ok(()) => Some(receives),
                Err(_) => {
                    receives.give(pool);
                    None
                }
            }
        });
        let Some(mut receives) = receives else {
            self.stats.port_failures.add(1);
            return false;
        };
        receives.drain_idle(&mut self.receive_chain);
        self.nic.receive(port, &self.receive_chain);
        self.receive_chain.clear();
        self.ports[usize::from(port)] = Some(Port { receives, conns: 0 });
        true
    }

    /// Closes the ports without queue pairs: their memory goes back, and so do receives that were
    /// lost with queue pairs that broke in the middle of a capsule.
    pub(super) fn close_idle_ports(&mut self, pool: &mut DmaPool) {
        for port in 0..PORTS {
            let idle = |at: &Port| at.conns == 0 && !at.receives.in_use();
            if self.ports[port].as_ref().is_some_and(idle) {
                self.nic.close_port(port as PortId);
                let at = self.ports[port].take().expect("just looked");
                at.receives.give(pool);
            }
        }
        if self.ports.iter().all(Option::is_none)
            && let Some(cqes) = self.cqes.take()
        {
            pool.give(cqes);
        }
    }

    /// The target ends a queue pair: what was answered before is still sent.
    pub(super) fn begin_close(&mut self, qpair: QpairId, why: CloseReason) {
        let by_ns = self.now_ns + LINGER_NS;
        if let Some(conn) = self.open_conn(qpair) {
            conn.state = State::Closing { why, by_ns };
            self.closing.push(qpair.index);
        }
    }

    /// Ends the queue pairs that have said what they had to say.
    pub(super) fn end_closing(&mut self, out: &mut Vec<Event>) -> u32 {
        let mut ended = 0;
        let mut at = 0;
        while let Some(&index) = self.closing.get(at) {
            let now_ns = self.now_ns;
            let why = match self.conn(index) {
                Some(conn) if !conn.is_done(now_ns) => None,
                Some(Conn { state: State::Closing { why, .. }, .. }) => Some(why.clone()),
                // It was cut, and the place is another's.
                _ => unreachable!("one that is cut is on no list"),
            };
            match why {
                None => at += 1,
                Some(why) => {
                    self.cut(index, why, out);
                    ended += 1;
                }
            }
        }
        ended
    }

    /// Ends a queue pair at once. Once it is destroyed no hardware touches memory of its commands:
    /// only then they end.
    pub(super) fn cut(&mut self, index: u16, why: CloseReason, out: &mut Vec<Event>) {
        let Some(place) = self.places.get_mut(usize::from(index)) else { return };
        let Some(conn) = place.conn.take() else { return };
        self.nic.release(index);
        conn.leave(&mut self.crowd);
        let why = match conn.state {
            State::Closing { why, .. } => why,
            State::Open => why,
        };
        let at = self.ports[usize::from(conn.port)].as_mut();
        at.expect("open while it has queue pairs").conns -= 1;
        for list in [&mut self.dirty, &mut self.closing] {
            list.retain(|other| *other != index);
        }
        self.free.push(index);
        self.stats.closed.add(1);
        self.requests.end_qpair(conn.id, why, out);
    }
}
