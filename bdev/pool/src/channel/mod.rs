//! A volume on its home reactor: every operation is cut at extents, found in the map, and sent to
//! the devices (`FORMAT.md`, "Reading" and "Writing").

mod bounce;
mod flush;
mod hold;
mod read;
mod sweep;
mod write;

use crate::devices::{Devices, SECTOR_BYTES};
use crate::entry::{BLOCKS_PER_EXTENT, Slot};
use crate::limits::Pace;
use crate::state::{Traffic, View, VolumeState};
use crate::superblock::EXTENT_BYTES;
use crate::volume::Source;
use bdev::{Addr, Channel, Cx, DmaSlice, Done, Io, IoFlags, Op, Slab, Tag};
use bounce::Bounce;
use hold::{Barrier, Hold};
use nvme_spec::Status;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use sweep::Sweep;

const BLOCK: u64 = EXTENT_BYTES / BLOCKS_PER_EXTENT as u64;

/// Changes are committed after this time, flush or not.
const COMMIT_NS: u64 = 5_000_000_000;

/// The part of a write that lies in one extent.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    extent: u64,
    slot: Slot,
    /// Blocks that are touched.
    blocks: Range<usize>,
    /// All of them were there before.
    present: bool,
}

/// Who is told of the end of an operation.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Host(Addr, Tag),
    /// The sweep that is in front.
    Sweep,
}

/// An operation under way.
struct Running {
    owner: Owner,
    fua: bool,
    /// Counts up with each operation.
    serial: u64,
    /// What it waits for at the devices.
    left: u32,
    status: Status,
    /// Of a write: an operation of at most an extent's length touches at most two.
    parts: [Option<Part>; 2],
    bounces: Vec<Bounce>,
}

impl Running {
    fn is_write(&self) -> bool {
        self.parts[0].is_some()
    }

    fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().flatten()
    }
}

/// One operation on a device.
struct Piece {
    op: Op,
    flags: IoFlags,
    address: u64,
    sectors: u32,
    data: DmaSlice,
    tag: Tag,
}

/// What a tag says of an operation on a device: which operation it is part of, and which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Data, or a flush.
    Data,
    /// The block around part of one was read, for this bounce.
    Filled(u8),
}

fn tag(running: u32, step: Step) -> Tag {
    let step = match step {
        Step::Data => 0,
        Step::Filled(bounce) => 1 + u64::from(bounce),
    };
    Tag(step << 32 | u64::from(running))
}

fn step_of(tag: Tag) -> (u32, Step) {
    let step = match tag.0 >> 32 {
        0 => Step::Data,
        bounce => Step::Filled((bounce - 1) as u8),
    };
    (tag.0 as u32, step)
}

/// A volume that is open.
pub(crate) struct VolumeChannel {
    view: Arc<View>,
    /// `None` only while it is dropped.
    state: Option<Box<VolumeState>>,
    devices: Arc<Devices>,
    /// The channel of the devices.
    below: Addr,
    reactor: usize,
    running: Slab<Running>,
    serial: u64,
    /// Host operations taken and not completed.
    taken: u32,
    pace: Pace,
    /// Operations that the limits hold back, in their order.
    paced: VecDeque<Io>,
    /// Writes that wait for a hold to end, for a slot, or for part of a block; and what waits for
    /// memory for part of a block.
    waiting: VecDeque<Io>,
    /// Something of it waits for memory, which another volume may give back.
    lacks_bounce: bool,
    /// What waits for leave to use the devices.
    stalled: VecDeque<Piece>,
    sweeps: VecDeque<Sweep>,
    holds: Vec<Hold>,
    barriers: Vec<Barrier>,
    /// Whoever waits for a commit: its number, whom to tell.
    commits: VecDeque<(u64, Addr, Tag)>,
    /// When the first change since the last commit was seen.
    dirty_since_ns: Option<u64>,
    /// Pieces of one extent, while they are looked for.
    found: Vec<(Range<usize>, Source)>,
}

/// A part of an operation that lies in one extent: the extent, bytes of it, bytes of the data.
fn cut(at: u64, bytes: u64) -> impl Iterator<Item = (u64, Range<u64>, Range<usize>)> {
    let end = at + bytes;
    (at / EXTENT_BYTES..end.div_ceil(EXTENT_BYTES)).map(move |extent| {
        let start = extent * EXTENT_BYTES;
        let (from, to) = (at.max(start), end.min(start + EXTENT_BYTES));
        (extent, from - start..to - start, (from - at) as usize..(to - at) as usize)
    })
}

