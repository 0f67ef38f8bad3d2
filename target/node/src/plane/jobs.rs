//! Jobs: what pools and drives do by themselves, with progress and the time left.

use super::now_ms;
use bdev_pool::{DeviceState, EXTENT_BYTES, PoolStatus, Progress};
use std::collections::VecDeque;
use webui_model::{Job, JobKind, JobStatus, Object, ObjectKind, Refusal};

/// Jobs that have ended and are still shown.
const ENDED: usize = 100;

/// The speed is that of about the last so many milliseconds.
const SPEED_MS: u64 = 10_000;

/// Whose work a job is.
enum Work {
    /// A pool's, which moves data away from a device.
    Drain { pool: String, device: String },
    /// A pool's, which gives back space.
    Reclaim { pool: String },
    /// That of a drive which is not attached, by its number there.
    Erase(u64),
}

struct Entry {
    job: Job,
    work: Work,
    /// When how much was done, oldest first.
    samples: VecDeque<(u64, u64)>,
}

/// Every job, oldest first.
#[derive(Default)]
pub(super) struct Jobs {
    last: u64,
    entries: VecDeque<Entry>,
}

/// What a look at a pool has shown of its jobs: those that are otherwise than before.
pub(super) enum Turn {
    New(Job),
    Ended(Job),
    Progress(Job),
}

fn is_running(job: &Job) -> bool {
    job.ended_at_ms.is_none()
}

impl Jobs {
    /// All of them.
    pub(super) fn list(&self) -> Vec<Job> {
        self.entries.iter().map(|entry| entry.job.clone()).collect()
    }

    /// One of them.
    pub(super) fn get(&self, id: u64) -> Option<Job> {
        self.entries.iter().find(|entry| entry.job.id == id).map(|entry| entry.job.clone())
    }

    /// The job that drains a device of a pool, made if there is none.
    pub(super) fn drain(&mut self, pool: &str, device: &str, bytes: u64) -> Job {
        let running = self
            .entries
            .iter()
            .find(|entry| is_running(&entry.job) && entry.work.is_for(pool, Some(device)));
        if let Some(entry) = running {
            return entry.job.clone();
        }
        let object = Object::new(ObjectKind::Device, device);
        let reason = format!("moves what is on {device} to the other devices of {pool}");
        let work = Work::Drain { pool: pool.to_owned(), device: device.to_owned() };
        self.begin(JobKind::Drain, work, object, bytes, reason)
    }

    /// The job that formats or sanitizes a drive: erasure `number`.
    pub(super) fn erase(
        &mut self,
        kind: JobKind,
        number: u64,
        drive: &str,
        bytes: u64,
        reason: String,
    ) -> Job {
        let object = Object::new(ObjectKind::Drive, drive);
        self.begin(kind, Work::Erase(number), object, bytes, reason)
    }

    fn begin(
        &mut self,
        kind: JobKind,
        work: Work,
        object: Object,
        total_bytes: u64,
        reason: String,
    ) -> Job {
        self.last += 1;
        let started_at_ms = now_ms();
        let job = Job {
            id: self.last,
            kind,
            object,
            done_bytes: 0,
            total_bytes,
            bytes_per_second: 0,
            seconds_left: None,
            started_at_ms,
            ended_at_ms: None,
            status: JobStatus::Running,
            reason,
        };
        let samples = VecDeque::from([(started_at_ms, 0)]);
        self.entries.push_back(Entry { job: job.clone(), work, samples });
        let ended = self.entries.iter().filter(|entry| !is_running(&entry.job)).count();
        if ended > ENDED
            && let Some(oldest) = self.entries.iter().position(|entry| !is_running(&entry.job))
        {
            self.entries.remove(oldest);
        }
        job
    }

