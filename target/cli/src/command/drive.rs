//! NVMe drives: which a machine has and who has them, which driver has one of this machine, and what
//! destroys everything on one of an appliance.

use crate::connection::{Columns, Connection};
use crate::flags::Confirm;
use crate::print::{Fields, progress, value};
use clap::{Args, Subcommand, ValueEnum};
use drives::{Access, BindError, Consent, Host, PciAddress};
use serde::Serialize;
use webui_client::Failure;
use webui_model::{
    Drive, DriveAddress, DriveFormat, DriveHealth, DriveSanitize, Job, Name, NameError,
    SanitizeAction, SecureErase,
};

/// An address as people write it: with `pci:`, as for `device attach`, or without.
fn address(text: &str) -> Result<DriveAddress, NameError> {
    text.strip_prefix("pci:").unwrap_or(text).parse()
}

/// How to format a namespace.
#[derive(Args)]
pub struct FormatArgs {
    /// Its PCI address, as `forebay device drives` shows it.
    #[arg(value_parser = address)]
    drive: DriveAddress,
    /// The namespace.
    #[arg(long, default_value_t = 1)]
    namespace: u32,
    /// Bytes in a block, 512 or 4096; as many as now unless given.
    #[arg(long, value_name = "BYTES")]
    block: Option<u32>,
    /// Have the drive erase all data, or forget the key that it is encrypted with.
    #[arg(long, value_enum)]
    erase: Option<EraseWord>,
    #[command(flatten)]
    how: EraseArgs,
}

/// How to sanitize a drive.
#[derive(Args)]
pub struct SanitizeArgs {
    /// Its PCI address, as `forebay device drives` shows it.
    #[arg(value_parser = address)]
    drive: DriveAddress,
    /// Erase the blocks at the media, forget the keys that they are encrypted with, or overwrite
    /// everything.
    #[arg(long, value_enum)]
    action: SanitizeWord,
    #[command(flatten)]
    how: EraseArgs,
}

#[derive(Args)]
struct EraseArgs {
    /// Do it though there is data on it, or though nobody can tell.
    #[arg(long)]
    force: bool,
    /// Return when it is done.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    confirm: Confirm,
}

#[derive(Clone, Copy, ValueEnum)]
enum EraseWord {
    UserData,
    Cryptographic,
}

#[derive(Clone, Copy, ValueEnum)]
enum SanitizeWord {
    BlockErase,
    CryptoErase,
    Overwrite,
}

/// Which driver has a drive of this machine.
#[derive(Subcommand)]
pub enum BindAction {
    /// Take a drive from the kernel's driver, for the driver of our own.
    Bind(BindArgs),
    /// Give a drive back to the kernel's driver.
    Unbind {
        /// Its PCI address, as `forebay device drives` shows it.
        address: PciAddress,
    },
}

/// How to take a drive.
#[derive(Args)]
pub struct BindArgs {
    /// Its PCI address, as `forebay device drives` shows it.
    address: PciAddress,
    /// Take it whatever is on it.
    #[arg(long)]
    force: bool,
    /// Take it without an IOMMU: the drive can then overwrite any memory. For labs.
    #[arg(long)]
    unsafe_no_iommu: bool,
}

/// Binds or unbinds a drive of this machine.
pub fn bind(action: &BindAction) -> Result<(), Failure> {
    let host = Host::new();
    let failed = |error: BindError| Failure::Failed(sentence(&error.to_string()));
    match action {
        BindAction::Bind(args) => {
            let access = if args.unsafe_no_iommu { Access::UnsafeNoIommu } else { Access::Vfio };
            let consent = if args.force { Consent::Anything } else { Consent::Empty };
            host.bind(args.address, access, consent).map_err(failed)?;
            crate::line!("Drive {} is with {}.", args.address, access.driver());
            Ok(())
        }
        BindAction::Unbind { address } => {
            host.unbind(*address).map_err(failed)?;
            crate::line!("Drive {address} is back with the kernel's driver.");
            Ok(())
        }
    }
}

/// A message as a sentence of its own.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// The drives of this machine, with nobody asked but its kernel.
pub fn here(json: bool) -> Result<(), Failure> {
    let drives = drives::drives_of(&Host::new()).map_err(|why| Failure::Failed(sentence(&why)))?;
    match json {
        true => crate::line!("{}", serde_json::to_string(&drives).expect("they are plain")),
        false => COLUMNS.print(&drives),
    }
    Ok(())
}

/// The drives of an appliance's machine.
pub fn list(c: &Connection) -> Result<(), Failure> {
    c.list(&[&"drives"], &COLUMNS)
}

/// Shows what a device's drive says of its health.
pub fn health(c: &Connection, name: &Name) -> Result<(), Failure> {
    c.show(&[&"devices", name, &"health"], |health: &DriveHealth| print_health(health))
}

