//! The superblock of a device, in two copies of which one is always good.

use crate::tenure::{self, Tenure};
use bdev_redb::{BLOCK_BYTES, Label, Medium};
use crc_fast::{CrcAlgorithm, checksum};
use std::io;
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in an extent.
pub const EXTENT_BYTES: u64 = 1 << 20;

/// The format that the releases before know, and that pools have until they are upgraded.
pub const FORMAT_1: u32 = 1;

/// The format with an owner, losses, exports and kinds of volumes.
pub const FORMAT_2: u32 = 2;

const MAGIC: [u8; 8] = *b"FOREBAY\0";
const NAME_BYTES: usize = 64;
/// What is looked at before a device counts as empty, in bytes.
const HEAD_BYTES: usize = 1 << 20;
const COPIES: u64 = 2;
/// A device begins with it that a pool has given up.
const GIVEN_UP: [u8; 8] = *b"FBGIVEN1";
/// Places, as far from each other, that are looked at before a device is taken.
const LOOKS: u64 = 64;

/// The layout on the device (`FORMAT.md`, "Superblock").
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Layout {
    magic: [u8; 8],
    format: U32,
    device: U32,
    pool: [u8; 16],
    uuid: [u8; 16],
    sequence: U64,
    data_offset: U64,
    slots: U64,
    metadata_bytes: U64,
    metadata_generation: U64,
    metadata_length: U64,
    extent_bytes: U32,
    block_bytes: U32,
    name: [u8; NAME_BYTES],
    tenure: tenure::Layout,
    zeros: [u8; BLOCK_BYTES - TENURE_END - 4],
    crc: U32,
}

/// Where the tenure ends, in bytes.
const TENURE_END: usize = 168 + size_of::<tenure::Layout>();

const _: () = assert!(size_of::<Layout>() == BLOCK_BYTES);
const _: () = assert!(std::mem::offset_of!(Layout, pool) == 16);
const _: () = assert!(std::mem::offset_of!(Layout, sequence) == 48);
const _: () = assert!(std::mem::offset_of!(Layout, metadata_bytes) == 72);
const _: () = assert!(std::mem::offset_of!(Layout, extent_bytes) == 96);
const _: () = assert!(std::mem::offset_of!(Layout, name) == 104);
const _: () = assert!(std::mem::offset_of!(Layout, tenure) == 168);
const _: () = assert!(std::mem::offset_of!(Layout, zeros) == 336);
const _: () = assert!(std::mem::offset_of!(Layout, crc) == 4092);

/// What a device says of itself and its pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// [`FORMAT_1`] or [`FORMAT_2`].
    pub format: u32,
    /// Number of the device in the pool.
    pub device: u32,
    /// The pool.
    pub pool: Uuid,
    /// The device.
    pub uuid: Uuid,
    /// Counts the writes of the superblock.
    pub sequence: u64,
    /// Where the slots begin, in bytes.
    pub data_offset: u64,
    /// Slots.
    pub slots: u64,
    /// Size of the metadata region in bytes; 0 without one.
    pub metadata_bytes: u64,
    /// The device with the highest number, if that is not 0, has the metadata.
    pub metadata_generation: u64,
    /// Length of the metadata store in bytes.
    pub metadata_length: u64,
    /// Name of the pool: at most 64 bytes.
    pub name: String,
    /// Of format 2, where the metadata is: who has the pool.
    pub tenure: Tenure,
}

/// Why a device has no superblock for us.
#[derive(Debug)]
pub enum SuperblockError {
    /// It could not be read.
    Device(io::Error),
    /// The device is zeros where it would be.
    Empty,
    /// Something else is there.
    Foreign,
    /// It is of a format that this version does not know.
    Format(u32),
}

