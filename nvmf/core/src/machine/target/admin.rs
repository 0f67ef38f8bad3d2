//! Commands on the admin queue, their data and the events held; and the fabrics commands (Base
//! Specification, "Fabrics Command Set").

use super::Target;
use crate::export::admin::{self, AdminOutcome, Transfer};
use crate::export::controller::{Controller, Location, PropertyEffect};
use crate::machine::admission::{admit_admin, check_unfused};
use crate::machine::answer::Answer;
use crate::machine::connect::{Site, connect, data_of, refused};
use crate::machine::elsewhere::{Question, Reply, Ticket};
use crate::machine::io::command::Fault;
use crate::machine::job::{Job, Needs};
use crate::machine::qpair::Phase;
use crate::machine::transport::{ReqId, Transport};
use bdev::EdgeCx;
use nvme_spec::Status;
use nvme_spec::opcode::fabrics;
use nvmf_wire::connect::{Connect, Disconnect};
use nvmf_wire::property::{PropertyGet, PropertySet, Width};
use std::sync::Arc;

impl<T: Transport> Target<T> {
    /// The controller of an admin queue with a command under way.
    fn admin_ctrl(&mut self, key: u32) -> Arc<Controller> {
        self.qpairs.of(key).admin().expect("an admin queue stays one").ctrl().clone()
    }

    /// A command came on an admin queue.
    pub(super) fn start_admin(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let key = self.requests[at].qpair();
        let ctrl = self.admin_ctrl(key);
        let request = &self.requests[at];
        if let Some(status) = request.doomed() {
            return self.finish(at, Answer::status(status), cx);
        }
        if let Err(fault) = check_unfused(request.sqe()) {
            return self.finish(at, fault.into(), cx);
        }
        if request.sqe().opcode == fabrics::FABRICS {
            return self.admin_fabrics(at, &ctrl, cx);
        }
        match self.plan_admin(at, &ctrl) {
            Ok(()) => self.need_buffers(at, cx),
            Err(answer) => self.finish(at, answer, cx),
        }
    }

    fn plan_admin(&mut self, at: u32, ctrl: &Controller) -> Result<(), Answer> {
        let request = &mut self.requests[at];
        admit_admin(ctrl)?;
        // What is refused is in the error log already.
        let transfer = match admin::transfer(ctrl, request.sqe()) {
            Ok(transfer) => transfer,
            Err(status) => {
                request.plan(Job::Admin { from_host: 0 }, Needs::NOTHING);
                return Err(Answer::status(status));
            }
        };
        let (from_host, needs) = match transfer {
            Transfer::None => (0, Ok(Needs::NOTHING)),
            Transfer::ToHost(bytes) => (0, Ok(Needs::for_host(bytes))),
            Transfer::FromHost(bytes) => (bytes, request.needs_from_host(bytes)),
        };
        request.plan(Job::Admin { from_host }, needs?);
        Ok(())
    }

