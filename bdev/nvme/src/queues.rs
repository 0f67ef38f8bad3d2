//! Making I/O queues and deleting them, one command at a time.

use crate::admin::{Admin, Purpose};
use crate::limits::{CHANNEL_BYTES, IO_ENTRIES, PAGE_BYTES};
use crate::memory::{Block, Mapping};
use crate::ring::{Ring, Shadow};
use crate::shared::{Failure, Link};
use bdev::{Memory, OpenError};
use nvme_spec::Status;
use nvme_spec::opcode::admin;
use nvme_spec::queue::{self, CreateCq, CreateSq, doorbell};
use std::sync::Arc;

/// Where the controller is with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has none.
    Absent,
    CreatingCq,
    CreatingSq,
    /// It has both.
    Live,
    DeletingSq,
    DeletingCq,
}

/// The queue of one channel.
pub(crate) struct Queue {
    qid: u16,
    entries: u32,
    sq: u64,
    cq: u64,
    vector: Option<u16>,
    link: Arc<Link>,
    stage: Stage,
    /// The rings: kept until the controller has forgotten them.
    _block: Arc<Block>,
}

/// What a channel gets.
pub(crate) struct Opened {
    pub(crate) ring: Ring,
    pub(crate) link: Arc<Link>,
    pub(crate) block: Arc<Block>,
    pub(crate) mappings: Vec<Arc<Mapping>>,
    pub(crate) vector: Option<u16>,
    /// The epoch in which the rings are parked.
    pub(crate) epoch: u32,
}

/// Where in a channel's block its lists are.
pub(crate) const LISTS_AT: usize = IO_ENTRIES as usize * (64 + 16);

impl Admin {
    /// Takes a free queue for a channel whose operations lie in `memory`. It waits, parked, to be
    /// made.
    pub(crate) fn open_queue(&mut self, memory: &Memory) -> Result<Opened, OpenError> {
        let limit = self.identity.as_ref().map_or(0, |identity| identity.io_queues);
        let fits = |qid: u16| doorbell(qid, true, self.cap.dstrd) + 4 <= self.hw.register_bytes();
        let is_free = |qid: &u16| self.queues.iter().all(|queue| queue.qid != *qid);
        let Some(qid) = (1..=limit).filter(|qid| fits(*qid)).find(is_free) else {
            return Err(OpenError(format!(
                "drive {} has {limit} I/O queues and all are in use: run fewer reactors",
                self.name()
            )));
        };
        let no_memory = |error| OpenError(format!("the drive cannot reach memory: {error}"));
        let mappings = self.map(memory).map_err(no_memory)?;
        let block = Block::new(self.hw.clone(), CHANNEL_BYTES).map_err(no_memory)?;
        let entries = IO_ENTRIES.min(u32::from(self.cap.mqes) + 1);
        let sq = block.piece(0, IO_ENTRIES as usize * 64);
        let cq = block.piece(IO_ENTRIES as usize * 64, IO_ENTRIES as usize * 16);
        let fits = doorbell(qid, true, self.cap.dstrd) + 4 - 0x1000 <= PAGE_BYTES;
        let pages = fits.then(|| self.shadow_pages());
        let shadow = pages.map(|(shadows, events)| Shadow { shadows, events });
        let mut ring = Ring::new(sq, cq, qid, entries, self.cap.dstrd, shadow);
        ring.restart();
        let (sq, cq) = ring.bases();
        let vector = (self.hw.vectors() > qid).then_some(qid);
        let link = Arc::new(Link::default());
        let epoch = self.shared.epoch();
        link.park(epoch);
        let (stage, kept) = (Stage::Absent, block.clone());
        let queue = Queue { qid, entries, sq, cq, vector, link: link.clone(), stage, _block: kept };
        self.queues.push(queue);
        Ok(Opened { ring, link, block, mappings, vector, epoch })
    }

