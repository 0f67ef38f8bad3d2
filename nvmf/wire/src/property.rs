//! Property Get and Property Set (Base Specification, "Fabrics Command Set").

use crate::connect::fabrics_command;
use nvme_spec::opcode::fabrics;
use nvme_spec::{Cqe, Sqe};
use zerocopy::little_endian::U32;

/// Size of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 4 bytes.
    Four,
    /// 8 bytes.
    Eight,
    /// A reserved value of ATTRIB.
    Reserved,
}

impl Width {
    const fn from_attrib(attrib: u8) -> Width {
        match attrib & 7 {
            0 => Width::Four,
            1 => Width::Eight,
            _ => Width::Reserved,
        }
    }

    const fn attrib(self) -> u32 {
        match self {
            Width::Four => 0,
            Width::Eight => 1,
            Width::Reserved => 7,
        }
    }
}

/// The Property Get command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertyGet {
    /// Size of the property.
    pub width: Width,
    /// Offset of the property; see [`nvme_spec::property`].
    pub offset: u32,
}

impl PropertyGet {
    /// The fields of a Property Get command.
    pub fn of(sqe: &Sqe) -> PropertyGet {
        PropertyGet { width: Width::from_attrib(sqe.cdw10.get() as u8), offset: sqe.cdw11.get() }
    }

    /// The command.
    pub fn sqe(&self, cid: u16) -> Sqe {
        let mut sqe = fabrics_command(fabrics::PROPERTY_GET, cid);
        sqe.cdw10 = U32::new(self.width.attrib());
        sqe.cdw11 = U32::new(self.offset);
        sqe
    }
}

/// The Property Set command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PropertySet {
    /// Size of the property.
    pub width: Width,
    /// Offset of the property; see [`nvme_spec::property`].
    pub offset: u32,
    /// The value; the upper half of a property of 4 bytes does not count.
    pub value: u64,
}

impl PropertySet {
    /// The fields of a Property Set command.
    pub fn of(sqe: &Sqe) -> PropertySet {
        let width = Width::from_attrib(sqe.cdw10.get() as u8);
        let value = u64::from(sqe.cdw13.get()) << 32 | u64::from(sqe.cdw12.get());
        let value = if width == Width::Four { value & 0xffff_ffff } else { value };
        PropertySet { width, offset: sqe.cdw11.get(), value }
    }

    /// The command.
    pub fn sqe(&self, cid: u16) -> Sqe {
        let mut sqe = fabrics_command(fabrics::PROPERTY_SET, cid);
        sqe.cdw10 = U32::new(self.width.attrib());
        sqe.cdw11 = U32::new(self.offset);
        sqe.cdw12 = U32::new(self.value as u32);
        sqe.cdw13 = U32::new((self.value >> 32) as u32);
        sqe
    }
}

/// Puts the value of a property into the completion of a Property Get.
pub fn put_value(cqe: &mut Cqe, value: u64) {
    cqe.dw0 = U32::new(value as u32);
    cqe.dw1 = U32::new((value >> 32) as u32);
}

/// The value in the completion of a Property Get.
pub fn value(cqe: &Cqe) -> u64 {
    u64::from(cqe.dw1.get()) << 32 | u64::from(cqe.dw0.get())
}
