//! Random commands, and what their ends say.

use crate::block::{BLOCK_BYTES, Value, fill, value_of};
use crate::history::{History, Moment, WriteEnd};
use crate::node::NSID;
use crate::plan::{Plan, Planted};
use crate::rng::Rng;
use crate::{Failure, Kind};
use bdev::{DmaBuf, DmaPool};
use nvme_spec::dsm::{Range, attribute};
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use nvmf_host::qpair::{Ended, Payload};
use zerocopy::IntoBytes;

/// What an I/O command was about.
#[derive(Debug)]
pub enum About {
    /// A read.
    Read {
        /// First block.
        lba: u64,
        /// Number of blocks.
        blocks: u32,
    },
    /// A change of blocks.
    Write {
        /// Its number in the history.
        write: u64,
    },
    /// A Flush.
    Flush,
    /// A Compare of one block.
    Compare {
        /// The block.
        lba: u64,
        /// What it is compared with.
        value: Value,
    },
    /// The write of a fused pair.
    Swap {
        /// The block.
        lba: u64,
        /// What the compare found if this succeeds.
        value: Value,
        /// Its number in the history.
        write: u64,
    },
}

/// An I/O command under way.
pub struct Command {
    /// What it does.
    pub about: About,
    began: Moment,
    buf: Option<DmaBuf>,
}

/// A command to be submitted.
pub struct Draft {
    /// What it does.
    pub command: Command,
    /// The entry; the queue pair fills in identifier and data pointer.
    pub sqe: Sqe,
    /// Its data.
    pub payload: Payload,
}

/// Draws commands for one host.
pub struct Workload {
    rng: Rng,
    blocks: u64,
    hot_blocks: u64,
    large: u64,
    unfused: bool,
}

impl Workload {
    /// The commands of `plan`.
    pub fn new(plan: &Plan, rng: Rng) -> Workload {
        let unfused = plan.planted == Some(Planted::UnfusedPair);
        Workload {
            rng,
            blocks: plan.blocks,
            hot_blocks: plan.hot_blocks,
            large: plan.large,
            unfused,
        }
    }

    /// One or two commands, which go together; fewer than `room`. None when memory is short.
    pub fn draw(&mut self, room: u32, pool: &mut DmaPool, history: &mut History) -> Vec<Draft> {
        let drawn = match self.rng.below(100) {
            0..38 => self.read(pool, history).map(|draft| vec![draft]),
            38..70 => self.write(pool, history).map(|draft| vec![draft]),
            70..76 => Some(vec![self.write_zeroes(history)]),
            76..81 => Some(vec![self.deallocate(history)]),
            81..89 => Some(vec![flush(history)]),
            89..93 => self.compare(pool, history).map(|draft| vec![draft]),
            _ if room >= 2 => self.swap(pool, history),
            _ => None,
        };
        drawn.unwrap_or_default()
    }

    /// Where, and how much. Mostly little, where it is crowded.
    fn range(&mut self) -> (u64, u32) {
        let most = match self.rng.below(self.large) {
            0 => 600,
            1..6 => 64,
            _ => 6,
        };
        let blocks = self.rng.within(1, most);
        let span = if self.rng.below(10) < 8 { self.hot_blocks } else { self.blocks };
        let lba = self.rng.below(span).min(self.blocks - blocks);
        (lba, blocks as u32)
    }

    fn read(&mut self, pool: &mut DmaPool, history: &mut History) -> Option<Draft> {
        let (lba, blocks) = self.range();
        let mut sqe = sqe(nvm::READ, lba, blocks);
        if self.rng.one_in(8) {
            sqe.set_fua();
        }
        read_of(lba, blocks, sqe, pool, history)
    }

    fn write(&mut self, pool: &mut DmaPool, history: &mut History) -> Option<Draft> {
        let (lba, blocks) = self.range();
        let durable = self.rng.one_in(5);
        let buf = pool.take(blocks as usize * BLOCK_BYTES)?;
        let data = buf.slice().sub(0, blocks as usize * BLOCK_BYTES);
        let write = history.begin_write(lba, blocks, false, durable);
        for n in 0..u64::from(blocks) {
            let mut block = [0; BLOCK_BYTES];
            fill(&mut block, Value(write), lba + n);
            data.copy_in(n as usize * BLOCK_BYTES, &block);
        }
        let mut sqe = sqe(nvm::WRITE, lba, blocks);
        if durable {
            sqe.set_fua();
        }
        let command =
            Command { about: About::Write { write }, began: history.moment(), buf: Some(buf) };
        Some(Draft { command, sqe, payload: Payload::ToController(data) })
    }

