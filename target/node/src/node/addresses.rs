//! The machine's own addresses: what may be listened on, and what hosts are told of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// Refuses what no host can connect to.
///
/// # Errors
/// A sentence.
pub(crate) fn check_listened(ip: IpAddr) -> Result<(), String> {
    check(ip, &interfaces())
}

/// The addresses by which hosts reach a listener: its own, or where it listens on all of a family,
/// those of the machine's interfaces; loopback if there is no other. One on `[::]` may leave IPv4 to
/// another.
pub(super) fn reachable(listening: SocketAddr, leaves_ipv4: bool) -> Vec<SocketAddr> {
    if !listening.ip().is_unspecified() {
        return vec![listening];
    }
    let at = |ip| SocketAddr::new(ip, listening.port());
    let found = reachable_among(listening.ip(), leaves_ipv4, &interfaces());
    found.into_iter().map(at).collect()
}

/// An address of an interface, with the broadcast address of its network.
struct Interface {
    ip: IpAddr,
    broadcast: Option<Ipv4Addr>,
}

fn interfaces() -> Vec<Interface> {
    let found = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::warn!(%error, "the machine's addresses cannot be read");
        Vec::new()
    });
    let shown = |found: if_addrs::Interface| Interface {
        ip: found.ip(),
        broadcast: match found.addr {
            if_addrs::IfAddr::V4(address) => address.broadcast,
            if_addrs::IfAddr::V6(_) => None,
        },
    };
    found.into_iter().map(shown).collect()
}

/// The interfaces of the machine, as the kernel has them.
///
/// # Errors
/// A sentence: they cannot be read.
pub(crate) fn interfaces_of_machine() -> Result<Vec<webui_model::Interface>, String> {
    let failed =
        |error: std::io::Error| format!("The machine's interfaces cannot be read: {error}.");
    let addresses = if_addrs::get_if_addrs().map_err(failed)?;
    let mut names = std::fs::read_dir("/sys/class/net")
        .and_then(|folder| {
            folder.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>, _>>()
        })
        .map_err(failed)?;
    names.sort();
    let show = |name: &std::ffi::OsString| {
        // What an interface does not say, or says no more because it is going, is left out.
        let says = |what: &str| {
            let path = Path::new("/sys/class/net").join(name).join(what);
            std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
        };
        let name = name.to_string_lossy().into_owned();
        let own =
            addresses.iter().filter(|found| found.name == name).map(|found| match &found.addr {
                if_addrs::IfAddr::V4(at) => format!("{}/{}", at.ip, at.prefixlen),
                if_addrs::IfAddr::V6(at) => format!("{}/{}", at.ip, at.prefixlen),
            });
        webui_model::Interface {
            mac: says("address").filter(|mac| mac.bytes().any(|b| b.is_ascii_digit() && b != b'0')),
            up: says("carrier").as_deref() == Some("1"),
            speed_mbps: says("speed")
                .and_then(|speed| speed.parse().ok())
                .filter(|speed| *speed > 0),
            mtu: says("mtu").and_then(|mtu| mtu.parse().ok()),
            addresses: own.collect(),
            name,
        }
    };
    Ok(names.iter().map(show).collect())
}

fn check(ip: IpAddr, interfaces: &[Interface]) -> Result<(), String> {
    let advice = "give an address of this machine, or 0.0.0.0 or [::] for all.";
    if ip.is_multicast() {
        return Err(format!("{ip} is a multicast address, which nobody can connect to: {advice}"));
    }
    let IpAddr::V4(v4) = ip else { return Ok(()) };
    // The kernel has 127.0.0.0/8 on the loopback interface, and names no broadcast address of it.
    let of_network =
        interfaces.iter().any(|interface| interface.broadcast == Some(v4) && interface.ip != ip);
    if v4.is_broadcast() || of_network || v4 == Ipv4Addr::new(127, 255, 255, 255) {
        return Err(format!("{ip} is a broadcast address, which nobody can connect to: {advice}"));
    }
    Ok(())
}

fn reachable_among(listening: IpAddr, leaves_ipv4: bool, interfaces: &[Interface]) -> Vec<IpAddr> {
    // An address of the link alone needs the name of the host's interface beside it.
    let useful = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => !leaves_ipv4,
        IpAddr::V6(v6) => listening.is_ipv6() && !v6.is_unicast_link_local(),
    };
    let mut found: Vec<IpAddr> = interfaces.iter().map(|one| one.ip).filter(useful).collect();
    found.sort();
    found.dedup();
    let others: Vec<IpAddr> = found.iter().copied().filter(|ip| !ip.is_loopback()).collect();
    match listening {
        _ if !others.is_empty() => others,
        IpAddr::V4(_) => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(_) => vec![Ipv6Addr::LOCALHOST.into()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn machine() -> Vec<Interface> {
        let one = |address: &str, broadcast: Option<&str>| Interface {
            ip: ip(address),
            broadcast: broadcast.map(|text| text.parse().unwrap()),
        };
        vec![
            one("127.0.0.1", None),
            one("::1", None),
            one("192.0.2.7", Some("192.0.2.255")),
            // The only address of its network.
            one("198.51.100.1", Some("198.51.100.1")),
            one("fe80::1", None),
            one("2001:db8::7", None),
        ]
    }

    #[test]
    fn what_nobody_can_connect_to_is_refused() {
        for good in ["0.0.0.0", "::", "127.0.0.1", "192.0.2.7", "198.51.100.1", "2001:db8::7"] {
            assert_eq!(check(ip(good), &machine()), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("224.0.0.1", "multicast"),
            ("239.255.255.250", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "broadcast"),
            ("192.0.2.255", "broadcast"),
            ("127.255.255.255", "broadcast"),
        ] {
            assert!(check(ip(bad), &machine()).unwrap_err().contains(why), "{bad}");
        }
    }

    #[test]
    fn hosts_are_told_addresses_of_interfaces() {
        let told = |listening| {
            let found = reachable_among(ip(listening), false, &machine());
            found.iter().map(IpAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(told("0.0.0.0"), ["192.0.2.7", "198.51.100.1"]);
        assert_eq!(told("::"), ["192.0.2.7", "198.51.100.1", "2001:db8::7"]);
        let alone = &machine()[..2];
        assert_eq!(reachable_among(ip("0.0.0.0"), false, alone), [ip("127.0.0.1")]);
        assert_eq!(reachable_among(ip("::"), false, alone), [ip("::1")]);
        assert_eq!(reachable(at("192.0.2.9:4420"), false), [at("192.0.2.9:4420")]);
        assert_eq!(reachable_among(ip("::"), true, &machine()), [ip("2001:db8::7")]);
        assert_eq!(reachable_among(ip("::"), true, &machine()[2..4]), [ip("::1")]);
    }
}
