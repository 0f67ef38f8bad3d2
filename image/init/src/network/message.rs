//! Messages of DHCP (RFC 2131, section 2; options: RFC 2132), as far as a client has to do with
//! them.

use std::net::Ipv4Addr;

/// Before the options: the fields of BOOTP, and a cookie.
const HEAD_BYTES: usize = 240;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// What relays and servers of old want to see at least.
const LEAST_BYTES: usize = 300;
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
/// The answer is to go to everybody.
const BROADCAST: [u8; 2] = [0x80, 0];

const PAD: u8 = 0;
const MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVERS: u8 = 6;
const HOSTNAME: u8 = 12;
const TIME_SERVERS: u8 = 42;
const REQUESTED: u8 = 50;
const LEASE_TIME: u8 = 51;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const PARAMETERS: u8 = 55;
const END: u8 = 255;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who leases addresses?
    Discover,
    /// I do, this one.
    Offer,
    /// I want it, or keep it.
    Request,
    /// It is yours.
    Ack,
    /// It is not.
    Nak,
}

impl Kind {
    const ALL: [(Kind, u8); 5] =
        [(Kind::Discover, 1), (Kind::Offer, 2), (Kind::Request, 3), (Kind::Ack, 5), (Kind::Nak, 6)];

    fn number(self) -> u8 {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or(0, |(_, number)| *number)
    }
}

/// A question of a client.
pub struct Question<'a> {
    /// What for.
    pub kind: Kind,
    /// Of this exchange.
    pub xid: u32,
    /// Who asks.
    pub mac: [u8; 6],
    /// Who it is called.
    pub hostname: &'a str,
    /// The address that it has; without one the answer goes to everybody.
    pub has: Option<Ipv4Addr>,
    /// The address that it takes, and who offered it.
    pub takes: Option<(Ipv4Addr, Ipv4Addr)>,
}

impl Question<'_> {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEAD_BYTES];
        bytes[..3].copy_from_slice(&[REQUEST, ETHERNET, 6]);
        bytes[4..8].copy_from_slice(&self.xid.to_be_bytes());
        match self.has {
            Some(address) => bytes[12..16].copy_from_slice(&address.octets()),
            None => bytes[10..12].copy_from_slice(&BROADCAST),
        }
        bytes[28..34].copy_from_slice(&self.mac);
        bytes[236..240].copy_from_slice(&COOKIE);
        option(&mut bytes, KIND, &[self.kind.number()]);
        // A name of a host has at most 64 bytes.
        option(
            &mut bytes,
            HOSTNAME,
            self.hostname.as_bytes().get(..64).unwrap_or(self.hostname.as_bytes()),
        );
        option(&mut bytes, PARAMETERS, &[MASK, ROUTER, NAME_SERVERS, TIME_SERVERS]);
        if let Some((address, server)) = self.takes {
            option(&mut bytes, REQUESTED, &address.octets());
            option(&mut bytes, SERVER, &server.octets());
        }
        bytes.push(END);
        bytes.resize(bytes.len().max(LEAST_BYTES), PAD);
        bytes
    }
}

fn option(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    bytes.extend([code, value.len() as u8]);
    bytes.extend(value);
}

/// An answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What for.
    pub kind: Kind,
    /// Of which exchange.
    pub xid: u32,
    /// For whom.
    pub mac: [u8; 6],
    /// The address.
    pub address: Ipv4Addr,
    /// Its netmask.
    pub mask: Option<Ipv4Addr>,
    /// Gateways.
    pub routers: Vec<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers.
    pub ntp: Vec<Ipv4Addr>,
    /// Who answers.
    pub server: Option<Ipv4Addr>,
    /// For how long, in seconds.
    pub seconds: Option<u32>,
}

