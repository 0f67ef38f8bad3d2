//! `forebay namespace`.

use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm, SnapshotPlace, VolumePlace};
use crate::print::value;
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::{Name, Namespace, NamespaceAdd, NamespaceSource, Nqn, Subsystem};

/// What to do with namespaces.
#[derive(Args)]
pub struct NamespaceArgs {
    #[command(subcommand)]
    action: NamespaceAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum NamespaceAction {
    /// Export a volume, snapshot or whole device in a subsystem; its hosts see it at once.
    Add {
        /// The subsystem.
        nqn: Nqn,
        #[command(flatten)]
        source: Source,
        /// Its number; the first free one unless given.
        #[arg(long)]
        nsid: Option<u32>,
    },
    /// Take a namespace away. Its data stays.
    Remove {
        /// The subsystem.
        nqn: Nqn,
        /// Its number.
        nsid: u32,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show the namespaces of a subsystem.
    List {
        /// The subsystem.
        nqn: Nqn,
    },
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// Show this volume: POOL/VOLUME.
    #[arg(long)]
    volume: Option<VolumePlace>,
    /// Show this snapshot, read only: POOL/VOLUME@SNAPSHOT.
    #[arg(long)]
    snapshot: Option<SnapshotPlace>,
    /// Show this whole device, without a pool.
    #[arg(long)]
    device: Option<Name>,
}

impl Source {
    fn find(self, c: &Connection) -> Result<NamespaceSource, Failure> {
        match self {
            Source { volume: Some(place), .. } => place.find(c).map(NamespaceSource::Volume),
            Source { snapshot: Some(place), .. } => place.find(c).map(NamespaceSource::Snapshot),
            Source { device: Some(name), .. } => Ok(NamespaceSource::Device(name)),
            _ => Err(Failure::Usage("Name a volume, a snapshot or a device.".into())),
        }
    }
}

/// `forebay namespace`.
pub fn run(args: NamespaceArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        NamespaceAction::Add { nqn, source, nsid } => {
            let request = NamespaceAdd { source: source.find(c)?, nsid };
            let answer = c.create(&[&"subsystems", &nqn, &"namespaces"], &request)?;
            c.print(&answer, |n: &Namespace| match answer.is_new() {
                true => crate::line!("{} is namespace {} of {nqn}.", n.source, n.nsid),
                false => crate::line!("{} was namespace {} of {nqn}.", n.source, n.nsid),
            })
        }
        NamespaceAction::Remove { nqn, nsid, confirm } => {
            confirm.ask(&format!("Hosts lose namespace {nsid} of {nqn}; its data stays."))?;
            c.delete(&[&"subsystems", &nqn, &"namespaces", &nsid])?;
            c.say(format_args!("Namespace {nsid} of {nqn} is gone."));
            Ok(())
        }
        NamespaceAction::List { nqn } => {
            c.show(&[&"subsystems", &nqn], |s: &Subsystem| COLUMNS.print(&s.namespaces))
        }
    }
}

/// Namespaces as a table.
pub const COLUMNS: Columns<'static, Namespace> = Columns {
    headings: &["namespace", "shows", "size", "block", "uuid", "access", "status"],
    row: |n| {
        vec![
            n.nsid.to_string(),
            n.source.to_string(),
            value::bytes(n.bytes),
            n.block_bytes.to_string(),
            n.uuid.clone(),
            if n.read_only { "read only" } else { "read and write" }.into(),
            value::status(n.status, &n.reason),
        ]
    },
    none: "It has no namespaces.",
};