impl std::fmt::Display for SuperblockError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SuperblockError::Device(error) => write!(f, "it cannot be read: {error}"),
            SuperblockError::Empty => f.write_str("it is empty: no pool was made on it"),
            SuperblockError::Foreign => f.write_str("it holds something that is not a pool's"),
            SuperblockError::Format(format) => write!(
                f,
                "it belongs to a pool of format {format}, and this version knows formats \
                 {FORMAT_1} and {FORMAT_2} only: use a newer one"
            ),
        }
    }
}

impl std::error::Error for SuperblockError {}

impl Superblock {
    /// Whether `name` can be a pool's: 1 to 64 bytes, no control characters.
    pub fn is_name(name: &str) -> bool {
        (1..=NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control)
    }

    /// Finds the newer good copy.
    ///
    /// # Errors
    /// What is there instead.
    pub fn read(medium: &dyn Medium) -> Result<Superblock, SuperblockError> {
        let blocks = (medium.bytes() / BLOCK_BYTES as u64).min(COPIES) as usize;
        let mut copies = vec![0; blocks * BLOCK_BYTES];
        medium.read(0, &mut copies).map_err(SuperblockError::Device)?;
        let copies = copies.chunks_exact(BLOCK_BYTES);
        match copies.filter_map(valid).max_by_key(|layout| layout.sequence.get()) {
            Some(layout) => Superblock::decode(layout),
            None if is_empty(medium)? => Err(SuperblockError::Empty),
            None => Err(SuperblockError::Foreign),
        }
    }

    /// Writes both copies, so that nothing of an earlier pool, or of an earlier format, is left.
    ///
    /// # Errors
    /// The device's.
    pub(crate) fn write_both(&mut self, medium: &dyn Medium) -> io::Result<()> {
        self.write_next(medium)?;
        self.write_next(medium)
    }

    fn encode(&self) -> Vec<u8> {
        assert!(Superblock::is_name(&self.name), "checked before a pool is made");
        let mut name = [0; NAME_BYTES];
        name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        let mut layout = Layout {
            magic: MAGIC,
            format: self.format.into(),
            device: self.device.into(),
            pool: self.pool.into_bytes(),
            uuid: self.uuid.into_bytes(),
            sequence: self.sequence.into(),
            data_offset: self.data_offset.into(),
            slots: self.slots.into(),
            metadata_bytes: self.metadata_bytes.into(),
            metadata_generation: self.metadata_generation.into(),
            metadata_length: self.metadata_length.into(),
            extent_bytes: (EXTENT_BYTES as u32).into(),
            block_bytes: (BLOCK_BYTES as u32).into(),
            name,
            tenure: match self.format {
                FORMAT_1 => Tenure::default().encode(),
                _ => self.tenure.encode(),
            },
            zeros: [0; BLOCK_BYTES - TENURE_END - 4],
            crc: 0.into(),
        };
        layout.crc = crc(layout.as_bytes()).into();
        layout.as_bytes().to_vec()
    }

    fn decode(layout: &Layout) -> Result<Superblock, SuperblockError> {
        let tenure = match layout.format.get() {
            FORMAT_1 => Tenure::default(),
            FORMAT_2 => Tenure::decode(&layout.tenure).ok_or(SuperblockError::Foreign)?,
            other => return Err(SuperblockError::Format(other)),
        };
        let name = layout.name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| SuperblockError::Foreign)?;
        let sizes = (u64::from(layout.extent_bytes.get()), layout.block_bytes.get() as usize);
        if sizes != (EXTENT_BYTES, BLOCK_BYTES) || !Superblock::is_name(name) {
            return Err(SuperblockError::Foreign);
        }
        Ok(Superblock {
            format: layout.format.get(),
            device: layout.device.get(),
            pool: Uuid::from_bytes(layout.pool),
            uuid: Uuid::from_bytes(layout.uuid),
            sequence: layout.sequence.get(),
            data_offset: layout.data_offset.get(),
            slots: layout.slots.get(),
            metadata_bytes: layout.metadata_bytes.get(),
            metadata_generation: layout.metadata_generation.get(),
            metadata_length: layout.metadata_length.get(),
            name: name.to_owned(),
            tenure,
        })
    }
}

