//! Fabrics commands: Connect, Property Get and Set, Disconnect (Base Specification, "Fabrics
//! Command Set").

use crate::export::controller::{Association, Controller, Location, PropertyEffect, QueueRefusal};
use crate::export::listener::Serves;
use crate::export::refused::{RefusalReason, RefusedHost};
use crate::export::subsystem::{ConnectRefusal, Subsystem, SubsystemKind};
use crate::limits;
use crate::machine::io::command::{Fault, described};
use crate::machine::qpair::{AdminQueue, IoQueue, Phase, Qpair, Role};
use crate::machine::request::{Answer, Job};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::EdgeCx;
use nvme_spec::opcode::fabrics;
use nvme_spec::{Fabric, Sqe, Status};
use nvmf_wire::connect::{
    BadParameter, CNTLID_DYNAMIC, Connect, ConnectData, Connected, Disconnect,
};
use nvmf_wire::property::{PropertyGet, PropertySet, Width};
use nvmf_wire::{Nqn, NqnError};
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

/// Why a Connect is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// Connect Invalid Parameters, with the parameter.
    Parameter(BadParameter),
    /// Another status.
    Status(Status),
}

impl From<BadParameter> for Refusal {
    fn from(parameter: BadParameter) -> Refusal {
        Refusal::Parameter(parameter)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Answer {
        match refusal {
            Refusal::Status(status) => Answer::status(status),
            Refusal::Parameter(parameter) => Answer {
                dw0: parameter.dword(),
                ..Answer::status(Status::CONNECT_INVALID_PARAMETERS.dnr())
            },
        }
    }
}

/// A Connect whose fields and data are understood.
struct Wish {
    connect: Connect,
    cntlid: u16,
    host_id: [u8; 16],
    host: Nqn,
}

/// What the names of hosts start with that connect without one; their host identifier follows.
const UNNAMED_HOST: &str = "nqn.2026-01.io.forebay:unnamed-host:";

/// The name that a host is known by. One that sends none (SPDK's perf tool does) is known by its
/// host identifier, and like any other it connects where that name is let in.
fn host_name(data: &ConnectData) -> Result<Nqn, BadParameter> {
    match data.hostnqn() {
        Err(NqnError::Empty) => {
            let id: String = data.hostid.iter().map(|byte| format!("{byte:02x}")).collect();
            Ok(Nqn::new(&format!("{UNNAMED_HOST}{id}")).expect("letters and digits"))
        }
        name => name.map_err(|_| BadParameter::HostNqn),
    }
}

fn is_fabrics(sqe: &Sqe, fctype: u8) -> bool {
    sqe.opcode == fabrics::FABRICS && sqe.fctype() == fctype
}

impl<T: Transport> Target<T> {
    /// A command came on a queue pair that is not connected: only Connect may.
    pub(crate) fn start_connect(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &mut self.requests[at as usize];
        if let Some(status) = request.doomed {
            return self.finish(at, Answer::status(status), cx);
        }
        if !is_fabrics(&request.sqe, fabrics::CONNECT) {
            return self.finish(at, Answer::status(Status::SEQUENCE_ERROR.dnr()), cx);
        }
        request.job = Job::Connect;
        let bytes = size_of::<ConnectData>() as u32;
        let planned = described(&request.sqe, true).and_then(|room| {
            if room < bytes {
                return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
            }
            request.plan_host_data(bytes)
        });
        match planned {
            Ok(()) => self.need_buffers(at, cx),
            Err(fault) => self.finish(at, fault.into(), cx),
        }
    }

    /// The data of a Connect is there.
    pub(crate) fn execute_connect(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let answer = match self.connect(at, cx.now_ns) {
            Ok(connected) => Answer::result(connected.dword()),
            Err(refusal) => {
                self.counters.refused_connects.add(1);
                self.note_refused_connect(at, refusal, cx.now_ns);
                refusal.into()
            }
        };
        self.finish(at, answer, cx);
    }

    /// The data of a Connect.
    fn connect_data(&self, at: u32) -> ConnectData {
        let mut data = ConnectData::new_zeroed();
        let came = self.requests[at as usize].data(size_of::<ConnectData>() as u32);
        came.copy_out(0, data.as_mut_bytes());
        data
    }

