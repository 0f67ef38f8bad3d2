//! PCI configuration space (PCI Local Bus Specification, "Configuration Space").

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const COMMAND: u64 = 0x04;
const STATUS: u64 = 0x06;
const CAPABILITIES: u64 = 0x34;
const MSIX: u8 = 0x11;

/// Bits of the command register.
const MEMORY: u16 = 1 << 1;
const BUS_MASTER: u16 = 1 << 2;

/// The configuration space of a function, in a file at an offset.
pub(crate) struct Config {
    file: File,
    at: u64,
}

/// Where the MSI-X table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MsixTable {
    /// The BAR that it is in.
    pub(crate) bar: u8,
    /// Where in that BAR.
    pub(crate) offset: usize,
    /// Vectors.
    pub(crate) vectors: u16,
}

impl Config {
    pub(crate) fn new(file: File, at: u64) -> Config {
        Config { file, at }
    }

    fn read<const N: usize>(&self, offset: u64) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file.read_exact_at(&mut bytes, self.at + offset)?;
        Ok(bytes)
    }

    fn read16(&self, offset: u64) -> io::Result<u16> {
        self.read(offset).map(u16::from_le_bytes)
    }

    /// Lets the function answer at its addresses and reach memory.
    pub(crate) fn admit(&self) -> io::Result<()> {
        let command = self.read16(COMMAND)? | MEMORY | BUS_MASTER;
        self.file.write_all_at(&command.to_le_bytes(), self.at + COMMAND)
    }

    /// Stops the function from reaching memory. Whether it certainly does not: it says so, or it
    /// is gone. Reading back also waits for what it wrote before.
    pub(crate) fn stop(&self) -> bool {
        let Ok(command) = self.read16(COMMAND) else { return true };
        if command == u16::MAX {
            return true;
        }
        let bytes = (command & !BUS_MASTER).to_le_bytes();
        let _ = self.file.write_all_at(&bytes, self.at + COMMAND);
        self.read16(COMMAND).map_or(true, |now| now == u16::MAX || now & BUS_MASTER == 0)
    }

    /// Where the MSI-X table is, if there is one.
    pub(crate) fn msix(&self) -> io::Result<Option<MsixTable>> {
        if self.read16(STATUS)? & 1 << 4 == 0 {
            return Ok(None);
        }
        let [mut at] = self.read::<1>(CAPABILITIES)?;
        // A list that goes in circles has more entries than fit.
        for _ in 0..48 {
            if at < 0x40 {
                break;
            }
            let [id, next] = self.read::<2>(u64::from(at))?;
            if id == MSIX {
                let control = self.read16(u64::from(at) + 2)?;
                let table = u32::from_le_bytes(self.read(u64::from(at) + 4)?);
                let vectors = (control & 0x7ff) + 1;
                let (bar, offset) = ((table & 7) as u8, (table & !7) as usize);
                return Ok(Some(MsixTable { bar, offset, vectors }));
            }
            at = next & !3;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(bytes: &[u8]) -> Config {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 16).unwrap();
        Config::new(file, 16)
    }

    #[test]
    fn bus_mastering_is_turned_on_and_off() {
        let config = config(&[0; 256]);
        config.admit().unwrap();
        assert_eq!(config.read16(COMMAND).unwrap(), 6);
        assert!(config.stop());
        assert_eq!(config.read16(COMMAND).unwrap(), 2);
        let gone = super::tests::config(&[0xff; 256]);
        assert!(gone.stop(), "a function that is gone reaches nothing");
    }

    #[test]
    fn the_interrupt_table_is_found() {
        let mut bytes = [0; 256];
        bytes[6] = 0x10;
        bytes[0x34] = 0x40;
        bytes[0x40..0x42].copy_from_slice(&[0x01, 0x60]);
        bytes[0x60..0x68].copy_from_slice(&[0x11, 0, 0x40, 0x80, 0x00, 0x20, 0, 0]);
        let table = config(&bytes).msix().unwrap().unwrap();
        assert_eq!(table, MsixTable { bar: 0, offset: 0x2000, vectors: 65 });
        bytes[0x60] = 0x05;
        bytes[0x61] = 0x40;
        assert_eq!(config(&bytes).msix().unwrap(), None, "a list in a circle ends");
        bytes[6] = 0;
        assert_eq!(config(&bytes).msix().unwrap(), None);
        assert!(config(&bytes[..0x10]).msix().is_ok_and(|table| table.is_none()));
    }
}