fn print_health(h: &DriveHealth) {
    let mut fields = Fields::default();
    fields.add("health", &h.summary);
    fields.add("life used", format!("{}%", h.used_percent));
    let (spare, least) = (h.spare_percent, h.spare_threshold_percent);
    fields.add("spare", format!("{spare}% (it warns below {least}%)"));
    fields.add("temperature", format!("{} C", h.celsius));
    fields.add("read", value::bytes(h.read_bytes));
    fields.add("written", value::bytes(h.written_bytes));
    fields.add("power on", format!("{} hours, {} times", h.power_on_hours, h.power_cycles));
    fields.add("power cuts", h.unsafe_shutdowns);
    fields.add("media errors", h.media_errors);
    for slot in &h.firmware {
        let active = if slot.active { ", active" } else { "" };
        fields.add("firmware", format!("slot {}: {}{active}", slot.slot, slot.revision));
    }
    for format in &h.formats {
        let in_use = if format.in_use { ", in use" } else { "" };
        let (block, metadata) = (format.block_bytes, format.metadata_bytes);
        let rank = format.rank;
        fields.add(
            "format",
            format!("blocks of {block} bytes, {metadata} of metadata, rank {rank}{in_use}"),
        );
    }
    for error in &h.errors {
        let place = match error.namespace {
            Some(nsid) => format!(", namespace {nsid}, block {}", error.block),
            None => String::new(),
        };
        fields.add("error", format!("{}: {}{place}", error.number, error.status));
    }
    fields.print();
}

/// Formats a namespace.
pub fn format(c: &Connection, args: &FormatArgs) -> Result<(), Failure> {
    let erase = match args.erase {
        None => SecureErase::None,
        Some(EraseWord::UserData) => SecureErase::UserData,
        Some(EraseWord::Cryptographic) => SecureErase::Cryptographic,
    };
    let FormatArgs { drive, namespace, block, how, .. } = args;
    let request =
        DriveFormat { namespace: *namespace, block_bytes: *block, erase, force: how.force };
    let what = format!("Everything in namespace {namespace} of drive {drive}");
    erase_drive(c, drive, "format", &request, &what, how)
}

/// Sanitizes a drive.
pub fn sanitize(c: &Connection, args: &SanitizeArgs) -> Result<(), Failure> {
    let action = match args.action {
        SanitizeWord::BlockErase => SanitizeAction::BlockErase,
        SanitizeWord::CryptoErase => SanitizeAction::CryptoErase,
        SanitizeWord::Overwrite => SanitizeAction::Overwrite,
    };
    let request = DriveSanitize { action, force: args.how.force };
    let what = format!("Everything on drive {}", args.drive);
    erase_drive(c, &args.drive, "sanitize", &request, &what, &args.how)
}

/// Has a drive erase itself; returns when it has begun, or when it is done.
fn erase_drive(
    c: &Connection,
    drive: &DriveAddress,
    how: &str,
    request: &impl Serialize,
    what: &str,
    args: &EraseArgs,
) -> Result<(), Failure> {
    args.confirm.ask(&format!("{what} is lost."))?;
    let answer = c.create(&[&"drives", drive, &how], request)?;
    let job: Job = answer.read()?;
    if args.wait {
        progress::for_job(c, job.id)?;
        return c.show(&[&"jobs", &job.id], |job: &Job| {
            crate::line!("Drive {drive}: {}.", job.reason);
        });
    }
    c.print(&answer, |job: &Job| {
        crate::line!("Job {} has begun: {}.", job.id, job.reason);
    })
}

const COLUMNS: Columns<'static, Drive> = Columns {
    headings: &[
        "address",
        "driver",
        "node",
        "model",
        "serial",
        "firmware",
        "health",
        "what is on it",
    ],
    row,
    none: "The machine has no NVMe drives.",
};

fn row(drive: &Drive) -> Vec<String> {
    let text = |of: &Option<String>| of.clone().unwrap_or_else(|| "-".to_owned());
    let contents = match (drive.driver.as_deref(), &drive.contents[..], &drive.devices[..]) {
        (Some("nvme"), [], []) => "nothing known".to_owned(),
        (_, [], []) => "-".to_owned(),
        (_, [], devices) => {
            let devices: Vec<&str> = devices.iter().map(Name::as_str).collect();
            format!("attached as {}", devices.join(", "))
        }
        (_, found, _) => found.join(", "),
    };
    vec![
        drive.address.clone(),
        text(&drive.driver),
        drive.numa_node.map_or("-".to_owned(), |node| node.to_string()),
        text(&drive.model),
        text(&drive.serial),
        text(&drive.firmware),
        text(&drive.health),
        contents,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("the drive is away"), "The drive is away.");
    }

    #[test]
    fn addresses_are_taken_with_and_without_their_prefix() {
        for text in ["0000:03:00.0", "pci:0000:03:00.0"] {
            assert_eq!(address(text).unwrap().as_str(), "0000:03:00.0");
        }
        assert!(address("pci:0000:03:00.0/2").is_err());
    }
}
