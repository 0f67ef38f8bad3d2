//! Connect (Base Specification, "Connect command"): what becomes of it, as a function of the command,
//! its data and what is exported.

use crate::export::controller::{Association, Location, QueueRefusal};
use crate::export::listener::Serves;
use crate::export::refused::{RefusalReason, RefusedHost};
use crate::export::registry::Registry;
use crate::export::subsystem::{ConnectRefusal, Subsystem, SubsystemKind};
use crate::limits;
use crate::machine::answer::Answer;
use crate::machine::io::command::{Fault, described};
use crate::machine::job::Job;
use crate::machine::qpair::{AdminQueue, IoQueue, Role};
use crate::machine::request::Request;
use crate::machine::transport::Origin;
use nvme_spec::{Fabric, Status};
use nvmf_wire::connect::{BadParameter, CNTLID_DYNAMIC, Connect, ConnectData, Connected};
use nvmf_wire::{Nqn, NqnError};
use std::sync::Arc;
use zerocopy::{FromZeros, IntoBytes};

/// Why a Connect is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
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

/// The reactor that a host connects to.
pub(crate) struct Site<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) fabric: Fabric,
    pub(crate) in_capsule_bytes: u32,
    pub(crate) reactor: usize,
    pub(crate) now_ns: u64,
}

/// What a host gets that is let in.
pub(crate) struct Accepted {
    pub(crate) role: Role,
    /// Entries of the submission queue.
    pub(crate) entries: u16,
    /// The host watches SQHD.
    pub(crate) flow_control: bool,
    pub(crate) connected: Connected,
}

/// A Connect: says what it needs.
///
/// # Errors
/// It describes too little data.
pub(crate) fn plan(request: &mut Request) -> Result<(), Fault> {
    let bytes = size_of::<ConnectData>() as u32;
    if described(request.sqe(), true)? < bytes {
        return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
    }
    let needs = request.needs_from_host(bytes)?;
    request.plan(Job::Connect, needs);
    Ok(())
}

/// The data of a Connect.
pub(crate) fn data_of(request: &Request) -> ConnectData {
    let mut data = ConnectData::new_zeroed();
    request.data(size_of::<ConnectData>() as u32).copy_out(0, data.as_mut_bytes());
    data
}

/// Lets a host in, or says why not.
///
/// # Errors
/// Why not.
pub(crate) fn connect(
    connect: Connect,
    data: &ConnectData,
    origin: &Origin,
    site: &Site<'_>,
) -> Result<Accepted, Refusal> {
    if connect.recfmt != 0 {
        return Err(Refusal::Status(Status::CONNECT_INCOMPATIBLE_FORMAT.dnr()));
    }
    let name = data.subnqn().map_err(|_| BadParameter::SubNqn)?;
    let host = host_name(data)?;
    let subsystem = site.registry.subsystem(name.as_str()).ok_or(BadParameter::SubNqn)?;
    let is_served = origin.serves == Serves::Everything;
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
    let role = match connect.qid {
        0 => connect_admin(&subsystem, &wish, origin, site),
        _ => connect_io(&subsystem, &wish, site.fabric, site.reactor),
    };
    // A host that is told never to retry gives its controller up, although the target may be back
    // in a moment.
    let role = role.map_err(|refusal| match subsystem.goes_down() {
        true => Refusal::Status(Status::CONNECT_BUSY),
        false => refusal,
    })?;
    let cntlid = role.ctrl().map_or(0, |ctrl| ctrl.cntlid());
    Ok(Accepted {
        role,
        entries: connect.sqsize + 1,
        flow_control: !connect.disables_sq_flow(),
        connected: Connected { cntlid, authenticate: false, secure_channel: false },
    })
}

/// Whom a Connect came from and what it was refused for, for an operator who is asked about it.
pub(crate) fn refused(
    data: &ConnectData,
    origin: &Origin,
    refusal: Refusal,
    now_ns: u64,
) -> RefusedHost {
    let (reason, detail) = match refusal {
        Refusal::Parameter(BadParameter::SubNqn) => match origin.serves {
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
    let name = |nqn: Nqn| nqn.as_str().to_owned();
    RefusedHost {
        host: host_name(data).ok().map(name),
        address: origin.peer.ip(),
        subsystem: data.subnqn().ok().map(name),
        reason,
        detail,
        last_ns: now_ns,
        count: 0,
    }
}

fn connect_admin(
    subsystem: &Arc<Subsystem>,
    wish: &Wish,
    origin: &Origin,
    site: &Site<'_>,
) -> Result<Role, Refusal> {
    if wish.cntlid != CNTLID_DYNAMIC {
        return Err(BadParameter::Cntlid.into());
    }
    let association = Association {
        host_nqn: wish.host.as_str().to_owned(),
        host_id: wish.host_id,
        kato_ms: wish.connect.kato_ms,
        in_capsule_bytes: site.in_capsule_bytes,
        fabric: site.fabric,
        local: origin.local,
        peer: origin.peer,
        reactor: site.reactor,
    };
    let ctrl = subsystem.connect(association, site.now_ns).map_err(|refusal| match refusal {
        ConnectRefusal::HostNotAllowed => Refusal::Status(Status::CONNECT_INVALID_HOST.dnr()),
        ConnectRefusal::Removed => Refusal::Parameter(BadParameter::SubNqn),
        ConnectRefusal::TooManyControllers => Refusal::Status(Status::CONNECT_BUSY),
    })?;
    Ok(Role::Admin(AdminQueue::new(ctrl)))
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
