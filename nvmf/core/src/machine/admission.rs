//! Whether a command may run: the one place where that is decided, for commands that are answered
//! in the turn that takes them in and for those that go through the stack alike.
//!
//! A command is checked when it comes and, if it takes several steps, before each step. (Reservations
//! will be checked with the access to the namespace, authentication with the phase of the queue pair.)

use crate::export::controller::{Controller, Location};
use crate::machine::io::command::Fault;
use crate::machine::qpair::{IoQueue, Phase, Qpair, Role};
use crate::machine::space::{Space, Spaces};
use bdev::Addr;
use nvme_spec::opcode::fabrics;
use nvme_spec::{Fuse, Sqe, Status};

/// What a command may be, by what its queue pair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Connect, and nothing else.
    Connect,
    /// A command for an admin queue.
    Admin,
    /// A command for an I/O queue.
    Io,
    /// None: the queue pair ends.
    Nowhere,
}

/// What commands of a queue pair may be now.
#[inline]
pub(crate) fn way(qpair: &Qpair) -> Way {
    match (qpair.phase(), qpair.role()) {
        (Phase::Open, Role::Io(_)) => Way::Io,
        (Phase::Open, Role::Admin(_)) => Way::Admin,
        (Phase::AwaitingConnect { .. }, _) => Way::Connect,
        _ => Way::Nowhere,
    }
}

/// Whether commands of an I/O queue may run: its controller lives, and has not been reset.
#[inline]
pub(crate) fn check_queue(queue: &IoQueue) -> Result<(), Fault> {
    match queue.is_current() {
        true => Ok(()),
        false => Err(Fault { status: Status::ABORTED_SQ_DELETION, location: Location::NONE }),
    }
}

/// Whether commands of a host may go to a namespace, and to which channel.
#[inline]
fn check_namespace(space: &Space) -> Result<Addr, Fault> {
    space.channel.map_err(|status| Fault { status, location: Location::NSID })
}

/// Lets a command of an I/O queue in, to namespace `nsid`. Returns its place in the reactor's table,
/// which is current.
///
/// # Errors
/// Why it may not run.
#[inline(always)]
pub(crate) fn admit(queue: &mut IoQueue, nsid: u32, spaces: &mut Spaces) -> Result<u32, Fault> {
    check_queue(queue)?;
    let unknown = Fault::at(Status::INVALID_NAMESPACE, Location::NSID);
    let space = queue.space(nsid, spaces).ok_or(unknown)?;
    check_namespace(spaces.get(space))?;
    Ok(space)
}

/// Lets a step of a command through that was admitted before: nothing may have changed since, or it
/// is checked again. `range`: the blocks of the step, first and number. Returns the channel, and
/// whether the host wants writes on the medium.
///
/// # Errors
/// Why it may not go on.
#[inline(always)]
pub(crate) fn admit_step(
    queue: &IoQueue,
    at: u32,
    range: (u64, u64),
    spaces: &mut Spaces,
) -> Result<(Addr, bool), Fault> {
    check_queue(queue)?;
    if spaces.get(at).generation != queue.subsystem().generation() {
        spaces.refresh(at);
        if !spaces.get(at).geometry.contains(range.0, range.1) {
            return Err(Fault::at(Status::LBA_OUT_OF_RANGE, Location::SLBA));
        }
    }
    let space = spaces.get(at);
    let write_through = space.geometry.volatile_cache && !queue.ctrl().write_cache_enabled();
    Ok((check_namespace(space)?, write_through))
}

/// Whether an admin command other than a fabrics one may run. Its own fields are checked where it is
/// executed.
pub(crate) fn admit_admin(ctrl: &Controller) -> Result<(), Fault> {
    match ctrl.is_ready() {
        true => Ok(()),
        false => Err(Fault::at(Status::SEQUENCE_ERROR, Location::NONE)),
    }
}

/// Whether a command of an admin queue is part of a fused pair, which none is there.
pub(crate) fn check_unfused(sqe: &Sqe) -> Result<(), Fault> {
    match sqe.fuse() {
        Fuse::None => Ok(()),
        _ => Err(Fault::at(Status::INVALID_FIELD, Location::FUSE)),
    }
}

/// Whether a command may come first on a connection: only Connect.
pub(crate) fn admit_first(sqe: &Sqe) -> Result<(), Fault> {
    let is_connect = sqe.opcode == fabrics::FABRICS && sqe.fctype() == fabrics::CONNECT;
    match is_connect {
        true => Ok(()),
        false => Err(Fault::at(Status::SEQUENCE_ERROR, Location::NONE)),
    }
}
