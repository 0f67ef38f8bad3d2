//! `forebay host`.

use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm, Exported};
use crate::print::{Fields, value};
use clap::{Args, Subcommand};
use webui_client::{Failure, path};
use webui_model::{Export, Host, HostAdd, HostNqn, Nqn, Snapshot, Subsystem, Volume};

/// What to do with hosts.
#[derive(Args)]
pub struct HostArgs {
    #[command(subcommand)]
    action: HostAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum HostAction {
    /// Let a host connect.
    Add {
        /// An NQN of a subsystem, or POOL/VOLUME or POOL/VOLUME@SNAPSHOT.
        what: Exported,
        /// The host's NQN, as `nvme show-hostnqn` prints it there.
        host: HostNqn,
    },
    /// Do not let a host connect any more, and disconnect it.
    Remove {
        /// An NQN of a subsystem, or POOL/VOLUME or POOL/VOLUME@SNAPSHOT.
        what: Exported,
        /// The host's NQN.
        host: HostNqn,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show hosts that are listed somewhere, connected, or were refused lately.
    List,
    /// Show one host.
    Show {
        /// Its NQN.
        host: HostNqn,
    },
}

/// `forebay host`.
pub fn run(args: HostArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        HostAction::Add { what, host } => {
            let nqn = subsystem(c, &what)?;
            let request = HostAdd { host: host.clone() };
            let answer = c.create(&[&"subsystems", &nqn, &"hosts"], &request)?;
            c.print(&answer, |_: &Subsystem| crate::line!("{host} may connect to {nqn}."))
        }
        HostAction::Remove { what, host, confirm } => {
            let nqn = subsystem(c, &what)?;
            confirm.ask(&format!("{host} is disconnected from {nqn}."))?;
            let answer = c.delete(&[&"subsystems", &nqn, &"hosts", &host])?;
            c.print(&answer, |_: &Subsystem| {
                crate::line!("{host} may not connect to {nqn} any more.");
            })
        }
        HostAction::List => c.list(&[&"hosts"], &COLUMNS),
        HostAction::Show { host } => c.show(&[&"hosts", &host], print),
    }
}

/// The subsystem that is meant.
fn subsystem(c: &Connection, what: &Exported) -> Result<Nqn, Failure> {
    let of = |name: String, export: Option<Export>| {
        let subsystem = export.map(|export| export.subsystem);
        subsystem.ok_or_else(|| Failure::Failed(format!("{name} is not exported.")))
    };
    match what {
        Exported::Subsystem(nqn) => Ok(nqn.clone()),
        Exported::Volume(place) => {
            let at = place.find(c)?;
            let volume: Volume = c.get(&path::volume(&at, &[]))?;
            of(format!("Volume {at}"), volume.export)
        }
        Exported::Snapshot(place) => {
            let at = place.find(c)?;
            let snapshot: Snapshot = c.get(&path::snapshot(&at, &[]))?;
            of(format!("Snapshot {at}"), snapshot.export)
        }
    }
}

const COLUMNS: Columns<'static, Host> = Columns {
    headings: &["host", "subsystems", "controllers", "from", "refused", "status"],
    row: |h| {
        vec![
            h.nqn.to_string(),
            h.subsystems.len().to_string(),
            h.controllers.to_string(),
            if h.addresses.is_empty() { "-".into() } else { h.addresses.join(", ") },
            h.last_refusal.as_ref().map_or("-".into(), |refusal| value::moment(refusal.at_ms)),
            value::status(h.status, &h.reason),
        ]
    },
    none: "There are no hosts: `forebay host add` lets one connect.",
};

fn print(h: &Host) {
    let mut fields = Fields::default();
    fields.add("host", &h.nqn);
    fields.add("status", value::word(&h.status));
    fields.add("reason", &h.reason);
    fields.add_all("may connect to", &h.subsystems);
    fields.add("controllers", h.controllers);
    fields.add_all("connected from", &h.addresses);
    if let Some(refusal) = &h.last_refusal {
        fields.add("last refused", value::moment(refusal.at_ms));
        fields.add("from", &refusal.address);
        fields.add("why", format!("it {}", refusal.reason));
        if let Some(subsystem) = &refusal.subsystem {
            fields.add("by", subsystem);
        }
        fields.add("times", refusal.count);
    }
    fields.print();
}
