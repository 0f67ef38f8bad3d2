//! The kernel's network devices: up, addresses, routes; one question and answer each (rtnetlink(7)).

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's name.
    pub name: String,
    /// The kernel's number.
    pub index: u32,
    /// Its address on an Ethernet.
    pub mac: [u8; 6],
}

/// Every Ethernet device, by the kernel's number.
pub fn all() -> Vec<Link> {
    let Ok(entries) = std::fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut links: Vec<Link> = entries.flatten().filter_map(|entry| read(&entry.path())).collect();
    links.sort_by_key(|link| link.index);
    links
}

fn read(folder: &Path) -> Option<Link> {
    let text = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
    // ARPHRD_ETHER; and a device, where bonds and the like are none.
    if text("type")?.trim() != "1" || !folder.join("device").exists() {
        return None;
    }
    let name = folder.file_name()?.to_str()?.to_owned();
    let index = text("ifindex")?.trim().parse().ok()?;
    Some(Link { name, index, mac: mac(text("address")?.trim())? })
}

/// `52:54:00:12:34:56`.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next().filter(|part| part.len() == 2)?, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// Brings a device up.
pub fn up(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    ask(RouteNetlinkMessage::SetLink(message), 0)
}

fn address(index: u32, address: Ipv4Addr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = prefix;
    message.header.scope = AddressScope::Universe;
    message.header.index = index;
    let ip = IpAddr::V4(address);
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    if prefix < 31 {
        let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
        let broadcast = Ipv4Addr::from(u32::from(address) | hosts);
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

/// Gives a device an address.
pub fn add_address(index: u32, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    ask(RouteNetlinkMessage::NewAddress(address(index, ip, prefix)), flags)
}

/// Takes it away again, and the routes with it.
pub fn remove_address(index: u32, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
    ask(RouteNetlinkMessage::DelAddress(address(index, ip, prefix)), 0)
}

/// Makes `gateway` the way to everywhere.
pub fn default_route(index: u32, gateway: Ipv4Addr) -> io::Result<()> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::Inet(gateway)),
        RouteAttribute::Oif(index),
        // Where two devices have a gateway, the one that came first is taken.
        RouteAttribute::Priority(index),
    ];
    ask(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
}

fn ask(message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| io::Error::other(error.to_string()))?;
    match answer.payload {
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        NetlinkPayload::Error(_) => Ok(()),
        _ => Err(io::Error::other("the kernel's answer is none")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read() {
        assert_eq!(mac("52:54:00:12:34:ff"), Some([0x52, 0x54, 0, 0x12, 0x34, 0xff]));
        for text in
            ["", "52:54:00:12:34", "52:54:00:12:34:56:78", "5:4:0:1:2:3", "gg:00:00:00:00:00"]
        {
            assert_eq!(mac(text), None, "{text}");
        }
    }

    #[test]
    fn the_broadcast_address_is_that_of_the_prefix() {
        let all = |prefix| address(1, "10.1.2.3".parse().unwrap(), prefix).attributes;
        let broadcast = |text: &str| AddressAttribute::Broadcast(text.parse::<Ipv4Addr>().unwrap());
        assert!(all(24).contains(&broadcast("10.1.2.255")));
        assert!(all(0).contains(&broadcast("255.255.255.255")));
        assert_eq!(all(31).len(), 2);
    }
}
