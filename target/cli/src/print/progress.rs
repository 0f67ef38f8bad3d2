//! Waiting for jobs, with a bar on a terminal.

use crate::connection::Connection;
use crate::print::value;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use webui_client::Failure;
use webui_model::{Job, JobStatus, ObjectKind};

/// How often a job is looked at.
const INTERVAL: Duration = Duration::from_millis(250);

/// Waits for the end of a job and returns it as it ended.
///
/// # Errors
/// It did not end as it should.
pub fn for_job(c: &Connection, id: u64) -> Result<Job, Failure> {
    let bar = bar();
    loop {
        let job: Job = c.get(&[&"jobs", &id])?;
        bar.set_length(job.total_bytes);
        bar.set_position(job.done_bytes.min(job.total_bytes));
        bar.set_message(message(&job));
        match job.status {
            JobStatus::Waiting | JobStatus::Running => std::thread::sleep(INTERVAL),
            JobStatus::Done => {
                bar.finish_and_clear();
                return Ok(job);
            }
            JobStatus::Failed | JobStatus::Cancelled => {
                bar.abandon();
                return Err(Failure::Failed(format!(
                    "Job {id} ({} of {}) was {}: {}",
                    value::word(&job.kind),
                    job.object,
                    if job.status == JobStatus::Failed { "not done" } else { "cancelled" },
                    job.reason
                )));
            }
        }
    }
}

/// Waits for the end of all jobs that an object has now.
///
/// # Errors
/// One did not end as it should.
pub fn for_object(c: &Connection, kind: ObjectKind, name: &str) -> Result<(), Failure> {
    let jobs: Vec<Job> = c.items(&[&"jobs"])?;
    let under_way = |job: &&Job| matches!(job.status, JobStatus::Waiting | JobStatus::Running);
    let its = jobs.iter().filter(|job| job.object.kind == kind && job.object.name == name);
    for job in its.filter(under_way) {
        let job = for_job(c, job.id)?;
        c.say(format_args!("Job {} ({}) is done.", job.id, value::word(&job.kind)));
    }
    Ok(())
}

/// A bar on standard error, or nothing where nobody sees it.
fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{bar:30} {percent:>3}%  {binary_bytes} of {binary_total_bytes}  {msg}",
    );
    let bar = ProgressBar::new(0);
    bar.set_style(style.expect("the template is ours"));
    bar
}

/// What stands behind the bar: speed and time left, as the appliance reckons them.
fn message(job: &Job) -> String {
    match (job.status, job.seconds_left) {
        (JobStatus::Waiting, _) => format!("waiting: {}", job.reason),
        (_, Some(left)) => {
            format!("{}/s, {} left", value::bytes(job.bytes_per_second), value::span(left))
        }
        (_, None) => job.reason.clone(),
    }
}
