//! Memory block devices: [`Ram`] and [`Null`], and layers that go over any bdev: [`Delay`],
//! [`ErrorInjector`] and [`Meter`].
//!
//! No channel here allocates, locks or calls the kernel for an operation.
#![forbid(unsafe_code)]

mod delay;
mod error;
mod meter;
mod null;
mod ram;

pub use delay::{Delay, DelaysNs};
pub use error::{ErrorInjector, OpSet, Rule, RuleId, Times};
pub use meter::{Meter, Meters};
pub use null::Null;
pub use ram::Ram;

use bdev::OpenError;

/// Number of blocks in `bytes` bytes, rounded down; a sentence when that makes no device.
fn blocks_of(bytes: u64, block_bytes: u32) -> Result<u64, OpenError> {
    if block_bytes != 512 && block_bytes != 4096 {
        return Err(OpenError(format!("blocks of {block_bytes} bytes: only 512 and 4096 exist")));
    }
    match bytes / u64::from(block_bytes) {
        0 => Err(OpenError(format!("{bytes} bytes hold no block of {block_bytes} bytes"))),
        blocks => Ok(blocks),
    }
}
