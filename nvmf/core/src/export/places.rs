//! How many connections there may be, in all and of one address, and how many there are.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many connections there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceLimits {
    /// Of the process.
    pub all: u32,
    /// Of one address.
    pub each: u32,
    /// That have not brought their Connect.
    pub silent: u32,
    /// Of one address, that have not brought their Connect.
    pub silent_each: u32,
}

impl PlaceLimits {
    /// So many connections: half of them for one address, and 256 of them silent, 32 of one address.
    pub fn of(all: u32) -> PlaceLimits {
        PlaceLimits { all, each: (all / 2).max(1), silent: 256, silent_each: 32 }
    }

    /// The last places, which are for those who have few.
    fn last(&self) -> u32 {
        self.all / 8
    }

    /// How many are few.
    fn few(&self) -> u32 {
        (self.all / 32).max(1)
    }
}

/// Who has connections: an IPv4 address, or a network of IPv6 of which one host may have every
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(IpAddr);

impl Peer {
    /// The one behind an address.
    pub fn of(ip: IpAddr) -> Peer {
        match ip.to_canonical() {
            IpAddr::V6(v6) => Peer(Ipv6Addr::from(u128::from(v6) & !0 << 64).into()),
            v4 => Peer(v4),
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(v4) => write!(f, "{v4}"),
            IpAddr::V6(v6) => write!(f, "{v6}/64"),
        }
    }
}

/// Why there is no place for one more connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowded {
    /// All of them are taken.
    All,
    /// The address has as many as one may have, or the last are for those who have few.
    Address,
}

/// The connections of the process, over every fabric.
#[derive(Debug)]
pub struct Places {
    limits: PlaceLimits,
    held: Mutex<Held>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    open: u32,
    /// Those who have any.
    shares: HashMap<Peer, Share>,
    /// Those that have not brought their Connect, in the order of their coming.
    silent: BTreeMap<u64, Silent>,
    next: u64,
}

#[derive(Debug, Default)]
struct Share {
    open: u32,
    silent: u32,
    /// When one more was refused because of its share.
    refused: Option<Instant>,
}

#[derive(Debug)]
struct Silent {
    peer: Peer,
    unwanted: Arc<AtomicBool>,
}

impl Places {
    /// All of them free.
    pub fn new(limits: PlaceLimits) -> Arc<Places> {
        Arc::new(Places { limits, held: Mutex::default(), refused: AtomicU64::new(0) })
    }

    /// A place for one more connection from `ip`. Where too many are silent, the oldest of them is
    /// told to go: of this address if it has its share of those, else of all.
    ///
    /// # Errors
    /// There is none, which is counted.
    pub fn take(self: &Arc<Self>, ip: IpAddr) -> Result<Arc<Place>, Crowded> {
        let peer = Peer::of(ip);
        let mut held = self.held();
        if let Err(crowded) = self.room(&held, peer) {
            if crowded == Crowded::Address
                && let Some(share) = held.shares.get_mut(&peer)
            {
                share.refused = Some(Instant::now());
            }
            drop(held);
            self.turn_away();
            return Err(crowded);
        }
        let silent = held.shares.get(&peer).map_or(0, |share| share.silent);
        if silent >= self.limits.silent_each {
            held.send_off(|silent| silent.peer == peer);
        } else if held.silent.len() >= self.limits.silent as usize {
            held.send_off(|_| true);
        }
        let (number, unwanted) = (held.next, Arc::new(AtomicBool::new(false)));
        held.next += 1;
        held.open += 1;
        let share = held.shares.entry(peer).or_default();
        share.open += 1;
        share.silent += 1;
        held.silent.insert(number, Silent { peer, unwanted: unwanted.clone() });
        Ok(Arc::new(Place { places: self.clone(), peer, number, unwanted }))
    }

    /// Whether there is room for one more.
    fn room(&self, held: &Held, peer: Peer) -> Result<(), Crowded> {
        let limits = &self.limits;
        let mine = held.shares.get(&peer).map_or(0, |share| share.open);
        let left = limits.all.saturating_sub(held.open);
        if left == 0 {
            return Err(Crowded::All);
        }
        // Two that take all they may would leave nothing to a third.
        if mine >= limits.each || left <= limits.last() && mine >= limits.few() {
            return Err(Crowded::Address);
        }
        Ok(())
    }

    /// Connections that there may be.
    pub fn limit(&self) -> u32 {
        self.limits.all
    }

    /// Connections that one address may have.
    pub fn limit_of_each(&self) -> u32 {
        self.limits.each
    }

    /// Connections open now.
    pub fn open(&self) -> u32 {
        self.held().open
    }

