//! A layer that fails chosen operations.

use bdev::{Addr, Bdev, Channel, Cx, Geometry, Home, Io, Op, OpenCx, OpenError};
use nvme_spec::Status;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A set of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpSet(u8);

impl OpSet {
    /// No operation.
    pub const NONE: OpSet = OpSet(0);
    /// Every operation.
    pub const ALL: OpSet = OpSet(0b1_1111);

    /// The set of one operation.
    pub const fn only(op: Op) -> OpSet {
        OpSet(match op {
            Op::Read => 1,
            Op::Write => 2,
            Op::WriteZeroes => 4,
            Op::Deallocate => 8,
            Op::Flush => 16,
        })
    }

    /// This set and `op`.
    pub const fn and(self, op: Op) -> OpSet {
        OpSet(self.0 | OpSet::only(op).0)
    }

    /// Whether `op` is in it.
    pub const fn has(self, op: Op) -> bool {
        self.0 & OpSet::only(op).0 != 0
    }
}

/// How often a rule fails an operation that it fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// Each time.
    Always,
    /// The first so many times, over all reactors.
    First(u64),
    /// One time in `n` on average, drawn from `seed`: the same sequence of operations fails in the
    /// same places.
    OneIn {
        /// Average distance, at least 1.
        n: u64,
        /// Start of the random sequence.
        seed: u64,
    },
}

/// Which operations fail, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The operations.
    pub ops: OpSet,
    /// The blocks: an operation that touches one of them fits. A flush has no blocks and always
    /// does.
    pub lbas: Range<u64>,
    /// What they end with.
    pub status: Status,
    /// How often.
    pub times: Times,
}

impl Rule {
    fn fits(&self, io: &Io) -> bool {
        self.ops.has(io.op)
            && (io.op == Op::Flush
                || (io.lba < self.lbas.end
                    && io.lba.saturating_add(u64::from(io.blocks)) > self.lbas.start))
    }
}

/// The name of a rule in its [`ErrorInjector`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(u64);

/// A rule with its counters, which all reactors share.
struct Active {
    id: RuleId,
    rule: Rule,
    /// Operations that the rule fitted.
    seen: AtomicU64,
    /// Operations that it failed.
    failed: AtomicU64,
}

impl Active {
    /// Whether the rule fails this operation.
    fn fails(&self, io: &Io) -> bool {
        if !self.rule.fits(io) {
            return false;
        }
        let turn = self.seen.fetch_add(1, Ordering::Relaxed);
        let fails = match self.rule.times {
            Times::Always => true,
            Times::First(count) => turn < count,
            Times::OneIn { n, seed } => mix(seed.wrapping_add(turn)).is_multiple_of(n),
        };
        if fails {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
        fails
    }
}

/// The finalizer of SplitMix64: a well spread number for each counter value.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The rules, and a number that changes with them: channels compare it and take a new copy only
/// when it moved.
struct Rules {
    generation: AtomicU64,
    list: Mutex<Arc<[Arc<Active>]>>,
}

impl Rules {
    fn change<R>(&self, with: impl FnOnce(&mut Vec<Arc<Active>>) -> R) -> R {
        let mut list = self.list.lock().expect("nothing panics while it changes rules");
        let mut rules = list.to_vec();
        let result = with(&mut rules);
        *list = rules.into();
        self.generation.fetch_add(1, Ordering::Release);
        result
    }

    fn copy(&self) -> Arc<[Arc<Active>]> {
        self.list.lock().expect("nothing panics while it changes rules").clone()
    }
}

/// Fails operations by rules, which may be changed while it runs. The first rule that fails an
/// operation ends it, untouched; an operation that no rule fails is passed on as it is.
pub struct ErrorInjector {
    child: Arc<dyn Bdev>,
    rules: Arc<Rules>,
    next_id: AtomicU64,
}

impl ErrorInjector {
    /// A layer over `child` without rules.
    pub fn new(child: Arc<dyn Bdev>) -> ErrorInjector {
        let list = Mutex::new(Vec::new().into());
        let rules = Arc::new(Rules { generation: AtomicU64::new(0), list });
        ErrorInjector { child, rules, next_id: AtomicU64::new(0) }
    }

    /// Adds a rule behind those that are there. Channels use it from their next operation on.
    ///
    /// # Errors
    /// A rule that could never fail anything: no operation, no block, one in zero, or a status
    /// that means success.
    pub fn add(&self, rule: Rule) -> Result<RuleId, OpenError> {
        let wrong = if rule.ops == OpSet::NONE {
            Some("names no operation")
        } else if rule.lbas.is_empty() && rule.ops != OpSet::only(Op::Flush) {
            Some("names no block")
        } else if matches!(rule.times, Times::OneIn { n: 0, .. }) {
            Some("fails one in zero operations")
        } else if rule.status.is_success() {
            Some("fails with a status that means success")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return Err(OpenError(format!("the error rule {wrong}")));
        }
        let id = RuleId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (seen, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        self.rules.change(|list| list.push(Arc::new(Active { id, rule, seen, failed })));
        Ok(id)
    }

    /// Takes a rule away. Returns how many operations it failed, or `None` if it is not there.
    pub fn remove(&self, id: RuleId) -> Option<u64> {
        self.rules.change(|list| {
            let place = list.iter().position(|active| active.id == id)?;
            Some(list.remove(place).failed.load(Ordering::Relaxed))
        })
    }

    /// Takes every rule away.
    pub fn clear(&self) {
        self.rules.change(Vec::clear);
    }

    /// How many operations a rule failed so far.
    pub fn failed(&self, id: RuleId) -> Option<u64> {
        let rules = self.rules.copy();
        let active = rules.iter().find(|active| active.id == id)?;
        Some(active.failed.load(Ordering::Relaxed))
    }
}

impl Bdev for ErrorInjector {
    fn geometry(&self) -> Geometry {
        Geometry { direct_access: false, ..self.child.geometry() }
    }

    fn home(&self) -> Home {
        self.child.home()
    }

    fn children(&self) -> Vec<Arc<dyn Bdev>> {
        vec![self.child.clone()]
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        // The number first: a change between the two is then seen as a change later.
        let generation = self.rules.generation.load(Ordering::Acquire);
        let list = self.rules.copy();
        let rules = self.rules.clone();
        Ok(Box::new(ErrorChannel { child: cx.children[0], rules, generation, list }))
    }
}

struct ErrorChannel {
    child: Addr,
    rules: Arc<Rules>,
    generation: u64,
    list: Arc<[Arc<Active>]>,
}

impl Channel for ErrorChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        let generation = self.rules.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.generation = generation;
            self.list = self.rules.copy();
        }
        match self.list.iter().find(|active| active.fails(&io)) {
            Some(active) => cx.complete(io, active.rule.status),
            None => cx.forward(self.child, io),
        }
    }

    fn outstanding(&self) -> u32 {
        0
    }
}