    fn write_zeroes(&mut self, history: &mut History) -> Draft {
        let (lba, blocks) = self.range();
        let durable = self.rng.one_in(5);
        let write = history.begin_write(lba, blocks, true, durable);
        let mut sqe = sqe(nvm::WRITE_ZEROES, lba, blocks);
        if durable {
            sqe.set_fua();
        }
        if self.rng.coin() {
            sqe.set_deac();
        }
        let command = Command { about: About::Write { write }, began: history.moment(), buf: None };
        Draft { command, sqe, payload: Payload::None }
    }

    fn deallocate(&mut self, history: &mut History) -> Draft {
        let (lba, blocks) = self.range();
        let write = history.begin_write(lba, blocks, true, false);
        let range = Range { blocks: blocks.into(), slba: lba.into(), ..Range::default() };
        let mut bytes = [0; 16];
        bytes.copy_from_slice(range.as_bytes());
        let mut sqe = Sqe::new(nvm::DATASET_MANAGEMENT, 0, NSID);
        sqe.cdw11 = attribute::DEALLOCATE.into();
        let command = Command { about: About::Write { write }, began: history.moment(), buf: None };
        Draft { command, sqe, payload: Payload::Range(bytes) }
    }

    fn compare(&mut self, pool: &mut DmaPool, history: &mut History) -> Option<Draft> {
        let lba = self.rng.below(self.hot_blocks);
        let value = history.likely(lba);
        let (buf, data) = one_block(pool, value, lba)?;
        let command = Command {
            about: About::Compare { lba, value },
            began: history.moment(),
            buf: Some(buf),
        };
        Some(Draft { command, sqe: sqe(nvm::COMPARE, lba, 1), payload: data })
    }

    /// A fused Compare and Write.
    fn swap(&mut self, pool: &mut DmaPool, history: &mut History) -> Option<Vec<Draft>> {
        let lba = self.rng.below(self.hot_blocks);
        let value = history.likely(lba);
        let (old, old_data) = one_block(pool, value, lba)?;
        let durable = self.rng.one_in(5);
        let write = history.begin_write(lba, 1, false, durable);
        let Some((new, new_data)) = one_block(pool, Value(write), lba) else {
            pool.give(old);
            history.end_write(write, WriteEnd::Unknown);
            return None;
        };
        let (mut first, mut second) = (sqe(nvm::COMPARE, lba, 1), sqe(nvm::WRITE, lba, 1));
        if !self.unfused {
            first.flags |= Sqe::FUSE_FIRST | Sqe::FLAGS_SGL;
            second.flags |= Sqe::FUSE_SECOND | Sqe::FLAGS_SGL;
        }
        if durable {
            second.set_fua();
        }
        let began = history.moment();
        let compare = Command { about: About::Compare { lba, value }, began, buf: Some(old) };
        let swap = Command { about: About::Swap { lba, value, write }, began, buf: Some(new) };
        Some(vec![
            Draft { command: compare, sqe: first, payload: old_data },
            Draft { command: swap, sqe: second, payload: new_data },
        ])
    }
}

fn sqe(opcode: u8, lba: u64, blocks: u32) -> Sqe {
    let mut sqe = Sqe::new(opcode, 0, NSID);
    sqe.set_slba(lba);
    sqe.set_blocks(blocks);
    sqe
}

fn flush(history: &mut History) -> Draft {
    let command = Command { about: About::Flush, began: history.moment(), buf: None };
    Draft { command, sqe: Sqe::new(nvm::FLUSH, 0, NSID), payload: Payload::None }
}

