//! What is counted and logged of a command when it ends.

use crate::export::controller::CommandError;
use crate::export::counters::{IoCounters, ReactorCounters};
use crate::machine::answer::Answer;
use crate::machine::io::command::{Command, Verb};
use crate::machine::job::Job;
use crate::machine::qpair::{Qpair, Role};
use crate::machine::request::Request;
use crate::machine::space::Spaces;
use bdev::latency::{Latencies, bucket};
use nvme_spec::Status;

/// Where a command ends: the reactor, its counters and its time.
pub(crate) struct Here<'a> {
    pub(crate) reactor: usize,
    pub(crate) counters: &'a ReactorCounters,
    pub(crate) now_ns: u64,
}

/// Counts a command that ends, and enters a failure into the error log, which changes the status. Lets
/// its namespace go.
#[inline(always)]
pub(crate) fn account(
    request: &Request,
    qpair: Option<&Qpair>,
    spaces: &mut Spaces,
    here: &Here<'_>,
    answer: &mut Answer,
) {
    let job = request.job_if_known();
    if !answer.status.is_success() {
        here.counters.errors.add(1);
        log_failure(request, job, qpair, answer);
    }
    let Some(qpair) = qpair else { return };
    let (Role::Io(_), Some(meter)) = (qpair.role(), qpair.meter()) else { return };
    let Some(place) = job.and_then(Job::space) else {
        return count_other([&meter.counters].into_iter(), job, answer.status);
    };
    let space = spaces.get(place);
    let (at_space, block_bytes) =
        (space.namespace.counters(here.reactor), space.geometry.block_bytes);
    match job {
        Some(Job::Io(io)) if answer.status.is_success() => {
            let took_ns = here.now_ns.saturating_sub(request.began_ns());
            let at_queue = (&meter.counters, &meter.latencies);
            let at_space = (at_space, space.namespace.latencies(here.reactor));
            count_done([at_queue, at_space], io.command, block_bytes, took_ns);
        }
        _ => count_other([&meter.counters, at_space].into_iter(), job, answer.status),
    }
    spaces.leave(place);
}

#[cold]
fn log_failure(request: &Request, job: Option<&Job>, qpair: Option<&Qpair>, answer: &mut Answer) {
    // What the admin commands come to is logged where they are executed.
    if matches!(job, Some(Job::Admin { .. } | Job::Connect)) {
        return;
    }
    let Some((qpair, ctrl)) = qpair.and_then(|qpair| Some((qpair, qpair.ctrl()?))) else { return };
    answer.status = ctrl.log_error(CommandError {
        sqid: qpair.qid(),
        cid: request.sqe().cid(),
        status: answer.status,
        location: answer.location,
        lba: job.and_then(Job::command).map_or(0, |command| command.lba),
        nsid: request.sqe().nsid(),
    });
}

/// Counts a data command that has succeeded and took so long, for both that keep count.
#[inline(always)]
fn count_done(
    meters: [(&IoCounters, &Latencies); 2],
    command: Command,
    block_bytes: u32,
    took_ns: u64,
) {
    let bucket = bucket(took_ns);
    match command.verb {
        Verb::Read => {
            for (counters, times) in meters {
                counters.reads.add(1);
                counters.read_bytes.add(u64::from(command.bytes));
                times.reads.add_in(bucket, took_ns);
            }
        }
        Verb::Write => {
            for (counters, times) in meters {
                counters.writes.add(1);
                counters.write_bytes.add(u64::from(command.bytes));
                times.writes.add_in(bucket, took_ns);
            }
        }
        _ => meters.into_iter().for_each(|(counters, _)| count_io(counters, command, block_bytes)),
    }
}

/// Counts a command that is no data command, or has failed, for whoever keeps count.
#[inline(never)]
fn count_other<'a>(
    counters: impl Iterator<Item = &'a IoCounters>,
    job: Option<&Job>,
    status: Status,
) {
    if !status.is_success() {
        return counters.for_each(|counters| count_failure(counters, job, status));
    }
    if let Some(Job::Flush { .. } | Job::FlushAll { .. }) = job {
        counters.for_each(|counters| counters.flushes.add(1));
    }
}

#[inline(always)]
pub(super) fn count_io(counters: &IoCounters, command: Command, block_bytes: u32) {
    match command.verb {
        Verb::Read => {
            counters.reads.add(1);
            counters.read_bytes.add(u64::from(command.bytes));
        }
        Verb::Write => {
            counters.writes.add(1);
            counters.write_bytes.add(u64::from(command.bytes));
        }
        _ => count_rare(counters, command, block_bytes),
    }
}

#[inline(never)]
fn count_rare(counters: &IoCounters, command: Command, block_bytes: u32) {
    let Command { verb, bytes, blocks, .. } = command;
    match verb {
        Verb::Read | Verb::Write => {}
        Verb::WriteZeroes => counters.write_zeroes.add(1),
        Verb::Compare => {
            counters.compares.add(1);
            counters.read_bytes.add(u64::from(bytes));
        }
        Verb::Verify => {
            counters.verifies.add(1);
            counters.read_bytes.add(u64::from(blocks) * u64::from(block_bytes));
        }
        Verb::Copy { .. } => counters.copies.add(1),
        Verb::Ranges { .. } => counters.deallocates.add(1),
    }
}

#[cold]
fn count_failure(counters: &IoCounters, job: Option<&Job>, status: Status) {
    counters.errors.add(1);
    if status.code() == Status::COMPARE_FAILURE {
        counters.compares.add(1);
        counters.read_bytes.add(job.and_then(Job::command).map_or(0, |c| u64::from(c.bytes)));
    } else if status.sct() == 2 {
        counters.media_errors.add(1);
    }
}
