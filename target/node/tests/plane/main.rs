//! The control plane with real reactors and files, and our own initiator as the host.

mod appliance;
mod cut;
mod declared;
mod degraded;
mod discard;
mod exports;
mod format;
mod host;
mod life;
mod random;
mod refused;
mod space;
mod statistics;
