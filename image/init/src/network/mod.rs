//! The machine's networks: each device with an address that was given, or one by DHCP.

mod dhcp;
mod link;
mod message;
mod soft_roce;

use crate::kmsg;
use crate::settings::{Network, Settings};
use dhcp::{Action, Client, Lease};
use link::Link;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What is known of the networks, as it changes.
#[derive(Default)]
pub struct Networks {
    known: Mutex<Known>,
    news: Condvar,
}

#[derive(Default)]
struct Known {
    /// By device.
    addresses: BTreeMap<String, Ipv4Addr>,
    dns: BTreeSet<IpAddr>,
    ntp: Vec<Ipv4Addr>,
}

impl Networks {
    /// Brings up loopback and every network, those by DHCP on threads of their own. Devices that
    /// come later are found for `patience`.
    pub fn start(settings: &Settings, hostname: String, patience: Duration) -> Arc<Networks> {
        let (wanted, soft_roce) = (settings.network.clone(), settings.soft_roce.clone());
        let networks = Arc::new(Networks::default());
        // Always the first one.
        note("lo", link::up(1));
        let (ours, until) = (Arc::clone(&networks), Instant::now() + patience);
        let start = move || {
            let mut begun = BTreeSet::new();
            while Instant::now() < until {
                for link in link::all() {
                    if begun.insert(link.index) {
                        if soft_roce.iter().any(|device| is(device, &link)) {
                            note(
                                &format!("soft-RoCE on {}", link.name),
                                soft_roce::add(&link.name),
                            );
                        }
                        ours.begin(link, &wanted, &hostname);
                    }
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        };
        spawn("networks", start);
        networks
    }

    /// Waits until there is an address, at most so long.
    pub fn wait(&self, patience: Duration) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let none = |known: &mut Known| known.addresses.is_empty();
        drop(self.news.wait_timeout_while(known, patience, none));
    }

    /// Devices and their addresses.
    pub fn addresses(&self) -> Vec<(String, Ipv4Addr)> {
        self.change(|known| known.addresses.clone()).into_iter().collect()
    }

    /// Time servers that DHCP named.
    pub fn time_servers(&self) -> Vec<Ipv4Addr> {
        self.change(|known| known.ntp.clone())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut known);
        self.news.notify_all();
        result
    }

    fn begin(self: &Arc<Self>, link: Link, wanted: &[Network], hostname: &str) {
        let first = wanted.iter().find(|network| network.device.is_none());
        let named = wanted.iter().find(|network| names(network, &link));
        note(&link.name, link::up(link.index));
        let network = match (named, first) {
            (Some(network), _) => network.clone(),
            (None, Some(network)) if link::all().first() == Some(&link) => network.clone(),
            (None, _) if wanted.is_empty() => Network::default(),
            _ => return,
        };
        match network.address {
            Some(given) => {
                note(&link.name, link::add_address(link.index, given.address, given.prefix));
                if let Some(gateway) = network.gateway {
                    note(&link.name, link::default_route(link.index, gateway));
                }
                self.learn(&link, given.address, &network.dns, &[]);
            }
            None => {
                let (networks, name) = (Arc::clone(self), hostname.to_owned());
                spawn("dhcp", move || networks.by_dhcp(&link, &name));
            }
        }
    }

    fn learn(&self, link: &Link, address: Ipv4Addr, dns: &[IpAddr], ntp: &[Ipv4Addr]) {
        let servers = self.change(|known| {
            known.addresses.insert(link.name.clone(), address);
            known.dns.extend(dns);
            if !ntp.is_empty() {
                known.ntp = ntp.to_vec();
            }
            known.dns.clone()
        });
        let lines: String = servers.iter().map(|ip| format!("nameserver {ip}\n")).collect();
        note("name servers", std::fs::write("/run/resolv.conf", lines));
        kmsg::write(kmsg::INFO, &format!("{} has the address {address}", link.name));
    }

    fn by_dhcp(&self, link: &Link, hostname: &str) {
        let mut seed = [0; 4];
        // Without it the address of the device still tells it from others.
        let _ = std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut seed));
        let mut client = Client::new(link.mac, hostname, u32::from_ne_bytes(seed));
        let start = Instant::now();
        let now_ns = || start.elapsed().as_nanos() as u64;
        let socket = loop {
            match socket(&link.name) {
                Ok(socket) => break socket,
                Err(error) => kmsg::write(kmsg::WARNING, &format!("{}: {error}", link.name)),
            }
            std::thread::sleep(Duration::from_secs(5));
        };
        let mut packet = [0; 2048];
        loop {
            let mut actions = client.turn(now_ns());
            let wait = client.next_ns().saturating_sub(now_ns()).max(1_000_000);
            let wait = Duration::from_nanos(wait).min(Duration::from_secs(60));
            if actions.is_empty()
                && socket.set_read_timeout(Some(wait)).is_ok()
                && let Ok(length) = (&socket).read(&mut packet)
            {
                actions = client.receive(&packet[..length], now_ns());
            }
            for action in actions {
                self.act(link, &socket, action);
            }
        }
    }

    fn act(&self, link: &Link, socket: &Socket, action: Action) {
        let to = |ip| socket2::SockAddr::from(SocketAddr::V4(SocketAddrV4::new(ip, 67)));
        match action {
            // What cannot be sent is sent again.
            Action::Broadcast(message) => drop(socket.send_to(&message, &to(Ipv4Addr::BROADCAST))),
            Action::Send(server, message) => drop(socket.send_to(&message, &to(server))),
            Action::Leased(lease) => self.leased(link, &lease),
            Action::Lost(lease) => {
                let what = format!("{}: the lease of {} is over", link.name, lease.address);
                kmsg::write(kmsg::WARNING, &what);
                self.change(|known| known.addresses.remove(&link.name));
                note(&link.name, link::remove_address(link.index, lease.address, lease.prefix));
            }
        }
    }

    fn leased(&self, link: &Link, lease: &Lease) {
        let known = self.change(|known| known.addresses.get(&link.name).copied());
        if known == Some(lease.address) {
            return;
        }
        note(&link.name, link::add_address(link.index, lease.address, lease.prefix));
        if let Some(gateway) = lease.gateway {
            note(&link.name, link::default_route(link.index, gateway));
        }
        let dns: Vec<IpAddr> = lease.dns.iter().copied().map(IpAddr::V4).collect();
        self.learn(link, lease.address, &dns, &lease.ntp);
    }
}

/// A UDP socket of one device, which may be without an address.
fn socket(device: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_broadcast(true)?;
    socket.bind_device(Some(device.as_bytes()))?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68)).into())?;
    Ok(socket)
}

fn names(network: &Network, link: &Link) -> bool {
    network.device.as_ref().is_some_and(|device| is(device, link))
}

/// Whether a device that is named, or given by its MAC address, is this one.
fn is(device: &str, link: &Link) -> bool {
    device == link.name || link::mac(&device.to_ascii_lowercase()) == Some(link.mac)
}

fn note(what: &str, result: io::Result<()>) {
    if let Err(error) = result {
        kmsg::write(kmsg::WARNING, &format!("{what}: {error}"));
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) {
    if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(run) {
        kmsg::write(kmsg::ERROR, &format!("{name}: there is no thread for it: {error}"));
    }
}
