//! `forebay subsystem`.

use crate::command::namespace;
use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm};
use crate::print::{Fields, value};
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::{HostNqn, HostStatistics, LatencyHistogram, Nqn, Subsystem, SubsystemCreate};

/// What to do with subsystems.
#[derive(Args)]
pub struct SubsystemArgs {
    #[command(subcommand)]
    action: SubsystemAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum SubsystemAction {
    /// Make a subsystem that more than one volume may be exported in.
    Create {
        /// Its name.
        nqn: Nqn,
        /// A host that may connect (repeatable).
        #[arg(long, value_name = "NQN")]
        host: Vec<HostNqn>,
        /// Let any host connect. Needs a token with the role admin.
        #[arg(long, conflicts_with = "host")]
        allow_any_host: bool,
    },
    /// Delete a subsystem without namespaces.
    Delete {
        /// Its name.
        nqn: Nqn,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show what each host did in a subsystem since it connected.
    Hosts {
        /// Its name.
        nqn: Nqn,
    },
    /// Show all subsystems.
    List,
    /// Show one subsystem, its hosts and its namespaces.
    Show {
        /// Its name.
        nqn: Nqn,
    },
}

/// `forebay subsystem`.
pub fn run(args: SubsystemArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        SubsystemAction::Create { nqn, host, allow_any_host } => {
            let request = SubsystemCreate { nqn, hosts: host, allow_any_host };
            let answer = c.create(&[&"subsystems"], &request)?;
            c.print(&answer, |s: &Subsystem| match answer.is_new() {
                true => crate::line!(
                    "Subsystem {} is new; {} may connect.",
                    s.nqn,
                    value::access(&s.hosts, s.allow_any_host)
                ),
                false => {
                    crate::line!("Subsystem {} was there already, as asked for.", s.nqn);
                }
            })
        }
        SubsystemAction::Delete { nqn, confirm } => delete(c, &nqn, confirm),
        SubsystemAction::Hosts { nqn } => c.list(&[&"subsystems", &nqn, &"statistics"], &HOSTS),
        SubsystemAction::List => c.list(&[&"subsystems"], &COLUMNS),
        SubsystemAction::Show { nqn } => c.show(&[&"subsystems", &nqn], print),
    }
}

fn delete(c: &Connection, nqn: &Nqn, confirm: Confirm) -> Result<(), Failure> {
    confirm.ask(&format!("Subsystem {nqn} goes away."))?;
    c.delete(&[&"subsystems", nqn])?;
    c.say(format_args!("Subsystem {nqn} is deleted."));
    Ok(())
}

const COLUMNS: Columns<'static, Subsystem> = Columns {
    headings: &["subsystem", "namespaces", "hosts", "controllers", "status"],
    row: |s| {
        vec![
            s.nqn.to_string(),
            s.namespaces.len().to_string(),
            value::access(&s.hosts, s.allow_any_host),
            s.controllers.to_string(),
            value::status(s.status, &s.reason),
        ]
    },
    none: "There are no subsystems: a volume that is made has its own.",
};

const HOSTS: Columns<'static, HostStatistics> = Columns {
    headings: &[
        "host",
        "controllers",
        "reads",
        "read",
        "read p99",
        "writes",
        "written",
        "write p99",
    ],
    row: |h| {
        let io = &h.io;
        let p99 = |of: &LatencyHistogram| {
            let ns = of.quantile_ns(0.99);
            ns.map_or_else(|| "-".to_owned(), |ns| format!("{:.0} us", ns as f64 / 1e3))
        };
        vec![
            h.host.to_string(),
            h.controllers.to_string(),
            io.reads.to_string(),
            value::bytes(io.read_bytes),
            p99(&io.read_latency),
            io.writes.to_string(),
            value::bytes(io.write_bytes),
            p99(&io.write_latency),
        ]
    },
    none: "No host is connected to it.",
};

fn print(s: &Subsystem) {
    let mut fields = Fields::default();
    fields.add("subsystem", &s.nqn);
    fields.add("status", value::word(&s.status));
    fields.add("reason", &s.reason);
    fields.add("made for one volume", value::yes(s.own));
    match !s.hosts.is_empty() && !s.allow_any_host {
        true => fields.add_all("hosts", &s.hosts),
        false => fields.add("hosts", value::access(&s.hosts, s.allow_any_host)),
    }
    fields.add("controllers", s.controllers);
    fields.print();
    crate::line!("");
    namespace::COLUMNS.print(&s.namespaces);
}