    /// Takes over what a pool says of its jobs.
    pub(super) fn look(&mut self, pool: &str, status: &PoolStatus, now_ms: u64) -> Vec<Turn> {
        let mut turns = Vec::new();
        let draining = status.devices.iter().find(|device| device.state == DeviceState::Draining);
        for progress in &status.jobs {
            let device = progress.device.as_deref();
            let is_it = |entry: &Entry| is_running(&entry.job) && entry.work.is_for(pool, device);
            if !self.entries.iter().any(is_it) {
                turns.push(Turn::New(self.found(pool, device, progress)));
            }
        }
        for entry in self.running_of(pool) {
            let device = entry.work.device();
            let of = |progress: &&Progress| progress.device.is_some() == device.is_some();
            let before = entry.job.clone();
            let waits = device.is_some_and(|device| {
                let member = status.devices.iter().find(|other| other.name == *device);
                member.is_some_and(|member| member.state == DeviceState::Draining)
                    && draining.is_some_and(|first| first.name != *device)
            });
            match status.jobs.iter().find(of) {
                Some(_) if waits => entry.job.status = JobStatus::Waiting,
                Some(progress) if entry.is_at_work(status) => {
                    entry.went_on(progress, status.stopped.as_deref(), now_ms);
                }
                _ => entry.end(status, now_ms),
            }
            turns.extend(entry.turn_since(&before));
        }
        turns
    }

    /// Takes over how far the drives are that erase themselves.
    pub(super) fn look_at_drives(
        &mut self,
        seen: Vec<(u64, drives::Progress)>,
        now_ms: u64,
    ) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (number, progress) in seen {
            let is_it = |entry: &&mut Entry| matches!(entry.work, Work::Erase(n) if n == number);
            let Some(entry) = self.entries.iter_mut().find(is_it) else { continue };
            let before = entry.job.clone();
            entry.erases(progress, now_ms);
            turns.extend(entry.turn_since(&before));
        }
        turns
    }

    fn running_of(&mut self, pool: &str) -> impl Iterator<Item = &mut Entry> {
        self.entries
            .iter_mut()
            .filter(move |entry| is_running(&entry.job) && entry.work.pool() == Some(pool))
    }

    /// What a running job drains: pool and device; why it cannot be ended, of others.
    pub(super) fn drained_by(&self, id: u64) -> Result<(String, String), Refusal> {
        let Some(entry) = self.entries.iter().find(|entry| entry.job.id == id) else {
            return Err(Refusal::not_found(format!("There is no job {id}.")));
        };
        match &entry.work {
            _ if !is_running(&entry.job) => Err(Refusal::refused(format!("Job {id} has ended."))),
            Work::Drain { pool, device } => Ok((pool.clone(), device.clone())),
            Work::Erase(_) => Err(Refusal::refused(format!(
                "Job {id} is the drive's own: nothing stops a drive that erases itself."
            ))),
            Work::Reclaim { .. } => Err(Refusal::refused(format!(
                "Job {id} gives back the space of what was deleted, which is gone: without it the \
                 space would be nobody's."
            ))),
        }
    }

    /// A job has been ended by an operator.
    pub(super) fn cancelled(&mut self, id: u64, reason: String) -> Option<Job> {
        let entry = self.entries.iter_mut().find(|entry| entry.job.id == id)?;
        let job = &mut entry.job;
        job.status = JobStatus::Cancelled;
        job.ended_at_ms = Some(now_ms());
        job.seconds_left = None;
        job.reason = reason;
        Some(job.clone())
    }

    /// A job that nobody asked for here.
    fn found(&mut self, pool: &str, device: Option<&str>, progress: &Progress) -> Job {
        let total = progress.total * EXTENT_BYTES;
        match device {
            Some(device) => self.drain(pool, device, total),
            None => {
                let object = Object::new(ObjectKind::Pool, pool);
                let reason = "gives back the space of what was deleted".to_owned();
                let work = Work::Reclaim { pool: pool.to_owned() };
                self.begin(JobKind::Reclaim, work, object, total, reason)
            }
        }
    }

    /// Jobs of a pool that is not there any more.
    pub(super) fn pool_is_gone(&mut self, pool: &str, now_ms: u64) {
        for entry in self.running_of(pool) {
            entry.job.status = JobStatus::Cancelled;
            entry.job.ended_at_ms = Some(now_ms);
            entry.job.seconds_left = None;
            entry.job.reason = format!("pool {pool} was exported: it goes on when it is imported");
        }
    }
}

