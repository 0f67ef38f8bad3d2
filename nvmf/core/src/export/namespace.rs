//! A namespace: an identity over a bdev, and where each reactor finds its channel.

use crate::export::counters::{IoCounters, IoCounts};
use crate::export::gate::Gate;
use bdev::latency::Latencies;
use bdev::{Addr, Bdev, Geometry, Witness};
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, RwLock, Weak};

/// What a namespace is made of.
#[derive(Clone)]
pub struct NamespaceConfig {
    /// Identifier, 1 to [`crate::limits::NAMESPACES`].
    pub nsid: u32,
    /// UUID; derived from the NQN and the identifier when absent.
    pub uuid: Option<[u8; 16]>,
    /// NGUID; derived when absent.
    pub nguid: Option<[u8; 16]>,
    /// EUI-64; not reported when absent.
    pub eui64: Option<[u8; 8]>,
    /// The blocks.
    pub bdev: Arc<dyn Bdev>,
}

impl NamespaceConfig {
    /// The names that the namespace has in subsystem `nqn`.
    pub fn ids(&self, nqn: &str) -> NamespaceIds {
        NamespaceIds {
            uuid: self.uuid.unwrap_or_else(|| derived_uuid(nqn, self.nsid)),
            nguid: self.nguid.unwrap_or_else(|| derived_nguid(nqn, self.nsid)),
            eui64: self.eui64,
        }
    }
}

/// The globally unique names of a namespace, the same after each start and on each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceIds {
    /// UUID (RFC 9562), big endian.
    pub uuid: [u8; 16],
    /// NGUID, big endian.
    pub nguid: [u8; 16],
    /// EUI-64, big endian.
    pub eui64: Option<[u8; 8]>,
}

impl NamespaceIds {
    /// The name that says nothing: all zeroes mean that there is none.
    pub(crate) fn unset(&self) -> Option<&'static str> {
        if self.uuid == [0; 16] {
            Some("UUID")
        } else if self.nguid == [0; 16] {
            Some("NGUID")
        } else if self.eui64 == Some([0; 8]) {
            Some("EUI-64")
        } else {
            None
        }
    }
}

/// The life of a namespace; it only goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum State {
    /// Not every reactor has its channel yet: hosts do not see it.
    Opening,
    /// Hosts see it.
    Active,
    /// It has been taken out of its subsystem.
    Removed,
}

/// Where a namespace is listed for hosts: its subsystem.
pub(crate) trait Listing: Send + Sync {
    /// The namespace `nsid` came or went: hosts are told.
    fn namespace_listed(&self, nsid: u32);
}

/// A namespace of a subsystem.
///
/// Hosts see it once every reactor has opened its channel, so that the first command of a host
/// that has just been told of it does not come too early.
pub struct Namespace {
    nsid: u32,
    ids: NamespaceIds,
    bdev: Arc<dyn Bdev>,
    /// Who keeps account of hosts that write to it.
    witness: Option<Arc<dyn Witness>>,
    geometry: RwLock<Geometry>,
    /// Of the subsystem: raised when anything that a queue pair remembers has changed.
    generation: Arc<AtomicU64>,
    /// By reactor: the slot of the channel plus one, or 0.
    channels: Box<[AtomicU32]>,
    /// By reactor: whether its queue pairs remember the namespace or commands are under way.
    held: Box<[AtomicU32]>,
    counters: Arc<[IoCounters]>,
    latencies: Box<[Latencies]>,
    gate: Gate,
    listing: Weak<dyn Listing>,
    state: AtomicU8,
}

