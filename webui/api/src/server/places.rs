//! Places that are shared so that nobody takes all of them.

use crate::limits;
use crate::security::caller;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Places of which each group has some for itself. The rest is for all: a caller may have as many of
/// those as are still free, so that one takes half of them, a second half of what is left, and a third
/// finds some.
pub(super) struct Places<C: Ord> {
    /// Places for all.
    shared: usize,
    /// Places that each group has for itself.
    kept: usize,
    /// The most of those that one caller takes.
    kept_by_one: usize,
    taken: Mutex<Taken<C>>,
    /// How many are taken.
    count: watch::Sender<usize>,
}

struct Taken<C> {
    shared: BTreeMap<C, usize>,
    kept: BTreeMap<(usize, C), usize>,
}

/// Which of a caller's places one is.
#[derive(Clone, Copy)]
enum Kind {
    Shared,
    Kept(usize),
}

/// A place that is taken, until it is dropped.
pub(super) struct Place<C: Ord + Clone> {
    places: Arc<Places<C>>,
    caller: C,
    kind: Kind,
}

fn sum<K>(counts: &BTreeMap<K, usize>) -> usize {
    counts.values().sum()
}

impl<C: Ord + Clone> Places<C> {
    pub(super) fn new(shared: usize, kept: usize, kept_by_one: usize) -> Arc<Self> {
        let taken = Taken { shared: BTreeMap::new(), kept: BTreeMap::new() };
        let taken = Mutex::new(taken);
        Arc::new(Self { shared, kept, kept_by_one, taken, count: watch::Sender::new(0) })
    }

    fn lock(&self) -> MutexGuard<'_, Taken<C>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a caller; of those of its group, if it is in one, as long as there are any.
    /// Nothing: it has as many as it may have.
    pub(super) fn enter(self: &Arc<Self>, group: Option<usize>, who: C) -> Option<Place<C>> {
        let mut taken = self.lock();
        let kept = |group: usize| {
            let of_group = taken.kept.iter().filter(|((other, _), _)| *other == group);
            let all: usize = of_group.map(|(_, count)| count).sum();
            let own = taken.kept.get(&(group, who.clone())).copied().unwrap_or(0);
            all < self.kept && own < self.kept_by_one
        };
        let free = self.shared - sum(&taken.shared);
        let kind = match group.filter(|group| kept(*group)) {
            Some(group) => Kind::Kept(group),
            None if taken.shared.get(&who).copied().unwrap_or(0) < free => Kind::Shared,
            None => return None,
        };
        match kind {
            Kind::Shared => *taken.shared.entry(who.clone()).or_default() += 1,
            Kind::Kept(group) => *taken.kept.entry((group, who.clone())).or_default() += 1,
        }
        self.count.send_modify(|count| *count += 1);
        Some(Place { places: Arc::clone(self), caller: who, kind })
    }

    /// Waits until all places are free.
    pub(super) async fn wait_until_free(&self) {
        // The sender is here, so that there is no error.
        let _ = self.count.subscribe().wait_for(|count| *count == 0).await;
    }
}

fn leave<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl<C: Ord + Clone> Drop for Place<C> {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        match self.kind {
            Kind::Shared => leave(&mut taken.shared, self.caller.clone()),
            Kind::Kept(group) => leave(&mut taken.kept, (group, self.caller.clone())),
        }
        self.places.count.send_modify(|count| *count -= 1);
    }
}

/// Places for connections over TCP.
pub(super) fn of_connections() -> Arc<Places<IpAddr>> {
    let own = limits::LOOPBACK_CONNECTIONS;
    Places::new(limits::CONNECTIONS - own, own, own)
}

/// The group and the caller of a connection: this machine's loopback has places of its own, and is one
/// caller with all of its addresses.
pub(super) fn of_address(address: IpAddr) -> (Option<usize>, IpAddr) {
    match caller(address) {
        IpAddr::V4(v4) if v4.is_loopback() => (Some(0), IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ if address.is_loopback() => (Some(0), IpAddr::V4(Ipv4Addr::LOCALHOST)),
        network => (None, network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all places it can have.
    fn all<C: Ord + Clone>(places: &Arc<Places<C>>, group: Option<usize>, who: C) -> Vec<Place<C>> {
        std::iter::from_fn(|| places.enter(group, who.clone())).collect()
    }

    #[test]
    fn who_takes_all_it_may_leaves_some_to_the_next() {
        let places = Places::new(224, 32, 32);
        let held: Vec<_> = (0..4).map(|who| all(&places, None, who)).collect();
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [112, 56, 28, 14]);
        assert_eq!(all(&places, Some(0), 9).len(), 32 + 7, "a group has its own");
        drop(held);
        assert_eq!(all(&places, None, 5).len(), 112, "they come back");
    }

    #[test]
    fn no_role_takes_the_last_places_of_another() {
        let places = Places::new(40, 8, 4);
        let held: Vec<_> = (0..100).map(|who| all(&places, Some(0), who)).collect();
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 48);
        for role in 1..3 {
            assert_eq!(all(&places, Some(role), 200 + role).len(), 4, "{role}");
        }
    }

    #[test]
    fn loopback_is_one_caller_with_all_its_addresses() {
        let of = |text: &str| of_address(text.parse().unwrap());
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.2"] {
            assert_eq!(of(text), of("127.0.0.1"), "{text}");
        }
        assert_eq!(of("127.0.0.1").0, Some(0));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_eq!(of("10.0.0.1").0, None);
    }
}
