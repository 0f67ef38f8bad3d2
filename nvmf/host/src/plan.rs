//! From an operation to the commands that do it.

use crate::qpair::Payload;
use crate::{ControllerInfo, NamespaceInfo};
use bdev::{Io, IoFlags, Op};
use nvme_spec::dsm::{Range, attribute};
use nvme_spec::identify::bits::oncs;
use nvme_spec::opcode::nvm;
use nvme_spec::{Sqe, Status};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

/// The most blocks that NLB can say.
const MAX_NLB: u32 = 1 << 16;

/// How Deallocate is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deallocate {
    /// Dataset Management: deallocated blocks of this namespace read as zeros.
    DatasetManagement,
    /// Write Zeroes: what the namespace's deallocated blocks read as is not known.
    WriteZeroes,
    /// Not at all.
    Unsupported,
}

/// What a namespace takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Namespace identifier.
    pub nsid: u32,
    /// Bytes in a block.
    pub block_bytes: u32,
    /// The most blocks of a Read or Write.
    pub max_blocks: u32,
    /// The most blocks of a Write Zeroes; 0 when there is no such command.
    pub max_zeroes_blocks: u32,
    /// The most blocks of a range of Dataset Management.
    pub max_deallocate_blocks: u32,
    /// Write Zeroes may be told to deallocate.
    pub zeroes_may_deallocate: bool,
    /// How Deallocate is done.
    pub deallocate: Deallocate,
}

impl Shape {
    /// What `namespace` of `controller` takes.
    pub fn of(controller: &ControllerInfo, namespace: &NamespaceInfo) -> Shape {
        let block_bytes = namespace.block_bytes;
        let blocks = |bytes: Option<u64>| match bytes {
            None => MAX_NLB,
            Some(bytes) => {
                let blocks = bytes / u64::from(block_bytes.max(1));
                u32::try_from(blocks).unwrap_or(MAX_NLB).clamp(1, MAX_NLB)
            }
        };
        let zeroes = controller.has(oncs::WRITE_ZEROES);
        let dsm = controller.has(oncs::DATASET_MANAGEMENT) && namespace.deallocated_reads_zeroes;
        Shape {
            nsid: namespace.nsid,
            block_bytes,
            max_blocks: blocks(controller.max_transfer_bytes),
            max_zeroes_blocks: if zeroes { blocks(controller.max_zeroes_bytes) } else { 0 },
            max_deallocate_blocks: match controller.max_deallocate_blocks {
                0 => u32::MAX,
                most => most,
            },
            zeroes_may_deallocate: namespace.zeroes_may_deallocate,
            deallocate: match (dsm, zeroes) {
                (true, _) => Deallocate::DatasetManagement,
                (false, true) => Deallocate::WriteZeroes,
                (false, false) => Deallocate::Unsupported,
            },
        }
    }
}

/// An operation and how far it is.
pub(crate) struct Work {
    pub(crate) io: Io,
    /// Blocks for which no command was made yet; one for a flush.
    pub(crate) left: u32,
    /// Commands under way.
    pub(crate) out: u32,
    /// The first failure of a command, else success.
    pub(crate) status: Status,
    /// How often a connection was lost under it.
    pub(crate) losses: u8,
    /// It waits for a free slot.
    pub(crate) queued: bool,
}

impl Work {
    pub(crate) fn new(io: Io) -> Work {
        let left = Work::span(&io);
        Work { io, left, out: 0, status: Status::SUCCESS, losses: 0, queued: false }
    }

    fn span(io: &Io) -> u32 {
        if io.op == Op::Flush { 1 } else { io.blocks }
    }

    /// As if no command had been made: after a connection was lost.
    pub(crate) fn start_over(&mut self) {
        self.left = Work::span(&self.io);
        self.out = 0;
    }

    /// The next command, if the namespace can do it.
    #[inline]
    pub(crate) fn next(&mut self, shape: &Shape) -> Result<(Sqe, Payload), Status> {
        let Io { op, flags, lba, blocks, data, .. } = self.io;
        match op {
            Op::Read => {
                let (sqe, at, bytes) = self.transfer(nvm::READ, shape);
                Ok((sqe, Payload::ToHost(data.sub(at, bytes))))
            }
            Op::Write => {
                let (mut sqe, at, bytes) = self.transfer(nvm::WRITE, shape);
                if flags.has(IoFlags::FUA) {
                    sqe.set_fua();
                }
                Ok((sqe, Payload::ToController(data.sub(at, bytes))))
            }
            Op::Flush => {
                self.left = 0;
                Ok((Sqe::new(nvm::FLUSH, 0, shape.nsid), Payload::None))
            }
            Op::WriteZeroes => self.zeroes(shape, flags.has(IoFlags::MAY_DEALLOCATE)),
            Op::Deallocate => match shape.deallocate {
                Deallocate::WriteZeroes => self.zeroes(shape, true),
                Deallocate::Unsupported => Err(Status::INVALID_OPCODE.dnr()),
                Deallocate::DatasetManagement => {
                    let slba = lba + u64::from(blocks - self.left);
                    let count = self.left.min(shape.max_deallocate_blocks);
                    self.left -= count;
                    let range = Range {
                        attributes: U32::new(0),
                        blocks: U32::new(count),
                        slba: U64::new(slba),
                    };
                    let mut sqe = Sqe::new(nvm::DATASET_MANAGEMENT, 0, shape.nsid);
                    sqe.cdw11 = U32::new(attribute::DEALLOCATE);
                    let mut bytes = [0; 16];
                    bytes.copy_from_slice(range.as_bytes());
                    Ok((sqe, Payload::Range(bytes)))
                }
            },
        }
    }

    /// A command over the next blocks, at most `most`.
    #[inline]
    fn ranged(&mut self, opcode: u8, shape: &Shape, most: u32) -> (Sqe, u32) {
        let count = self.left.min(most);
        let mut sqe = Sqe::new(opcode, 0, shape.nsid);
        sqe.set_slba(self.io.lba + u64::from(self.io.blocks - self.left));
        sqe.set_blocks(count);
        self.left -= count;
        (sqe, count)
    }

    /// A command that moves data, with the place and length of its data in bytes.
    #[inline]
    fn transfer(&mut self, opcode: u8, shape: &Shape) -> (Sqe, usize, usize) {
        let at = (self.io.blocks - self.left) as usize * shape.block_bytes as usize;
        let (sqe, count) = self.ranged(opcode, shape, shape.max_blocks);
        (sqe, at, count as usize * shape.block_bytes as usize)
    }

    fn zeroes(&mut self, shape: &Shape, deallocate: bool) -> Result<(Sqe, Payload), Status> {
        if shape.max_zeroes_blocks == 0 {
            return Err(Status::INVALID_OPCODE.dnr());
        }
        let (mut sqe, _) = self.ranged(nvm::WRITE_ZEROES, shape, shape.max_zeroes_blocks);
        if deallocate && shape.zeroes_may_deallocate {
            sqe.set_deac();
        }
        Ok((sqe, Payload::None))
    }
}