    /// The data of an admin command is there.
    pub(super) fn execute_admin(&mut self, at: u32, from_host: u32, cx: &mut EdgeCx<'_>) {
        let key = self.requests[at].qpair();
        let ctrl = self.admin_ctrl(key);
        let request = &mut self.requests[at];
        let to_host = if from_host > 0 { 0 } else { request.needs().data_bytes };
        if let Some(question) = Question::of(&ctrl, request.sqe(), to_host, cx.now_ns) {
            self.questions += 1;
            return self.elsewhere.ask(Ticket { request: at, number: request.ask() }, question);
        }
        let mut room = std::mem::take(&mut self.admin_data);
        room.clear();
        room.resize((from_host + to_host) as usize, 0);
        let (data_in, out) = room.split_at_mut(from_host as usize);
        if from_host > 0 {
            request.data(from_host).copy_out(0, data_in);
        }
        let outcome = admin::execute(&ctrl, request.sqe(), data_in, out, cx.now_ns);
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
            AdminOutcome::HoldEvent => {
                self.requests[at].hold_for_event();
                if let Some(queue) = self.qpairs.admin(key) {
                    queue.hold_event(at);
                }
            }
            AdminOutcome::Abort { sqid, cid } => self.abort(at, &ctrl, sqid, cid, cx),
        }
        self.deliver_events(key, cx);
    }

    /// Ends the commands whose questions have been answered elsewhere. Returns how many.
    pub(super) fn take_replies(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut taken = 0;
        while let Some((Ticket { request: at, number }, reply)) = self.elsewhere.poll(cx.now_ns) {
            self.questions = self.questions.checked_sub(1).expect("a question is answered once");
            taken += 1;
            let request = &mut self.requests[at];
            request.answered_elsewhere(number);
            let key = request.qpair();
            let answer = match request.doomed() {
                Some(status) => Answer::status(status),
                None => {
                    let data_bytes = reply.data.len() as u32;
                    request.data(data_bytes).copy_in(0, &reply.data);
                    let Reply { status, dw0, dw1, .. } = reply;
                    Answer { dw0, dw1, data_bytes, ..Answer::status(status) }
                }
            };
            self.finish(at, answer, cx);
            self.deliver_events(key, cx);
        }
        taken
    }

    /// A reset of the controller ends what its admin queue has under way: what waits for buffers at
    /// once, what is asked elsewhere when that is answered.
    fn end_admin_commands(&mut self, key: u32, cx: &mut EdgeCx<'_>) {
        for at in self.qpairs.requests(key) {
            if self.requests[at].stage().is_some() {
                self.doom(at, Status::ABORTED_SQ_DELETION, cx);
            }
        }
    }

    /// Tells the host what has happened, as far as it holds requests for it. True if it did.
    pub(super) fn deliver_events(&mut self, key: u32, cx: &mut EdgeCx<'_>) -> bool {
        let mut told = false;
        while let Some(queue) = self.qpairs.admin(key)
            && let Some((at, event)) = queue.take_event()
        {
            self.finish(at, Answer::result(event.dword()), cx);
            told = true;
        }
        told
    }

    /// Ends one held event request.
    pub(super) fn drop_held_event(&mut self, at: u32, status: Status, cx: &mut EdgeCx<'_>) {
        let key = self.requests[at].qpair();
        if let Some(queue) = self.qpairs.admin(key) {
            queue.drop_event(at);
        }
        self.finish(at, Answer::status(status), cx);
    }

    /// Ends a held event request whose identifier its host uses for another command, without an
    /// answer, which would be taken for that command's. (SPDK's host drops its event requests when
    /// it shuts down, and uses their identifiers for the Property Get that follows.)
    #[cold]
    pub(super) fn displace_held_event(&mut self, at: u32) {
        let request = &mut self.requests[at];
        let qpair = self.qpairs.of(request.qpair());
        qpair.retire(Some(request.sqe().cid()));
        qpair.host_owes(self.now_ns);
        request.discard();
        if let Some(queue) = qpair.admin() {
            queue.drop_event(at);
            queue.ctrl().event_request_dropped();
        }
        self.transport.discard(ReqId(at));
    }

    /// A reset has made the controller forget the event requests it held.
    fn drop_held_events(&mut self, key: u32, cx: &mut EdgeCx<'_>) {
        while let Some(at) = self.qpairs.admin(key).and_then(|queue| queue.pop_event()) {
            self.finish(at, Answer::status(Status::ABORTED_SQ_DELETION), cx);
        }
    }

    /// The data of a Connect is there.
    pub(super) fn execute_connect(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at];
        let (data, sqe) = (data_of(request), *request.sqe());
        let qpair = self.qpairs.of(request.qpair());
        let site = Site {
            registry: &self.registry,
            fabric: self.transport.fabric(),
            in_capsule_bytes: self.transport.in_capsule_bytes(),
            reactor: self.reactor,
            now_ns: cx.now_ns,
        };
        let answer = match connect(Connect::of(&sqe), &data, qpair.origin(), &site) {
            Ok(accepted) => {
                let (entries, flow_control) = (accepted.entries, accepted.flow_control);
                qpair.connected(accepted.role, entries, flow_control, (sqe.cid(), at));
                Answer::result(accepted.connected.dword())
            }
            Err(refusal) => {
                self.counters.refused_connects.add(1);
                let refused = refused(&data, qpair.origin(), refusal, cx.now_ns);
                self.registry.refused().note(refused);
                refusal.into()
            }
        };
        self.finish(at, answer, cx);
    }

    /// The host gives an I/O queue up: it closes when its commands have been answered.
    pub(super) fn execute_disconnect(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at];
        if Disconnect::of(request.sqe()).recfmt != 0 {
            let status = Status::CONNECT_INCOMPATIBLE_FORMAT.dnr();
            return self.finish(at, Answer::status(status), cx);
        }
        self.qpairs.of(request.qpair()).set_phase(Phase::Leaving);
        self.finish(at, Answer::status(Status::SUCCESS), cx);
    }

    /// A fabrics command came on a connected admin queue.
    fn admin_fabrics(&mut self, at: u32, ctrl: &Controller, cx: &mut EdgeCx<'_>) {
        let fault = match self.requests[at].sqe().fctype() {
            fabrics::PROPERTY_GET => return self.property_get(at, ctrl, cx),
            fabrics::PROPERTY_SET => return self.property_set(at, ctrl, cx),
            fabrics::CONNECT => Fault::at(Status::SEQUENCE_ERROR, Location::NONE),
            fabrics::DISCONNECT => Fault::at(Status::INVALID_QUEUE_TYPE, Location::NONE),
            _ => Fault::at(Status::INVALID_OPCODE, Location::NSID),
        };
        self.finish(at, fault.into(), cx);
    }

    fn property_get(&mut self, at: u32, ctrl: &Controller, cx: &mut EdgeCx<'_>) {
        let get = PropertyGet::of(self.requests[at].sqe());
        let answer = match wide(get.width).and_then(|wide| ctrl.property_get(get.offset, wide)) {
            Ok(value) => Answer { dw1: (value >> 32) as u32, ..Answer::result(value as u32) },
            Err(status) => Fault { status, location: Location::dword_bit(11, 0) }.into(),
        };
        self.finish(at, answer, cx);
    }

    fn property_set(&mut self, at: u32, ctrl: &Controller, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at];
        let (set, key) = (PropertySet::of(request.sqe()), request.qpair());
        let effect = wide(set.width)
            .and_then(|wide| ctrl.property_set(set.offset, wide, set.value, cx.now_ns));
        let answer = match effect {
            Ok(effect) => {
                if effect == PropertyEffect::Reset {
                    self.drop_held_events(key, cx);
                    self.end_admin_commands(key, cx);
                }
                Answer::status(Status::SUCCESS)
            }
            Err(status) => Fault { status, location: Location::dword_bit(11, 0) }.into(),
        };
        self.finish(at, answer, cx);
    }
}

fn wide(width: Width) -> Result<bool, Status> {
    match width {
        Width::Four => Ok(false),
        Width::Eight => Ok(true),
        Width::Reserved => Err(Status::INVALID_FIELD.dnr()),
    }
}
