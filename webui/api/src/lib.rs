//! The REST API of the appliance: routes, roles, the OpenAPI document and the server, over the nouns
//! and the trait of `webui-model`.

#![forbid(unsafe_code)]

mod app;
mod clock;
mod limits;
mod operation;
mod peer;
pub mod security;
mod server;

pub use clock::{Machine, World};
pub use server::{
    CertificateReader, Page, Pages, Server, ServerConfig, StartError, TlsConfig, TlsFiles,
    fingerprint, handles_request, self_signed,
};

/// The OpenAPI document of the API, in JSON.
pub fn openapi_document() -> Vec<u8> {
    app::App::describe().0
}
