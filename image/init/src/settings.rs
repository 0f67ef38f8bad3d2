//! `appliance.toml` of the configuration partition: the machine. What the kernel's command line
//! says comes first.

use crate::line::Line;
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr};

/// The machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Its name.
    pub hostname: Option<String>,
    /// Its networks; every device by DHCP unless there are any.
    pub network: Vec<Network>,
    /// Devices of networks that the kernel's soft-RoCE makes RDMA devices of: names or MAC addresses.
    pub soft_roce: Vec<String>,
    /// Where its log goes too: address, with a port if it is not 514.
    pub syslog: Option<String>,
    /// Who knows the time.
    pub ntp: Option<String>,
}

/// A network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// The kernel's name of the device, or its MAC address; the first device unless given.
    #[serde(default)]
    pub device: Option<String>,
    /// Address with the length of its prefix; by DHCP unless given.
    #[serde(default)]
    pub address: Option<Prefixed>,
    /// The gateway.
    #[serde(default)]
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    #[serde(default)]
    pub dns: Vec<IpAddr>,
}

/// An address with the length of its prefix, as 10.0.0.5/24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefixed {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits, 0 to 32.
    pub prefix: u8,
}

impl TryFrom<String> for Prefixed {
    type Error = String;

    fn try_from(text: String) -> Result<Prefixed, String> {
        let wrong = || format!("\"{text}\" is no address with a prefix: write it as 10.0.0.5/24");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix = prefix.parse().ok().filter(|bits| *bits <= 32).ok_or_else(wrong)?;
        Ok(Prefixed { address: address.parse().map_err(|_| wrong())?, prefix })
    }
}

impl Settings {
    /// Reads the file; with a sentence where it cannot be used, and then nothing of it is.
    pub fn read(text: &str) -> (Settings, Option<String>) {
        match toml::from_str(text) {
            Ok(settings) => (settings, None),
            Err(error) => {
                (Settings::default(), Some(format!("appliance.toml is not used: {error}")))
            }
        }
    }

    /// With what the command line says.
    pub fn with(mut self, line: &Line) -> Settings {
        if !line.ip.is_empty() {
            self.network = line
                .ip
                .iter()
                .map(|ip| Network {
                    device: ip.device.clone(),
                    address: ip.address.map(|(address, prefix)| Prefixed { address, prefix }),
                    gateway: ip.gateway,
                    dns: ip.dns.clone(),
                })
                .collect();
        }
        let named = line.ip.iter().find_map(|ip| ip.hostname.clone());
        self.hostname = named.or(self.hostname);
        if !line.soft_roce.is_empty() {
            self.soft_roce = line.soft_roce.clone();
        }
        self.syslog = line.syslog.clone().or(self.syslog);
        self.ntp = line.ntp.clone().or(self.ntp);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_the_image_has_is_read() {
        let (settings, wrong) = Settings::read(include_str!("../../config/appliance.toml"));
        assert_eq!(wrong, None);
        assert_eq!(settings.hostname.as_deref(), Some("forebay"));
        assert!(settings.network.is_empty());
    }

    #[test]
    fn what_the_file_has_as_comments_can_be_used() {
        let text = include_str!("../../config/appliance.toml");
        let used: Vec<&str> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(used) if used.contains(" = ") || used.starts_with('[') => used,
                _ => line,
            })
            .collect();
        let (settings, wrong) = Settings::read(&used.join("\n"));
        assert_eq!(wrong, None);
        assert_eq!(settings.network[0].address.unwrap().prefix, 24);
        assert_eq!(settings.syslog.as_deref(), Some("10.0.0.9:514"));
        assert_eq!(settings.soft_roce, ["eth0"]);
    }

    #[test]
    fn the_command_line_comes_first() {
        let text =
            "hostname = \"a\"\nsoft_roce = [\"eth0\"]\n[[network]]\naddress = \"10.0.0.5/24\"\n";
        let (settings, wrong) = Settings::read(text);
        assert_eq!(wrong, None);
        assert_eq!(settings.network[0].address.unwrap().prefix, 24);
        let line = Line::read("ip=eth1:dhcp forebay.syslog=10.0.0.9 forebay.soft_roce=eth1");
        let settings = settings.with(&line);
        assert_eq!(settings.network.len(), 1);
        assert_eq!(settings.network[0].device.as_deref(), Some("eth1"));
        assert_eq!((settings.hostname.as_deref(), settings.network[0].address), (Some("a"), None));
        assert_eq!(settings.syslog.as_deref(), Some("10.0.0.9"));
        assert_eq!(settings.soft_roce, ["eth1"]);
    }

    #[test]
    fn a_wrong_file_is_named_and_not_used() {
        for text in ["hostnam = 1", "[[network]]\naddress = \"10.0.0.5/33\"", "["] {
            let (settings, wrong) = Settings::read(text);
            assert_eq!(settings, Settings::default());
            assert!(wrong.unwrap().contains("is not used"));
        }
    }
}
