//! PCI addresses.

use std::fmt;
use std::str::FromStr;

/// Where a PCI function is: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciAddress { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

impl FromStr for PciAddress {
    type Err = String;

    /// From `0000:01:00.0`, or `01:00.0` in domain 0.
    fn from_str(text: &str) -> Result<PciAddress, String> {
        let wrong = || format!("\"{text}\" is no PCI address: it looks like 0000:01:00.0");
        let hex = |part: &str, digits: usize| {
            let fits = (1..=digits).contains(&part.len());
            u32::from_str_radix(part, 16).ok().filter(|_| fits && !part.starts_with('+'))
        };
        let (rest, function) = text.rsplit_once('.').ok_or_else(wrong)?;
        let (rest, device) = rest.rsplit_once(':').ok_or_else(wrong)?;
        let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
        let parts = (hex(domain, 8), hex(bus, 2), hex(device, 2), hex(function, 1));
        let (Some(domain), Some(bus), Some(device), Some(function)) = parts else {
            return Err(wrong());
        };
        if device > 31 || function > 7 {
            return Err(wrong());
        }
        let (bus, device, function) = (bus as u8, device as u8, function as u8);
        Ok(PciAddress { domain, bus, device, function })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_those_of_the_kernel() {
        let address: PciAddress = "0000:3b:1f.7".parse().unwrap();
        assert_eq!(address.to_string(), "0000:3b:1f.7");
        assert_eq!("3b:00.0".parse::<PciAddress>().unwrap().to_string(), "0000:3b:00.0");
        // Domains of more than 16 bits are found behind some bridges.
        assert_eq!("10000:01:00.0".parse::<PciAddress>().unwrap().to_string(), "10000:01:00.0");
        for wrong in ["", "nvme0", "0000:00:20.0", "0000:00:00.8", "0:0", "::.", "+1:00.0"] {
            assert!(wrong.parse::<PciAddress>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "[0-9a-f:.+x]{0,16}") {
            if let Ok(address) = text.parse::<PciAddress>() {
                prop_assert_eq!(address.to_string().parse::<PciAddress>().unwrap(), address);
            }
        }
    }
}