    /// The mappings of all regions, by number: those that other channels have, or new ones.
    fn map(&mut self, memory: &Memory) -> std::io::Result<Vec<Arc<Mapping>>> {
        self.mappings.retain(|mapping| mapping.strong_count() > 0);
        let mut mappings = Vec::new();
        for region in memory.regions() {
            let known = self.mappings.iter().filter_map(|m| m.upgrade()).find(|m| m.is_of(region));
            let mapping = match known {
                Some(mapping) => mapping,
                None => Arc::new(Mapping::new(self.hw.clone(), region)?),
            };
            self.mappings.push(Arc::downgrade(&mapping));
            mappings.push(mapping);
        }
        Ok(mappings)
    }

    /// The controller was disabled or is cut off: it has no queue any more.
    pub(crate) fn forget_queues(&mut self) {
        self.queues.retain(|queue| !queue.link.is_closed());
        self.queues.iter_mut().for_each(|queue| queue.stage = Stage::Absent);
    }

    /// Takes the next step with the first queue that needs one.
    pub(crate) fn tend_queues(&mut self, now_ns: u64) {
        self.queues.retain(|q| !(q.link.is_closed() && q.stage == Stage::Absent));
        let moving = |q: &Queue| !matches!(q.stage, Stage::Absent | Stage::Live);
        if self.queues.iter().any(moving) {
            return;
        }
        let epoch = self.shared.epoch();
        let next = self.queues.iter_mut().find_map(|queue| match queue.stage {
            Stage::Absent if queue.link.is_parked(epoch) && !queue.link.is_refused() => {
                Some((queue, Stage::CreatingCq))
            }
            Stage::Live if queue.link.is_closed() => Some((queue, Stage::DeletingSq)),
            _ => None,
        });
        if let Some((queue, stage)) = next {
            queue.stage = stage;
            let qid = queue.qid;
            self.send_queue_command(qid, now_ns);
        }
    }

    /// Sends the command that the stage of queue `qid` stands for.
    fn send_queue_command(&mut self, qid: u16, now_ns: u64) {
        let queue = self.queues.iter().find(|queue| queue.qid == qid).expect("just chosen");
        let &Queue { stage, entries, sq, cq, vector, .. } = queue;
        let due_ns = self.due(now_ns);
        self.send(Purpose::Queue(qid), due_ns, |cid, _| match stage {
            Stage::CreatingCq => CreateCq { qid, entries, vector }.sqe(cid, cq),
            Stage::CreatingSq => CreateSq { qid, entries, cqid: qid }.sqe(cid, sq),
            Stage::DeletingSq => queue::delete(admin::DELETE_SQ, cid, qid),
            Stage::DeletingCq => queue::delete(admin::DELETE_CQ, cid, qid),
            Stage::Absent | Stage::Live => unreachable!("no command in {stage:?}"),
        });
    }

    /// The command for queue `qid` ended.
    pub(crate) fn queue_stepped(&mut self, qid: u16, status: Status, now_ns: u64) {
        let epoch = self.shared.epoch();
        let shadowed = self.identity.as_ref().is_some_and(|i| i.shadow_doorbells);
        let Some(queue) = self.queues.iter_mut().find(|queue| queue.qid == qid) else { return };
        match (queue.stage, status.is_success()) {
            (Stage::CreatingCq, true) => queue.stage = Stage::CreatingSq,
            (Stage::CreatingSq, true) => {
                queue.stage = Stage::Live;
                queue.link.go_live(epoch, shadowed);
                self.attempts = 0;
                return;
            }
            (Stage::CreatingCq, false) | (Stage::DeletingCq, true) => {
                queue.stage = Stage::Absent;
                if !status.is_success() {
                    queue.link.refuse();
                    tracing::error!(drive = self.name(), qid, %status, "no I/O queue");
                }
                return;
            }
            (Stage::CreatingSq, false) => {
                queue.stage = Stage::DeletingCq;
                queue.link.refuse();
                tracing::error!(drive = self.name(), qid, %status, "no I/O queue");
            }
            (Stage::DeletingSq, true) => queue.stage = Stage::DeletingCq,
            // It may still write to the rings.
            (Stage::DeletingSq | Stage::DeletingCq, false) => {
                return self.reset(Failure::Hung("it does not let go of a queue"), now_ns);
            }
            (Stage::Absent | Stage::Live, _) => unreachable!("no command in these stages"),
        }
        self.send_queue_command(qid, now_ns);
    }
}
