//! Whose turn it is. What is done to an object is done by one at a time; what is done to different
//! objects never waits for each other. Effects are carried out on a few threads: one that takes
//! longer than it may is counted as hung and leaves its place to another, up to a bound.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

/// An object of the appliance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The whole of it: its configuration.
    Appliance,
    /// A pool, by name.
    Pool(String),
    /// A volume, by pool and name, and its snapshots.
    Volume(String, String),
    /// A subsystem, by NQN, with its namespaces.
    Subsystem(String),
    /// A listener, by fabric and address.
    Listener(String),
    /// A device, by name or path.
    Device(String),
    /// An NVMe drive, by address.
    Drive(String),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Appliance => write!(f, "the appliance"),
            Key::Pool(name) => write!(f, "pool {name}"),
            Key::Volume(pool, name) => write!(f, "volume {pool}/{name}"),
            Key::Subsystem(nqn) => write!(f, "subsystem {nqn}"),
            Key::Listener(place) => write!(f, "listener {place}"),
            Key::Device(name) => write!(f, "device {name}"),
            Key::Drive(address) => write!(f, "drive {address}"),
        }
    }
}

/// What an effect needs of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The object.
    pub key: Key,
    /// Nobody else may do anything to it meanwhile; else others who share may.
    pub sole: bool,
}

impl Claim {
    /// To have it alone.
    pub fn sole(key: Key) -> Claim {
        Claim { key, sole: true }
    }

    /// To keep it from those who want it alone.
    pub fn shared(key: Key) -> Claim {
        Claim { key, sole: false }
    }

    fn bars(&self, other: &Claim) -> bool {
        self.key == other.key && (self.sole || other.sole)
    }
}

/// Which effect.
pub type Ticket = u64;

/// An effect that waits for its turn.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which.
    pub ticket: Ticket,
    /// What it does, as in "making volume tank/a".
    pub what: String,
    /// What it needs.
    pub claims: Vec<Claim>,
    /// For how long it waits for its turn.
    pub until: Instant,
    /// How long it may take.
    pub limit: Duration,
    /// It is part of another that waits for it, and takes no place of its own among the few.
    pub within: bool,
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody wants an effect.
    Ask(Ask),
    /// One has ended.
    Ended(Ticket),
    /// Time goes by.
    Tick,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is its turn.
    Begin(Ticket),
    /// It does not get one, and why.
    Refuse(Ticket, String),
    /// It takes longer than it may.
    Hangs(Ticket),
}

/// An effect that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// What it does.
    pub what: String,
    /// What it has.
    pub claims: Vec<Claim>,
    /// Since when.
    pub since: Instant,
    /// Until when it may.
    pub deadline: Instant,
    /// It takes longer.
    pub hangs: bool,
    within: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Schedule {
    few: usize,
    most: usize,
    running: BTreeMap<Ticket, Running>,
    waiting: VecDeque<Ask>,
}

/// A number of seconds, for people.
pub(crate) fn seconds(span: Duration) -> String {
    match span.as_secs() {
        0 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        n => format!("{n} seconds"),
    }
}

