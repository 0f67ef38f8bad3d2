//! The target between a fake fabric and a RAM bdev.

mod arrival;
mod chance;
mod copy;
mod early_end;
mod fabric;
mod fused;
mod model;
mod node;
mod ram;
mod smoke;
mod storm;
