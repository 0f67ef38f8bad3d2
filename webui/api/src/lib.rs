//! The REST API of the appliance: what it speaks of ([`model`]), the server, and what stands
//! behind it ([`Control`]). It knows no other crate of the project: whoever runs the appliance implements
//! [`Control`] over it.

#![forbid(unsafe_code)]

mod app;
mod clock;
mod control;
mod events;
mod limits;
mod metrics;
pub mod model;
mod operation;
mod refusal;
pub mod security;
mod server;

pub use clock::{Machine, World};
pub use control::{Control, Made};
pub use events::{EventLog, EventPage};
pub use metrics::render as render_metrics;
pub use refusal::{ErrorBody, Refusal, RefusalKind};
pub use server::{Page, Pages, Server, ServerConfig, TlsFiles, fingerprint, self_signed};

/// The OpenAPI document of the API, in JSON.
pub fn openapi_document() -> Vec<u8> {
    app::App::describe().0
}
