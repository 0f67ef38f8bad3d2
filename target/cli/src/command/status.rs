//! `forebay status`.

use crate::command::alert;
use crate::flags::Api;
use crate::print::{Fields, value};
use clap::Args;
use webui_client::Failure;
use webui_model::{Alert, Appliance};

/// Whom to ask how it is.
#[derive(Args)]
pub struct StatusArgs {
    #[command(flatten)]
    api: Api,
}

/// `forebay status`: the appliance, and what somebody should look at.
pub fn run(args: StatusArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    c.show(&[&"appliance"], print)?;
    if !c.json() {
        let alerts: Vec<Alert> = c.items(&[&"alerts"])?;
        crate::line!("");
        alert::COLUMNS.print(&alerts);
    }
    Ok(())
}

fn print(a: &Appliance) {
    let mut fields = Fields::default();
    fields.add("appliance", &a.name);
    fields.add("status", value::word(&a.status));
    fields.add("reason", &a.reason);
    fields.add("version", &a.version);
    fields.add("started", value::moment(a.started_at_ms));
    fields.add("reactors", a.reactors);
    fields.add("memory", &a.memory);
    fields.add("rdma", &a.rdma);
    fields.add("connections", a.connections);
    fields.print();
}
