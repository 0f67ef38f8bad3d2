//! What an I/O command asks for, checked once against the namespace it is for.

use crate::export::controller::Location;
use crate::limits::{COPY_PIECE_BYTES, COPY_RANGES, DATASET_RANGES};
use bdev::limits::MAX_TRANSFER_BYTES;
use bdev::{Geometry, IoFlags};
use nvme_spec::copy::Copy;
use nvme_spec::dsm::DatasetManagement;
use nvme_spec::opcode::nvm;
use nvme_spec::{Psdt, SglKind, Sqe, Status};

/// A data command whose fields are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// What it does.
    pub(crate) verb: Verb,
    /// First block.
    pub(crate) lba: u64,
    /// Number of blocks.
    pub(crate) blocks: u32,
    /// Bytes that the host sends or gets.
    pub(crate) bytes: u32,
    /// Modifiers of what goes to the bdev.
    pub(crate) flags: IoFlags,
}

/// What a data command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Blocks to the host.
    Read,
    /// Host data into blocks.
    Write,
    /// Blocks read as zeros afterwards.
    WriteZeroes,
    /// Host data compared with blocks.
    Compare,
    /// Blocks read and forgotten.
    Verify,
    /// Blocks written from ranges of blocks, which come as data.
    Copy {
        /// Each range names its namespace (format 2h); otherwise it is the command's.
        with_namespaces: bool,
    },
    /// Ranges, which come as data.
    Ranges {
        /// They are to be deallocated; otherwise they are hints.
        deallocate: bool,
    },
}

impl Verb {
    /// Whether it is executed step by step, with others in between.
    pub(crate) fn takes_steps(self) -> bool {
        matches!(self, Verb::Verify | Verb::Copy { .. } | Verb::Ranges { deallocate: true })
    }

    /// Whether it reads blocks, and nothing else.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Verb::Read | Verb::Compare | Verb::Verify)
    }

    /// Whether the host sends data.
    pub(crate) fn takes_data(self) -> bool {
        matches!(self, Verb::Write | Verb::Compare | Verb::Copy { .. } | Verb::Ranges { .. })
    }
}

/// Bytes in which Verify reads what it does not keep.
pub(crate) const VERIFY_BYTES: u32 = 128 << 10;

/// Bytes of a piece of a Copy: more than one atomic write of the destination, as far as a transfer
/// goes.
pub(crate) fn piece_bytes(geometry: &Geometry) -> u32 {
    let atomic = geometry.atomic_blocks.saturating_mul(geometry.block_bytes);
    atomic.clamp(COPY_PIECE_BYTES, MAX_TRANSFER_BYTES).next_power_of_two()
}

/// What is wrong with a command: its status, and the field that is to blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The status, with Do Not Retry where a retry cannot help.
    pub(crate) status: Status,
    /// The field, for the error log.
    pub(crate) location: Location,
}

impl Fault {
    /// `status`, not to be retried, because of the field at `location`.
    pub(crate) const fn at(status: Status, location: Location) -> Fault {
        Fault { status: status.dnr(), location }
    }
}

/// Parses a command of the NVM command set other than Flush, which has no range.
///
/// # Errors
/// The status that the command fails with, without any effect.
#[inline]
pub(crate) fn parse(sqe: &Sqe, geometry: &Geometry) -> Result<Command, Fault> {
    let verb = match sqe.opcode {
        nvm::READ => Verb::Read,
        nvm::WRITE => Verb::Write,
        nvm::WRITE_ZEROES => Verb::WriteZeroes,
        nvm::COMPARE => Verb::Compare,
        nvm::VERIFY => Verb::Verify,
        nvm::DATASET_MANAGEMENT => {
            return parse_ranges(sqe, geometry);
        }
        nvm::COPY => return parse_copy(sqe, geometry),
        _ => return Err(Fault::at(Status::INVALID_OPCODE, Location::OPCODE)),
    };
    // Protection information needs metadata, which no namespace has.
    if sqe.cdw12.get() & (0xf << 26 | 1 << 24) != 0 {
        return Err(Fault::at(Status::INVALID_FIELD, Location::dword_bit(12, 26)));
    }
    let (lba, blocks) = (sqe.slba(), sqe.blocks());
    let moves = matches!(verb, Verb::Read | Verb::Write | Verb::Compare);
    let bytes = if moves { u64::from(blocks) * u64::from(geometry.block_bytes) } else { 0 };
    if bytes > u64::from(MAX_TRANSFER_BYTES) {
        return Err(Fault::at(Status::INVALID_FIELD, Location::NLB));
    }
    if !geometry.contains(lba, u64::from(blocks)) {
        return Err(Fault::at(Status::LBA_OUT_OF_RANGE, Location::SLBA));
    }
    let bytes = bytes as u32;
    if moves && described(sqe, verb.takes_data())? != bytes {
        return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
    }
    if geometry.read_only && matches!(verb, Verb::Write | Verb::WriteZeroes) {
        return Err(Fault::at(Status::WRITE_PROTECTED, Location::NONE));
    }
    let mut flags = if sqe.fua() { IoFlags::FUA } else { IoFlags::NONE };
    if verb == Verb::WriteZeroes && sqe.deac() {
        flags = flags.with(IoFlags::MAY_DEALLOCATE);
    }
    Ok(Command { verb, lba, blocks, bytes, flags })
}

