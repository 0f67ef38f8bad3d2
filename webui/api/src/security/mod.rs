//! Who may do what, and who did.

mod audit;
mod code;
mod limiter;
mod secret;
mod session;
mod token;

pub use limiter::{LoginLimiter, Refill};
pub use token::Tokens;

pub use audit::AuditForward;
pub(crate) use audit::{Audit, Unwritten, recorded_body};
pub(crate) use code::LIFE_MS as CODE_LIFE_MS;
pub(crate) use limiter::caller;
pub(crate) use secret::without_secrets;
pub(crate) use token::Identity;
