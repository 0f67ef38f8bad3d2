//! Runs a plan: who goes next, what time it is, and what goes wrong when.

use crate::block::BLOCK_BYTES;
use crate::disk::{Drive, SharedDrive, SimDisk};
use crate::host::{Checks, Host};
use crate::network::{Net, SharedNet, locked};
use crate::node::{Node, pool_plan};
use crate::plan::{Accident, Plan};
use crate::rng::{Rng, mix};
use crate::{Failure, Kind};
use bdev::{Bdev, Memory};
use bdev_mem::Ram;
use std::sync::{Arc, Mutex};

/// A run that takes longer than this, in ns of its own clock, does not end.
const LIMIT_NS: u64 = 600_000_000_000;

/// How long the node may take to forget hosts that have left, in ns.
const FORGET_NS: u64 = 10_000_000_000;

/// How soon a host is looked at again when nothing happens, in ns, whatever it asks for.
const HOST_RETRY_NS: u64 = 500_000;

/// What happened in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// I/O commands.
    pub commands: u64,
    /// Steps of reactors and hosts.
    pub steps: u64,
    /// Length in ns of its own clock.
    pub took_ns: u64,
    /// Accidents that happened.
    pub accidents: usize,
    /// Controllers that ended because their hosts fell silent.
    pub keep_alive_expiries: u64,
    /// Commands that waited for a buffer.
    pub buffer_waits: u64,
    /// A number that depends on everything that happened.
    pub trace: u64,
}

/// Regions of [`memory`]: of at most three reactors and three hosts.
const REGIONS: usize = 3 + 3;

/// Memory for runs; one run after the other may use it.
pub fn memory() -> Arc<Memory> {
    Arc::new(Memory::map(REGIONS, pool_plan().bytes()).expect("48 MiB of memory"))
}

struct World<'a> {
    plan: &'a Plan,
    memory: &'a Arc<Memory>,
    rng: Rng,
    now_ns: u64,
    net: SharedNet,
    drive: SharedDrive,
    /// The drive, or the memory in its place.
    device: Arc<dyn Bdev>,
    node: Option<Node>,
    /// When the node comes up again.
    starts_ns: u64,
    hosts: Vec<Host>,
    checks: Checks,
    accidents: usize,
    keep_alive_expiries: u64,
    buffer_waits: u64,
    steps: u64,
    trace: u64,
}

/// Executes a plan.
///
/// # Errors
/// What a checker found. A panic of production code comes through as such.
pub fn run(plan: &Plan, memory: &Arc<Memory>) -> Result<Report, Failure> {
    let mut world = World::new(plan, memory);
    while !world.hosts.iter().all(Host::is_done) {
        world.round().map_err(|failure| world.with_state(failure))?;
    }
    world.settle()
}

