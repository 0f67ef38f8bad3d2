//! `forebay volume`.

use crate::command::connect_info;
use crate::connection::{Columns, Connection};
use crate::flags::{
    Api, Confirm, ExportFlags, SnapshotPlace, VolumePlace,
    limits::{self, LimitFlags},
};
use crate::print::{Fields, progress, value};
use clap::{Args, Subcommand};
use webui_client::{Failure, Method, path};
use webui_model::{
    Name, ObjectKind, PromoteOutcome, RefusalKind, Rename, Resize, RollBack, Size, SnapshotRef,
    Volume, VolumeCreate, VolumeRef,
};

/// What to do with volumes.
#[derive(Args)]
pub struct VolumeArgs {
    #[command(subcommand)]
    action: VolumeAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum VolumeAction {
    /// Make a volume, and export it.
    Create(CreateArgs),
    /// Show all volumes, or those of a pool.
    List {
        /// The pool.
        pool: Option<Name>,
    },
    /// Show one volume.
    Show {
        /// POOL/VOLUME; the pool may be left out where one name is enough.
        volume: VolumePlace,
    },
    /// Give a volume another name.
    Rename {
        /// POOL/VOLUME.
        volume: VolumePlace,
        /// The new name, without the pool.
        name: Name,
    },
    /// Give a volume another size; the hosts see it at once.
    Resize(ResizeArgs),
    /// Show or change the most a volume does, at once.
    Limits {
        /// POOL/VOLUME.
        volume: VolumePlace,
        #[command(flatten)]
        limits: LimitFlags,
    },
    /// Export a volume, or export it otherwise: the hosts given take the place of those before.
    Export {
        /// POOL/VOLUME.
        volume: VolumePlace,
        #[command(flatten)]
        export: ExportFlags,
    },
    /// Export a volume no more. Its data stays.
    Unexport {
        /// POOL/VOLUME.
        volume: VolumePlace,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Bring a volume back to one of its snapshots. What was written since is lost.
    Rollback(RollbackArgs),
    /// Turn the line between a clone and its origin round: the origin becomes the clone.
    Promote {
        /// POOL/VOLUME.
        volume: VolumePlace,
        /// Wait for the job that goes on afterwards, if there is one.
        #[arg(long)]
        wait: bool,
    },
    /// Delete a volume and its data.
    Delete(DeleteArgs),
}

#[derive(Args)]
struct CreateArgs {
    /// POOL/VOLUME; the pool may be left out where there is only one.
    volume: VolumePlace,
    /// Its size: 100GiB, 512M, 1.5T.
    size: Size,
    /// Bytes in a block, 512 or 4096; unless given, 4096 where the devices write so many atomically.
    #[arg(long)]
    block: Option<u32>,
    /// Promise all its space to it now.
    #[arg(long)]
    thick: bool,
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    export: ExportFlags,
    /// Wait for the job that reserves the space of a thick volume.
    #[arg(long)]
    wait: bool,
}

#[derive(Args)]
struct ResizeArgs {
    /// POOL/VOLUME.
    volume: VolumePlace,
    /// The new size: 200GiB, 512M, 1.5T.
    size: Size,
    /// It may shrink. What lies behind the new end is lost.
    #[arg(long)]
    shrink: bool,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Args)]
struct RollbackArgs {
    /// POOL/VOLUME@SNAPSHOT.
    snapshot: SnapshotPlace,
    /// Do it though hosts are connected: they see the content change below them.
    #[arg(long)]
    force: bool,
    /// Wait for the job that goes on afterwards, if there is one.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Args)]
struct DeleteArgs {
    /// POOL/VOLUME.
    volume: VolumePlace,
    /// Do it though hosts are connected.
    #[arg(long)]
    force: bool,
    /// Wait until its space is free.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    confirm: Confirm,
}

/// `forebay volume`.
pub fn run(args: VolumeArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        VolumeAction::Create(args) => create(c, args),
        VolumeAction::List { pool: None } => c.list(&[&"volumes"], &COLUMNS),
        VolumeAction::List { pool: Some(pool) } => c.list(&[&"pools", &pool, &"volumes"], &COLUMNS),
        VolumeAction::Show { volume } => {
            let at = volume.find(c)?;
            c.show(&path::volume(&at, &[]), print)
        }
        VolumeAction::Rename { volume, name } => rename(c, &volume.find(c)?, name),
        VolumeAction::Resize(args) => resize(c, args),
        VolumeAction::Limits { volume, limits } => set_limits(c, &volume.find(c)?, limits),
        VolumeAction::Export { volume, export } => {
            let at = volume.find(c)?;
            let answer = c.put(&path::volume(&at, &[&"export"]), &export.set())?;
            c.print(&answer, |_: &Volume| crate::line!("Volume {at} is exported."))?;
            connect_info::of_volume(c, &at)
        }
        VolumeAction::Unexport { volume, confirm } => {
            let at = volume.find(c)?;
            confirm.ask(&format!("Hosts lose volume {at}; its data stays."))?;
            c.delete(&path::volume(&at, &[&"export"]))?;
            c.say(format_args!("Volume {at} is exported no more."));
            Ok(())
        }
        VolumeAction::Rollback(args) => roll_back(c, args),
        VolumeAction::Promote { volume, wait } => promote(c, &volume.find(c)?, wait),
        VolumeAction::Delete(args) => delete(c, args),
    }
}

fn create(c: &Connection, args: CreateArgs) -> Result<(), Failure> {
    let at = args.volume.new_in(c)?;
    let export = args.export.set();
    let request = VolumeCreate {
        name: at.volume.clone(),
        bytes: args.size.0,
        block_bytes: args.block,
        thick: args.thick,
        limits: args.limits.over(Default::default()),
        subsystem: export.subsystem,
        hosts: export.hosts,
        allow_any_host: export.allow_any_host,
    };
    let answer = c.create(&[&"pools", &at.pool, &"volumes"], &request)?;
    c.print(&answer, |_: &Volume| made(&at, answer.is_new()))?;
    if args.wait {
        progress::for_object(c, ObjectKind::Volume, &at.to_string())?;
    }
    connect_info::of_volume(c, &at)
}

/// Says that a volume is there.
pub fn made(at: &VolumeRef, new: bool) {
    match new {
        true => crate::line!("Volume {at} is new."),
        false => crate::line!("Volume {at} was there already, as asked for."),
    }
}

fn rename(c: &Connection, at: &VolumeRef, name: Name) -> Result<(), Failure> {
    let answer = c.create(&path::volume(at, &[&"rename"]), &Rename { name })?;
    c.print(&answer, |now: &Volume| {
        crate::line!("Volume {at} is now {}/{}.", now.pool, now.name);
    })
}

fn resize(c: &Connection, args: ResizeArgs) -> Result<(), Failure> {
    let at = args.volume.find(c)?;
    if args.shrink {
        args.confirm.ask(&format!(
            "What lies in volume {at} behind {} is lost.",
            value::bytes(args.size.0)
        ))?;
    }
    let request = Resize { bytes: args.size.0, may_shrink: args.shrink };
    let answer = c.create(&path::volume(&at, &[&"resize"]), &request);
    let answer = answer.map_err(|failure| {
        failure.hint(RefusalKind::Refused, "(--shrink says that it may shrink.)")
    })?;
    c.print(&answer, |now: &Volume| {
        crate::line!("Volume {at} has {} now.", value::bytes(now.bytes));
    })
}

fn set_limits(c: &Connection, at: &VolumeRef, flags: LimitFlags) -> Result<(), Failure> {
    let say = |now: &Volume| {
        crate::line!("Limits of volume {at}: {}.", limits::words(&now.limits));
    };
    if flags.is_empty() {
        return c.show(&path::volume(at, &[]), say);
    }
    let before: Volume = c.get(&path::volume(at, &[]))?;
    let request = flags.over(before.limits);
    let answer = c.put(&path::volume(at, &[&"limits"]), &request)?;
    c.print(&answer, say)
}

fn roll_back(c: &Connection, args: RollbackArgs) -> Result<(), Failure> {
    let SnapshotRef { pool, volume, snapshot } = args.snapshot.find(c)?;
    let at = VolumeRef { pool, volume };
    args.confirm
        .ask(&format!("What was written to volume {at} since snapshot {snapshot} is lost."))?;
    let request = RollBack { snapshot: snapshot.clone(), force: args.force };
    let answer = c.create(&path::volume(&at, &[&"roll-back"]), &request);
    let answer = answer.map_err(|f| f.hint(RefusalKind::InUse, "(--force goes on.)"))?;
    c.print(&answer, |_: &Volume| {
        crate::line!("Volume {at} is as it was at {snapshot}.");
    })?;
    if args.wait {
        progress::for_object(c, ObjectKind::Volume, &at.to_string())?;
    }
    Ok(())
}

fn promote(c: &Connection, at: &VolumeRef, wait: bool) -> Result<(), Failure> {
    let answer = c.post(&path::volume(at, &[&"promote"]))?;
    c.print(&answer, |outcome: &PromoteOutcome| {
        crate::line!("Volume {at} is no clone any more.");
        if let Some(former) = &outcome.former_origin {
            crate::line!("Volume {former} is a clone of it now.");
        }
        if !outcome.moved.is_empty() {
            let names: Vec<_> = outcome.moved.iter().map(Name::as_str).collect();
            crate::line!("Snapshots that moved to it: {}.", names.join(", "));
        }
    })?;
    if wait {
        progress::for_object(c, ObjectKind::Volume, &at.to_string())?;
    }
    Ok(())
}

fn delete(c: &Connection, args: DeleteArgs) -> Result<(), Failure> {
    let at = args.volume.find(c)?;
    args.confirm.ask(&format!("Volume {at} and all its data go away."))?;
    c.ask_with_force(Method::DELETE, &path::volume(&at, &[]), args.force)?;
    c.say(format_args!("Volume {at} is deleted."));
    if args.wait {
        progress::for_object(c, ObjectKind::Volume, &at.to_string())?;
    }
    Ok(())
}

const COLUMNS: Columns<'static, Volume> = Columns {
    headings: &["volume", "size", "used", "kind", "snapshots", "hosts", "status"],
    row: |v| {
        let hosts = v.export.as_ref().map(|e| value::access(&e.hosts, e.allow_any_host));
        vec![
            format!("{}/{}", v.pool, v.name),
            value::bytes(v.bytes),
            value::bytes(v.space.used_bytes),
            kind(v),
            v.snapshots.to_string(),
            hosts.unwrap_or("not exported".into()),
            value::status(v.status, &v.reason),
        ]
    },
    none: "There are no volumes: `forebay volume create` makes one.",
};

