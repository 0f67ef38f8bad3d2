//! A node that does what is asked of it, and ends at any moment: it notes what is wanted, does what
//! pools have to do, and carries out what differs. What it noted and what lies in pools is there when
//! it starts again; what runs is not.

use crate::differences::reach;
use crate::world::{World, broken, configured, obstacle, requests};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wanted::{Change, Request, Source, Wanted, diff, edit};

/// The node ended.
struct Crash;

struct Node {
    /// On its disk.
    stored: Wanted,
    world: World,
    /// In memory.
    running: Wanted,
    /// Effects until it ends.
    left: usize,
    /// A bug, planted.
    bug: Bug,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Bug {
    None,
    /// A volume is made before it is noted how it is exported.
    MadeBeforeNoted,
    /// What was never made is not forgotten at a start.
    NeverForgotten,
    /// The last step of what differs is left out.
    StepLeftOut,
}

impl Node {
    fn new(left: usize, bug: Bug) -> Node {
        let stored = configured();
        Node { stored, world: World::default(), running: Wanted::default(), left, bug }
    }

    /// Something is about to be done that lasts, or that hosts see.
    fn effect(&mut self) -> Result<(), Crash> {
        self.left = self.left.checked_sub(1).ok_or(Crash)?;
        Ok(())
    }

    fn note(&mut self, next: &Wanted) -> Result<(), Crash> {
        self.effect()?;
        self.stored = next.clone();
        Ok(())
    }

    fn carry_out(&mut self, changes: Vec<Change>) -> Result<(), Crash> {
        let keep = changes.len() - usize::from(self.bug == Bug::StepLeftOut && !changes.is_empty());
        for change in changes.into_iter().take(keep) {
            self.effect()?;
            assert_eq!(obstacle(&self.running, &change), None, "{change:?}");
            self.running.carry_out(&change);
        }
        Ok(())
    }

    fn perform(&mut self, request: &Request) -> Result<(), Crash> {
        let Ok(edited) = edit(&self.stored, request, &self.world) else { return Ok(()) };
        let makes = matches!(request, Request::CreateVolume { .. } | Request::CloneSnapshot { .. });
        if makes && self.bug == Bug::MadeBeforeNoted {
            self.effect()?;
            self.world.carry_out(request);
        }
        if !edited.is_as_before() {
            self.note(&edited.wanted)?;
        }
        if makes {
            self.effect()?;
            self.world.carry_out(request);
        }
        self.carry_out(edited.changes)?;
        if !makes {
            // What is deleted is closed first.
            self.effect()?;
            self.world.carry_out(request);
        }
        Ok(())
    }

    /// Starts again: what never came or is gone is forgotten, the rest is brought back.
    fn start(&mut self) -> Result<(), Crash> {
        self.running = Wanted::default();
        let shown: Vec<Source> = self.stored.namespaces().map(|one| one.source.clone()).collect();
        for source in shown {
            if !self.world.has(&source) && self.bug != Bug::NeverForgotten {
                let forget = Request::Forget(source);
                let edited = edit(&self.stored, &forget, &self.world).expect("it is never refused");
                self.note(&edited.wanted)?;
            }
        }
        self.carry_out(diff(&self.stored, &self.running))
    }

    /// What is wrong, if anything.
    fn wrong(&self, unexported: &BTreeMap<uuid::Uuid, ()>) -> Option<String> {
        if let Some(why) = broken(&self.stored) {
            return Some(why);
        }
        if let Some(change) = diff(&self.stored, &self.running).first() {
            return Some(format!("{change:?} is missing"));
        }
        let nothing = self.stored.namespaces().find(|shown| !self.world.has(&shown.source));
        if let Some(shown) = nothing {
            return Some(format!("{} is shown, and not there", shown.source));
        }
        for (pool, volumes) in &self.world.volumes {
            for (name, volume) in volumes {
                let source =
                    Source::Volume { pool: pool.clone(), uuid: volume.uuid, name: name.clone() };
                if self.stored.pool(pool).is_some()
                    && self.stored.namespace_of(&source).is_none()
                    && !unexported.contains_key(&volume.uuid)
                {
                    return Some(format!("{source} is there, and nobody knows how it is exported"));
                }
            }
        }
        None
    }
}

/// Volumes that are not exported because that was asked for: by UUID.
fn asked(node: &Node, unexported: &mut BTreeMap<uuid::Uuid, ()>) {
    for volume in node.world.volumes.values().flat_map(BTreeMap::values) {
        let is_shown = node
            .stored
            .namespaces()
            .any(|one| matches!(&one.source, Source::Volume { uuid, .. } if *uuid == volume.uuid));
        if !is_shown {
            unexported.insert(volume.uuid, ());
        }
    }
}

/// Does what is asked for, ends and starts again after `ends` effects, each in turn.
fn run(requests: &[Request], ends: &[usize], bug: Bug) -> Option<String> {
    let mut node = Node::new(usize::MAX, bug);
    let mut unexported = BTreeMap::new();
    let mut ends = ends.iter().copied();
    if node.start().is_err() {
        unreachable!("it has time");
    }
    node.left = ends.next().unwrap_or(usize::MAX);
    for request in requests {
        let made = matches!(request, Request::CreateVolume { .. } | Request::CloneSnapshot { .. });
        if node.perform(request).is_err() {
            loop {
                node.left = ends.next().unwrap_or(usize::MAX);
                if node.start().is_ok() {
                    break;
                }
            }
        }
        // Only requests that make nothing leave volumes without an export.
        if !made {
            asked(&node, &mut unexported);
        }
        if let Some(why) = node.wrong(&unexported) {
            return Some(format!("after {request:?}: {why}"));
        }
    }
    reach(&node.stored, &node.running).err().map(|error| error.to_string())
}

fn steps() -> impl Strategy<Value = (Vec<Request>, Vec<usize>)> {
    (requests(40), prop::collection::vec(0..12_usize, 0..20))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn what_is_wanted_runs_after_any_crash((requests, ends) in steps()) {
        prop_assert_eq!(run(&requests, &ends, Bug::None), None);
    }
}

/// Each planted bug is found within a number of runs.
#[test]
fn planted_bugs_are_found() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    for bug in [Bug::MadeBeforeNoted, Bug::NeverForgotten, Bug::StepLeftOut] {
        let mut runner = TestRunner::deterministic();
        let found = (0..400).find(|_| {
            let (requests, ends) = steps().new_tree(&mut runner).unwrap().current();
            run(&requests, &ends, bug).is_some()
        });
        println!("{bug:?} is found in run {found:?}");
        assert!(found.is_some(), "{bug:?} is not found");
    }
}
