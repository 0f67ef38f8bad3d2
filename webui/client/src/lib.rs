//! The API's client: which appliance is asked and with what token, requests and answers over HTTP,
//! the stream of events. It blocks, and speaks the nouns of `webui-model`.

#![forbid(unsafe_code)]

mod access;
mod client;
mod failure;
mod http;
pub mod path;
mod socket;

pub use access::Access;
pub use client::{Client, List};
pub use failure::Failure;
pub use http::{Answer, OwnCertificate};
pub use ureq::http::Method;