/// With a capital letter.
fn begin(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

impl Schedule {
    /// With at most `few` effects at once that do not hang, and `most` in all.
    pub fn new(few: usize, most: usize) -> Schedule {
        Schedule { few, most, running: BTreeMap::new(), waiting: VecDeque::new() }
    }

    /// What happens next.
    pub fn step(&mut self, input: Input, now: Instant) -> Vec<Effect> {
        match input {
            Input::Ask(ask) => self.waiting.push_back(ask),
            Input::Ended(ticket) => drop(self.running.remove(&ticket)),
            Input::Tick => {}
        }
        let mut effects = Vec::new();
        for (ticket, running) in &mut self.running {
            if !running.hangs && now >= running.deadline {
                running.hangs = true;
                effects.push(Effect::Hangs(*ticket));
            }
        }
        self.begin_those_whose_turn_it_is(now, &mut effects);
        effects
    }

    fn begin_those_whose_turn_it_is(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let mut ahead: Vec<Claim> = Vec::new();
        for ask in std::mem::take(&mut self.waiting) {
            let barred = |claims: &[Claim], by: &[Claim]| {
                claims.iter().any(|claim| by.iter().any(|other| other.bars(claim)))
            };
            let busy = self.running.values().any(|other| barred(&ask.claims, &other.claims));
            let has_turn = !busy && !barred(&ask.claims, &ahead);
            if has_turn && self.has_room(ask.within) {
                effects.push(Effect::Begin(ask.ticket));
                let Ask { ticket, what, claims, limit, within, .. } = ask;
                let (since, deadline, hangs) = (now, now + limit, false);
                let running = Running { what, claims, since, deadline, hangs, within };
                self.running.insert(ticket, running);
            } else if now >= ask.until || self.running.len() >= self.most {
                effects.push(Effect::Refuse(ask.ticket, self.why_not(&ask.claims, now)));
            } else {
                ahead.extend(ask.claims.iter().cloned());
                self.waiting.push_back(ask);
            }
        }
    }

    fn has_room(&self, within: bool) -> bool {
        let counts = |running: &&Running| !running.hangs && !running.within;
        let going = self.running.values().filter(counts).count();
        self.running.len() < self.most && (within || going < self.few)
    }

    /// Who is in the way.
    fn why_not(&self, claims: &[Claim], now: Instant) -> String {
        for claim in claims {
            if let Some(other) = self.holder(claim) {
                return format!(
                    "{} is busy: {} has gone on for {}. Try again later.",
                    begin(&claim.key.to_string()),
                    other.what,
                    seconds(now.saturating_duration_since(other.since))
                );
            }
        }
        let hung: Vec<&str> =
            self.running.values().filter(|r| r.hangs).map(|r| r.what.as_str()).take(3).collect();
        match hung[..] {
            [] => "The appliance is busy. Try again later.".to_owned(),
            _ => format!(
                "The appliance is busy, because something does not end: {}. Try again later.",
                hung.join(", ")
            ),
        }
    }

    fn holder(&self, claim: &Claim) -> Option<&Running> {
        let mut running = self.running.values();
        running.find(|running| running.claims.iter().any(|other| other.bars(claim)))
    }

    /// What is under way.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        self.running.values()
    }

    /// What an effect is doing, by its ticket.
    pub fn get(&self, ticket: Ticket) -> Option<&Running> {
        self.running.get(&ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const SECOND: Duration = Duration::from_secs(1);

    fn pool(name: &str) -> Key {
        Key::Pool(name.into())
    }

    fn volume(pool: &str, name: &str) -> Key {
        Key::Volume(pool.into(), name.into())
    }

    fn ask(ticket: Ticket, claims: Vec<Claim>, now: Instant) -> Input {
        let what = format!("making {}", claims[0].key);
        let (until, limit) = (now + 10 * SECOND, 5 * SECOND);
        Input::Ask(Ask { ticket, what, claims, until, limit, within: false })
    }

    #[test]
    fn one_object_has_one_effect_and_others_go_on() {
        let (mut schedule, now) = (Schedule::new(4, 8), Instant::now());
        let on = |volume: &Key| {
            let Key::Volume(of, _) = volume else { panic!() };
            vec![Claim::shared(pool(of)), Claim::sole(volume.clone())]
        };
        let (a, b) = (volume("tank", "a"), volume("tank", "b"));
        assert_eq!(schedule.step(ask(1, on(&a), now), now), [Effect::Begin(1)]);
        assert_eq!(schedule.step(ask(2, on(&a), now), now), []);
        assert_eq!(schedule.step(ask(3, on(&b), now), now), [Effect::Begin(3)]);
        // The pool as a whole waits for both, and those that come later wait for it.
        assert_eq!(schedule.step(ask(4, vec![Claim::sole(pool("tank"))], now), now), []);
        assert_eq!(schedule.step(ask(5, on(&b), now), now), []);
        assert_eq!(schedule.step(ask(6, on(&volume("other", "a")), now), now), [Effect::Begin(6)]);
        assert_eq!(schedule.step(Input::Ended(1), now), [Effect::Begin(2)]);
        assert_eq!(schedule.step(Input::Ended(2), now), []);
        assert_eq!(schedule.step(Input::Ended(3), now), [Effect::Begin(4)]);
        assert_eq!(schedule.step(Input::Ended(4), now), [Effect::Begin(5)]);
    }

    #[test]
    fn what_hangs_leaves_its_place_and_keeps_its_object() {
        let (mut schedule, mut now) = (Schedule::new(1, 3), Instant::now());
        let on = |name: &str| vec![Claim::sole(pool(name))];
        assert_eq!(schedule.step(ask(1, on("a"), now), now), [Effect::Begin(1)]);
        assert_eq!(schedule.step(ask(2, on("b"), now), now), [], "there is one place");
        assert_eq!(schedule.step(ask(3, on("a"), now), now), []);
        now += 5 * SECOND;
        assert_eq!(schedule.step(Input::Tick, now), [Effect::Hangs(1), Effect::Begin(2)]);
        now += 5 * SECOND;
        let why = "Pool a is busy: making pool a has gone on for 10 seconds. Try again later.";
        let refused = Effect::Refuse(3, why.into());
        assert_eq!(schedule.step(Input::Tick, now), [Effect::Hangs(2), refused]);
        assert_eq!(schedule.step(ask(4, on("c"), now), now), [Effect::Begin(4)]);
        // Everything that there may be hangs, or is at work.
        let Effect::Refuse(5, why) = &schedule.step(ask(5, on("d"), now), now)[0] else { panic!() };
        assert!(why.contains("does not end: making pool a, making pool b"), "{why}");
        assert_eq!(schedule.step(Input::Ended(1), now), []);
        assert_eq!(schedule.step(ask(6, on("a"), now), now), []);
        assert_eq!(schedule.step(Input::Ended(4), now), [Effect::Begin(6)]);
    }

    /// Whether two may not go on at once.
    fn in_the_way(one: &[Claim], other: &[Claim]) -> bool {
        let clash = |a: &Claim, b: &Claim| a.key == b.key && (a.sole || b.sole);
        one.iter().any(|a| other.iter().any(|b| clash(a, b)))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Ask(Vec<(u8, bool)>, u64, bool),
        End(usize),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let claims = prop::collection::vec((0..4_u8, any::<bool>()), 0..3);
        let step = prop_oneof![
            4 => (claims, 0..20_u64, any::<bool>()).prop_map(|(c, u, w)| Step::Ask(c, u, w)),
            3 => (0..8_usize).prop_map(Step::End),
            2 => (0..8_u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..150)
    }

    proptest! {
        /// Each ask gets one answer, in time; an object never has two who do not share it; nobody
        /// overtakes who waits for the same; there are never more at once than there may be, and
        /// nobody waits without need; and when all ends nothing is left.
        #[test]
        fn each_gets_its_turn_or_a_sentence(steps in steps()) {
            let (mut schedule, mut now) = (Schedule::new(2, 4), Instant::now());
            let mut asked: BTreeMap<Ticket, (Vec<Claim>, Instant, bool)> = BTreeMap::new();
            let (mut running, mut hung) = (BTreeMap::new(), BTreeSet::new());
            let mut last = 0;
            let drain = std::iter::repeat_n(Step::End(0), 200).chain([Step::Wait(60)]);
            for step in steps.into_iter().chain(drain) {
                let input = match step {
                    Step::Ask(keys, seconds, within) => {
                        last += 1;
                        let claims: Vec<Claim> = keys
                            .into_iter()
                            .map(|(k, sole)| Claim { key: pool(&k.to_string()), sole })
                            .collect();
                        let until = now + Duration::from_secs(seconds);
                        asked.insert(last, (claims.clone(), until, within));
                        let limit = 3 * SECOND;
                        Input::Ask(Ask { ticket: last, what: "w".into(), claims, until, limit, within })
                    }
                    Step::End(at) => match running.keys().nth(at).copied() {
                        Some(ticket) => {
                            running.remove(&ticket);
                            hung.remove(&ticket);
                            Input::Ended(ticket)
                        }
                        None => Input::Tick,
                    },
                    Step::Wait(seconds) => {
                        now += Duration::from_secs(seconds);
                        Input::Tick
                    }
                };
                for effect in schedule.step(input, now) {
                    match effect {
                        Effect::Begin(ticket) => {
                            let (claims, _, within) = asked.remove(&ticket).expect("asked once");
                            for other in running.values() {
                                let other: &(Vec<Claim>, bool) = other;
                                prop_assert!(!in_the_way(&claims, &other.0), "two at once");
                            }
                            let mut before = asked.range(..ticket);
                            prop_assert!(!before.any(|(_, other)| in_the_way(&claims, &other.0)));
                            running.insert(ticket, (claims, within));
                        }
                        Effect::Refuse(ticket, why) => {
                            let (_, until, _) = asked.remove(&ticket).expect("asked once");
                            prop_assert!(now >= until || running.len() >= 4, "{}", why);
                        }
                        Effect::Hangs(ticket) => prop_assert!(hung.insert(ticket)),
                    }
                }
                prop_assert!(running.len() <= 4);
                let counted = running.iter().filter(|(t, (_, within))| !within && !hung.contains(t));
                let going = counted.count();
                prop_assert!(going <= 2);
                for (ticket, (claims, _, within)) in &asked {
                    let busy = running.values().any(|other| in_the_way(claims, &other.0));
                    let mut before = asked.range(..ticket);
                    let ahead = before.any(|(_, other)| in_the_way(claims, &other.0));
                    let full = running.len() >= 4 || !within && going >= 2;
                    prop_assert!(busy || ahead || full, "it waits for nothing");
                }
                prop_assert!(asked.values().all(|(_, until, _)| now < *until));
            }
            prop_assert!(asked.is_empty() && schedule.running().count() == running.len());
        }
    }
}