fn one_block(pool: &mut DmaPool, value: Value, lba: u64) -> Option<(DmaBuf, Payload)> {
    let buf = pool.take(BLOCK_BYTES)?;
    let mut block = [0; BLOCK_BYTES];
    fill(&mut block, value, lba);
    let data = buf.slice().sub(0, BLOCK_BYTES);
    data.copy_in(0, &block);
    Some((buf, Payload::ToController(data)))
}

fn read_of(
    lba: u64,
    blocks: u32,
    sqe: Sqe,
    pool: &mut DmaPool,
    history: &mut History,
) -> Option<Draft> {
    let buf = pool.take(blocks as usize * BLOCK_BYTES)?;
    let data = buf.slice().sub(0, blocks as usize * BLOCK_BYTES);
    let command =
        Command { about: About::Read { lba, blocks }, began: history.moment(), buf: Some(buf) };
    Some(Draft { command, sqe, payload: Payload::ToHost(data) })
}

/// A read of `blocks` blocks at `lba`; `None` when memory is short.
pub fn read(lba: u64, blocks: u32, pool: &mut DmaPool, history: &mut History) -> Option<Draft> {
    read_of(lba, blocks, sqe(nvm::READ, lba, blocks), pool, history)
}

impl Command {
    /// The target answered.
    ///
    /// # Errors
    /// The answer cannot be right.
    pub fn answered(&self, ended: &Ended, history: &mut History) -> Result<(), Failure> {
        let status = ended.status();
        match &self.about {
            About::Read { lba, blocks } if status.is_success() => {
                self.check_read(*lba, *blocks, history)?;
            }
            About::Write { write } => history.end_write(*write, write_end(status)),
            About::Swap { lba, value, write } => {
                history.end_write(*write, write_end(status));
                if status.is_success() {
                    history.swapped(*lba, *value, *write)?;
                }
            }
            About::Flush if status.is_success() => history.end_flush(self.began),
            About::Compare { lba, value } if status.is_success() => {
                history.read(*lba, *value, self.began)?;
            }
            About::Compare { lba, value } if status.code() == Status::COMPARE_FAILURE => {
                history.differs(*lba, *value, self.began)?;
            }
            About::Read { .. } | About::Flush | About::Compare { .. } => {}
        }
        self.check_status(status)
    }

    fn check_read(&self, lba: u64, blocks: u32, history: &mut History) -> Result<(), Failure> {
        let buf = self.buf.as_ref().expect("a read has memory");
        for n in 0..u64::from(blocks) {
            let mut block = [0; BLOCK_BYTES];
            buf.slice().copy_out(n as usize * BLOCK_BYTES, &mut block);
            let Some(value) = value_of(&block, lba + n) else {
                let what = format!("block {} returned {:02x?}...", lba + n, &block[..16]);
                return Err(Failure::new(Kind::Garbage, what));
            };
            history.read(lba + n, value, self.began)?;
        }
        Ok(())
    }

    /// Only errors that the drive or an accident explains are right.
    fn check_status(&self, status: Status) -> Result<(), Failure> {
        let explained = [
            Status::SUCCESS,
            Status::UNRECOVERED_READ,
            Status::WRITE_FAULT,
            Status::INTERNAL_ERROR,
            Status::ABORTED_SQ_DELETION,
            Status::TRANSIENT_TRANSPORT,
        ];
        let of_pair = [Status::COMPARE_FAILURE, Status::ABORTED_FAILED_FUSED];
        let compares = matches!(self.about, About::Compare { .. } | About::Swap { .. });
        let code = status.code();
        if explained.contains(&code) || (compares && of_pair.contains(&code)) {
            return Ok(());
        }
        Err(Failure::new(Kind::Protocol, format!("{:?} ended with {status:?}", self.about)))
    }

    /// The write that it is, if it is one.
    pub fn write(&self) -> Option<u64> {
        match self.about {
            About::Write { write } | About::Swap { write, .. } => Some(write),
            About::Read { .. } | About::Flush | About::Compare { .. } => None,
        }
    }

    /// Takes its memory.
    pub fn into_buf(self) -> Option<DmaBuf> {
        self.buf
    }
}

fn write_end(status: Status) -> WriteEnd {
    if status.is_success() { WriteEnd::Acknowledged } else { WriteEnd::Unknown }
}