fn kind(v: &Volume) -> String {
    let kind = if v.thick { "thick" } else { "thin" };
    match v.origin {
        Some(_) => format!("{kind} clone"),
        None => kind.into(),
    }
}

fn print(v: &Volume) {
    let mut fields = Fields::default();
    fields.add("volume", format!("{}/{}", v.pool, v.name));
    fields.add("status", value::word(&v.status));
    fields.add("reason", &v.reason);
    fields.add("size", format!("{} ({} bytes)", value::bytes(v.bytes), v.bytes));
    fields.add("block", format!("{} bytes", v.block_bytes));
    fields.add("atomic write", format!("{} bytes", v.atomic_write_bytes));
    fields.add("kind", kind(v));
    fields.add_if("origin", &v.origin);
    fields.add("limits", limits::words(&v.limits));
    fields.add("used", value::bytes(v.space.used_bytes));
    fields.add("of it its own", value::bytes(v.space.exclusive_bytes));
    fields.add("reserved", value::bytes(v.space.reserved_bytes));
    fields.add("snapshots", v.snapshots);
    fields.add("uuid", &v.uuid);
    fields.add("made", value::moment(v.created_at_ms));
    match &v.export {
        None => fields.add("exported", "no"),
        Some(export) => connect_info::fields(&mut fields, export),
    }
    fields.print();
}