    /// Counts a connection that is turned away for another reason than these limits.
    pub fn turn_away(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Connections turned away so far, those told to go included.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Those who were refused one more because of their share `within` this time, with the
    /// connections that they have.
    pub fn crowding(&self, within: Duration) -> Vec<(Peer, u32)> {
        let lately = |share: &Share| share.refused.is_some_and(|at| at.elapsed() < within);
        let held = self.held();
        let crowding = held.shares.iter().filter(|(_, share)| lately(share));
        crowding.map(|(peer, share)| (*peer, share.open)).collect()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Tells the oldest silent one of those that `is_one` says to go.
    fn send_off(&mut self, is_one: impl Fn(&Silent) -> bool) {
        let Some(number) = self.silent.iter().find(|(_, s)| is_one(s)).map(|(n, _)| *n) else {
            return;
        };
        if let Some(silent) = self.hear(number) {
            silent.unwanted.store(true, Ordering::Relaxed);
        }
    }

    /// One is silent no more.
    fn hear(&mut self, number: u64) -> Option<Silent> {
        let silent = self.silent.remove(&number)?;
        if let Some(share) = self.shares.get_mut(&silent.peer) {
            share.silent -= 1;
        }
        Some(silent)
    }
}

/// One connection's place, given back when it is dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    peer: Peer,
    number: u64,
    unwanted: Arc<AtomicBool>,
}

impl Place {
    /// The connection has brought its Connect.
    pub fn heard(&self) {
        self.places.held().hear(self.number);
    }

    /// It was silent for so long that another needs its place.
    pub fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        held.hear(self.number);
        held.open -= 1;
        let share = held.shares.get_mut(&self.peer).expect("it has this one");
        share.open -= 1;
        if share.open == 0 {
            held.shares.remove(&self.peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Places of `from`, as many as it gets.
    fn all_it_gets(places: &Arc<Places>, from: &str) -> Vec<Arc<Place>> {
        std::iter::from_fn(|| places.take(ip(from)).ok().inspect(|place| place.heard())).collect()
    }

    #[test]
    fn whoever_takes_all_they_can_leave_some_to_others() {
        let places = Places::new(PlaceLimits::of(1024));
        let first = all_it_gets(&places, "192.0.2.1");
        assert_eq!(first.len(), 512);
        assert_eq!(places.take(ip("192.0.2.1")).unwrap_err(), Crowded::Address);
        let minute = Duration::from_secs(60);
        assert_eq!(places.crowding(minute), [(Peer::of(ip("192.0.2.1")), 512)]);
        assert_eq!(places.crowding(Duration::ZERO), []);
        let second = all_it_gets(&places, "192.0.2.2");
        assert_eq!(second.len(), 384);
        let others: Vec<_> =
            (3..7).map(|last| all_it_gets(&places, &format!("192.0.2.{last}"))).collect();
        assert!(others.iter().all(|theirs| theirs.len() == 32), "each of four has its few");
        assert_eq!(places.take(ip("192.0.2.7")).unwrap_err(), Crowded::All);
        assert_eq!((places.open(), places.refused()), (1024, 8));
        drop(first);
        assert_eq!(places.open(), 512);
        assert!(places.take(ip("192.0.2.7")).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_a_mapped_address_is_of_ipv4() {
        let places = Places::new(PlaceLimits { each: 1, ..PlaceLimits::of(64) });
        let _six = places.take(ip("2001:db8::1")).unwrap();
        assert_eq!(places.take(ip("2001:db8::ffff:2")).unwrap_err(), Crowded::Address);
        assert!(places.take(ip("2001:db8:0:1::1")).is_ok());
        let _four = places.take(ip("192.0.2.1")).unwrap();
        assert_eq!(places.take(ip("::ffff:192.0.2.1")).unwrap_err(), Crowded::Address);
        assert_eq!(Peer::of(ip("2001:db8::1")).to_string(), "2001:db8::/64");
        assert_eq!(Peer::of(ip("::ffff:192.0.2.1")).to_string(), "192.0.2.1");
    }

    #[test]
    fn the_oldest_silent_one_goes() {
        let limits = PlaceLimits { silent: 4, silent_each: 2, ..PlaceLimits::of(64) };
        let places = Places::new(limits);
        let unwanted = |all: &[&Arc<Place>]| -> Vec<bool> {
            all.iter().map(|place| place.is_unwanted()).collect()
        };
        let of = |last: u8| places.take(ip(&format!("192.0.2.{last}"))).unwrap();
        let (a, b, c) = (of(1), of(1), of(1));
        assert_eq!(unwanted(&[&a, &b, &c]), [true, false, false], "of its own");
        let (d, e) = (of(2), of(3));
        assert_eq!(unwanted(&[&b, &c, &d, &e]), [false; 4]);
        b.heard();
        let f = of(4);
        assert_eq!(unwanted(&[&b, &c, &d, &e, &f]), [false; 5], "one of the four has spoken");
        let g = of(5);
        assert_eq!(unwanted(&[&b, &c, &d, &e, &f, &g]), [false, true, false, false, false, false]);
        drop(d);
        let h = of(6);
        assert_eq!(unwanted(&[&e, &f, &g, &h]), [false; 4], "one of them has gone");
        assert_eq!(places.open(), 7);
        drop((a, b, c, e, f, g, h));
        let held = places.held();
        assert!(held.open == 0 && held.shares.is_empty() && held.silent.is_empty());
    }
}
