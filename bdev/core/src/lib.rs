//! The block device contract: [`Io`], [`Done`], [`Channel`], [`Cx`], slab, SPSC ring, DMA memory,
//! limits, counters.
//!
//! Everything is a queue pair. A bdev as one reactor sees it is a [`Channel`]: it takes an [`Io`]
//! by call and gives back a [`Done`] by queue. Channels sit in ranks inside a [`Stack`]; a channel
//! reaches lower ranks only, so data flows one way and no callback, lock or reference cycle is
//! needed. Nothing is cancelled; everything completes.
#![deny(unsafe_code)]

mod abort;
mod channel;
mod counter;
mod discard;
pub mod dma;
mod edge;
mod geometry;
mod io;
pub mod latency;
pub mod limits;
mod slab;
pub mod sleep;
pub mod spsc;
mod stack;
pub mod wake;
mod witness;

pub use abort::AbortOnPanic;
pub use channel::{Bdev, Channel, Cx, OpenCx, OpenError};
pub use counter::Counter;
pub use discard::Discards;
pub use dma::{DmaBuf, DmaPool, DmaSlice, Memory};
pub use edge::{Edge, EdgeCx};
pub use geometry::{Geometry, Home};
pub use io::{Addr, Done, Io, IoFlags, Op, Tag};
pub use slab::Slab;
pub use stack::Stack;
pub use witness::{Noted, Witness};
