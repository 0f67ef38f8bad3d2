//! `forebay jobs`.

use crate::connection::Columns;
use crate::flags::{Api, Confirm};
use crate::print::{Fields, progress, value};
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::Job;

/// What to do with jobs.
#[derive(Args)]
pub struct JobsArgs {
    #[command(subcommand)]
    action: Option<JobsAction>,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum JobsAction {
    /// Show all jobs under way, and those that ended a while ago.
    List,
    /// Show one job.
    Show {
        /// Its number.
        id: u64,
    },
    /// Wait for the end of a job.
    Wait {
        /// Its number.
        id: u64,
    },
    /// End a job that drains a device, which stays in its pool; what has moved stays where it is.
    Cancel {
        /// Its number.
        id: u64,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// `forebay jobs`.
pub fn run(args: JobsArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        None | Some(JobsAction::List) => c.list(&[&"jobs"], &COLUMNS),
        Some(JobsAction::Show { id }) => c.show(&[&"jobs", &id], print),
        Some(JobsAction::Wait { id }) => {
            progress::for_job(c, id)?;
            c.show(&[&"jobs", &id], |job: &Job| {
                crate::line!("Job {id} is done: {}", job.reason);
            })
        }
        Some(JobsAction::Cancel { id, confirm }) => {
            confirm.ask(&format!("Job {id} ends; what it has moved stays where it is."))?;
            let answer = c.post(&[&"jobs", &id, &"cancel"])?;
            c.print(&answer, |job: &Job| {
                crate::line!("Job {id} is {}: {}", value::word(&job.status), job.reason);
            })
        }
    }
}

fn left(job: &Job) -> String {
    job.seconds_left.map_or("-".into(), value::span)
}

const COLUMNS: Columns<'static, Job> = Columns {
    headings: &["job", "does", "to", "done", "of", "left", "status"],
    row: |j| {
        vec![
            j.id.to_string(),
            value::word(&j.kind),
            j.object.to_string(),
            format!("{:.0}%", j.progress() * 100.0),
            value::bytes(j.total_bytes),
            left(j),
            format!("{}: {}", value::word(&j.status), j.reason),
        ]
    },
    none: "There are no jobs.",
};

fn print(j: &Job) {
    let mut fields = Fields::default();
    fields.add("job", j.id);
    fields.add("does", value::word(&j.kind));
    fields.add("to", &j.object);
    fields.add("status", value::word(&j.status));
    fields.add("reason", &j.reason);
    let (done, total) = (value::bytes(j.done_bytes), value::bytes(j.total_bytes));
    fields.add("done", format!("{done} of {total}"));
    fields.add("speed", format!("{}/s", value::bytes(j.bytes_per_second)));
    fields.add("left", left(j));
    fields.add("started", value::moment(j.started_at_ms));
    fields.add_if("ended", &j.ended_at_ms.map(value::moment));
    fields.print();
}