impl Answer {
    /// Reads a packet; nothing if it is no answer to a client on an Ethernet.
    pub fn read(packet: &[u8]) -> Option<Answer> {
        let (head, mut rest) = packet.split_at_checked(HEAD_BYTES)?;
        if head[..3] != [REPLY, ETHERNET, 6] || head[236..240] != COOKIE {
            return None;
        }
        let mut answer = Answer {
            kind: Kind::Offer,
            xid: u32::from_be_bytes(head[4..8].try_into().ok()?),
            mac: head[28..34].try_into().ok()?,
            address: addresses(&head[16..20]).first().copied()?,
            mask: None,
            routers: Vec::new(),
            dns: Vec::new(),
            ntp: Vec::new(),
            server: None,
            seconds: None,
        };
        let mut kind = None;
        while let Some((&code, behind)) = rest.split_first() {
            match code {
                PAD => rest = behind,
                END => break,
                _ => {
                    let (&length, behind) = behind.split_first()?;
                    let (value, behind) = behind.split_at_checked(length.into())?;
                    rest = behind;
                    match code {
                        KIND => kind = Some(*value.first()?),
                        _ => answer.take(code, value),
                    }
                }
            }
        }
        answer.kind = Kind::ALL.iter().find(|(_, number)| Some(*number) == kind)?.0;
        Some(answer)
    }

    fn take(&mut self, code: u8, value: &[u8]) {
        let all = addresses(value);
        match code {
            MASK => self.mask = all.first().copied(),
            ROUTER => self.routers = all,
            NAME_SERVERS => self.dns = all,
            TIME_SERVERS => self.ntp = all,
            SERVER => self.server = all.first().copied(),
            LEASE_TIME => self.seconds = value.try_into().ok().map(u32::from_be_bytes),
            _ => {}
        }
    }
}

fn addresses(value: &[u8]) -> Vec<Ipv4Addr> {
    value.as_chunks::<4>().0.iter().map(|octets| Ipv4Addr::from(*octets)).collect()
}

/// A server's answer as bytes, for tests of the client.
#[cfg(test)]
pub fn answer(
    to: &Question<'_>,
    kind: Kind,
    address: Ipv4Addr,
    options: &[(u8, &[u8])],
) -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    bytes[..3].copy_from_slice(&[REPLY, ETHERNET, 6]);
    bytes[4..8].copy_from_slice(&to.xid.to_be_bytes());
    bytes[16..20].copy_from_slice(&address.octets());
    bytes[28..34].copy_from_slice(&to.mac);
    bytes[236..240].copy_from_slice(&COOKIE);
    option(&mut bytes, KIND, &[kind.number()]);
    for (code, value) in options {
        option(&mut bytes, *code, value);
    }
    bytes.push(END);
    bytes
}

/// Reads a question back, for tests of the client.
#[cfg(test)]
pub fn question(bytes: &[u8]) -> Question<'static> {
    let mut turned = bytes.to_vec();
    turned[0] = REPLY;
    turned.copy_within(12..16, 16);
    let read = Answer::read(&turned).expect("a question is well formed");
    let requested =
        turned.windows(6).find(|w| w[..2] == [REQUESTED, 4]).map(|w| addresses(&w[2..])[0]);
    Question {
        kind: read.kind,
        xid: read.xid,
        mac: read.mac,
        hostname: "",
        has: Some(read.address).filter(|address| !address.is_unspecified()),
        takes: requested.zip(read.server),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_question_has_its_fields_where_they_belong() {
        let question = Question {
            kind: Kind::Request,
            xid: 0x0102_0304,
            mac: [1, 2, 3, 4, 5, 6],
            hostname: "node",
            has: None,
            takes: Some(([10, 0, 0, 5].into(), [10, 0, 0, 1].into())),
        };
        let bytes = question.bytes();
        assert_eq!(bytes.len(), LEAST_BYTES);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 0, 0x80, 0]);
        assert_eq!(bytes[28..36], [1, 2, 3, 4, 5, 6, 0, 0]);
        let options = [53, 1, 3, 12, 4, b'n', b'o', b'd', b'e', 55, 4, 1, 3, 6, 42];
        assert_eq!(bytes[240..255], options);
        assert_eq!(bytes[255..268], [50, 4, 10, 0, 0, 5, 54, 4, 10, 0, 0, 1, 255]);
    }

    proptest! {
        #[test]
        fn any_packet_is_read(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            like_one in any::<bool>(),
        ) {
            if like_one && bytes.len() >= HEAD_BYTES {
                bytes[..3].copy_from_slice(&[REPLY, ETHERNET, 6]);
                bytes[236..240].copy_from_slice(&COOKIE);
            }
            Answer::read(&bytes);
        }
    }
}