impl Namespace {
    pub(crate) fn new(
        config: NamespaceConfig,
        nqn: &str,
        listing: Weak<dyn Listing>,
        reactors: usize,
        generation: Arc<AtomicU64>,
    ) -> Namespace {
        let geometry = config.bdev.geometry();
        Namespace {
            nsid: config.nsid,
            ids: config.ids(nqn),
            witness: config.bdev.witness(),
            bdev: config.bdev,
            geometry: RwLock::new(geometry),
            generation,
            channels: (0..reactors).map(|_| AtomicU32::new(0)).collect(),
            held: (0..reactors).map(|_| AtomicU32::new(0)).collect(),
            counters: (0..reactors).map(|_| IoCounters::default()).collect(),
            latencies: (0..reactors).map(|_| Latencies::default()).collect(),
            gate: Gate::new(reactors),
            listing,
            state: AtomicU8::new(State::Opening as u8),
        }
    }

    /// Identifier.
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// Globally unique names.
    pub fn ids(&self) -> &NamespaceIds {
        &self.ids
    }

    /// The blocks.
    pub fn bdev(&self) -> &Arc<dyn Bdev> {
        &self.bdev
    }

    /// Who keeps account of hosts that write to it, if anybody does.
    #[inline]
    pub(crate) fn witness(&self) -> Option<&dyn Witness> {
        self.witness.as_deref()
    }

    /// Size and properties as they were last told to hosts.
    pub fn geometry(&self) -> Geometry {
        self.geometry.read().expect("no panic under this lock").clone()
    }

    /// Takes over what the bdev says now; true when that is something new.
    pub(crate) fn refresh(&self) -> bool {
        let fresh = self.bdev.geometry();
        let mut known = self.geometry.write().expect("no panic under this lock");
        let changed = *known != fresh;
        *known = fresh;
        drop(known);
        if changed {
            self.generation.fetch_add(1, Ordering::Release);
        }
        changed
    }

    /// The channel of `reactor`, where it has one open and the namespace is not removed.
    pub fn channel(&self, reactor: usize) -> Option<Addr> {
        if self.is_removed() { None } else { self.open_channel(reactor) }
    }

    /// The channel on `reactor` while it is open, also of a namespace that was removed.
    pub(crate) fn open_channel(&self, reactor: usize) -> Option<Addr> {
        self.channels[reactor].load(Ordering::Acquire).checked_sub(1).map(Addr::channel)
    }

    /// Says where `reactor` has its channel open. Called on that reactor; queue pairs that
    /// remembered another one look again before their next command.
    pub fn set_channel(&self, reactor: usize, channel: Option<Addr>) {
        let slot = channel.map_or(0, |addr| {
            addr.as_channel().expect("a namespace stands on a channel, not on an edge") + 1
        });
        self.channels[reactor].store(slot, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::Release);
        let all_open = self.channels.iter().all(|slot| slot.load(Ordering::SeqCst) != 0);
        if all_open
            && self.advance(State::Active)
            && let Some(listing) = self.listing.upgrade()
        {
            listing.namespace_listed(self.nsid);
        }
    }

    /// Goes on to `state`; false when it was there or past it.
    fn advance(&self, state: State) -> bool {
        self.state.fetch_max(state as u8, Ordering::AcqRel) < state as u8
    }

    /// What keeps writes out of the blocks of a fused pair.
    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes the channel of `reactor` away, to be closed by the caller. Called on that reactor,
    /// when it does not hold the namespace.
    pub fn take_channel(&self, reactor: usize) -> Option<Addr> {
        let slot = self.channels[reactor].swap(0, Ordering::AcqRel);
        slot.checked_sub(1).map(Addr::channel)
    }

    /// Whether queue pairs of `reactor` remember the namespace or have commands under way on it.
    /// Once it is removed this becomes false, and stays so: then its channel there can be closed.
    pub fn is_held(&self, reactor: usize) -> bool {
        self.held[reactor].load(Ordering::Acquire) > 0
    }

    /// A fabric of `reactor` holds the namespace, or does not any more. Called on that reactor.
    pub(crate) fn hold(&self, reactor: usize, held: bool) {
        let count = self.held[reactor].load(Ordering::Relaxed);
        let count = if held { count + 1 } else { count - 1 };
        self.held[reactor].store(count, Ordering::Release);
    }

