//! The kernel's command line.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What the command line says that concerns us; see `Documentation/admin-guide/nfs/nfsroot.rst` of
/// the kernel for `ip=`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The slot that the machine booted from.
    pub slot: Option<String>,
    /// Networks, by `ip=`.
    pub ip: Vec<IpArgument>,
    /// Devices of networks that get soft-RoCE, by `forebay.soft_roce=`, with commas between them.
    pub soft_roce: Vec<String>,
    /// Where the log goes, by `forebay.syslog=`.
    pub syslog: Option<String>,
    /// Who knows the time, by `forebay.ntp=`.
    pub ntp: Option<String>,
    /// How long an image on trial may take until it works, by `forebay.trial=`, in seconds.
    pub trial: Option<Duration>,
    /// What was not understood.
    pub wrong: Vec<String>,
}

/// One `ip=`: of a device, or of whichever comes first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct IpArgument {
    /// The device.
    pub device: Option<String>,
    /// Address and length of its prefix; by DHCP without.
    pub address: Option<(Ipv4Addr, u8)>,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Host name.
    pub hostname: Option<String>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
}

impl Line {
    /// Reads it.
    pub fn read(text: &str) -> Line {
        let mut line = Line::default();
        for word in text.split_ascii_whitespace() {
            let Some((name, value)) = word.split_once('=') else { continue };
            match name {
                "forebay.slot" => line.slot = Some(value.to_owned()),
                "forebay.soft_roce" => {
                    line.soft_roce.extend(value.split(',').map(str::to_owned));
                }
                "forebay.syslog" => line.syslog = Some(value.to_owned()),
                "forebay.ntp" => line.ntp = Some(value.to_owned()),
                "forebay.trial" => match value.parse() {
                    Ok(seconds @ 1..) => line.trial = Some(Duration::from_secs(seconds)),
                    _ => line.wrong.push(word.to_owned()),
                },
                "ip" => match IpArgument::read(value) {
                    Some(ip) => line.ip.push(ip),
                    None => line.wrong.push(word.to_owned()),
                },
                _ if name.starts_with("forebay.") => line.wrong.push(word.to_owned()),
                _ => {}
            }
        }
        line
    }
}

impl IpArgument {
    /// `dhcp`, `DEVICE:dhcp`, or `CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:off:DNS:DNS`.
    fn read(text: &str) -> Option<IpArgument> {
        let by_dhcp = |word: &str| matches!(word, "dhcp" | "on" | "any");
        let fields: Vec<&str> = text.split(':').collect();
        let some = |place: usize| fields.get(place).copied().filter(|field| !field.is_empty());
        match fields.as_slice() {
            [word] if by_dhcp(word) => return Some(IpArgument::default()),
            [device, word] if by_dhcp(word) && !device.is_empty() => {
                return Some(IpArgument { device: Some((*device).into()), ..Default::default() });
            }
            _ => {}
        }
        let mut ip = IpArgument {
            device: some(5).map(str::to_owned),
            hostname: some(4).map(str::to_owned),
            ..Default::default()
        };
        ip.gateway = some(2).map(str::parse).transpose().ok()?;
        for place in [7, 8] {
            ip.dns.extend(some(place).map(str::parse::<IpAddr>).transpose().ok()?);
        }
        match some(0) {
            Some(client) => ip.address = Some((client.parse().ok()?, prefix(some(3)?)?)),
            None if some(6).is_some_and(by_dhcp) => {}
            None => return None,
        }
        Some(ip)
    }
}

/// The length of the prefix of a netmask.
fn prefix(mask: &str) -> Option<u8> {
    let bits = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    (bits.leading_ones() + bits.trailing_zeros() == 32).then(|| bits.leading_ones() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_syntax_is_read() {
        let line = Line::read(
            "quiet ip=10.0.0.5::10.0.0.1:255.255.255.0:node-a:eth0:off:10.0.0.2 forebay.slot=b",
        );
        assert_eq!(line.slot.as_deref(), Some("b"));
        let ip = &line.ip[0];
        assert_eq!(ip.address, Some(("10.0.0.5".parse().unwrap(), 24)));
        assert_eq!(ip.gateway, Some("10.0.0.1".parse().unwrap()));
        assert_eq!(ip.hostname.as_deref(), Some("node-a"));
        assert_eq!(ip.device.as_deref(), Some("eth0"));
        assert_eq!(ip.dns, ["10.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(Line::read("forebay.soft_roce=eth0,eth1").soft_roce, ["eth0", "eth1"]);
        assert_eq!(Line::read("forebay.trial=90").trial, Some(Duration::from_secs(90)));
        assert_eq!(Line::read("ip=dhcp").ip, [IpArgument::default()]);
        assert_eq!(Line::read("ip=eth1:dhcp").ip[0].device.as_deref(), Some("eth1"));
        assert_eq!(Line::read("ip=:::::eth2:dhcp").ip[0].device.as_deref(), Some("eth2"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for word in [
            "ip=10.0.0.5",
            "ip=10.0.0.5::::x",
            "ip=1.2.3.4:::255.0.255.0",
            "ip=",
            "forebay.sloot=a",
            "forebay.trial=0",
            "forebay.trial=soon",
        ] {
            assert_eq!(Line::read(word).wrong, [word], "{word}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in ".{0,200}") {
            Line::read(&text);
            IpArgument::read(&text);
        }
    }
}
