//! The DHCP client's side of RFC 2131, without clock and socket: it is told what came and what time
//! it is, and says what to send and which address is leased.

use super::message::{Answer, Kind, Question};
use std::net::Ipv4Addr;

const SECOND_NS: u64 = 1_000_000_000;
/// The first wait for an answer; doubled up to [`LAST_WAIT_NS`].
const FIRST_WAIT_NS: u64 = SECOND_NS;
const LAST_WAIT_NS: u64 = 32 * SECOND_NS;
/// Requests without answer before it begins anew.
const REQUESTS: u32 = 4;
/// A lease shorter than this is renewed as if it were so long.
const SHORTEST_LEASE_S: u32 = 30;

/// A leased address, with what came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its prefix.
    pub prefix: u8,
    /// The gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Who leased it.
    server: Ipv4Addr,
    /// How long, from the request on.
    seconds: u32,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send this to everybody.
    Broadcast(Vec<u8>),
    /// Send this to the server.
    Send(Ipv4Addr, Vec<u8>),
    /// The address is ours, or still is.
    Leased(Lease),
    /// The address is ours no more.
    Lost(Lease),
}

#[derive(Debug)]
enum State {
    /// Looks for a server.
    Selecting { wait_ns: u64 },
    /// Has asked for what a server offered.
    Requesting { offer: Lease, asked_ns: u64, sent: u32 },
    /// Has an address.
    Bound { lease: Lease, since_ns: u64 },
}

/// The client of one device.
#[derive(Debug)]
pub struct Client {
    mac: [u8; 6],
    hostname: String,
    /// Of the exchange under way: other answers are not ours.
    xid: u32,
    state: State,
    next_ns: u64,
}

impl Client {
    /// A client that looks for a server at its first turn. `seed` makes its exchanges differ from
    /// those of others.
    pub fn new(mac: [u8; 6], hostname: &str, seed: u32) -> Client {
        let state = State::Selecting { wait_ns: FIRST_WAIT_NS };
        Client { mac, hostname: hostname.to_owned(), xid: seed, state, next_ns: 0 }
    }

    /// When [`Client::turn`] has something to do at the latest.
    pub fn next_ns(&self) -> u64 {
        self.next_ns
    }

    /// Does what is due.
    pub fn turn(&mut self, now_ns: u64) -> Vec<Action> {
        if now_ns < self.next_ns {
            return Vec::new();
        }
        match &mut self.state {
            State::Selecting { wait_ns } => {
                self.next_ns = now_ns + *wait_ns;
                *wait_ns = (*wait_ns * 2).min(LAST_WAIT_NS);
                self.xid = self.xid.wrapping_add(1);
                vec![Action::Broadcast(self.message(Kind::Discover, None))]
            }
            State::Requesting { sent, .. } if *sent >= REQUESTS => self.begin(now_ns),
            State::Requesting { offer, sent, .. } => {
                *sent += 1;
                let offer = offer.clone();
                self.next_ns = now_ns + 2 * SECOND_NS;
                vec![Action::Broadcast(self.message(Kind::Request, Some(&offer)))]
            }
            State::Bound { .. } => self.renew(now_ns),
        }
    }

    /// From half of the lease on the server is asked to prolong it, from seven eighths on anybody.
    fn renew(&mut self, now_ns: u64) -> Vec<Action> {
        let State::Bound { lease, since_ns } = &self.state else { return Vec::new() };
        let (lease, age_ns) = (lease.clone(), now_ns.saturating_sub(*since_ns));
        let whole_ns = u64::from(lease.seconds) * SECOND_NS;
        if age_ns >= whole_ns {
            let mut actions = vec![Action::Lost(lease)];
            actions.extend(self.begin(now_ns));
            return actions;
        }
        let rebinding_ns = whole_ns / 8 * 7;
        let (until_ns, anybody) =
            if age_ns < rebinding_ns { (rebinding_ns, false) } else { (whole_ns, true) };
        // Half of what is left, but not more often than every ten seconds.
        let wait_ns = ((until_ns - age_ns) / 2).max(10 * SECOND_NS);
        self.next_ns = now_ns + wait_ns.min(whole_ns - age_ns);
        self.xid = self.xid.wrapping_add(1);
        let message = self.message(Kind::Request, None);
        if anybody {
            vec![Action::Broadcast(message)]
        } else {
            vec![Action::Send(lease.server, message)]
        }
    }

    fn begin(&mut self, now_ns: u64) -> Vec<Action> {
        self.state = State::Selecting { wait_ns: FIRST_WAIT_NS };
        self.next_ns = now_ns;
        self.turn(now_ns)
    }

    /// Takes in what came.
    pub fn receive(&mut self, packet: &[u8], now_ns: u64) -> Vec<Action> {
        let Some(answer) = Answer::read(packet) else { return Vec::new() };
        if answer.xid != self.xid || answer.mac != self.mac {
            return Vec::new();
        }
        match (answer.kind, &self.state) {
            (Kind::Offer, State::Selecting { .. }) => match lease(&answer) {
                Some(offer) => {
                    self.state = State::Requesting { offer, asked_ns: now_ns, sent: 0 };
                    self.next_ns = now_ns;
                    self.turn(now_ns)
                }
                None => Vec::new(),
            },
            (Kind::Ack, State::Requesting { asked_ns, .. }) => {
                let since_ns = *asked_ns;
                self.bind(lease(&answer), since_ns)
            }
            (Kind::Ack, State::Bound { .. }) => self.bind(lease(&answer), now_ns),
            (Kind::Nak, State::Requesting { .. }) => self.begin(now_ns),
            (Kind::Nak, State::Bound { lease, .. }) => {
                let mut actions = vec![Action::Lost(lease.clone())];
                actions.extend(self.begin(now_ns));
                actions
            }
            _ => Vec::new(),
        }
    }

    fn bind(&mut self, lease: Option<Lease>, since_ns: u64) -> Vec<Action> {
        let Some(lease) = lease else { return Vec::new() };
        let mut actions = Vec::new();
        if let State::Bound { lease: old, .. } = &self.state
            && (old.address, old.prefix) != (lease.address, lease.prefix)
        {
            actions.push(Action::Lost(old.clone()));
        }
        self.next_ns = since_ns + u64::from(lease.seconds) * SECOND_NS / 2;
        self.state = State::Bound { lease: lease.clone(), since_ns };
        actions.push(Action::Leased(lease));
        actions
    }

    fn message(&self, kind: Kind, offer: Option<&Lease>) -> Vec<u8> {
        let has = match &self.state {
            State::Bound { lease, .. } => Some(lease.address),
            _ => None,
        };
        let takes = offer.map(|offer| (offer.address, offer.server));
        let (xid, mac, hostname) = (self.xid, self.mac, &self.hostname);
        Question { kind, xid, mac, hostname, has, takes }.bytes()
    }
}

/// What a server offers or grants, if it says enough.
fn lease(answer: &Answer) -> Option<Lease> {
    let mask = answer.mask.map_or(0xffff_ff00, u32::from);
    if answer.address.is_unspecified() || mask.leading_ones() + mask.trailing_zeros() != 32 {
        return None;
    }
    Some(Lease {
        address: answer.address,
        prefix: mask.leading_ones() as u8,
        gateway: answer.routers.first().copied(),
        dns: answer.dns.clone(),
        ntp: answer.ntp.clone(),
        server: answer.server?,
        seconds: answer.seconds?.max(SHORTEST_LEASE_S),
    })
}

#[cfg(test)]
#[path = "dhcp_tests.rs"]
mod tests;
