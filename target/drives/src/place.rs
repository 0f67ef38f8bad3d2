//! Where an NVMe drive is, as people and files write it.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use vfio::PciAddress;

/// A namespace of an NVMe drive of this machine: `pci:0000:03:00.0`, with `/2` for namespace 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DrivePlace {
    /// The drive.
    pub address: PciAddress,
    /// Its namespace, from 1.
    pub nsid: u32,
}

impl FromStr for DrivePlace {
    type Err = String;

    fn from_str(text: &str) -> Result<DrivePlace, String> {
        let rest = text.strip_prefix("pci:").ok_or_else(|| {
            format!(
                "\"{text}\" is no NVMe drive: write it as pci:0000:03:00.0, or pci:0000:03:00.0/2"
            )
        })?;
        let (address, nsid) = match rest.split_once('/') {
            Some((address, nsid)) => (address, nsid.parse().ok().filter(|nsid| *nsid > 0)),
            None => (rest, Some(1)),
        };
        let nsid = nsid.ok_or_else(|| format!("\"{text}\": namespaces are numbered from 1"))?;
        Ok(DrivePlace { address: address.parse()?, nsid })
    }
}

impl TryFrom<String> for DrivePlace {
    type Error = String;

    fn try_from(text: String) -> Result<DrivePlace, String> {
        text.parse()
    }
}

impl fmt::Display for DrivePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.nsid {
            1 => write!(f, "pci:{}", self.address),
            nsid => write!(f, "pci:{}/{nsid}", self.address),
        }
    }
}

impl From<DrivePlace> for String {
    fn from(place: DrivePlace) -> String {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_as_written() {
        for (text, shown) in [
            ("pci:0000:03:00.0", "pci:0000:03:00.0"),
            ("pci:03:00.0", "pci:0000:03:00.0"),
            ("pci:0000:03:00.0/1", "pci:0000:03:00.0"),
            ("pci:10000:81:00.1/7", "pci:10000:81:00.1/7"),
        ] {
            let place: DrivePlace = text.parse().unwrap();
            assert_eq!(place.to_string(), shown);
            let read: DrivePlace = serde_json::from_str(&format!("\"{text}\"")).unwrap();
            assert_eq!(read, place);
        }
        for wrong in ["", "0000:03:00.0", "pci:", "pci:03:00.0/0", "pci:03:00.0/x", "pci:/1"] {
            assert!(wrong.parse::<DrivePlace>().is_err(), "{wrong}");
        }
    }
}
