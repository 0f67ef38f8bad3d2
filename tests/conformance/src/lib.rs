//! A stock Linux host in QEMU against the shipped binary.
//!
//! A [`lab::Lab`] holds two Debian kernels and a Debian userland, built by `lab/build` from
//! packages. A test starts the appliance on this machine's loopback ([`appliance::Appliance`]),
//! for (kill the appliance, add a namespace) and judges the checks that it reports
//! ([`report::judge`]). Under emulation only correctness is judged, never time.
#![forbid(unsafe_code)]

pub mod appliance;
pub mod base64;
pub mod board;
pub mod cpio;
pub mod golden;
pub mod guest;
pub mod lab;
pub mod monitor;
pub mod pdu;
pub mod record;
pub mod report;
