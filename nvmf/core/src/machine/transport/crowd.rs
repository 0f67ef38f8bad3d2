//! Fair shares of the places for commands, for each address and for each connection.
//!
//! A place is free again when the host has taken the answer, and cannot be taken back before. Who is
//! alone may have all. Otherwise three quarters of them are for whoever comes first; the last quarter is
//! for connections that have fewer than an equal part of the part of their address.

use crate::export::places::Peer;
use std::collections::BTreeMap;

/// The connections of one address.
#[derive(Clone, Copy, Debug, Default)]
struct Address {
    connections: u32,
    /// Those with commands under way.
    busy: u32,
}

/// Which addresses have how many connections, and how many of them have commands under way.
#[derive(Debug, Default)]
pub struct Crowd {
    numbers: BTreeMap<Peer, u16>,
    /// By number.
    addresses: Vec<Address>,
    free: Vec<u16>,
    /// Addresses with commands under way.
    busy: u32,
}

impl Crowd {
    /// One more connection of an address. Returns the number of the address.
    pub fn join(&mut self, peer: Peer) -> u16 {
        let Crowd { numbers, addresses, free, .. } = self;
        let number = *numbers.entry(peer).or_insert_with(|| {
            free.pop().unwrap_or_else(|| {
                addresses.push(Address::default());
                (addresses.len() - 1) as u16
            })
        });
        self.addresses[usize::from(number)].connections += 1;
        number
    }

    /// A connection of an address is gone, and has no commands.
    pub fn leave(&mut self, peer: Peer) {
        let Some(number) = self.numbers.get(&peer).copied() else { return };
        let address = &mut self.addresses[usize::from(number)];
        address.connections -= 1;
        if address.connections == 0 {
            self.numbers.remove(&peer);
            self.free.push(number);
        }
    }

    /// A connection has its first command under way, or has none any more.
    #[inline]
    pub fn set_busy(&mut self, number: u16, busy: bool) {
        let address = &mut self.addresses[usize::from(number)];
        match busy {
            true => {
                address.busy += 1;
                self.busy += u32::from(address.busy == 1);
            }
            false => {
                address.busy -= 1;
                self.busy -= u32::from(address.busy == 0);
            }
        }
    }

    /// How many commands more a connection of address `number` may have, that has `has` of `all`
    /// places, of which `free` are free.
    #[inline]
    pub fn room(&self, number: u16, has: u32, all: u32, free: u32) -> u32 {
        let here = &self.addresses[usize::from(number)];
        let among = u32::from(has > 0);
        if self.busy - u32::from(here.busy > 0) == 0 && here.busy == among {
            return free;
        }
        let common = free.saturating_sub(all / 4);
        if common > 0 {
            return common;
        }
        let equal = all / (self.busy + 1) / here.busy.max(1);
        free.min(equal.max(1).saturating_sub(has))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u8) -> Peer {
        Peer::of([192, 0, 2, last].into())
    }

    /// Places that connections take one after the other, each as many as it may, up to 1024.
    fn taken(peers: &[u8], all: u32) -> Vec<u32> {
        let mut crowd = Crowd::default();
        let numbers: Vec<u16> = peers.iter().map(|last| crowd.join(peer(*last))).collect();
        let mut free = all;
        let each = numbers.iter().map(|number| {
            let mut has = 0;
            while has < 1024 && crowd.room(*number, has, all, free) > 0 {
                (has, free) = (has + 1, free - 1);
                if has == 1 {
                    crowd.set_busy(*number, true);
                }
            }
            has
        });
        each.collect()
    }

    #[test]
    fn those_who_come_late_find_places() {
        assert_eq!(taken(&[1], 8192), [1024]);
        let connections = taken(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 8192);
        assert!(connections[8] > 100, "{connections:?}");
        let of_one = taken(&[1, 1, 1, 1, 1, 1, 1, 1, 2], 8192);
        assert!(of_one[8] > 900, "an address that has none finds many: {of_one:?}");
        assert!(of_one[7] < 600, "one that has much does not: {of_one:?}");
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let mut crowd = Crowd::default();
        for round in 0..100 {
            let number = crowd.join(peer(round));
            crowd.set_busy(number, true);
            crowd.set_busy(number, false);
            crowd.leave(peer(round));
        }
        assert!(crowd.numbers.is_empty() && crowd.addresses.len() == 1 && crowd.busy == 0);
    }
}