    /// Whom a Connect came from and what it was refused for, for an operator who is asked about it.
    fn note_refused_connect(&self, at: u32, refusal: Refusal, now_ns: u64) {
        let Some(qpair) = self.qpairs.get(self.requests[at as usize].qpair) else { return };
        let (reason, detail) = match refusal {
            Refusal::Parameter(BadParameter::SubNqn) => match qpair.origin.serves {
                Serves::Everything => (RefusalReason::NoSubsystem, None),
                Serves::Discovery => (RefusalReason::DiscoveryOnly, None),
            },
            Refusal::Parameter(which) => (RefusalReason::BadConnect, Some(format!("{which:?}"))),
            Refusal::Status(status) if status == Status::CONNECT_INVALID_HOST.dnr() => {
                (RefusalReason::NotListed, None)
            }
            Refusal::Status(Status::CONNECT_BUSY) => (RefusalReason::TooManyControllers, None),
            Refusal::Status(status) => (RefusalReason::BadConnect, Some(status.to_string())),
        };
        let data = self.connect_data(at);
        let name = |nqn: Nqn| nqn.as_str().to_owned();
        self.registry.refused().note(RefusedHost {
            host: host_name(&data).ok().map(name),
            address: qpair.origin.peer.ip(),
            subsystem: data.subnqn().ok().map(name),
            reason,
            detail,
            last_ns: now_ns,
            count: 0,
        });
    }

    fn connect(&mut self, at: u32, now_ns: u64) -> Result<Connected, Refusal> {
        let request = &self.requests[at as usize];
        let data = self.connect_data(at);
        let connect = Connect::of(&request.sqe);
        if connect.recfmt != 0 {
            return Err(Refusal::Status(Status::CONNECT_INCOMPATIBLE_FORMAT.dnr()));
        }
        let name = data.subnqn().map_err(|_| BadParameter::SubNqn)?;
        let host = host_name(&data)?;
        let subsystem = self.registry.subsystem(name.as_str()).ok_or(BadParameter::SubNqn)?;
        let (key, cid) = (request.qpair, request.sqe.cid());
        let Some(qpair) = self.qpairs.get(key) else { unreachable!("kept") };
        let is_served = qpair.origin.serves == Serves::Everything;
        if matches!(subsystem.kind(), SubsystemKind::Nvm) && !is_served {
            return Err(BadParameter::SubNqn.into());
        }
        if !subsystem.allows(host.as_str()) {
            return Err(Refusal::Status(Status::CONNECT_INVALID_HOST.dnr()));
        }
        if connect.sqsize == 0 || connect.sqsize >= limits::QUEUE_ENTRIES {
            return Err(BadParameter::Sqsize.into());
        }
        let wish = Wish { connect, cntlid: data.cntlid.get(), host_id: data.hostid, host };
        let role = if connect.qid == 0 {
            self.connect_admin(&subsystem, &wish, qpair, now_ns)
        } else {
            connect_io(&subsystem, &wish, self.transport.fabric(), self.reactor)
        };
        // A host that is told never to retry gives its controller up, although the target may be
        // back in a moment.
        let role = role.map_err(|refusal| match subsystem.goes_down() {
            true => Refusal::Status(Status::CONNECT_BUSY),
            false => refusal,
        })?;
        let Some(qpair) = self.qpairs.get_mut(key) else { unreachable!("kept") };
        qpair.role = role;
        qpair.phase = Phase::Open;
        qpair.origin.place.heard();
        qpair.set_size(connect.sqsize + 1, !connect.disables_sq_flow(), cid, at);
        let cntlid = qpair.ctrl().map_or(0, |ctrl| ctrl.cntlid());
        Ok(Connected { cntlid, authenticate: false, secure_channel: false })
    }

    fn connect_admin(
        &self,
        subsystem: &Arc<Subsystem>,
        wish: &Wish,
        qpair: &Qpair,
        now_ns: u64,
    ) -> Result<Role, Refusal> {
        if wish.cntlid != CNTLID_DYNAMIC {
            return Err(BadParameter::Cntlid.into());
        }
        let association = Association {
            host_nqn: wish.host.as_str().to_owned(),
            host_id: wish.host_id,
            kato_ms: wish.connect.kato_ms,
            in_capsule_bytes: self.transport.in_capsule_bytes(),
            fabric: self.transport.fabric(),
            local: qpair.origin.local,
            peer: qpair.origin.peer,
            reactor: self.reactor,
        };
        let ctrl = subsystem.connect(association, now_ns).map_err(|refusal| match refusal {
            ConnectRefusal::HostNotAllowed => Refusal::Status(Status::CONNECT_INVALID_HOST.dnr()),
            ConnectRefusal::Removed => Refusal::Parameter(BadParameter::SubNqn),
            ConnectRefusal::TooManyControllers => Refusal::Status(Status::CONNECT_BUSY),
        })?;
        let events = Vec::with_capacity(usize::from(limits::ASYNC_EVENTS));
        Ok(Role::Admin(AdminQueue { ctrl, events, aborting: 0 }))
    }

