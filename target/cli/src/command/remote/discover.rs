//! `forebay discover`.

use super::Remote;
use crate::print::Table;
use clap::Args;
use nvmf_host::{Found, discovery};
use serde_json::json;

/// Whom to ask for what they export.
#[derive(Args)]
pub struct DiscoverArgs {
    /// Whom.
    #[command(flatten)]
    pub remote: Remote,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// `forebay discover`.
pub fn discover(args: &DiscoverArgs) -> Result<(), String> {
    let options = super::options(&args.remote, nvmf_wire::Nqn::discovery().as_str(), 8009)?;
    let discovered = discovery::discover_with(&options).map_err(|error| error.to_string())?;
    let found = discovered.records;
    for record in &discovered.left_out {
        crate::note!("forebay: Left out: {record}.");
    }
    if args.json {
        let records: Vec<_> = found.iter().map(record).collect();
        let text = serde_json::to_string_pretty(&records).map_err(|error| error.to_string())?;
        crate::line!("{text}");
        return Ok(());
    }
    if found.is_empty() && discovered.left_out.is_empty() {
        crate::line!("Nothing is exported to {}.", options.host.nqn);
    }
    let mut table = Table::new(&["transport", "address", "port", "kind", "subsystem"]);
    for one in &found {
        table.row([
            format!("{:?}", one.transport).to_lowercase(),
            one.address.clone(),
            one.service.clone(),
            format!("{:?}", one.kind).to_lowercase(),
            one.subsystem.clone(),
        ]);
    }
    table.print();
    Ok(())
}

fn record(found: &Found) -> serde_json::Value {
    json!({
        "trtype": format!("{:?}", found.transport).to_lowercase(),
        "adrfam": format!("{:?}", found.family).to_lowercase(),
        "subtype": format!("{:?}", found.kind).to_lowercase(),
        "portid": found.port_id,
        "cntlid": found.cntlid,
        "asqsz": found.admin_queue_entries,
        "eflags": found.flags,
        "traddr": found.address,
        "trsvcid": found.service,
        "subnqn": found.subsystem,
    })
}
