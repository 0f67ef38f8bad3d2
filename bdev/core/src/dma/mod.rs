//! Memory that devices read and write: mapped once, registered once, handed out in size classes.

mod pool;
mod region;
mod slice;

pub use pool::{ClassPlan, DmaBuf, DmaPool, PoolPlan};
pub use region::{Backing, Memory, Region};
pub use slice::DmaSlice;
