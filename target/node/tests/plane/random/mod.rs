//! Random operations on the real control plane, over real files, with restarts in between, against
//! a model of it: each answer, and everything that can be seen.

mod model;
mod steps;

use crate::appliance::{Appliance, name};
use model::{Done, Ends, Model, Pool};
use webui_model::{Control, Export, Made, Name, Refusal, Status};

const MIB: u64 = 1 << 20;
const POOLS: [&str; 2] = ["one", "two"];
const VOLUMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const SNAPSHOTS: [&str; 3] = ["x", "y", "z"];
const SHARED: [&str; 2] = ["nqn.2026-01.org.example:one", "nqn.2026-01.org.example:two"];
const HOSTS: [&str; 3] =
    ["nqn.2026-01.org.example:h1", "nqn.2026-01.org.example:h2", "nqn.2026-01.org.example:h3"];

/// SplitMix64: the same numbers for the same seed.
pub struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn of<'a, T: ?Sized>(&mut self, all: &[&'a T]) -> &'a T {
        all[self.below(all.len() as u64) as usize]
    }
}

pub struct World {
    node: Option<Appliance>,
    model: Model,
    chance: Chance,
    /// What was done, for whoever has to find out what went wrong.
    done: Vec<String>,
}

/// How a create ended.
fn made<T>(answer: Result<Made<T>, Refusal>) -> (Ends, Option<T>) {
    match answer {
        Ok(Made::New(object)) => (Ok(Done::New), Some(object)),
        Ok(Made::Existing(object)) => (Ok(Done::Existing), Some(object)),
        Err(refusal) => (Err(refusal.kind), None),
    }
}

/// How anything else ended.
fn changed<T>(answer: Result<T, Refusal>) -> Ends {
    answer.map(|_| Done::Changed).map_err(|refusal| refusal.kind)
}

fn place_of(export: &Option<Export>) -> Option<model::Place> {
    export.as_ref().map(|export| (export.subsystem.to_string(), export.nsid))
}

impl World {
    fn new(seed: u64) -> World {
        let node = Appliance::new();
        let mut model = Model::default();
        for pool in POOLS {
            node.make_pool(pool, &[&format!("{pool}.img")], 64 * MIB);
            model.pools.insert(pool.into(), Pool::default());
        }
        for pool in POOLS {
            model.keep_pool(pool).expect("it is kept");
        }
        World { node: Some(node), model, chance: Chance(seed), done: Vec::new() }
    }

    fn node(&self) -> &Appliance {
        self.node.as_ref().expect("it runs")
    }

    fn restart(&mut self) {
        self.done.push("restart".into());
        self.node = self.node.take().map(Appliance::again);
    }

    /// Everything that can be seen, in the model's sentences.
    fn shown(&self) -> Vec<String> {
        let node = self.node();
        let mut shown = Vec::new();
        for volume in node.volumes(None).unwrap() {
            let origin = volume.origin.map(|o| format!("{}@{}", o.volume, o.snapshot));
            let (at, export) =
                (format!("{}/{}", volume.pool, volume.name), place_of(&volume.export));
            let (uuid, bytes, iops) = (volume.uuid, volume.bytes, volume.limits.iops);
            let snapshots = volume.snapshots;
            let thick = volume.thick;
            shown.push(format!(
                "{at} {uuid} {bytes} {iops:?} {thick} {origin:?} {snapshots} {export:?}"
            ));
        }
        for pool in node.pools().unwrap() {
            for snapshot in node.snapshots(&pool.name, None).unwrap() {
                let at = format!("{}/{}@{}", snapshot.pool, snapshot.volume, snapshot.name);
                let export = place_of(&snapshot.export);
                shown.push(format!("{at} {} {export:?}", snapshot.bytes));
            }
        }
        for subsystem in node.subsystems().unwrap() {
            let (nqn, any) = (&subsystem.nqn, subsystem.allow_any_host);
            let hosts = subsystem.hosts.iter().map(ToString::to_string);
            let hosts: std::collections::BTreeSet<String> = hosts.collect();
            shown.push(format!("{nqn} {} {hosts:?} {any}", subsystem.own));
            for namespace in &subsystem.namespaces {
                assert_eq!(namespace.status, Status::Ok, "{namespace:?}");
                shown.push(format!("{nqn} {} {}", namespace.nsid, namespace.source));
            }
        }
        shown.sort();
        shown
    }

    fn check(&self) {
        let (shown, expected) = (self.shown(), self.model.shown());
        if shown != expected {
            let less: Vec<_> = expected.iter().filter(|line| !shown.contains(line)).collect();
            let more: Vec<_> = shown.iter().filter(|line| !expected.contains(line)).collect();
            let done = self.done.join("\n");
            panic!("after\n{done}\nnot shown: {less:#?}\nshown instead: {more:#?}");
        }
        let alerts = self.node().alerts().unwrap();
        assert!(alerts.is_empty(), "after\n{}\n{alerts:?}", self.done.join("\n"));
    }

    /// Holds an answer against the model's.
    fn compare(&mut self, what: String, answer: Ends, expected: Ends) {
        self.done.push(format!("{what}: {answer:?}"));
        assert_eq!(answer, expected, "after\n{}", self.done.join("\n"));
    }

    fn pool(&mut self) -> (Name, String) {
        let pool = self.chance.of(&POOLS);
        (name(pool), pool.to_owned())
    }
}

/// Runs `steps` operations of `seed`, and a restart after them.
fn run(seed: u64, steps: usize) {
    let mut world = World::new(seed);
    for step in 0..steps {
        world.step();
        // What one operation breaks is mostly seen at once, and at the latest here.
        if step % 4 == 3 {
            world.check();
        }
    }
    world.check();
    world.restart();
    world.check();
}

#[test]
fn random_operations_end_and_show_as_the_model_says_first() {
    run(1, 800);
}

#[test]
fn random_operations_end_and_show_as_the_model_says_second() {
    run(2, 800);
}

/// The comparison sees a control plane that does something else than was asked for: here it is told
/// of an operation that the model is not.
#[test]
#[should_panic(expected = "shown instead")]
fn what_the_model_does_not_know_of_is_seen() {
    let mut world = World::new(3);
    (0..40).for_each(|_| world.step());
    let subsystem = webui_model::SubsystemCreate {
        nqn: "nqn.2026-01.org.example:unknown".parse().unwrap(),
        hosts: vec![],
        allow_any_host: true,
    };
    world.node().create_subsystem(subsystem).unwrap();
    world.check();
}
