//! What is counted and logged of a command when it ends.

use crate::export::controller::CommandError;
use crate::export::counters::IoCounters;
use crate::machine::io::command::{Command, Verb};
use crate::machine::place::NONE;
use crate::machine::qpair::Role;
use crate::machine::request::{Answer, Job, Request};
use crate::machine::target::Target;
use crate::machine::transport::Transport;
use bdev::latency::{Latencies, bucket};
use nvme_spec::Status;

impl<T: Transport> Target<T> {
    /// Counts a command that ends, lets its namespace go, and enters a failure into the error log,
    /// which changes the status.
    pub(crate) fn account(&mut self, at: u32, answer: &mut Answer) {
        if !answer.status.is_success() {
            self.log_failure(at, answer);
        }
        let request = &mut self.requests[at as usize];
        let role = self.qpairs.get(request.qpair).map(|qpair| &qpair.role);
        let Some(Role::Io(queue)) = role else { return };
        let at_queue = queue.ctrl.queue_counters(queue.qid);
        if request.space == NONE {
            return count([at_queue].into_iter(), request, 0, answer.status);
        }
        let space = self.spaces.get(request.space);
        let here = space.namespace.counters(self.reactor);
        let block_bytes = space.geometry.block_bytes;
        count([at_queue, here].into_iter(), request, block_bytes, answer.status);
        if answer.status.is_success() {
            let took_ns = self.now_ns.saturating_sub(request.began_ns);
            let of_queue = queue.ctrl.queue_latencies(queue.qid);
            let here = space.namespace.latencies(self.reactor);
            time([of_queue, here].into_iter(), request, took_ns);
        }
        self.spaces.leave(request.space);
        request.space = NONE;
    }

    #[cold]
    fn log_failure(&mut self, at: u32, answer: &mut Answer) {
        self.counters.errors.add(1);
        let request = &self.requests[at as usize];
        // What the admin commands come to is logged where they are executed.
        if matches!(request.job, Job::Admin | Job::Connect) {
            return;
        }
        let Some(qpair) = self.qpairs.get(request.qpair) else { return };
        let Some(ctrl) = qpair.ctrl() else { return };
        let lba = match request.job {
            Job::Io(command) => command.lba,
            _ => 0,
        };
        answer.status = ctrl.log_error(CommandError {
            sqid: qpair.qid(),
            cid: request.sqe.cid(),
            status: answer.status,
            location: answer.location,
            lba,
            nsid: request.sqe.nsid(),
        });
    }
}

/// Counts one command, for whoever keeps count.
#[inline]
fn count<'a>(
    counters: impl Iterator<Item = &'a IoCounters>,
    request: &Request,
    block_bytes: u32,
    status: Status,
) {
    if !status.is_success() {
        return counters.for_each(|counters| count_failure(counters, request, status));
    }
    match request.job {
        Job::Io(command) => counters.for_each(|counters| count_io(counters, command, block_bytes)),
        Job::Flush | Job::FlushAll => counters.for_each(|counters| counters.flushes.add(1)),
        _ => {}
    }
}

/// Notes how long a command took, for whoever keeps count.
#[inline]
fn time<'a>(latencies: impl Iterator<Item = &'a Latencies>, request: &Request, took_ns: u64) {
    let bucket = bucket(took_ns);
    match request.job {
        Job::Io(Command { verb: Verb::Read, .. }) => {
            latencies.for_each(|times| times.reads.add_in(bucket, took_ns));
        }
        Job::Io(Command { verb: Verb::Write, .. }) => {
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
fn count_failure(counters: &IoCounters, request: &Request, status: Status) {
    counters.errors.add(1);
    if status.code() == Status::COMPARE_FAILURE {
        counters.compares.add(1);
        counters.read_bytes.add(u64::from(request.command().bytes));
    } else if status.sct() == 2 {
        counters.media_errors.add(1);
    }
}
