//! The health of a drive that the kernel's driver has.

use crate::host::{Drive, Host};
use crate::ioctl::get_log;
use std::fs::File;

/// Log page of health, and its length in bytes.
const SMART: (u8, usize) = (0x02, 512);

impl Host {
    /// The SMART / Health log of a drive, while the kernel's own driver has it: 512 bytes (Base
    /// Specification, "SMART / Health Information").
    ///
    /// # Errors
    /// A sentence: another driver has it, or the kernel refuses.
    pub fn smart_log(&self, drive: &Drive) -> Result<Vec<u8>, String> {
        let Some(controller) = &drive.controller else {
            return Err(format!("the kernel's driver does not have {}", drive.address));
        };
        let path = self.path(&format!("dev/{controller}"));
        let say = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(&path).map_err(say)?;
        let mut data = vec![0; SMART.1];
        get_log(&file, SMART.0, &mut data).map_err(say)?;
        Ok(data)
    }
}
