//! `forebay status`.

use super::access::Api;
use super::alerts;
use super::fields::Fields;
use super::show;
use crate::failure::Failure;
use clap::Args;
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
        crate::out::line!("");
        alerts::COLUMNS.print(&alerts);
    }
    Ok(())
}

fn print(a: &Appliance) {
    let mut fields = Fields::default();
    fields.add("appliance", &a.name);
    fields.add("status", show::word(&a.status));
    fields.add("reason", &a.reason);
    fields.add("version", &a.version);
    fields.add("started", show::moment(a.started_at_ms));
    fields.add("reactors", a.reactors);
    fields.add("memory", &a.memory);
    fields.add("rdma", &a.rdma);
    fields.add("connections", a.connections);
    fields.print();
}
