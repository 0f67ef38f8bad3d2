//! The NVMe drives of a machine, for a person.

use crate::host::{Host, PciDrive};
use crate::smart::in_words;
use crate::take::Drives;
use nvme_spec::log::SmartLog;
use vfio::PciAddress;
use webui_model::Drive;
use zerocopy::FromBytes;

/// Every NVMe drive of the machine, as the kernel knows it: what it says of itself and what is on it
/// only while the kernel's own driver has it.
///
/// # Errors
/// A sentence: there is no PCI bus.
pub fn drives_of(host: &Host) -> Result<Vec<Drive>, String> {
    let seen = |drive: &PciDrive| {
        let log = host.smart_log(drive).ok();
        let log = log.and_then(|log| SmartLog::read_from_bytes(&log).ok());
        Drive {
            address: drive.address.to_string(),
            model: drive.model.clone(),
            serial: drive.serial.clone(),
            firmware: drive.firmware.clone(),
            driver: drive.driver.clone(),
            numa_node: drive.numa_node,
            health: log.as_ref().map(in_words),
            contents: host.contents(drive).iter().map(ToString::to_string).collect(),
            devices: Vec::new(),
        }
    };
    Ok(host.drives()?.iter().map(seen).collect())
}

impl Drives {
    /// Nothing, if there is a drive at `address`.
    ///
    /// # Errors
    /// That there is none.
    pub fn is_there(&self, address: PciAddress) -> Result<(), String> {
        self.host.drive(address).map(drop)
    }

    /// Every NVMe drive of the machine, with what those that are open say of themselves.
    ///
    /// # Errors
    /// A sentence: there is no PCI bus.
    pub fn list(&self) -> Result<Vec<Drive>, String> {
        let mut drives = drives_of(&self.host)?;
        for open in self.all() {
            let address = open.address.to_string();
            let Some(drive) = drives.iter_mut().find(|drive| drive.address == address) else {
                continue;
            };
            let (told, (model, serial)) = (open.describe(), open.names());
            (drive.model, drive.serial) = (Some(model), Some(serial));
            (drive.firmware, drive.health) = (Some(told.firmware), told.health);
        }
        Ok(drives)
    }
}