    /// What `reactor` has done here; only it writes.
    pub fn counters(&self, reactor: usize) -> &IoCounters {
        &self.counters[reactor]
    }

    /// How long commands took that `reactor` has executed; only it writes. Those that were answered
    /// in the turn that took them in, on devices that are memory, are in the counters alone.
    pub fn latencies(&self, reactor: usize) -> &Latencies {
        &self.latencies[reactor]
    }

    /// What each reactor has done.
    pub fn counts(&self) -> impl Iterator<Item = IoCounts> + '_ {
        self.counters.iter().map(IoCounters::read)
    }

    /// What all reactors have done.
    pub fn total(&self) -> IoCounts {
        IoCounts::sum(self.counts())
    }

    /// The counters, to be read after the namespace is gone.
    pub(crate) fn shared_counters(&self) -> Arc<[IoCounters]> {
        self.counters.clone()
    }

    /// Whether hosts see the namespace.
    pub fn is_active(&self) -> bool {
        self.state.load(Ordering::Acquire) == State::Active as u8
    }

    /// Whether the namespace has been taken out of its subsystem.
    pub fn is_removed(&self) -> bool {
        self.state.load(Ordering::Acquire) == State::Removed as u8
    }

    /// Takes the namespace out; true when hosts have seen it until now.
    pub(crate) fn remove(&self) -> bool {
        let before = self.state.swap(State::Removed as u8, Ordering::AcqRel);
        self.generation.fetch_add(1, Ordering::Release);
        before == State::Active as u8
    }
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("nsid", &self.nsid).field("ids", &self.ids).finish()
    }
}

/// 128 bits that depend on every byte of the name, the same for ever: FNV-1a, finished with the
/// mixer of SplitMix64 so that close names come out far apart.
fn name_hash(purpose: &str, nqn: &str, nsid: u32) -> [u8; 16] {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let bytes = purpose.bytes().chain([0]).chain(nqn.bytes()).chain(nsid.to_be_bytes());
    let hash = bytes.fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    let (high, low) = ((hash >> 64) as u64, hash as u64);
    let first = mix(high ^ mix(low));
    let second = mix(low ^ first);
    (u128::from(first) << 64 | u128::from(second)).to_be_bytes()
}

fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// The UUID of namespace `nsid` of subsystem `nqn` when it has none of its own, big endian.
pub fn derived_uuid(nqn: &str, nsid: u32) -> [u8; 16] {
    let mut id = name_hash("uuid", nqn, nsid);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// An NGUID whose OUI part is marked as locally administered.
fn derived_nguid(nqn: &str, nsid: u32) -> [u8; 16] {
    let mut id = name_hash("nguid", nqn, nsid);
    id[8] = id[8] & 0xfc | 0x02;
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn derived_names_are_stable_and_apart() {
        let uuid = derived_uuid("nqn.2026-01.example:a", 1);
        assert_eq!(uuid, derived_uuid("nqn.2026-01.example:a", 1));
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (8, 2));
        assert_eq!(derived_nguid("nqn.2026-01.example:a", 1)[8] & 3, 2);
        let mut seen = HashSet::new();
        for subsystem in 0..200 {
            for nsid in 1..=50 {
                let nqn = format!("nqn.2026-01.example:{subsystem}");
                assert!(seen.insert(derived_uuid(&nqn, nsid)));
                assert!(seen.insert(derived_nguid(&nqn, nsid)));
            }
        }
    }

    #[test]
    fn derived_names_never_change_between_versions() {
        // Hosts find their file systems by these: golden values.
        let hex = |id: [u8; 16]| id.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let nqn = "nqn.2014-08.org.nvmexpress:uuid:forebay";
        assert_eq!(hex(derived_uuid(nqn, 1)), "790a50f2f82b8765810509230be02dda");
        assert_eq!(hex(derived_nguid(nqn, 1)), "6c7dfc49b52b3d903a2239a7fab1bbd2");
    }
}