/// The blocks that `bytes` of an extent touch.
fn blocks_of(bytes: &Range<u64>) -> Range<usize> {
    (bytes.start / BLOCK) as usize..bytes.end.div_ceil(BLOCK) as usize
}

impl VolumeChannel {
    pub(crate) fn new(
        view: Arc<View>,
        state: Box<VolumeState>,
        devices: Arc<Devices>,
        below: Addr,
        reactor: usize,
        limit: u32,
    ) -> VolumeChannel {
        let mut pace = Pace::default();
        pace.set(state.limits);
        VolumeChannel {
            view,
            state: Some(state),
            devices,
            below,
            reactor,
            // One for each operation taken, and those of sweeps.
            running: Slab::growing(limit + sweep::ZEROES_AT_ONCE),
            serial: 0,
            taken: 0,
            pace,
            paced: VecDeque::new(),
            waiting: VecDeque::new(),
            lacks_bounce: false,
            stalled: VecDeque::new(),
            sweeps: VecDeque::new(),
            holds: Vec::new(),
            barriers: Vec::new(),
            commits: VecDeque::new(),
            dirty_since_ns: None,
            found: Vec::new(),
        }
    }

    fn state(&mut self) -> &mut VolumeState {
        self.state.as_mut().expect("there until it is dropped")
    }

    fn span(&self, io: &Io) -> (u64, u64) {
        let block = u64::from(self.view.block_bytes);
        (io.lba * block, u64::from(io.blocks) * block)
    }

    fn begin(&mut self, owner: Owner, fua: bool, parts: [Option<Part>; 2]) -> u32 {
        self.serial += 1;
        let serial = self.serial;
        let (status, bounces) = (Status::SUCCESS, Vec::new());
        // One for whoever puts it together: it does not end before all of it is under way.
        let running = Running { owner, fua, serial, left: 1, status, parts, bounces };
        self.running.insert(running).unwrap_or_else(|_| panic!("more than the channel's limit"))
    }

    fn at(&mut self, running: u32) -> &mut Running {
        self.running.get_mut(running).expect("it has not ended")
    }

    /// Sends one operation to the devices, now or when there is leave to.
    fn send(&mut self, piece: Piece, cx: &mut Cx<'_>) {
        self.at(step_of(piece.tag).0).left += 1;
        match self.devices.take_credit(self.reactor) {
            true => self.submit_piece(piece, cx),
            false => self.stalled.push_back(piece),
        }
    }

    fn submit_piece(&mut self, piece: Piece, cx: &mut Cx<'_>) {
        let Piece { op, flags, address, sectors, data, tag } = piece;
        cx.submit(self.below, op, flags, address, sectors, data, tag);
    }

    fn go_on_stalled(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut work = 0;
        while !self.stalled.is_empty() && self.devices.take_credit(self.reactor) {
            let piece = self.stalled.pop_front().expect("just looked at");
            self.submit_piece(piece, cx);
            work += 1;
        }
        work
    }

    /// One thing that an operation waited for has ended.
    fn step(&mut self, place: u32, status: Status, cx: &mut Cx<'_>) {
        let running = self.at(place);
        if !status.is_success() {
            running.status = status;
        }
        running.left -= 1;
        if running.left > 0 {
            return;
        }
        let running = self.running.remove(place).expect("just looked at");
        let kept = !running.is_write() || self.end_write(&running);
        for bounce in &running.bounces {
            self.devices.give_bounce(self.reactor, bounce.memory());
        }
        self.pass_barriers(&running);
        match running.owner {
            Owner::Sweep => self.sweep_wrote(running.status, kept),
            Owner::Host(to, tag) if running.status.is_success() && running.fua => {
                // Of what was there before, the device has made the data durable.
                match running.parts().all(|part| part.present) {
                    true => self.complete_durable(to, tag, cx),
                    false => self.make_durable(to, tag, cx),
                }
            }
            Owner::Host(to, tag) if running.status.is_success() && !kept => {
                self.complete_durable(to, tag, cx);
            }
            Owner::Host(to, tag) => self.finish(to, tag, running.status, cx),
        }
        if !self.waiting.is_empty() && (running.is_write() || !running.bounces.is_empty()) {
            self.retry_waiting(cx);
        }
    }

    /// A host's operation ends.
    fn finish(&mut self, to: Addr, tag: Tag, status: Status, cx: &mut Cx<'_>) {
        self.taken -= 1;
        cx.complete_parts(to, tag, status);
    }

