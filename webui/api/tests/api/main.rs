//! The API over real HTTP, in front of an appliance in memory.

mod access;
mod appliance;
mod audit;
mod client;
mod document;
mod limiter;
mod local;
mod oracle;
mod roles;
mod schemathesis;
mod serving;
mod streams;
mod tls;