    /// What a fabrics command on a connected I/O queue needs: only Disconnect is for it.
    pub(crate) fn prepare_fabrics(&mut self, at: u32) -> Result<(), Fault> {
        let request = &mut self.requests[at as usize];
        match request.sqe.fctype() {
            fabrics::DISCONNECT => {
                request.job = Job::Disconnect;
                Ok(())
            }
            fabrics::CONNECT => Err(Fault::at(Status::SEQUENCE_ERROR, Location::NONE)),
            _ => Err(Fault::at(Status::INVALID_OPCODE, Location::NSID)),
        }
    }

    /// The host gives an I/O queue up: it closes when its commands have been answered.
    pub(crate) fn execute_disconnect(&mut self, at: u32, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        if Disconnect::of(&request.sqe).recfmt != 0 {
            let status = Status::CONNECT_INCOMPATIBLE_FORMAT.dnr();
            return self.finish(at, Answer::status(status), cx);
        }
        if let Some(qpair) = self.qpairs.get_mut(request.qpair) {
            qpair.phase = Phase::Leaving;
        }
        self.finish(at, Answer::status(Status::SUCCESS), cx);
    }

    /// A fabrics command came on a connected admin queue.
    pub(crate) fn admin_fabrics(&mut self, at: u32, ctrl: &Controller, cx: &mut EdgeCx<'_>) {
        let sqe = self.requests[at as usize].sqe;
        let fault = match sqe.fctype() {
            fabrics::PROPERTY_GET => return self.property_get(at, ctrl, cx),
            fabrics::PROPERTY_SET => return self.property_set(at, ctrl, cx),
            fabrics::CONNECT => Fault::at(Status::SEQUENCE_ERROR, Location::NONE),
            fabrics::DISCONNECT => Fault::at(Status::INVALID_QUEUE_TYPE, Location::NONE),
            _ => Fault::at(Status::INVALID_OPCODE, Location::NSID),
        };
        self.finish(at, fault.into(), cx);
    }

    fn property_get(&mut self, at: u32, ctrl: &Controller, cx: &mut EdgeCx<'_>) {
        let get = PropertyGet::of(&self.requests[at as usize].sqe);
        let answer = match wide(get.width).and_then(|wide| ctrl.property_get(get.offset, wide)) {
            Ok(value) => Answer { dw1: (value >> 32) as u32, ..Answer::result(value as u32) },
            Err(status) => Fault { status, location: Location::dword_bit(11, 0) }.into(),
        };
        self.finish(at, answer, cx);
    }

    fn property_set(&mut self, at: u32, ctrl: &Controller, cx: &mut EdgeCx<'_>) {
        let request = &self.requests[at as usize];
        let set = PropertySet::of(&request.sqe);
        let key = request.qpair;
        let effect = wide(set.width)
            .and_then(|wide| ctrl.property_set(set.offset, wide, set.value, cx.now_ns));
        let answer = match effect {
            Ok(effect) => {
                if effect == PropertyEffect::Reset {
                    self.drop_held_events(key, cx);
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

fn connect_io(
    subsystem: &Subsystem,
    wish: &Wish,
    fabric: Fabric,
    reactor: usize,
) -> Result<Role, Refusal> {
    if matches!(subsystem.kind(), SubsystemKind::Discovery(_)) {
        return Err(BadParameter::Qid.into());
    }
    let ctrl = subsystem.controller(wish.cntlid).ok_or(BadParameter::Cntlid)?;
    let association = ctrl.association();
    // What a controller says of capsules and descriptors holds for one fabric.
    if association.fabric != fabric {
        return Err(BadParameter::Cntlid.into());
    }
    if association.host_nqn != wish.host.as_str() {
        return Err(BadParameter::HostNqn.into());
    }
    if association.host_id != wish.host_id {
        return Err(BadParameter::HostId.into());
    }
    let (qid, entries) = (wish.connect.qid, wish.connect.sqsize + 1);
    let epoch = ctrl.claim_queue(qid, entries, reactor).map_err(|refusal| match refusal {
        QueueRefusal::NoSuchQueue => Refusal::Parameter(BadParameter::Qid),
        QueueRefusal::NotEnabled => Refusal::Status(Status::SEQUENCE_ERROR.dnr()),
        // The queue that is in the way may be gone the next time.
        QueueRefusal::NotReady | QueueRefusal::InUse => Refusal::Status(Status::SEQUENCE_ERROR),
    })?;
    Ok(Role::Io(IoQueue::new(ctrl, qid, epoch)))
}