    fn refuse(&mut self, io: Io, status: Status, cx: &mut Cx<'_>) {
        self.taken -= 1;
        cx.complete(io, status);
    }

    /// Begins an operation that the limits let through.
    fn admit(&mut self, io: Io, cx: &mut Cx<'_>) {
        let (_, bytes) = self.span(&io);
        let traffic = &self.view.traffic;
        match io.op {
            Op::Read => {
                Traffic::add(&traffic.reads, 1);
                Traffic::add(&traffic.read_bytes, bytes);
                self.read(io, cx);
            }
            Op::Write => {
                Traffic::add(&traffic.writes, 1);
                Traffic::add(&traffic.written_bytes, bytes);
                self.write(io, cx);
            }
            Op::WriteZeroes | Op::Deallocate => self.start_sweep(io),
            Op::Flush => self.flush(io, cx),
        }
    }

    fn go_on_paced(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut work = 0;
        while !self.paced.is_empty() && self.pace.next_ns() <= cx.now_ns() {
            let io = self.paced.pop_front().expect("just looked at");
            self.pace.pass(self.span(&io).1, cx.now_ns());
            self.admit(io, cx);
            work += 1;
        }
        work
    }
}

impl Channel for VolumeChannel {
    fn submit(&mut self, io: Io, cx: &mut Cx<'_>) {
        self.taken += 1;
        let blocks = self.view.bytes() / u64::from(self.view.block_bytes);
        if io.lba.checked_add(u64::from(io.blocks)).is_none_or(|end| end > blocks) {
            return self.refuse(io, Status::LBA_OUT_OF_RANGE.dnr(), cx);
        }
        let changes = !matches!(io.op, Op::Read | Op::Flush);
        if changes && self.view.read_only {
            return self.refuse(io, Status::WRITE_PROTECTED.dnr(), cx);
        }
        if changes && self.state().failed {
            return self.refuse(io, Status::INTERNAL_ERROR, cx);
        }
        if self.pace.is_limited() && matches!(io.op, Op::Read | Op::Write) {
            if !self.paced.is_empty() || self.pace.next_ns() > cx.now_ns() {
                Traffic::add(&self.view.traffic.held_back, 1);
                return self.paced.push_back(io);
            }
            self.pace.pass(self.span(&io).1, cx.now_ns());
        }
        self.admit(io, cx);
    }

    fn recall(&mut self, reply_to: Addr, reply_tag: Tag, cx: &mut Cx<'_>) {
        let is_it = |io: &Io| (io.reply_to, io.reply_tag) == (reply_to, reply_tag);
        if let Some(at) = self.paced.iter().position(is_it)
            && let Some(io) = self.paced.remove(at)
        {
            self.refuse(io, Status::ABORT_REQUESTED, cx);
        }
    }

    fn complete(&mut self, done: Done, cx: &mut Cx<'_>) {
        self.devices.give_credit(self.reactor);
        if !self.stalled.is_empty() {
            self.go_on_stalled(cx);
        }
        match step_of(done.tag) {
            (running, Step::Data) => self.step(running, done.status, cx),
            (running, Step::Filled(bounce)) => self.filled(running, bounce, done.status, cx),
        }
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        let mut work = 0;
        if self.view.has_mail() {
            work += self.read_mail(cx);
        }
        if !self.paced.is_empty() {
            work += self.go_on_paced(cx);
        }
        if !self.stalled.is_empty() {
            work += self.go_on_stalled(cx);
        }
        if std::mem::take(&mut self.lacks_bounce) {
            self.retry_waiting(cx);
        }
        if !self.sweeps.is_empty() {
            work += self.sweep(cx);
        }
        work + self.commit_in_time(cx.now_ns())
    }

    fn polled(&self) -> bool {
        true
    }

    fn next_deadline_ns(&self) -> Option<u64> {
        let paced = (!self.paced.is_empty()).then(|| self.pace.next_ns());
        let commit = self.dirty_since_ns.map(|since| since + COMMIT_NS);
        // Stalled pieces go on when another volume's end: within the turn of that end, or the next.
        [paced, commit].into_iter().flatten().min()
    }

    fn outstanding(&self) -> u32 {
        self.taken
    }
}

impl Drop for VolumeChannel {
    fn drop(&mut self) {
        let state = self.state.take().expect("dropped once");
        self.holds.drain(..).for_each(Hold::answer);
        self.view.park(state);
    }
}

/// Sectors of a length in bytes.
fn sectors(bytes: u64) -> u32 {
    (bytes / u64::from(SECTOR_BYTES)) as u32
}