#[cold]
fn parse_ranges(sqe: &Sqe, geometry: &Geometry) -> Result<Command, Fault> {
    let dsm = DatasetManagement::of(sqe);
    // "Dataset Management processing limits": DMRL here, the lengths of the ranges once they are known.
    if dsm.ranges > usize::from(DATASET_RANGES) {
        return Err(Fault::at(Status::COMMAND_SIZE_LIMIT, Location::dword_bit(10, 0)));
    }
    // Hosts describe room for all 256 ranges, whatever the number they use.
    if (described(sqe, true)? as usize) < dsm.bytes() {
        return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
    }
    if geometry.read_only && dsm.deallocate {
        return Err(Fault::at(Status::WRITE_PROTECTED, Location::NONE));
    }
    Ok(Command {
        verb: Verb::Ranges { deallocate: dsm.deallocate },
        lba: 0,
        blocks: 0,
        bytes: dsm.bytes() as u32,
        flags: IoFlags::NONE,
    })
}

#[cold]
fn parse_copy(sqe: &Sqe, geometry: &Geometry) -> Result<Command, Fault> {
    let copy = Copy::of(sqe);
    let with_namespaces = match copy.format {
        0 => false,
        2 => true,
        _ => return Err(Fault::at(Status::INVALID_FIELD, Location::dword_bit(12, 8))),
    };
    if copy.ranges > COPY_RANGES {
        return Err(Fault::at(Status::COMMAND_SIZE_LIMIT, Location::NLB));
    }
    // As with Dataset Management, there may be more room than there are ranges.
    if described(sqe, true)? < copy.bytes() {
        return Err(Fault::at(Status::INVALID_SGL_LENGTH, Location::SGL_LENGTH));
    }
    if geometry.read_only {
        return Err(Fault::at(Status::WRITE_PROTECTED, Location::NONE));
    }
    Ok(Command {
        verb: Verb::Copy { with_namespaces },
        lba: sqe.slba(),
        blocks: 0,
        bytes: copy.bytes(),
        flags: if sqe.fua() { IoFlags::FUA } else { IoFlags::NONE },
    })
}

