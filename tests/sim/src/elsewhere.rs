//! Where the target's questions are answered, after a delay, and in any order.

use crate::plan::{Plan, Planted};
use crate::rng::Rng;
use nvmf::elsewhere::{Elsewhere, Question, Reply, Ticket};

/// Answers after up to so long, in ns: longer than hosts wait before they do something else.
const LONGEST_NS: u64 = 40_000_000;

/// One reactor's way to somebody who takes time.
pub struct SlowElsewhere {
    rng: Rng,
    planted: Option<Planted>,
    /// Questions, with when they are answered: that is drawn when they are seen first.
    asked: Vec<(Option<u64>, Ticket, Question)>,
    /// An answer that comes twice, if there is one.
    again: Option<(Ticket, Reply)>,
}

impl SlowElsewhere {
    /// With the delays of a seed.
    pub fn new(plan: &Plan, rng: Rng) -> SlowElsewhere {
        SlowElsewhere { rng, planted: plan.planted, asked: Vec::new(), again: None }
    }
}

impl Elsewhere for SlowElsewhere {
    fn ask(&mut self, ticket: Ticket, question: Question) {
        if self.planted == Some(Planted::LostReply) && self.rng.one_in(4) {
            return;
        }
        if self.planted == Some(Planted::DoubleReply) {
            self.again = Some((ticket, question.clone().answer()));
        }
        self.asked.push((None, ticket, question));
    }

    fn poll(&mut self, now_ns: u64) -> Option<(Ticket, Reply)> {
        for (at_ns, ..) in &mut self.asked {
            at_ns.get_or_insert_with(|| now_ns + self.rng.within(1_000, LONGEST_NS));
        }
        match self.asked.iter().position(|(at_ns, ..)| at_ns.is_some_and(|at| at <= now_ns)) {
            Some(due) => {
                let (_, ticket, question) = self.asked.swap_remove(due);
                Some((ticket, question.answer()))
            }
            None if self.asked.is_empty() => self.again.take(),
            None => None,
        }
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        self.asked.iter().map(|(at_ns, ..)| at_ns.unwrap_or(0)).min()
    }
}
