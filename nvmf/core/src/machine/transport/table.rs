//! The commands under way in one transport, and how they end: the half of the contract of
//! [`super::Transport`] that does not depend on the fabric.
//!
//! ```text
//! insert --> Executing --> respond --> Answering --> sent
//!              |    ^                      ^
//!              v    |                      |
//!             Pulling (an answer that is given meanwhile waits for its end)
//! ```
//!
//! When a queue pair ends, pulls that are under way end with an error, answers that are under way
//! count as sent, and then `Closed` is said. What is answered later goes nowhere, and counts as
//! sent in the next turn. A transport calls [`Commands::end_qpair`] when nothing touches the memory
//! of these commands any more: this makes DMA memory safe.

use super::{CloseReason, Event, QpairId, ReqId, Response};
use nvme_spec::Status;

/// What one fabric keeps of a command.
pub trait Carried: std::fmt::Debug {
    /// Of any command: what came with it.
    type Capsule: std::fmt::Debug;
    /// Of one whose data is on its way here.
    type Pull: std::fmt::Debug;
    /// Of one whose answer is on its way out.
    type Answer: std::fmt::Debug;

    /// Whether the memory of the capsule was given back: before the place is free again.
    fn is_released(capsule: &Self::Capsule) -> bool;
}

/// How far a command is.
#[derive(Debug)]
pub enum Stage<C: Carried> {
    /// No command.
    Free,
    /// With the target.
    Executing,
    /// Its data is on its way here.
    Pulling {
        /// How far that is.
        pull: C::Pull,
        /// The answer, if it was given before all data was here: sent after it.
        answer: Option<Response>,
    },
    /// Its answer is on its way out.
    Answering(C::Answer),
    /// It ends without an answer; `Sent` is still to be said.
    Orphan,
}

/// One command.
#[derive(Debug)]
pub struct Command<C: Carried> {
    /// The queue pair it came on.
    pub qpair: QpairId,
    /// How far it is.
    pub stage: Stage<C>,
    /// What came with it.
    pub capsule: C::Capsule,
    /// Counts the uses of the place, so that what is left over from an earlier one is told apart.
    pub uses: u32,
}

/// Uses of a place that are told apart.
const USES: u32 = 1 << 30;

/// What a transport does with an answer that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// It goes out: the command is answering from now on.
    Now,
    /// It waits for the end of a pull, or goes nowhere.
    Later,
}

/// All commands of a transport.
pub struct Commands<C: Carried> {
    places: Vec<Command<C>>,
    free: Vec<u32>,
    /// Pulls that ended where they began.
    ended: Vec<(ReqId, Status)>,
    /// Commands that end without an answer.
    orphans: Vec<ReqId>,
}

impl<C: Carried> Commands<C>
where
    C::Capsule: Default,
{
    /// Places for `limit` commands.
    pub fn new(limit: u32) -> Commands<C> {
        let qpair = QpairId { index: 0, generation: 0 };
        let empty =
            |_| Command { qpair, stage: Stage::Free, capsule: C::Capsule::default(), uses: 0 };
        Commands {
            places: (0..limit).map(empty).collect(),
            free: (0..limit).rev().collect(),
            ended: Vec::with_capacity(limit as usize),
            orphans: Vec::with_capacity(limit as usize),
        }
    }
}

impl<C: Carried> Commands<C> {
    /// Places, used and free.
    pub fn limit(&self) -> u32 {
        self.places.len() as u32
    }

    /// Places that are free.
    pub fn free(&self) -> u32 {
        self.free.len() as u32
    }

    /// A place for a command that goes to the target now.
    ///
    /// # Panics
    /// If none is free: the caller has made sure that one is.
    pub fn insert(&mut self, qpair: QpairId, capsule: C::Capsule) -> ReqId {
        let index = self.free.pop().expect("no more is received than there are places for");
        let place = &mut self.places[index as usize];
        let uses = (place.uses + 1) % USES;
        *place = Command { qpair, stage: Stage::Executing, capsule, uses };
        ReqId(index)
    }

    /// A command, by our own number for it.
    #[inline]
    pub fn get(&self, req: ReqId) -> &Command<C> {
        &self.places[req.0 as usize]
    }

    /// As [`Commands::get`], to change.
    #[inline]
    pub fn get_mut(&mut self, req: ReqId) -> &mut Command<C> {
        &mut self.places[req.0 as usize]
    }

    /// A command, by a number that came from outside.
    pub fn find(&self, index: u32) -> Option<&Command<C>> {
        self.places.get(index as usize)
    }

    /// Every command, with its number.
    pub fn iter(&self) -> impl Iterator<Item = (ReqId, &Command<C>)> {
        self.places.iter().enumerate().map(|(index, command)| (ReqId(index as u32), command))
    }

    /// A pull ends where it begins, with `status`: said by [`Commands::settle`].
    pub fn end_pull_at_once(&mut self, req: ReqId, status: Status) {
        self.ended.push((req, status));
    }

