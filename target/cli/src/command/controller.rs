//! `forebay controllers`.

use crate::connection::Columns;
use crate::flags::Api;
use crate::print::{Fields, Table, value};
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::{Controller, Nqn};

/// Which controllers to show.
#[derive(Args)]
pub struct ControllersArgs {
    #[command(subcommand)]
    action: Option<ControllersAction>,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum ControllersAction {
    /// Show one controller and its queues.
    Show {
        /// The subsystem.
        nqn: Nqn,
        /// The controller's identifier.
        cntlid: u16,
    },
}

/// `forebay controllers`.
pub fn run(args: ControllersArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    match args.action {
        None => c.list(&[&"controllers"], &COLUMNS),
        Some(ControllersAction::Show { nqn, cntlid }) => {
            c.show(&[&"subsystems", &nqn, &"controllers", &cntlid], print)
        }
    }
}

const COLUMNS: Columns<'static, Controller> = Columns {
    headings: &["subsystem", "controller", "host", "from", "fabric", "queues", "errors", "status"],
    row: |c| {
        vec![
            c.subsystem.to_string(),
            c.cntlid.to_string(),
            c.host.clone(),
            value::or_none(&c.address),
            c.transport.to_string(),
            c.queues.len().to_string(),
            c.errors.to_string(),
            value::status(c.status, &c.reason),
        ]
    },
    none: "No host is connected.",
};

fn print(c: &Controller) {
    let mut fields = Fields::default();
    fields.add("subsystem", &c.subsystem);
    fields.add("controller", c.cntlid);
    fields.add("status", value::word(&c.status));
    fields.add("reason", &c.reason);
    fields.add("host", &c.host);
    fields.add_if("from", &c.address);
    fields.add("fabric", c.transport);
    let keep_alive = format!("{:.1} s", f64::from(c.keep_alive_ms) / 1e3);
    fields.add("keep alive", if c.keep_alive_ms == 0 { "none".into() } else { keep_alive });
    fields.add("errors", c.errors);
    fields.print();
    let mut table = Table::new(&["queue", "reactor", "entries", "under way"]);
    for q in &c.queues {
        let cells = [u32::from(q.qid), q.reactor, u32::from(q.entries), q.outstanding];
        table.row(cells.map(|n| n.to_string()));
    }
    crate::line!("");
    table.print_bare();
}