impl<'a> World<'a> {
    fn new(plan: &'a Plan, memory: &'a Arc<Memory>) -> World<'a> {
        let mut rng = Rng::new(plan.seed);
        let net = Arc::new(Mutex::new(Net::new(plan, rng.part("network"))));
        let drive = Arc::new(Mutex::new(Drive::new(plan, rng.part("drive"))));
        let device: Arc<dyn Bdev> = if plan.memory {
            let bytes = plan.blocks * BLOCK_BYTES as u64;
            Arc::new(Ram::new(bytes, BLOCK_BYTES as u32).expect("a little memory"))
        } else {
            Arc::new(SimDisk::new(drive.clone()))
        };
        let mut host = |number| Host::new(number, plan, memory, &net, rng.part("host"));
        let hosts = (0..plan.hosts).map(&mut host).collect();
        World {
            rng: rng.part("order"),
            now_ns: 1_000,
            node: None,
            starts_ns: 0,
            hosts,
            checks: Checks::new(plan.blocks),
            accidents: 0,
            keep_alive_expiries: 0,
            buffer_waits: 0,
            steps: 0,
            trace: 0,
            plan,
            memory,
            net,
            drive,
            device,
        }
    }

    /// Everyone has a turn, in random order; then time goes on.
    fn round(&mut self) -> Result<(), Failure> {
        self.happen();
        if self.node.is_none() && self.now_ns >= self.starts_ns {
            let World { plan, memory, device, net, now_ns, .. } = self;
            self.node = Some(Node::start(plan, memory, device, net, *now_ns));
        }
        let cores = self.node.as_ref().map_or(0, Node::cores);
        let actors = cores + self.hosts.len();
        let first = self.rng.below(actors as u64) as usize;
        let mut worked = false;
        for n in 0..actors {
            let actor = (first + n) % actors;
            // Now and then somebody is late.
            if self.rng.one_in(5) {
                worked = true;
                continue;
            }
            self.steps += 1;
            let work = match actor.checked_sub(cores) {
                Some(host) => self.hosts[host].step(self.now_ns, &mut self.checks)?,
                None => self.node.as_mut().is_some_and(|node| node.step(actor, self.now_ns) > 0),
            };
            worked |= work;
            self.trace = mix(self.trace ^ self.now_ns << 8 ^ (actor as u64) << 1 ^ u64::from(work));
            let step_ns = self.rng.within(50, 3_000);
            self.advance(self.now_ns + step_ns);
        }
        if !worked {
            self.skip()?;
        }
        Ok(())
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        locked(&self.net).set_now(now_ns);
    }

    /// Nobody has anything to do: on to the next event.
    fn skip(&mut self) -> Result<(), Failure> {
        let node = self.node.as_ref();
        let events = [
            locked(&self.net).next_event_ns(),
            node.and_then(Node::next_deadline_ns),
            node.is_none().then_some(self.starts_ns),
        ];
        // A host whose socket is full tries again all the time; a stall would take for ever.
        let soon = self.now_ns + HOST_RETRY_NS;
        let hosts = self.hosts.iter().filter_map(Host::next_deadline_ns).map(|at| at.max(soon));
        let next = events.into_iter().flatten().chain(hosts).filter(|at| *at > self.now_ns).min();
        // A host that waits for connections to be gone has no time of its own.
        let next = next.unwrap_or(self.now_ns + 1_000_000);
        self.advance(next);
        if self.now_ns > LIMIT_NS {
            let hosts: Vec<String> = self.hosts.iter().map(Host::describe).collect();
            return Err(Failure::new(Kind::Unanswered, format!("no end: {}", hosts.join("; "))));
        }
        Ok(())
    }

    /// Accidents that are due.
    fn happen(&mut self) {
        while let Some((at, accident)) = self.plan.accidents.get(self.accidents)
            && u64::from(*at) <= self.checks.issued
            && self.node.is_some()
        {
            self.accidents += 1;
            match accident {
                Accident::Reset => locked(&self.net).reset_one(),
                Accident::Stall(ns) => locked(&self.net).stall_one(*ns),
                Accident::Deaf(ns) => self.hosts[0].deafen(self.now_ns + ns),
                Accident::RemoveNamespace => {
                    if let Some(node) = &self.node {
                        node.remove_spare();
                    }
                }
                Accident::Kill => {
                    self.stop_node();
                    self.drive().lose_target();
                    self.checks.history.target_died();
                }
                Accident::PowerCut => {
                    self.stop_node();
                    self.drive().lose_power();
                    self.checks.history.power_cut();
                }
            }
        }
    }

    fn drive(&self) -> std::sync::MutexGuard<'_, Drive> {
        self.drive.lock().expect("one thread runs a simulation")
    }

    /// Says of a command without an end what the node was doing.
    fn with_state(&self, failure: Failure) -> Failure {
        match (&failure.kind, &self.node) {
            (Kind::Unanswered, Some(node)) => {
                Failure::new(failure.kind, format!("{}; reactors: {}", failure.what, node.left()))
            }
            _ => failure,
        }
    }

    /// Takes over what the node has counted.
    fn count(&mut self) {
        for counts in self.node.iter().flat_map(Node::counts) {
            self.keep_alive_expiries += counts.keep_alive_expiries;
            self.buffer_waits += counts.buffer_waits;
        }
    }

    fn stop_node(&mut self) {
        self.count();
        if let Some(node) = self.node.take() {
            node.die();
        }
        self.starts_ns = self.now_ns + self.rng.within(1_000_000, 500_000_000);
    }

    /// The hosts have left: the node has to forget them, and go down with nothing left.
    fn settle(mut self) -> Result<Report, Failure> {
        let limit_ns = self.now_ns + FORGET_NS;
        while !self.node.as_ref().is_some_and(Node::is_idle) {
            self.round()?;
            if self.now_ns > limit_ns {
                let left = self.node.as_ref().map_or("no node".to_owned(), Node::left);
                return Err(Failure::new(Kind::Leak, format!("hosts have left, yet: {left}")));
            }
        }
        // What ended in the last step is given back in the next.
        for _ in 0..20 {
            self.round()?;
        }
        self.checks.ledger.close()?;
        for host in &self.hosts {
            host.close()?;
        }
        self.count();
        self.node.take().expect("it is up and idle").shut_down()?;
        let (operations, open) = (self.drive().outstanding(), locked(&self.net).open());
        if operations + open > 0 {
            let what = format!("{operations} operations in the drive, {open} connections open");
            return Err(Failure::new(Kind::Leak, what));
        }
        Ok(Report {
            commands: self.checks.issued,
            steps: self.steps,
            took_ns: self.now_ns,
            accidents: self.accidents,
            keep_alive_expiries: self.keep_alive_expiries,
            buffer_waits: self.buffer_waits,
            trace: self.trace,
        })
    }
}
