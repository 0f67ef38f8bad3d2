//! `forebay listener`.

use crate::connection::Columns;
use crate::flags::{Api, Confirm, fabric};
use crate::print::{Fields, value};
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::{Address, Fabric, Listener, ListenerCreate};

/// What to do with listeners.
#[derive(Args)]
pub struct ListenerArgs {
    #[command(subcommand)]
    action: ListenerAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum ListenerAction {
    /// Listen on an address.
    Create {
        /// IP address and port: 10.0.0.1:4420, [fd00::1]:4420.
        address: Address,
        /// The fabric.
        #[arg(long, value_parser = fabric(), default_value_t = Fabric::Tcp)]
        transport: Fabric,
        /// Serve discovery only, as hosts expect on port 8009.
        #[arg(long)]
        discovery: bool,
    },
    /// Listen on an address no more. Connections that are open stay.
    Delete {
        /// IP address and port.
        address: Address,
        /// The fabric.
        #[arg(long, value_parser = fabric(), default_value_t = Fabric::Tcp)]
        transport: Fabric,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show all listeners.
    List,
    /// Show one listener.
    Show {
        /// IP address and port.
        address: Address,
        /// The fabric.
        #[arg(long, value_parser = fabric(), default_value_t = Fabric::Tcp)]
        transport: Fabric,
    },
}

/// `forebay listener`.
pub fn run(args: ListenerArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    match args.action {
        ListenerAction::Create { address, transport, discovery } => {
            let request = ListenerCreate { transport, address, discovery_only: discovery };
            let answer = c.create(&[&"listeners"], &request)?;
            c.print(&answer, |l: &Listener| match answer.is_new() {
                true => crate::line!("Hosts may connect to {} {}.", l.transport, l.address),
                false => crate::line!("{} {} was served already.", l.transport, l.address),
            })
        }
        ListenerAction::Delete { address, transport, confirm } => {
            confirm.ask(&format!("No host can connect to {address} any more."))?;
            c.delete(&[&"listeners", &transport, &address])?;
            c.say(format_args!("{address} is not served any more."));
            Ok(())
        }
        ListenerAction::List => c.list(&[&"listeners"], &COLUMNS),
        ListenerAction::Show { address, transport } => {
            c.show(&[&"listeners", &transport, &address], print)
        }
    }
}

fn serves(l: &Listener) -> String {
    if l.discovery_only { "discovery" } else { "everything" }.into()
}

const COLUMNS: Columns<'static, Listener> = Columns {
    headings: &["fabric", "address", "serves", "status"],
    row: |l| {
        vec![
            l.transport.to_string(),
            l.address.to_string(),
            serves(l),
            value::status(l.status, &l.reason),
        ]
    },
    none: "Hosts cannot connect: `forebay listener create` listens on an address.",
};

fn print(l: &Listener) {
    let mut fields = Fields::default();
    fields.add("fabric", l.transport);
    fields.add("address", l.address);
    fields.add("serves", serves(l));
    fields.add("status", value::word(&l.status));
    fields.add("reason", &l.reason);
    fields.print();
}
