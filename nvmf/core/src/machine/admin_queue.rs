//! Commands on the admin queue: their data, the events held, and Abort.

use crate::export::admin::{self, AdminOutcome, Transfer};
use crate::export::controller::{Controller, Location};
use crate::machine::io::command::Fault;
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Job, State};
use crate::machine::target::Target;
use crate::machine::transport::{ReqId, Transport};
use bdev::EdgeCx;
use nvme_spec::opcode::fabrics;
use nvme_spec::{Fuse, Status};
use std::sync::Arc;

impl<T: Transport> Target<T> {
    /// The controller of an admin queue.
    fn admin_ctrl(&self, key: u32) -> Arc<Controller> {
        match self.qpairs.get(key).map(|qpair| &qpair.role) {
            Some(Role::Admin(queue)) => queue.ctrl.clone(),
            _ => unreachable!("an admin queue, kept until its last command has ended"),
        }
    }

    /// A command came on an admin queue.
    pub(crate) fn start_admin(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        let ctrl = self.admin_ctrl(request.qpair);
        if let Some(status) = request.doomed {
            return self.finish(at, Answer::status(status), cx);
        }
        if request.sqe.fuse() != Fuse::None {
            let fault = Fault::at(Status::INVALID_FIELD, Location::FUSE);
            return self.finish(at, fault.into(), cx);
        }
        if request.sqe.opcode == fabrics::FABRICS {
            return self.admin_fabrics(at, &ctrl, cx);
        }
        if !ctrl.is_ready() {
            return self.finish(at, Answer::status(Status::SEQUENCE_ERROR.dnr()), cx);
        }
        let request = &mut self.requests[at as usize];
        request.job = Job::Admin;
        match admin::transfer(&ctrl, &request.sqe) {
            Ok(Transfer::None) => {}
            Ok(Transfer::ToHost(bytes)) => request.plan_data_for_host(bytes),
            Ok(Transfer::FromHost(bytes)) => {
                if let Err(fault) = request.plan_host_data(bytes) {
                    return self.finish(at, fault.into(), cx);
                }
                request.admin_bytes = bytes;
            }
            Err(status) => return self.finish(at, Answer::status(status), cx),
        }
        self.need_buffers(at, cx);
    }

    /// The data of an admin command is there.
    pub(crate) fn execute_admin(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        let key = request.qpair;
        let ctrl = self.admin_ctrl(key);
        let from_host = request.admin_bytes;
        let to_host = if from_host > 0 { 0 } else { request.data_bytes };
        let mut room = std::mem::take(&mut self.admin_data);
        room.clear();
        room.resize((from_host + to_host) as usize, 0);
        let (data_in, out) = room.split_at_mut(from_host as usize);
        if from_host > 0 {
            request.data(from_host).copy_out(0, data_in);
        }
        let outcome = admin::execute(&ctrl, &request.sqe, data_in, out, cx.now_ns);
        if let AdminOutcome::Done { data_bytes, .. } = outcome
            && data_bytes > 0
        {
            request.data(data_bytes).copy_in(0, &out[..data_bytes as usize]);
        }
        self.admin_data = room;
        match outcome {
            AdminOutcome::Done { status, dw0, dw1, data_bytes } => {
                let answer = Answer { dw0, dw1, data_bytes, ..Answer::status(status) };
                self.finish(at, answer, cx);
            }
            AdminOutcome::HoldEvent => self.hold_event(at),
            AdminOutcome::Abort { sqid, cid } => self.abort(at, &ctrl, sqid, cid, cx),
        }
        self.deliver_events(key, cx);
    }

    fn hold_event(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        request.state = State::EventHeld;
        if let Some(qpair) = self.qpairs.get_mut(request.qpair)
            && let Role::Admin(queue) = &mut qpair.role
        {
            queue.events.push(at);
        }
    }

    /// Tells the host what has happened, as far as it holds requests for it. True if it did.
    pub(crate) fn deliver_events(&mut self, key: u32, cx: &mut EdgeCx<'_>) -> bool {
        let mut told = false;
        while let Some(qpair) = self.qpairs.get_mut(key)
            && let Role::Admin(queue) = &mut qpair.role
            && queue.ctrl.has_event()
            && !queue.events.is_empty()
            && let Some(event) = queue.ctrl.take_event()
        {
            let at = queue.events.remove(0);
            self.finish(at, Answer::result(event.dword()), cx);
            told = true;
        }
        told
    }

    /// Ends one held event request.
    pub(crate) fn drop_held_event(&mut self, at: u32, status: Status, cx: &mut EdgeCx<'_>) {
        if let Some(qpair) = self.qpairs.get_mut(self.requests[at as usize].qpair)
            && let Role::Admin(queue) = &mut qpair.role
        {
            queue.events.retain(|held| *held != at);
        }
        self.finish(at, Answer::status(status), cx);
    }

    /// Ends a held event request whose identifier its host uses for another command, without an
    /// answer, which would be taken for that command's. (SPDK's host drops its event requests when
    /// it shuts down, and uses their identifiers for the Property Get that follows.)
    #[cold]
    pub(crate) fn displace_held_event(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        request.state = State::Responding;
        let Some(qpair) = self.qpairs.get_mut(request.qpair) else { unreachable!("kept") };
        qpair.retire(Some(request.sqe.cid()));
        let Role::Admin(queue) = &mut qpair.role else { unreachable!("an admin queue") };
        queue.events.retain(|held| *held != at);
        queue.ctrl.event_request_dropped();
        self.transport.discard(ReqId(at));
    }

    /// A reset has made the controller forget the event requests it held.
    pub(crate) fn drop_held_events(&mut self, key: u32, cx: &mut EdgeCx<'_>) {
        while let Some(qpair) = self.qpairs.get_mut(key)
            && let Role::Admin(queue) = &mut qpair.role
            && let Some(at) = queue.events.pop()
        {
            self.finish(at, Answer::status(Status::ABORTED_SQ_DELETION), cx);
        }
    }
}