    /// A pull begins.
    ///
    /// # Panics
    /// If the command is not with the target.
    pub fn begin_pull(&mut self, req: ReqId, pull: C::Pull) {
        let stage = &mut self.get_mut(req).stage;
        assert!(matches!(stage, Stage::Executing), "pulled while with the target");
        *stage = Stage::Pulling { pull, answer: None };
    }

    /// The pull under way, if there is one.
    #[inline]
    pub fn pull(&mut self, req: ReqId) -> Option<&mut C::Pull> {
        match &mut self.get_mut(req).stage {
            Stage::Pulling { pull, .. } => Some(pull),
            _ => None,
        }
    }

    /// A pull has ended: the command is with the target again. Returns the answer if it was given
    /// already, which goes out now; `Pulled` is to be said otherwise.
    pub fn end_pull(&mut self, req: ReqId) -> Option<Response> {
        match std::mem::replace(&mut self.get_mut(req).stage, Stage::Executing) {
            Stage::Pulling { answer, .. } => answer,
            other => panic!("a pull ends once, not while {other:?}"),
        }
    }

    /// The target gives its answer; the queue pair is `open` for it, or not. Where it is due now,
    /// the caller says so by [`Commands::answer`].
    ///
    /// # Panics
    /// If the command has an answer.
    #[inline]
    pub fn respond(&mut self, req: ReqId, response: Response, open: bool) -> Due {
        let command = self.get_mut(req);
        match &mut command.stage {
            Stage::Executing if open => Due::Now,
            Stage::Executing => {
                command.stage = Stage::Orphan;
                self.orphans.push(req);
                Due::Later
            }
            Stage::Pulling { answer: answer @ None, .. } => {
                *answer = Some(response);
                Due::Later
            }
            stage => panic!("answered twice: {stage:?}"),
        }
    }

    /// The answer of a command is on its way out.
    #[inline]
    pub fn answer(&mut self, req: ReqId, answer: C::Answer) {
        let stage = &mut self.get_mut(req).stage;
        debug_assert!(matches!(stage, Stage::Executing), "answered once: {stage:?}");
        *stage = Stage::Answering(answer);
    }

    /// The target ends a command without an answer.
    ///
    /// # Panics
    /// If the command is not with the target.
    pub fn discard(&mut self, req: ReqId) {
        let stage = &mut self.get_mut(req).stage;
        assert!(matches!(stage, Stage::Executing), "discarded while with the target");
        *stage = Stage::Orphan;
        self.orphans.push(req);
    }

    /// The answer of a command has left: says so, and frees its place.
    #[inline]
    pub fn sent(&mut self, req: ReqId, out: &mut Vec<Event>) {
        let command = self.get_mut(req);
        debug_assert!(!matches!(command.stage, Stage::Free), "freed once");
        debug_assert!(C::is_released(&command.capsule), "released before");
        command.stage = Stage::Free;
        self.free.push(req.0);
        out.push(Event::Sent { req });
    }

    /// Says what was left to say. Returns how much that was.
    pub fn settle(&mut self, out: &mut Vec<Event>) -> u32 {
        let said = self.ended.len() + self.orphans.len();
        out.extend(self.ended.drain(..).map(|(req, status)| Event::Pulled { req, status }));
        while let Some(req) = self.orphans.pop() {
            self.sent(req, out);
        }
        said as u32
    }

