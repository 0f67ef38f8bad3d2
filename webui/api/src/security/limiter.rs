//! How many wrong tokens somebody may show. A token has 256 bits, so this does not keep anyone from
//! guessing: it keeps those who try from costing more than a hash.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// A bucket of tries: so many at once, and one more every so many nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Refill {
    /// Tries at once.
    pub burst: u32,
    /// Nanoseconds until one more is there.
    pub every_ns: u64,
}

/// For each address: ten, and then one every six seconds.
const PER_ADDRESS: Refill = Refill { burst: 10, every_ns: 6_000_000_000 };
/// Addresses remembered. One that is forgotten starts anew.
const ADDRESSES: usize = 4096;

/// How many failures count, as the moment at which none would: each failure moves it on, time
/// catches up with it.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    clean_ns: u64,
}

impl Bucket {
    /// Nanoseconds until a try is allowed; 0: now.
    fn wait_ns(self, refill: Refill, now_ns: u64) -> u64 {
        let debt = self.clean_ns.saturating_sub(now_ns);
        let allowed = refill.every_ns.saturating_mul(u64::from(refill.burst.saturating_sub(1)));
        debt.saturating_sub(allowed)
    }

    fn failed(&mut self, refill: Refill, now_ns: u64) {
        self.clean_ns = self.clean_ns.max(now_ns).saturating_add(refill.every_ns);
    }
}

/// Counts wrong tokens by address. Holds no clock.
pub struct LoginLimiter {
    per_address: Refill,
    addresses: BTreeMap<IpAddr, Bucket>,
}

impl Default for LoginLimiter {
    fn default() -> Self {
        Self::new(PER_ADDRESS)
    }
}

/// A whole /64 of IPv6 is one caller: whoever has one address of it has all.
pub(crate) fn caller(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => IpAddr::V4(v4),
            None => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        },
        v4 => v4,
    }
}

impl LoginLimiter {
    /// A limiter that allows so much.
    pub fn new(per_address: Refill) -> Self {
        Self { per_address, addresses: BTreeMap::new() }
    }

    /// Nanoseconds until a wrong token of this address counts again; 0: now.
    pub fn wait_ns(&self, address: IpAddr, now_ns: u64) -> u64 {
        let own = self.addresses.get(&caller(address)).copied().unwrap_or_default();
        own.wait_ns(self.per_address, now_ns)
    }

    /// Counts a wrong token, if its address has not shown too many.
    ///
    /// # Errors
    /// Nanoseconds to wait: it was one too many.
    pub fn failed(&mut self, address: IpAddr, now_ns: u64) -> Result<(), u64> {
        let wait_ns = self.wait_ns(address, now_ns);
        if wait_ns > 0 {
            return Err(wait_ns);
        }
        let address = caller(address);
        if self.addresses.len() >= ADDRESSES && !self.addresses.contains_key(&address) {
            self.addresses.retain(|_, bucket| bucket.clean_ns > now_ns);
            if self.addresses.len() >= ADDRESSES {
                self.addresses.pop_first();
            }
        }
        self.addresses.entry(address).or_default().failed(self.per_address, now_ns);
        Ok(())
    }
}
