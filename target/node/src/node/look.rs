//! A look at what goes on by itself, every second: whether devices answer, drives that were taken out or
//! erase themselves.

use super::supervise::{LIMIT, News, Supervisor, lock};
use super::{SOON, ask_all, time_of};
use crate::executor::Task;
use crate::unit::pulse::Sample;
use crate::unit::schedule::{Claim, Key};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// What tells a bdev from others, for as long as it is there.
fn address(bdev: &Arc<dyn bdev::Bdev>) -> usize {
    Arc::as_ptr(bdev).cast::<()>().addr()
}

impl Supervisor<'_> {
    /// Looks at everything, and waits for nothing.
    pub(crate) fn look(self) {
        self.node.executor.tick();
        self.look_at_drives();
        self.look_at_pulses();
        self.step();
    }

    /// What was counted at the devices that are exported as they are. A reactor that is too busy to
    /// tell how much is under way is left out.
    fn exported(self) -> BTreeMap<String, Sample> {
        let table = self.node.bdevs.table();
        let names: BTreeMap<usize, &String> =
            table.iter().map(|(name, slot)| (address(&slot.entry.bdev), name)).collect();
        let mut served = Vec::new();
        for namespace in crate::channels::all(&self.node.registry) {
            if let Some(name) = names.get(&address(namespace.bdev())) {
                served.push(((*name).clone(), namespace));
            }
        }
        let mut samples = BTreeMap::<String, Sample>::new();
        for (name, namespace) in &served {
            let counts = namespace.total();
            let ended: u64 = counts.named().map(|(_, count)| count).sum();
            samples.entry(name.clone()).or_default().ended += ended;
        }
        let served = Arc::new(served);
        let depths = ask_all(self.node, SOON, move |reactor| {
            let number = reactor.handle().number();
            let channels = served.iter().filter_map(|(name, n)| Some((name, n.channel(number)?)));
            let depth = |addr| u64::from(reactor.stack.outstanding(addr));
            channels.map(|(name, addr)| (name.clone(), depth(addr))).collect::<Vec<_>>()
        });
        for (name, depth) in depths.into_iter().flatten().flatten() {
            samples.entry(name).or_default().under_way += depth;
        }
        samples
    }

    fn look_at_pulses(self) {
        let now = Instant::now();
        let table = self.node.bdevs.table();
        let exported = self.exported();
        let mut machines = lock(&self.units().machines);
        machines.pulses.retain(|name, _| table.contains_key(name));
        let mut stalls = BTreeMap::new();
        for (name, slot) in table.iter() {
            let pulse = machines.pulses.entry(name.clone()).or_default();
            let mut sample = slot.entry.sample();
            if let Some(exported) = exported.get(name) {
                sample.under_way += exported.under_way;
                sample.ended += exported.ended;
            }
            if let Some(stall) = pulse.step(sample, now) {
                stalls.insert(name.clone(), stall);
            }
        }
        for (name, stall) in stalls.iter().filter(|(name, _)| !machines.stalls.contains_key(*name))
        {
            self.tell(News::Stalls(name.clone(), time_of(stall.since)));
        }
        for name in machines.stalls.keys().filter(|name| !stalls.contains_key(*name)) {
            self.tell(News::Answers(name.clone()));
        }
        machines.stalls = stalls;
    }

    /// Why something of these objects does not end, in a sentence: devices that do not answer.
    pub(crate) fn why_slow(self, keys: &[Key]) -> Option<String> {
        let missing = self.missing();
        let pools = keys.iter().filter_map(|key| match key {
            Key::Pool(pool) => self.node.pool(pool).map(|open| open.devices()),
            Key::Device(device) => Some(vec![device.clone()]),
            _ => None,
        });
        let devices: Vec<String> = pools.flatten().collect();
        let mut stalled = devices.iter().filter_map(|device| {
            let stall = missing.stalls.get(device)?;
            Some(format!("Device {device} has not answered since {}.", time_of(stall.since)))
        });
        stalled.next()
    }

    fn look_at_drives(self) {
        let Some(me) = self.node.me.upgrade() else { return };
        if !self.units().looks_at_drives.swap(true, Ordering::AcqRel) {
            let (node, refused) = (me.clone(), me.clone());
            let job = move || {
                for address in node.bdevs.drives().look_after() {
                    node.supervisor().regain(address);
                }
                node.units.looks_at_drives.store(false, Ordering::Release);
            };
            let refused = move |_| refused.units.looks_at_drives.store(false, Ordering::Release);
            self.node.executor.start(Task::new("looking at the drives", Vec::new()), job, refused);
        }
        if self.node.bdevs.drives().erases()
            && !self.units().looks_at_erasures.swap(true, Ordering::AcqRel)
        {
            let (node, refused) = (me.clone(), me);
            let job = move || {
                let seen = node.bdevs.drives().look_at_erasures();
                lock(&node.units.erased).extend(seen);
                node.units.looks_at_erasures.store(false, Ordering::Release);
            };
            let refused = move |_| refused.units.looks_at_erasures.store(false, Ordering::Release);
            let task = Task { limit: LIMIT, ..Task::new("looking at erased drives", Vec::new()) };
            self.node.executor.start(task, job, refused);
        }
    }

    /// Takes a drive again that was taken out, if it is there.
    fn regain(self, address: drives::PciAddress) {
        let Some(node) = self.node.me.upgrade() else { return };
        let claims = vec![Claim::sole(Key::Drive(address.to_string()))];
        let what = format!("taking drive {address} again");
        let task = Task { patience: Duration::ZERO, limit: LIMIT, ..Task::new(what, claims) };
        let job = move || node.bdevs.drives().regain(address);
        // It is tried again, at the next look.
        self.node.executor.start(task, job, drop);
    }
}