    /// A queue pair is gone, and nothing reads or writes the memory of its commands any more.
    pub fn end_qpair(&mut self, qpair: QpairId, why: CloseReason, out: &mut Vec<Event>) {
        let mut gone = Vec::new();
        for (index, command) in self.places.iter_mut().enumerate() {
            if command.qpair != qpair {
                continue;
            }
            let req = ReqId(index as u32);
            match &command.stage {
                Stage::Pulling { answer: None, .. } => {
                    command.stage = Stage::Executing;
                    out.push(Event::Pulled { req, status: Status::DATA_TRANSFER_ERROR });
                }
                Stage::Pulling { answer: Some(_), .. } | Stage::Answering(_) => gone.push(req),
                Stage::Free | Stage::Executing | Stage::Orphan => {}
            }
        }
        for req in gone {
            self.sent(req, out);
        }
        out.push(Event::Closed { qpair, why });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::Cqe;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Debug)]
    struct Plain;

    impl Carried for Plain {
        type Capsule = ();
        type Pull = ();
        type Answer = ();

        fn is_released(_: &()) -> bool {
            true
        }
    }

    /// What the target waits for, as the contract has it.
    #[derive(Default)]
    struct Contract {
        /// By command: its queue pair, whether a pull is under way, and whether it is answered.
        under_way: BTreeMap<u32, (QpairId, bool, bool)>,
        closed: Vec<QpairId>,
    }

    impl Contract {
        fn hear(&mut self, event: &Event) -> Result<(), String> {
            match event {
                Event::Pulled { req, .. } => match self.under_way.get_mut(&req.0) {
                    Some((qpair, pull @ true, false)) if !self.closed.contains(qpair) => {
                        *pull = false;
                        Ok(())
                    }
                    other => Err(format!("{event:?} of {other:?}")),
                },
                Event::Sent { req } => match self.under_way.remove(&req.0) {
                    Some((_, _, true)) => Ok(()),
                    other => Err(format!("{event:?} of {other:?}")),
                },
                Event::Closed { qpair, .. } => {
                    let of = |(_, (other, pull, answered)): &(&u32, &(QpairId, bool, bool))| {
                        other == qpair && (*pull || *answered)
                    };
                    if let Some(left) = self.under_way.iter().find(of) {
                        return Err(format!("{event:?} before the end of {left:?}"));
                    }
                    self.closed.push(*qpair);
                    Ok(())
                }
                other => Err(format!("{other:?} is none of the table's")),
            }
        }
    }

    fn response() -> Response {
        let cqe = Cqe::new(1, Status::SUCCESS);
        Response { data: None, lent: false, cqe, cqe_may_be_implied: false }
    }

    /// Commands on three queue pairs that come, pull, are answered, are sent and lose their queue
    /// pairs. `forgetful`: a queue pair that ends forgets its answers, which the contract sees.
    fn run(steps: &[(u8, u8)], forgetful: bool) -> Result<(), String> {
        let qpair = |number: u8| QpairId { index: u16::from(number % 3), generation: 1 };
        let mut table = Commands::<Plain>::new(8);
        let mut contract = Contract::default();
        for (what, which) in steps {
            let mut out = Vec::new();
            let id = qpair(*which);
            let under_way: Vec<u32> = contract.under_way.keys().copied().collect();
            let some = (!under_way.is_empty())
                .then(|| ReqId(under_way[usize::from(*which) % under_way.len()]));
            match (what % 7, some) {
                (0 | 1, _) if table.free() > 0 && !contract.closed.contains(&id) => {
                    let req = table.insert(id, ());
                    contract.under_way.insert(req.0, (id, false, false));
                }
                (2, Some(req)) => {
                    let entry = contract.under_way.get_mut(&req.0).unwrap();
                    if !entry.1 && !entry.2 {
                        entry.1 = true;
                        match contract.closed.contains(&entry.0) {
                            true => {
                                entry.1 = false;
                                table.settle(&mut out);
                            }
                            false => table.begin_pull(req, ()),
                        }
                    }
                }
                (3, Some(req)) if table.pull(req).is_some() => match table.end_pull(req) {
                    Some(_) => table.answer(req, ()),
                    None => out.push(Event::Pulled { req, status: Status::SUCCESS }),
                },
                (4, Some(req)) => {
                    let entry = contract.under_way.get_mut(&req.0).unwrap();
                    if !entry.2 {
                        (entry.1, entry.2) = (false, true);
                        let open = !contract.closed.contains(&entry.0);
                        if table.respond(req, response(), open) == Due::Now {
                            table.answer(req, ());
                        }
                    }
                }
                (5, Some(req)) if matches!(table.get(req).stage, Stage::Answering(())) => {
                    table.sent(req, &mut out);
                }
                (6, _) if !contract.closed.contains(&id) && which % 8 == 0 => {
                    table.end_qpair(id, CloseReason::Peer, &mut out);
                    if forgetful {
                        out.retain(|event| !matches!(event, Event::Sent { .. }));
                    }
                }
                _ => {
                    table.settle(&mut out);
                }
            }
            out.iter().try_for_each(|event| contract.hear(event))?;
        }
        let mut out = Vec::new();
        table.settle(&mut out);
        (0..3).filter(|n| !contract.closed.contains(&qpair(*n))).for_each(|n| {
            table.end_qpair(qpair(n), CloseReason::Peer, &mut out);
        });
        out.iter().try_for_each(|event| contract.hear(event))
    }

    proptest! {
        #[test]
        fn each_command_ends_as_the_contract_says(
            steps in proptest::collection::vec((any::<u8>(), any::<u8>()), 1..200),
        ) {
            let ran = run(&steps, false);
            prop_assert!(ran.is_ok(), "{:?}", ran);
        }
    }

    #[test]
    fn an_answer_that_is_forgotten_with_its_queue_pair_is_seen() {
        // A command, its answer, and the end of its queue pair.
        assert!(run(&[(0, 0), (4, 0), (6, 0)], false).is_ok());
        let why = run(&[(0, 0), (4, 0), (6, 0)], true).unwrap_err();
        assert!(why.contains("before the end of"), "{why}");
    }

    #[test]
    #[should_panic(expected = "answered twice")]
    fn two_answers_break_an_invariant() {
        let mut table = Commands::<Plain>::new(1);
        let req = table.insert(QpairId { index: 0, generation: 1 }, ());
        for _ in 0..2 {
            if table.respond(req, response(), true) == Due::Now {
                table.answer(req, ());
            }
        }
    }
}
