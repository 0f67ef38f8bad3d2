//! `forebay device bind` and `unbind`, and how drives are shown: the NVMe drives of a machine, and
//! which driver has them. Works on the machine that it is typed on, without the appliance.

use crate::failure::Failure;
use clap::{Args, Subcommand};
use drives::{Access, BindError, Consent, Host, PciAddress};
use webui_model::Drive;

/// Which driver has a drive of this machine.
#[derive(Subcommand)]
pub enum DrivesAction {
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
    let failed = |error: BindError| Failure::Failed(sentence(&error.to_string()));
    match action {
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

/// The drives of this machine, with nobody asked but its kernel.
///
/// # Errors
/// There is no PCI bus.
pub fn here() -> Result<Vec<Drive>, Failure> {
    drives::drives_of(&Host::new()).map_err(|why| Failure::Failed(sentence(&why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("the drive is away"), "The drive is away.");
    }
}
