//! I/O without being a host: for what keeps metadata, copies, scrubs, serves objects, or measures.
//!
//! On the reactor a [`Driver`] submits operations and is told of their ends. On any other thread a
//! [`Client`] does: it opens bdevs on a reactor, has buffers of its memory, submits, and waits with a
//! deadline, polls, or sleeps on a descriptor. Between the two are rings, no lock and no allocation
//! for an operation. The contract:
//!
//! - **Nothing is cancelled.** A deadline ends the waiting, not the operation: that is under way, its
//!   buffer is not taken again, and its end can still be told of. What it did is unknown until then:
//!   whoever gave up on a write starts nothing that it could overwrite.
//! - **Back-pressure.** As many operations are under way as the client has places, and as many have
//!   data as it has buffers. There is no queue behind them: [`Full`], or no buffer, says so at once.
//! - **Memory.** A buffer belongs to its operation until that has ended, also when the client is
//!   dropped meanwhile. Then the reactor gives channels and buffers back when the last one has ended.
//! - **The reactor ends** ([`Unanswered::Gone`]): what had ended before is told, everything else is
//!   not, and may have happened or not. Its memory stays mapped while there is a client.
//! - **Who waits can be seen.** [`Silence`] says since when operations have been under way without
//!   that one of them ended; to read it asks nobody.
//!
//! Leaves guarantee an end of every operation, in whatever time that takes them; a deadline is for
//! whoever has something better to do than to wait for it.

mod blocking;
mod edge;

pub use blocking::{Buffer, Client, Finished, Full, Silence, Size, Unanswered};
pub use edge::{Channels, Driver, Ended, Operation, Submitter, drive};
