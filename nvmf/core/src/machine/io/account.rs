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

/// Counts a command that ends, of the job it had, and enters a failure into the error log, which
/// changes the status. Lets its namespace go.
pub(crate) fn account(
    request: &Request,
    job: Option<&Job>,
    qpair: Option<&Qpair>,
    spaces: &mut Spaces,
    here: &Here<'_>,
    answer: &mut Answer,
) {
    if !answer.status.is_success() {
        here.counters.errors.add(1);
        log_failure(request, job, qpair, answer);
    }
    let Some(Role::Io(queue)) = qpair.map(Qpair::role) else { return };
    let at_queue = queue.ctrl().queue_counters(queue.qid());
    let Some(place) = job.and_then(Job::space) else {
        return count([at_queue].into_iter(), job, 0, answer.status);
    };
    let space = spaces.get(place);
    let at_space = space.namespace.counters(here.reactor);
    let block_bytes = space.geometry.block_bytes;
    count([at_queue, at_space].into_iter(), job, block_bytes, answer.status);
    if answer.status.is_success() {
        let took_ns = here.now_ns.saturating_sub(request.began_ns());
        let of_queue = queue.ctrl().queue_latencies(queue.qid());
        let of_space = space.namespace.latencies(here.reactor);
        time([of_queue, of_space].into_iter(), job, took_ns);
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

/// Counts one command, for whoever keeps count.
#[inline]
fn count<'a>(
    counters: impl Iterator<Item = &'a IoCounters>,
    job: Option<&Job>,
    block_bytes: u32,
    status: Status,
) {
    if !status.is_success() {
        return counters.for_each(|counters| count_failure(counters, job, status));
    }
    match job {
        Some(Job::Io(io)) => {
            counters.for_each(|counters| count_io(counters, io.command, block_bytes))
        }
        Some(Job::Flush { .. } | Job::FlushAll { .. }) => {
            counters.for_each(|counters| counters.flushes.add(1))
        }
        _ => {}
    }
}

/// Notes how long a command took, for whoever keeps count.
#[inline]
fn time<'a>(latencies: impl Iterator<Item = &'a Latencies>, job: Option<&Job>, took_ns: u64) {
    let bucket = bucket(took_ns);
    match job.and_then(Job::command) {
        Some(Command { verb: Verb::Read, .. }) => {
            latencies.for_each(|times| times.reads.add_in(bucket, took_ns));
        }
        Some(Command { verb: Verb::Write, .. }) => {
            latencies.for_each(|times| times.writes.add_in(bucket, took_ns));
        }
        _ => {}
    }
}

#[inline]
pub(super) fn count_io(counters: &IoCounters, command: Command, block_bytes: u32) {
    let Command { verb, bytes, blocks, .. } = command;
    match verb {
        Verb::Read => {
            counters.reads.add(1);
            counters.read_bytes.add(u64::from(bytes));
        }
        Verb::Write => {
            counters.writes.add(1);
            counters.write_bytes.add(u64::from(bytes));
        }
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
