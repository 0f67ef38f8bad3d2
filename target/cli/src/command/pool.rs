//! `forebay pool`.

use crate::command::{
    device,
    member::{self, MemberPlace},
};
use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm};
use crate::print::{Fields, Table, value};
use clap::{Args, Subcommand, ValueEnum};
use webui_client::{Failure, Method};
use webui_model::{
    DiscardMode, DiscardSet, ImportablePool, Name, Pool, PoolCreate, PoolImport, RefusalKind, count,
};

/// What to do with pools.
#[derive(Args)]
pub struct PoolArgs {
    #[command(subcommand)]
    action: PoolAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum PoolAction {
    /// Make a pool of devices.
    Create {
        /// Its name.
        name: Name,
        /// Files or block devices by their path (one of this folder as ./FILE), or attached devices
        /// by their name.
        #[arg(required = true)]
        devices: Vec<String>,
        /// Take devices that hold somebody's data. That data is lost.
        #[arg(long)]
        force: bool,
        /// Whether devices are given back what nobody needs: those that do it well, all that can, or
        /// none.
        #[arg(long, value_enum)]
        discard: Option<DiscardWord>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Bring in a pool that is on devices already.
    Import {
        /// Its name, where the devices hold more than one.
        name: Option<Name>,
        /// Where to look (repeatable); at every attached device that is free unless given.
        #[arg(long, value_name = "DEVICE")]
        device: Vec<String>,
        /// Though a process that was killed had answered writes for other devices that say that they
        /// are the same: without those writes. And though another machine has not let go of the pool:
        /// only if that one is off, or will not use these devices again.
        #[arg(long)]
        force: bool,
    },
    /// Show pools on attached devices that could be imported.
    Importable,
    /// Let go of a pool, for another machine. Its data stays.
    Export {
        /// Its name.
        name: Name,
        /// Do it though hosts are connected.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Make a pool one of the newest format. Earlier releases do not open it then.
    Upgrade {
        /// Its name.
        name: Name,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Delete a pool without volumes.
    Delete {
        /// Its name.
        name: Name,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show all pools.
    List,
    /// Show one pool and its devices.
    Show {
        /// Its name.
        name: Name,
    },
    /// Show or say whether devices of a pool are given back what nobody needs: files get smaller.
    Discard {
        /// The pool.
        pool: Name,
        /// Devices that do it well, all that can, or none.
        #[arg(value_enum)]
        mode: Option<DiscardWord>,
    },
    /// Add a device to a pool.
    AddDevice {
        /// The pool.
        pool: Name,
        /// The device: a path or a name.
        device: String,
        /// Take it though it holds somebody's data. That data is lost.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Move a device's data to the others of its pool.
    DrainDevice {
        /// The pool.
        pool: Name,
        /// The device: its number in the pool, its name or its path.
        device: MemberPlace,
        /// Wait until it is done.
        #[arg(long)]
        wait: bool,
    },
    /// Take a device that was drained out of its pool.
    RemoveDevice {
        /// The pool.
        pool: Name,
        /// The device: its number in the pool, its name or its path.
        device: MemberPlace,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Take in what a device has grown.
    GrowDevice {
        /// The pool.
        pool: Name,
        /// The device: its number in the pool, its name or its path.
        device: MemberPlace,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum DiscardWord {
    Auto,
    On,
    Off,
}

impl From<DiscardWord> for DiscardMode {
    fn from(word: DiscardWord) -> DiscardMode {
        match word {
            DiscardWord::Auto => DiscardMode::Auto,
            DiscardWord::On => DiscardMode::On,
            DiscardWord::Off => DiscardMode::Off,
        }
    }
}

/// `forebay pool`.
pub fn run(args: PoolArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        PoolAction::Create { name, devices, force, discard, confirm } => {
            create(c, (name, &devices), force, discard, confirm)
        }
        PoolAction::Import { name, device, force } => import(c, name, &device, force),
        PoolAction::Importable => c.list(&[&"pool-imports"], &IMPORTABLE),
        PoolAction::Export { name, force, confirm } => export(c, &name, force, confirm),
        PoolAction::Delete { name, confirm } => {
            confirm.ask(&format!("Pool {name} goes away, with what its devices know of it."))?;
            c.delete(&[&"pools", &name])?;
            c.say(format_args!("Pool {name} is deleted."));
            Ok(())
        }
        PoolAction::Upgrade { name, confirm } => {
            confirm.ask(&format!(
                "Pool {name} cannot be opened by earlier releases from then on: updates of this \
                 machine cannot be taken back."
            ))?;
            let answer = c.post(&[&"pools", &name, &"upgrade"])?;
            c.print(&answer, |p: &Pool| crate::line!("Pool {} is of format {}.", p.name, p.format))
        }
        PoolAction::List => c.list(&[&"pools"], &COLUMNS),
        PoolAction::Show { name } => c.show(&[&"pools", &name], print),
        PoolAction::Discard { pool, mode: None } => c.show(&[&"pools", &pool], print_discard),
        PoolAction::Discard { pool, mode: Some(mode) } => {
            let set = DiscardSet { mode: mode.into() };
            let answer = c.put(&[&"pools", &pool, &"discard"], &set)?;
            c.print(&answer, print_discard)
        }
        PoolAction::AddDevice { pool, device, force, confirm } => {
            member::add(c, &pool, &device, force, confirm)
        }
        PoolAction::DrainDevice { pool, device, wait } => member::drain(c, &pool, &device, wait),
        PoolAction::RemoveDevice { pool, device, confirm } => {
            member::remove(c, &pool, &device, confirm)
        }
        PoolAction::GrowDevice { pool, device } => member::grow(c, &pool, &device),
    }
}

fn create(
    c: &Connection,
    (name, devices): (Name, &[String]),
    force: bool,
    discard: Option<DiscardWord>,
    confirm: Confirm,
) -> Result<(), Failure> {
    if force {
        confirm.ask(&format!("Whatever {} held is lost.", devices.join(", ")))?;
    }
    let devices = devices.iter().map(|text| device::reference(text));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let discard = discard.map(DiscardMode::from);
    let request = PoolCreate { name, devices, force, discard };
    let answer = c.create(&[&"pools"], &request);
    let answer = answer.map_err(|failure| {
        failure.hint(RefusalKind::Refused, "(--force takes it all the same; its data is lost.)")
    })?;
    c.print(&answer, |pool: &Pool| {
        let size = value::bytes(pool.space.total_bytes);
        match answer.is_new() {
            true => crate::line!("Pool {} is new, with {size}.", pool.name),
            false => crate::line!("Pool {} was there already, as asked for.", pool.name),
        }
    })
}

/// Brings in a pool.
fn import(
    c: &Connection,
    name: Option<Name>,
    devices: &[String],
    force: bool,
) -> Result<(), Failure> {
    let devices = devices.iter().map(|text| device::reference(text));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let answer = c.create(&[&"pool-imports"], &PoolImport { name, devices, force })?;
    c.print(&answer, |pool: &Pool| match answer.is_new() {
        true => crate::line!(
            "Pool {} is back, with {} and {}.",
            pool.name,
            count(pool.volumes as usize, "volume"),
            count(pool.snapshots as usize, "snapshot")
        ),
        false => crate::line!("Pool {} was imported already.", pool.name),
    })
}

fn export(c: &Connection, name: &Name, force: bool, confirm: Confirm) -> Result<(), Failure> {
    confirm.ask(&format!("Hosts lose the volumes of pool {name}; their data stays."))?;
    c.ask_with_force(Method::POST, &[&"pools", name, &"export"], force)?;
    c.say(format_args!("Pool {name} is exported: `forebay pool import {name}` brings it back."));
    Ok(())
}

const COLUMNS: Columns<'static, Pool> = Columns {
    headings: &["pool", "size", "used", "free", "reserved", "volumes", "devices", "status"],
    row: |p| {
        vec![
            p.name.to_string(),
            value::bytes(p.space.total_bytes),
            value::percent(p.space.used_bytes, p.space.total_bytes),
            value::bytes(p.space.free_bytes),
            value::bytes(p.space.reserved_bytes),
            p.volumes.to_string(),
            p.devices.len().to_string(),
            value::status(p.status, &p.reason),
        ]
    },
    none: "There are no pools: `forebay pool create` makes one.",
};

const IMPORTABLE: Columns<'static, ImportablePool> = Columns {
    headings: &["pool", "uuid", "devices", "status"],
    row: |p| {
        let devices: Vec<_> = p.devices.iter().map(Name::as_str).collect();
        vec![
            p.name.to_string(),
            p.uuid.clone(),
            devices.join(", "),
            value::status(p.status, &p.reason),
        ]
    },
    none: "There is no pool to import on the devices that are attached: `forebay device attach` \
           attaches one, or name it with `forebay pool import --device`.",
};

fn print(p: &Pool) {
    let mut fields = Fields::default();
    fields.add("pool", &p.name);
    fields.add("status", value::word(&p.status));
    fields.add("reason", &p.reason);
    fields.add("uuid", &p.uuid);
    fields.add("size", value::bytes(p.space.total_bytes));
    fields.add("used", value::bytes(p.space.used_bytes));
    fields.add("of it shared", value::bytes(p.space.shared_bytes));
    fields.add("reclaimable", value::bytes(p.space.reclaimable_bytes));
    fields.add("reserved", value::bytes(p.space.reserved_bytes));
    fields.add("free", value::bytes(p.space.free_bytes));
    fields.add("extent", value::bytes(p.extent_bytes));
    if p.format > 0 {
        fields.add("format", p.format);
        fields.add("losses", p.losses);
    }
    fields.add("volumes", p.volumes);
    fields.add("snapshots", p.snapshots);
    fields.print();
    let mut table = Table::new(&["", "device", "path", "state", "size", "used", "status"]);
    for d in &p.devices {
        table.row([
            d.number.to_string(),
            value::or_none(&d.device),
            value::or_none(&d.path),
            value::word(&d.state),
            value::bytes(d.total_bytes),
            value::bytes(d.used_bytes),
            value::status(d.status, &d.reason),
        ]);
    }
    crate::line!("");
    table.print_bare();
    crate::line!("");
    print_discard(p);
}

/// What is given back to which devices.
fn print_discard(p: &Pool) {
    crate::line!("discard  {}", p.discard);
    let mut table = Table::new(&["", "device", "discard", "given back", "waiting", "why"]);
    for d in &p.devices {
        table.row([
            d.number.to_string(),
            value::or_none(&d.device),
            if d.discard.on { "on" } else { "off" }.to_owned(),
            value::bytes(d.discard.discarded_bytes),
            value::bytes(d.discard.waiting_bytes),
            d.discard.reason.clone(),
        ]);
    }
    table.print_bare();
}
