//! `forebay identify`.

use super::Remote;
use crate::print::Table;
use clap::Args;
use nvmf_host::options::uuid_text;
use nvmf_host::{ControllerInfo, NamespaceInfo, Session};
use serde_json::json;

/// What to show of a remote controller.
#[derive(Args)]
pub struct IdentifyArgs {
    /// Whom.
    #[command(flatten)]
    pub remote: Remote,
    /// The subsystem.
    #[arg(long, value_name = "NQN")]
    pub nqn: String,
    /// For programs.
    #[arg(long)]
    pub json: bool,
}

/// `forebay identify`.
pub fn identify(args: &IdentifyArgs) -> Result<(), String> {
    let options = super::options(&args.remote, &args.nqn, 4420)?;
    let text = |error: nvmf_host::Error| error.to_string();
    let mut session = Session::connect(&options).map_err(text)?;
    let controller = session.controller().map_err(text)?;
    let numbers = session.active_namespaces().map_err(text)?;
    let namespaces: Result<Vec<_>, _> = numbers.into_iter().map(|n| session.namespace(n)).collect();
    let namespaces = namespaces.map_err(text)?;
    session.shut_down(options.admin_timeout).map_err(text)?;
    match args.json {
        true => print_json(&controller, &namespaces),
        false => {
            print(&controller, &namespaces);
            Ok(())
        }
    }
}

fn print(controller: &ControllerInfo, namespaces: &[NamespaceInfo]) {
    let c = controller;
    let limit = |bytes: Option<u64>| bytes.map_or("no limit".into(), |bytes| bytes.to_string());
    crate::line!("subsystem       {}", c.subsystem);
    crate::line!("model           {}", c.model);
    crate::line!("serial          {}", c.serial);
    crate::line!("firmware        {}", c.firmware);
    crate::line!("controller      {}", c.cntlid);
    crate::line!("version         {}.{}", c.version >> 16, c.version >> 8 & 0xff);
    crate::line!("transfer bytes  {}", limit(c.max_transfer_bytes));
    crate::line!("in-capsule      {}", c.in_capsule_bytes);
    crate::line!("queue commands  {}", c.max_commands);
    crate::line!("volatile cache  {}\n", if c.volatile_cache { "yes" } else { "no" });
    let mut table = Table::new(&["nsid", "blocks", "block", "bytes", "uuid"]);
    for n in namespaces {
        table.row([
            n.nsid.to_string(),
            n.blocks.to_string(),
            n.block_bytes.to_string(),
            n.blocks.saturating_mul(u64::from(n.block_bytes)).to_string(),
            n.uuid.as_ref().map_or("-".into(), uuid_text),
        ]);
    }
    table.print();
}

fn print_json(c: &ControllerInfo, namespaces: &[NamespaceInfo]) -> Result<(), String> {
    let namespace = |n: &NamespaceInfo| {
        json!({
            "nsid": n.nsid,
            "blocks": n.blocks,
            "block_bytes": n.block_bytes,
            "uuid": n.uuid.as_ref().map(uuid_text),
            "nguid": n.nguid.as_ref().map(uuid_text),
            "atomic_blocks": n.atomic_blocks,
            "read_only": n.read_only,
        })
    };
    let value = json!({
        "subsystem": c.subsystem,
        "model": c.model,
        "serial": c.serial,
        "firmware": c.firmware,
        "cntlid": c.cntlid,
        "version": c.version,
        "max_transfer_bytes": c.max_transfer_bytes,
        "in_capsule_bytes": c.in_capsule_bytes,
        "max_commands": c.max_commands,
        "volatile_cache": c.volatile_cache,
        "namespaces": namespaces.iter().map(namespace).collect::<Vec<_>>(),
    });
    crate::line!("{}", serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?);
    Ok(())
}
