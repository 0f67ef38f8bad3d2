//! `forebay connect-info`: what to type on a host.

use crate::connection::Connection;
use crate::flags::{Api, Exported};
use crate::print::{Fields, value};
use clap::Args;
use webui_client::{Failure, path};
use webui_model::{ConnectInfo, Export, SnapshotRef, VolumeRef};

/// What to connect to.
#[derive(Args)]
pub struct ConnectInfoArgs {
    /// POOL/VOLUME or POOL/VOLUME@SNAPSHOT; the pool may be left out where one name is enough.
    what: Exported,
    #[command(flatten)]
    api: Api,
}

/// `forebay connect-info`: the lines and nothing else on standard output, so that a host's shell may
/// run them; what stands in the way on standard error.
pub fn run(args: ConnectInfoArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    let answer = match &args.what {
        Exported::Subsystem(nqn) => {
            return Err(Failure::Usage(format!(
                "Name a volume or snapshot, not {nqn}: `forebay subsystem show {nqn}` says what it \
                 exports."
            )));
        }
        Exported::Volume(place) => c.look(&path::volume(&place.find(c)?, &[&"connect-info"]))?,
        Exported::Snapshot(place) => {
            c.look(&path::snapshot(&place.find(c)?, &[&"connect-info"]))?
        }
    };
    if c.json() {
        c.print_raw(&answer);
        return Ok(());
    }
    let info: ConnectInfo = answer.read()?;
    if info.lines.is_empty() {
        return Err(Failure::Failed(warning(&info)));
    }
    info.lines.iter().for_each(|line| crate::line!("{line}"));
    if let Some(warning) = &info.warning {
        crate::note!("forebay: {warning}");
    }
    Ok(())
}

/// Why there is nothing to type.
fn warning(info: &ConnectInfo) -> String {
    info.warning.clone().unwrap_or_else(|| {
        format!(
            "{} is not served on any address: `forebay listener create` listens on one.",
            info.subsystem
        )
    })
}

/// Tells people how to connect to a volume that was just exported.
pub fn of_volume(c: &Connection, at: &VolumeRef) -> Result<(), Failure> {
    if c.json() {
        return Ok(());
    }
    tell(&c.get(&path::volume(at, &[&"connect-info"]))?);
    Ok(())
}

/// Tells people how to connect to a snapshot that was just exported.
pub fn of_snapshot(c: &Connection, at: &SnapshotRef) -> Result<(), Failure> {
    if c.json() {
        return Ok(());
    }
    tell(&c.get(&path::snapshot(at, &[&"connect-info"]))?);
    Ok(())
}

fn tell(info: &ConnectInfo) {
    if info.lines.is_empty() {
        crate::line!("{}", warning(info));
        return;
    }
    crate::line!("On a host:");
    for line in &info.lines {
        crate::line!("  {line}");
    }
    if let Some(warning) = &info.warning {
        crate::line!("{warning}");
    }
}

/// How something is exported, field by field.
pub fn fields(fields: &mut Fields, export: &Export) {
    fields.add("subsystem", &export.subsystem);
    fields.add("namespace", export.nsid);
    fields.add("controllers", export.controllers);
    match (&export.hosts[..], export.allow_any_host) {
        (hosts, false) if !hosts.is_empty() => fields.add_all("hosts", hosts),
        (hosts, any) => fields.add("hosts", value::access(hosts, any)),
    }
}
