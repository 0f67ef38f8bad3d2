//! The target's end of the wire.

use super::Wire;
use nvmf::transport::Origin;
use nvmf_wire::rdma::Reject;
use std::os::fd::RawFd;
use verbs::{
    Accepted, Ask, Completion, ConnectionEvent, Nic, NicError, PortId, Receive, Sizes, Work,
};

/// The hardware of the target's only reactor.
pub struct SoftNic {
    pub(super) wire: Wire,
    /// Connections by their places.
    places: std::collections::BTreeMap<u16, u32>,
}

impl SoftNic {
    /// The end of `wire` at which connections are accepted.
    pub fn new(wire: &Wire) -> SoftNic {
        SoftNic { wire: wire.clone(), places: Default::default() }
    }
}

impl Nic for SoftNic {
    type Request = u32;
    type Admission = Origin;

    fn connection_event(&mut self) -> Option<ConnectionEvent<u32, Origin>> {
        self.wire.state().asks.pop_front()
    }

    fn open_port(&mut self, _port: PortId, _receives: u16) -> Result<(), NicError> {
        Ok(())
    }

    fn close_port(&mut self, _port: PortId) {
        assert!(self.places.is_empty(), "closed under its queue pairs");
        let mut state = self.wire.state();
        state.receives.clear();
        state.completions.clear();
    }

    fn accept(
        &mut self,
        place: u16,
        _port: PortId,
        request: u32,
        _ask: &Ask,
        sizes: Sizes,
    ) -> Result<Accepted, NicError> {
        let mut state = self.wire.state();
        let Some(conn) = state.conns.get_mut(&request).filter(|conn| conn.host) else {
            return Err(NicError("the host is gone".into()));
        };
        conn.place = Some(place);
        self.places.insert(place, request);
        Ok(Accepted { work: sizes.work })
    }

    fn reject(&mut self, request: u32, why: Reject) {
        if let Some(conn) = self.wire.state().conns.get_mut(&request) {
            conn.rejected = Some(why);
        }
    }

    fn release(&mut self, place: u16) {
        let number = self.places.remove(&place).expect("released once");
        let mut state = self.wire.state();
        state.fail(number, 12);
        for completion in state.completions.iter_mut().filter(|c| c.place == Some(place)) {
            completion.place = None;
        }
        if let Some(conn) = state.conns.get_mut(&number) {
            conn.place = None;
            conn.disconnected = true;
        }
        state.forget(number);
    }

    fn post(&mut self, place: u16, work: &[Work]) -> Result<(), NicError> {
        let mut state = self.wire.state();
        let conn = state.conns.get_mut(&self.places[&place]).expect("held by its place");
        conn.work.extend(work);
        conn.used += work.len() as u32;
        if conn.broken {
            state.fail(self.places[&place], 5);
        }
        Ok(())
    }

    fn receive(&mut self, _port: PortId, receives: &[Receive]) {
        self.wire.state().receives.extend(receives);
    }

    fn poll(&mut self, out: &mut Vec<Completion>) {
        let mut state = self.wire.state();
        state.progress();
        out.extend(state.completions.drain(..));
    }

    fn may_sleep(&self) -> bool {
        false
    }

    fn wake_fd(&self) -> Option<RawFd> {
        None
    }
}