impl Work {
    fn pool(&self) -> Option<&str> {
        match self {
            Work::Drain { pool, .. } | Work::Reclaim { pool } => Some(pool),
            Work::Erase(_) => None,
        }
    }

    /// A drain's device.
    fn device(&self) -> Option<&String> {
        match self {
            Work::Drain { device, .. } => Some(device),
            _ => None,
        }
    }

    /// Whether it is what a pool does to a device, or without one.
    fn is_for(&self, pool: &str, device: Option<&str>) -> bool {
        self.pool() == Some(pool) && self.device().map(String::as_str) == device
    }
}

impl Entry {
    /// What there is to tell of it.
    fn turn_since(&self, before: &Job) -> Option<Turn> {
        match &self.job {
            job if !is_running(job) => Some(Turn::Ended(job.clone())),
            job if job != before => Some(Turn::Progress(job.clone())),
            _ => None,
        }
    }

    /// Whether what it works on is still there.
    fn is_at_work(&self, status: &PoolStatus) -> bool {
        let Some(device) = self.work.device() else { return true };
        let member = status.devices.iter().find(|other| other.name == *device);
        member.is_some_and(|member| member.state == DeviceState::Draining)
    }

    fn went_on(&mut self, progress: &Progress, stopped: Option<&str>, now_ms: u64) {
        self.job.total_bytes = progress.total * EXTENT_BYTES;
        self.has_done(progress.done * EXTENT_BYTES, now_ms);
        let job = &mut self.job;
        if let Some(why) = stopped {
            job.seconds_left = None;
            job.status = JobStatus::Waiting;
            job.reason = format!("has stopped: {why}");
        } else {
            job.status = JobStatus::Running;
            job.reason.clone_from(&progress.what);
        }
    }

    /// A drive tells how far it is.
    fn erases(&mut self, progress: drives::Progress, now_ms: u64) {
        match progress {
            drives::Progress::Running(share) => {
                let done = u128::from(self.job.total_bytes) * u128::from(share) / 65536;
                self.has_done(done as u64, now_ms);
                return;
            }
            drives::Progress::Done => {
                self.job.done_bytes = self.job.total_bytes;
                (self.job.status, self.job.reason) =
                    (JobStatus::Done, "the drive has done it, and is empty".to_owned());
            }
            drives::Progress::Failed(why) => {
                (self.job.status, self.job.reason) = (JobStatus::Failed, why);
            }
        }
        self.job.seconds_left = None;
        self.job.ended_at_ms = Some(now_ms);
    }

    /// Notes how much is done, and what that means for speed and time left.
    fn has_done(&mut self, bytes: u64, now_ms: u64) {
        let job = &mut self.job;
        job.done_bytes = bytes;
        self.samples.push_back((now_ms, job.done_bytes));
        while self.samples.len() > 2 && self.samples[1].0 + SPEED_MS <= now_ms {
            self.samples.pop_front();
        }
        let (then_ms, then) = self.samples[0];
        let (span_ms, moved) =
            (now_ms.saturating_sub(then_ms), job.done_bytes.saturating_sub(then));
        job.bytes_per_second = moved.saturating_mul(1000).checked_div(span_ms).unwrap_or(0);
        let left = job.total_bytes.saturating_sub(job.done_bytes);
        job.seconds_left = left.checked_div(job.bytes_per_second);
    }

    fn end(&mut self, status: &PoolStatus, now_ms: u64) {
        let job = &mut self.job;
        job.ended_at_ms = Some(now_ms);
        job.seconds_left = None;
        let is_member = |device: &String| status.devices.iter().any(|d| d.name == *device);
        (job.status, job.reason) = match self.work.device() {
            Some(device) if is_member(device) => {
                (JobStatus::Failed, format!("device {device} is a member of the pool again"))
            }
            Some(device) => {
                (JobStatus::Done, format!("device {device} is empty and no part of the pool"))
            }
            None => (JobStatus::Done, "the space is free".to_owned()),
        };
        if job.status == JobStatus::Done {
            job.done_bytes = job.total_bytes;
        }
    }
}
