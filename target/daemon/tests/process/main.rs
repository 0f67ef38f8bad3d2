//! The binary as its users meet it: flags, sentences, signals, and peers that mean no good.

mod appliance;
mod audited;
mod bad_peers;
mod copies;
mod crowded;
mod crowds;
mod cut_short;
mod descriptors;
mod discard;
mod exported;
#[path = "../../../node/tests/plane/host.rs"]
mod host;
mod hung;
mod identity;
mod life;
mod modes;
mod operator;
mod pools;
mod sentences;
mod short_of;
mod signals;
mod sizes;
mod strangers;
