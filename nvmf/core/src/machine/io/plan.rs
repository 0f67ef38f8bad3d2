//! What a command on an I/O queue needs before it can execute.

use super::command::{Command, Fault, VERIFY_BYTES, Verb, parse, piece_bytes};
use crate::export::controller::Location;
use crate::machine::admission::{admit, check_queue};
use crate::machine::job::{HostData, IoJob, Job, Needs, Pair, Progress};
use crate::machine::qpair::IoQueue;
use crate::machine::request::Request;
use crate::machine::space::Spaces;
use bdev::Geometry;
use nvme_spec::opcode::{fabrics, nvm};
use nvme_spec::{Sqe, Status};

/// Lets the command of an I/O queue in, finds its namespace, and says what it needs.
///
/// # Errors
/// The status that it ends with, without any effect.
pub(crate) fn plan(
    request: &mut Request,
    queue: &mut IoQueue,
    spaces: &mut Spaces,
) -> Result<(), Fault> {
    let (nsid, opcode) = (request.sqe().nsid(), request.sqe().opcode);
    match opcode {
        nvm::FLUSH if nsid == Sqe::NSID_ALL => {
            check_queue(queue)?;
            request.plan(Job::FlushAll { nsid: 0, space: None }, Needs::NOTHING);
            return Ok(());
        }
        fabrics::FABRICS => {
            request.plan(plan_fabrics(request.sqe())?, Needs::NOTHING);
            return Ok(());
        }
        _ => {}
    }
    let space = admit(queue, nsid, spaces)?;
    let entry = spaces.get_mut(space);
    let (job, needs) = if opcode == nvm::FLUSH {
        (Job::Flush { space }, Needs::NOTHING)
    } else {
        let command = parse(request.sqe(), &entry.geometry)?;
        if command.verb == (Verb::Copy { with_namespaces: true })
            && !queue.ctrl().copies_between_namespaces()
        {
            return Err(Fault::at(Status::INVALID_FIELD, Location::dword_bit(12, 8)));
        }
        let needs = needs(request, command, &entry.geometry)?;
        let (pair, progress) = (Pair::Alone, Progress::default());
        (Job::Io(IoJob { command, space, pair, progress }), needs)
    };
    request.plan(job, needs);
    entry.commands += 1;
    Ok(())
}

/// What a fabrics command on a connected I/O queue is: only Disconnect is for it.
fn plan_fabrics(sqe: &Sqe) -> Result<Job, Fault> {
    match sqe.fctype() {
        fabrics::DISCONNECT => Ok(Job::Disconnect),
        fabrics::CONNECT => Err(Fault::at(Status::SEQUENCE_ERROR, Location::NONE)),
        _ => Err(Fault::at(Status::INVALID_OPCODE, Location::NSID)),
    }
}

/// What a data command on a namespace of this geometry needs.
///
/// # Errors
/// When less came in the capsule than the command needs.
fn needs(request: &Request, command: Command, geometry: &Geometry) -> Result<Needs, Fault> {
    let bytes = command.bytes;
    let mut needs = match command.verb {
        Verb::Read => Needs::for_host(bytes),
        verb if verb.takes_data() => request.needs_from_host(bytes)?,
        _ => Needs::NOTHING,
    };
    match command.verb {
        Verb::Write => {
            let data = request.in_capsule().filter(|data| !data.is_aligned(geometry.align_bytes));
            if let (HostData::InCapsule, Some(_)) = (needs.host_data, data) {
                needs = Needs { data_bytes: bytes, host_data: HostData::Copied, ..needs };
            }
        }
        Verb::Compare => needs.scratch_bytes = bytes,
        Verb::Verify => {
            let bytes = u64::from(command.blocks) * u64::from(geometry.block_bytes);
            needs.scratch_bytes = bytes.min(u64::from(VERIFY_BYTES)) as u32;
        }
        Verb::Copy { .. } => needs.scratch_bytes = piece_bytes(geometry),
        Verb::Read | Verb::Ranges { .. } | Verb::WriteZeroes => {}
    }
    Ok(needs)
}