/// Bytes that the data pointer describes.
///
/// # Errors
/// What is wrong with it, where its form cannot carry the command's data.
#[inline]
pub(crate) fn described(sqe: &Sqe, takes_data: bool) -> Result<u32, Fault> {
    if !matches!(sqe.psdt(), Psdt::Sgl | Psdt::SglMetadataSgl) {
        return Err(Fault::at(Status::INVALID_FIELD, Location::PSDT));
    }
    match sqe.dptr.kind() {
        SglKind::Transport => Ok(sqe.dptr.len()),
        SglKind::Keyed { .. } => Ok(sqe.dptr.keyed_len()),
        SglKind::InCapsule if takes_data => Ok(sqe.dptr.len()),
        SglKind::Segment | SglKind::LastSegment => {
            Err(Fault::at(Status::INVALID_SGL_COUNT, Location::SGL_TYPE))
        }
        _ => Err(Fault::at(Status::INVALID_SGL_TYPE, Location::SGL_TYPE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvme_spec::Sgl;
    use proptest::prelude::*;

    fn sqe(opcode: u8, lba: u64, blocks: u32, sgl: Sgl) -> Sqe {
        let mut sqe = Sqe::new(opcode, 7, 1);
        sqe.flags = Sqe::FLAGS_SGL;
        sqe.set_slba(lba);
        sqe.set_blocks(blocks);
        sqe.dptr = sgl;
        sqe
    }

    fn status(sqe: &Sqe, geometry: &Geometry) -> Status {
        parse(sqe, geometry).map_or_else(|fault| fault.status, |_| Status::SUCCESS)
    }

    #[test]
    fn says_what_is_wrong() {
        let g = Geometry::plain(512, 4096);
        let t = Sgl::transport;
        assert_eq!(status(&sqe(nvm::READ, 0, 8, t(4096)), &g), Status::SUCCESS);
        assert_eq!(status(&sqe(nvm::READ, 4090, 8, t(4096)), &g), Status::LBA_OUT_OF_RANGE.dnr());
        assert_eq!(
            status(&sqe(nvm::READ, u64::MAX, 8, t(4096)), &g),
            Status::LBA_OUT_OF_RANGE.dnr()
        );
        assert_eq!(status(&sqe(nvm::READ, 0, 8, t(4095)), &g), Status::INVALID_SGL_LENGTH.dnr());
        assert_eq!(
            status(&sqe(nvm::READ, 0, 2049, t(2049 * 512)), &g),
            Status::INVALID_FIELD.dnr()
        );
        assert_eq!(status(&sqe(nvm::READ, 0, 2048, t(1 << 20)), &g), Status::SUCCESS);
        let capsule = Sgl::in_capsule(0, 512);
        assert_eq!(status(&sqe(nvm::READ, 0, 1, capsule), &g), Status::INVALID_SGL_TYPE.dnr());
        assert_eq!(status(&sqe(nvm::WRITE, 0, 1, capsule), &g), Status::SUCCESS);
        let segment = Sgl { kind: 0x31, ..t(512) };
        assert_eq!(status(&sqe(nvm::READ, 0, 1, segment), &g), Status::INVALID_SGL_COUNT.dnr());
        assert_eq!(status(&sqe(0x77, 0, 1, t(512)), &g), Status::INVALID_OPCODE.dnr());
        let mut prp = sqe(nvm::READ, 0, 1, t(512));
        prp.flags = 0;
        assert_eq!(status(&prp, &g), Status::INVALID_FIELD.dnr());
        let mut protection = sqe(nvm::WRITE, 0, 1, t(512));
        protection.cdw12 = (protection.cdw12.get() | 1 << 29).into();
        assert_eq!(status(&protection, &g), Status::INVALID_FIELD.dnr());
    }

    #[test]
    fn commands_without_data_are_not_bound_by_the_transfer_size() {
        let g = Geometry::plain(4096, 1 << 20);
        for opcode in [nvm::WRITE_ZEROES, nvm::VERIFY] {
            let command = parse(&sqe(opcode, 5, 65536, Sgl::default()), &g).unwrap();
            assert_eq!((command.lba, command.blocks, command.bytes), (5, 65536, 0));
        }
    }

    #[test]
    fn a_protected_namespace_takes_no_write() {
        let g = Geometry { read_only: true, ..Geometry::plain(512, 64) };
        let protected = Status::WRITE_PROTECTED.dnr();
        assert_eq!(status(&sqe(nvm::WRITE, 0, 1, Sgl::transport(512)), &g), protected);
        assert_eq!(status(&sqe(nvm::WRITE_ZEROES, 0, 1, Sgl::default()), &g), protected);
        assert_eq!(status(&sqe(nvm::READ, 0, 1, Sgl::transport(512)), &g), Status::SUCCESS);
    }

    #[test]
    fn ranges_may_come_in_more_room_than_they_need() {
        let g = Geometry::plain(512, 64);
        let mut dsm = sqe(nvm::DATASET_MANAGEMENT, 0, 1, Sgl::transport(4096));
        dsm.cdw10 = 2.into();
        dsm.cdw11 = 4.into();
        let command = parse(&dsm, &g).unwrap();
        assert_eq!(command.verb, Verb::Ranges { deallocate: true });
        assert_eq!(command.bytes, 48);
        dsm.dptr = Sgl::transport(47);
        assert_eq!(status(&dsm, &g), Status::INVALID_SGL_LENGTH.dnr());
        dsm.dptr = Sgl::transport(4096);
        dsm.cdw10 = u32::from(DATASET_RANGES).into();
        assert_eq!(status(&dsm, &g), Status::COMMAND_SIZE_LIMIT.dnr());
    }

    proptest! {
        #[test]
        fn what_is_accepted_lies_inside(bytes in proptest::array::uniform32(any::<u8>()), opcode in 0u8..16) {
            let mut raw = [0u8; 64];
            raw[..32].copy_from_slice(&bytes);
            raw[32..].copy_from_slice(&bytes);
            let mut sqe: Sqe = zerocopy::transmute!(raw);
            sqe.opcode = opcode;
            let g = Geometry::plain(512, 1 << 40);
            if let Ok(c) = parse(&sqe, &g) {
                prop_assert!(c.bytes <= MAX_TRANSFER_BYTES);
                prop_assert!(g.contains(c.lba, u64::from(c.blocks)));
                if c.verb.takes_data() {
                    prop_assert!(c.bytes > 0 && c.bytes <= described(&sqe, true).unwrap());
                }
            }
        }
    }
}
