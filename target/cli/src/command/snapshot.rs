//! `forebay snapshot`.

use crate::command::{connect_info, volume};
use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm, ExportFlags, SnapshotPlace, VolumePlace, limits::LimitFlags};
use crate::print::{Fields, progress, value};
use clap::{Args, Subcommand};
use serde_json::json;
use webui_client::{Failure, path};
use webui_model::{
    GroupSnapshotCreate, Name, ObjectKind, Pool, Snapshot, SnapshotCreate, SnapshotRef, Volume,
    VolumeClone, VolumeRef,
};

/// What to do with snapshots.
#[derive(Args)]
pub struct SnapshotArgs {
    #[command(subcommand)]
    action: SnapshotAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum SnapshotAction {
    /// Take a snapshot of a volume, or of many volumes of a pool at one instant.
    Create {
        /// POOL/VOLUME@SNAPSHOT; of many, each with the same pool and snapshot.
        #[arg(required = true)]
        snapshot: Vec<SnapshotPlace>,
    },
    /// Show the snapshots of all pools, or of a volume.
    List {
        /// POOL/VOLUME.
        volume: Option<VolumePlace>,
        /// Those of this pool.
        #[arg(long, conflicts_with = "volume")]
        pool: Option<Name>,
    },
    /// Show one snapshot.
    Show {
        /// POOL/VOLUME@SNAPSHOT.
        snapshot: SnapshotPlace,
    },
    /// Make a volume of a snapshot, and export it. No data is copied.
    Clone {
        /// POOL/VOLUME@SNAPSHOT.
        snapshot: SnapshotPlace,
        /// The name of the new volume, in the same pool.
        name: Name,
        #[command(flatten)]
        limits: LimitFlags,
        #[command(flatten)]
        export: ExportFlags,
    },
    /// Export a snapshot, read only.
    Export {
        /// POOL/VOLUME@SNAPSHOT.
        snapshot: SnapshotPlace,
        #[command(flatten)]
        export: ExportFlags,
    },
    /// Export a snapshot no more.
    Unexport {
        /// POOL/VOLUME@SNAPSHOT.
        snapshot: SnapshotPlace,
    },
    /// Delete a snapshot. Its clones stay.
    Delete {
        /// POOL/VOLUME@SNAPSHOT.
        snapshot: SnapshotPlace,
        /// Wait until its space is free.
        #[arg(long)]
        wait: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// `forebay snapshot`.
pub fn run(args: SnapshotArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        SnapshotAction::Create { snapshot } => create(c, &snapshot),
        SnapshotAction::List { volume: Some(volume), .. } => {
            c.list(&path::volume(&volume.find(c)?, &[&"snapshots"]), &COLUMNS)
        }
        SnapshotAction::List { pool: Some(pool), .. } => {
            c.list(&[&"pools", &pool, &"snapshots"], &COLUMNS)
        }
        SnapshotAction::List { .. } => list_all(c),
        SnapshotAction::Show { snapshot } => {
            c.show(&path::snapshot(&snapshot.find(c)?, &[]), print)
        }
        SnapshotAction::Clone { snapshot, name, limits, export } => {
            clone(c, &snapshot.find(c)?, name, limits, export)
        }
        SnapshotAction::Export { snapshot, export } => {
            let at = snapshot.find(c)?;
            let answer = c.put(&path::snapshot(&at, &[&"export"]), &export.set())?;
            c.print(&answer, |_: &Snapshot| {
                crate::line!("Snapshot {at} is exported, read only.");
            })?;
            connect_info::of_snapshot(c, &at)
        }
        SnapshotAction::Unexport { snapshot } => {
            let at = snapshot.find(c)?;
            c.delete(&path::snapshot(&at, &[&"export"]))?;
            c.say(format_args!("Snapshot {at} is exported no more."));
            Ok(())
        }
        SnapshotAction::Delete { snapshot, wait, confirm } => {
            let at = snapshot.find(c)?;
            confirm.ask(&format!("Snapshot {at} goes away."))?;
            c.delete(&path::snapshot(&at, &[]))?;
            c.say(format_args!("Snapshot {at} is deleted."));
            if wait {
                progress::for_object(c, ObjectKind::Snapshot, &at.to_string())?;
            }
            Ok(())
        }
    }
}

fn create(c: &Connection, places: &[SnapshotPlace]) -> Result<(), Failure> {
    let found = places.iter().map(|place| place.find(c)).collect::<Result<Vec<_>, _>>()?;
    if let [at] = found.as_slice() {
        let volume = VolumeRef { pool: at.pool.clone(), volume: at.volume.clone() };
        let request = SnapshotCreate { name: at.snapshot.clone() };
        let answer = c.create(&path::volume(&volume, &[&"snapshots"]), &request)?;
        return c.print(&answer, |_: &Snapshot| match answer.is_new() {
            true => crate::line!("Snapshot {at} is new."),
            false => crate::line!("Snapshot {at} was there already."),
        });
    }
    let Some(first) = found.first() else {
        return Err(Failure::Usage("Name at least one snapshot.".into()));
    };
    let together = |at: &&SnapshotRef| at.pool == first.pool && at.snapshot == first.snapshot;
    if let Some(other) = found.iter().find(|at| !together(at)) {
        return Err(Failure::Usage(format!(
            "{first} and {other} differ in more than the volume: what is taken at one instant is \
             in one pool and gets one name."
        )));
    }
    let volumes = found.iter().map(|at| at.volume.clone()).collect();
    let request = GroupSnapshotCreate { name: first.snapshot.clone(), volumes };
    request.check().map_err(Failure::Usage)?;
    let answer = c.create(&[&"pools", &first.pool, &"snapshots"], &request)?;
    c.print(&answer, |_: &serde_json::Value| match found.len() {
        1 => crate::line!("1 snapshot is new."),
        more => crate::line!("{more} snapshots are new, all of one instant."),
    })
}

/// Snapshots of all pools: the API lists those of one, so that the lists are put together here.
fn list_all(c: &Connection) -> Result<(), Failure> {
    let pools: Vec<Pool> = c.items(&[&"pools"])?;
    let mut all: Vec<Snapshot> = Vec::new();
    for pool in &pools {
        all.extend(c.items::<Snapshot>(&[&"pools", &pool.name, &"snapshots"])?);
    }
    if c.json() {
        crate::line!("{}", json!({ "items": all }));
    } else {
        COLUMNS.print(&all);
    }
    Ok(())
}

fn clone(
    c: &Connection,
    at: &SnapshotRef,
    name: Name,
    limits: LimitFlags,
    export: ExportFlags,
) -> Result<(), Failure> {
    let export = export.set();
    let new = VolumeRef { pool: at.pool.clone(), volume: name.clone() };
    let request = VolumeClone {
        name,
        limits: limits.over(Default::default()),
        subsystem: export.subsystem,
        hosts: export.hosts,
        allow_any_host: export.allow_any_host,
    };
    let answer = c.create(&path::snapshot(at, &[&"clone"]), &request)?;
    c.print(&answer, |_: &Volume| volume::made(&new, answer.is_new()))?;
    connect_info::of_volume(c, &new)
}

const COLUMNS: Columns<'static, Snapshot> = Columns {
    headings: &["snapshot", "size", "its own", "taken", "clones", "exported", "status"],
    row: |s| {
        vec![
            format!("{}/{}@{}", s.pool, s.volume, s.name),
            value::bytes(s.bytes),
            value::bytes(s.exclusive_bytes),
            value::moment(s.created_at_ms),
            s.clones.len().to_string(),
            value::yes(s.export.is_some()),
            value::status(s.status, &s.reason),
        ]
    },
    none: "There are no snapshots: `forebay snapshot create` takes one.",
};

fn print(s: &Snapshot) {
    let mut fields = Fields::default();
    fields.add("snapshot", format!("{}/{}@{}", s.pool, s.volume, s.name));
    fields.add("status", value::word(&s.status));
    fields.add("reason", &s.reason);
    fields.add("size", value::bytes(s.bytes));
    fields.add("its own", value::bytes(s.exclusive_bytes));
    fields.add("taken", value::moment(s.created_at_ms));
    fields.add_all("clones", &s.clones);
    match &s.export {
        None => fields.add("exported", "no"),
        Some(export) => connect_info::fields(&mut fields, export),
    }
    fields.print();
}
