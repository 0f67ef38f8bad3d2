//! Giving drives from one driver to another.

use crate::contents::Finding;
use crate::host::{Host, PciDrive};
use std::fmt;
use vfio::{Access, PciAddress};

/// How far taking a drive may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    /// Only a drive on which nothing is known, or a pool of ours.
    Empty,
    /// Whatever data is on it, but not while something of it is in use: it was ours before.
    Known,
    /// Whatever is on it, and whoever uses it.
    Anything,
}

impl Consent {
    fn covers(self, finding: &Finding) -> bool {
        match self {
            Consent::Empty => finding.is_ours(),
            Consent::Known => !finding.is_in_use(),
            Consent::Anything => true,
        }
    }
}

/// Why a drive was not bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindError {
    /// There is no such drive.
    NoDrive(String),
    /// The machine has no IOMMU that is on.
    NoIommu(PciAddress),
    /// The kernel has no such driver loaded.
    NoDriver(&'static str),
    /// Somebody's data is on it.
    InUse(Vec<Finding>),
    /// The kernel refused.
    Refused(String),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::NoDrive(why) | BindError::Refused(why) => f.write_str(why),
            BindError::NoIommu(address) => write!(
                f,
                "{address} is behind no IOMMU, so it could overwrite any memory: turn the IOMMU on \
                 in the firmware and with intel_iommu=on on the kernel's command line, or, in a \
                 lab, say --unsafe-no-iommu"
            ),
            BindError::NoDriver(driver) => {
                write!(f, "the kernel has no driver {driver}: load it with modprobe {driver}")
            }
            BindError::InUse(findings) => {
                let list: Vec<String> = findings.iter().map(Finding::to_string).collect();
                write!(f, "the drive is not empty: {}; say --force to take it", list.join(", "))
            }
        }
    }
}

impl std::error::Error for BindError {}

impl Host {
    /// Takes the drive at `address` from the kernel's driver. One that is there already stays.
    ///
    /// # Errors
    /// See [`BindError`]; the drive is back with the driver that had it.
    pub fn bind(
        &self,
        address: PciAddress,
        access: Access,
        consent: Consent,
    ) -> Result<(), BindError> {
        let drive = self.drive(address).map_err(BindError::NoDrive)?;
        if drive.driver.as_deref() == Some(access.driver()) {
            return Ok(());
        }
        if access == Access::Vfio && drive.iommu_group.is_none() {
            return Err(BindError::NoIommu(address));
        }
        let driver = access.driver();
        if !self.sysfs().path(&format!("sys/bus/pci/drivers/{driver}")).exists() {
            return Err(BindError::NoDriver(driver));
        }
        let mut findings = self.contents(&drive);
        findings.retain(|finding| !consent.covers(finding));
        if !findings.is_empty() {
            return Err(BindError::InUse(findings));
        }
        self.give(&drive, driver).map_err(|why| {
            // Back to where it was, as far as that is possible.
            let _ = self.release(address);
            BindError::Refused(why)
        })
    }

    /// Gives the drive at `address` back to the kernel's own driver.
    ///
    /// # Errors
    /// A sentence.
    pub fn unbind(&self, address: PciAddress) -> Result<(), BindError> {
        let drive = self.drive(address).map_err(BindError::NoDrive)?;
        if drive.driver.as_deref() == Some("nvme") {
            return Ok(());
        }
        self.release(address).map_err(BindError::Refused)
    }

    fn give(&self, drive: &PciDrive, driver: &str) -> Result<(), String> {
        let folder = self.sysfs().function(drive.address);
        self.write(&folder.join("driver_override"), driver)?;
        self.probe(drive.address)?;
        match self.sysfs().driver(drive.address) {
            Some(now) if now == driver => Ok(()),
            Some(now) => Err(format!("{} went to driver {now}, not {driver}", drive.address)),
            None => Err(format!("driver {driver} did not take {}: see dmesg", drive.address)),
        }
    }

    fn release(&self, address: PciAddress) -> Result<(), String> {
        self.write(&self.sysfs().function(address).join("driver_override"), "\n")?;
        self.probe(address)?;
        let now = self.sysfs().driver(address);
        let why = || format!("driver nvme did not take {address} back: see dmesg");
        now.filter(|now| now == "nvme").map(drop).ok_or_else(why)
    }

    /// Takes a function from its driver and lets the kernel look for one again.
    fn probe(&self, address: PciAddress) -> Result<(), String> {
        if self.sysfs().driver(address).is_some() {
            let unbind = self.sysfs().function(address).join("driver/unbind");
            self.write(&unbind, &address.to_string())?;
        }
        self.write(&self.sysfs().path("sys/bus/pci/drivers_probe"), &address.to_string())
    }
}
