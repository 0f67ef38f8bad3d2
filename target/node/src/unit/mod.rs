//! What the appliance is made of, as pure machines: `step(input, now) -> effects`. None of them does
//! I/O, waits, or reads a clock; [`crate::executor`] carries the effects out, and their ends come
//! back as inputs.
//!
//! - [`schedule`]: whose turn it is with which object, and how many effects go on at once.
//! - [`attempt`]: something that is wanted and opened again and again: a device, a namespace, a
//!   listener, a remote target.
//! - [`pool`]: a pool, which is imported, fails, and is opened again.
//! - [`draining`]: a namespace that was removed and waits for its last command.
//! - [`pulse`]: whether a device still answers.

pub mod attempt;
pub mod backoff;
pub mod draining;
pub mod pool;
pub mod pulse;
pub mod schedule;
