//! `forebay device drives`, `bind` and `unbind`: the NVMe drives of this machine, and which driver
//! has them. Works on the machine that it is typed on, without the appliance.

use crate::failure::Failure;
use crate::table::Table;
use clap::{Args, Subcommand};
use nvme_spec::log::SmartLog;
use vfio::{Access, Consent, Drive, Host, PciAddress};
use zerocopy::FromBytes;

/// What to do with drives of this machine.
#[derive(Subcommand)]
pub enum DrivesAction {
    /// Show the NVMe drives of this machine, who has them and what is on them.
    Drives,
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

/// Does it.
pub fn run(action: &DrivesAction) -> Result<(), Failure> {
    let host = Host::new();
    let failed = |error: vfio::BindError| Failure::Failed(sentence(&error.to_string()));
    match action {
        DrivesAction::Drives => list(&host),
        DrivesAction::Bind(args) => {
            let access = if args.unsafe_no_iommu { Access::UnsafeNoIommu } else { Access::Vfio };
            let consent = if args.force { Consent::Anything } else { Consent::Empty };
            host.bind(args.address, access, consent).map_err(failed)?;
            crate::out::line!("Drive {} is with {}.", args.address, access.driver());
            Ok(())
        }
        DrivesAction::Unbind { address } => {
            host.unbind(*address).map_err(failed)?;
            crate::out::line!("Drive {address} is back with the kernel's driver.");
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

fn list(host: &Host) -> Result<(), Failure> {
    let drives = host.drives().map_err(|why| Failure::Failed(sentence(&why)))?;
    if drives.is_empty() {
        crate::out::line!("This machine has no NVMe drives.");
        return Ok(());
    }
    let headings =
        ["address", "driver", "node", "model", "serial", "firmware", "health", "what is on it"];
    let mut table = Table::new(&headings);
    drives.iter().for_each(|drive| table.row(row(host, drive)));
    table.print_bare();
    Ok(())
}

fn row(host: &Host, drive: &Drive) -> [String; 8] {
    let text = |of: &Option<String>| of.clone().unwrap_or_else(|| "-".to_owned());
    // Only the kernel's driver tells; what it does not have is asked for by whoever has it.
    let health = host.smart_log(drive).ok().and_then(|log| SmartLog::read_from_bytes(&log).ok());
    let found: Vec<String> =
        host.contents(drive).iter().map(|finding| finding.to_string()).collect();
    let contents = match (&drive.controller, found.is_empty()) {
        (None, _) => "-".to_owned(),
        (Some(_), true) => "nothing known".to_owned(),
        (Some(_), false) => found.join(", "),
    };
    [
        drive.address.to_string(),
        text(&drive.driver),
        drive.numa_node.map_or("-".to_owned(), |node| node.to_string()),
        text(&drive.model),
        text(&drive.serial),
        text(&drive.firmware),
        health.map_or("-".to_owned(), |log| control::health_in_words(&log)),
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
}