/// A copy that was written as a whole, in whatever format.
fn valid(bytes: &[u8]) -> Option<&Layout> {
    let layout = Layout::ref_from_bytes(bytes).ok()?;
    (layout.magic == MAGIC && layout.crc.get() == crc(bytes)).then_some(layout)
}

impl Label for Superblock {
    fn offset(&self) -> u64 {
        EXTENT_BYTES
    }

    fn bytes(&self) -> u64 {
        self.metadata_bytes
    }

    fn length(&self) -> u64 {
        self.metadata_length
    }

    fn set_length(&mut self, length: u64) {
        self.metadata_length = length;
    }

    fn owner(&self) -> [u8; 24] {
        let mut owner = [0; 24];
        owner[..8].copy_from_slice(&self.metadata_generation.to_le_bytes());
        owner[8..].copy_from_slice(self.pool.as_bytes());
        owner
    }

    /// In place of the older copy.
    fn write_next(&mut self, medium: &dyn Medium) -> io::Result<()> {
        let next = Superblock { sequence: self.sequence + 1, ..self.clone() };
        medium.write(&[((next.sequence % COPIES) * BLOCK_BYTES as u64, &next.encode())])?;
        medium.flush()?;
        *self = next;
        Ok(())
    }
}

/// Whether the first MiB of a device, or all of a smaller one, is zeros, but for the mark of a pool
/// that has given it up.
fn is_empty(medium: &dyn Medium) -> Result<bool, SuperblockError> {
    let bytes = HEAD_BYTES.min(medium.bytes() as usize);
    let mut head = vec![0; bytes - bytes % BLOCK_BYTES];
    medium.read(0, &mut head).map_err(SuperblockError::Device)?;
    let behind = if head.starts_with(&given_up()) { BLOCK_BYTES } else { 0 };
    Ok(head[behind..].iter().all(|byte| *byte == 0))
}

/// The first block of a device that a pool has given up.
fn given_up() -> Vec<u8> {
    let mut block = vec![0; BLOCK_BYTES];
    block[..8].copy_from_slice(&GIVEN_UP);
    let crc = crc(&block);
    block[BLOCK_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    block
}

/// Says durably, in place of both superblocks, that what is on a device is nobody's any more.
///
/// # Errors
/// The device's.
pub fn give_up(medium: &dyn Medium) -> io::Result<()> {
    let mut blocks = given_up();
    blocks.resize(COPIES as usize * BLOCK_BYTES, 0);
    medium.write(&[(0, &blocks)])?;
    medium.flush()
}

/// Whether a device whose first MiB is empty holds something elsewhere, as far as a look at some
/// places tells: its end, where RAID, DRBD and partition tables have marks, and places between. Not
/// where a pool has given it up.
///
/// # Errors
/// The device's.
pub(crate) fn holds_data(medium: &dyn Medium) -> io::Result<bool> {
    let bytes = medium.bytes();
    let mut block = vec![0; BLOCK_BYTES];
    medium.read(0, &mut block)?;
    if block == given_up() {
        return Ok(false);
    }
    let mut end = vec![0; HEAD_BYTES.min(bytes as usize)];
    medium.read(bytes - end.len() as u64, &mut end)?;
    if end.iter().any(|byte| *byte != 0) {
        return Ok(true);
    }
    let doubled = (0..64).map(|shift| (HEAD_BYTES as u64) << shift);
    let even = (1..LOOKS).map(|part| bytes / LOOKS * part);
    let doubled = doubled.take_while(|at| *at > 0 && *at < bytes);
    for at in doubled.chain(even).map(|at| at - at % BLOCK_BYTES as u64) {
        medium.read(at, &mut block)?;
        if block.iter().any(|byte| *byte != 0) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// CRC32C of all but the last field.
fn crc(bytes: &[u8]) -> u32 {
    checksum(CrcAlgorithm::Crc32Iscsi, &bytes[..BLOCK_BYTES - 4]) as u32
}
