//! The benchmark harness: the ceiling, Forebay, medians of ratios.
//!
//! The ceiling is a bare TCP pair in the shape of NVMe/TCP with nothing else in
//! it. Forebay's figures are given as shares of it, measured in the same run.
#![deny(unsafe_code)]

pub mod ceiling;
pub mod latency;
pub mod load;
pub mod misbehaving;
pub mod random;
pub mod region;
pub mod run;
pub mod sample;
pub mod socket;
pub mod volume;
