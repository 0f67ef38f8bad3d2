//! The target between a fake fabric and a RAM bdev.

mod arrival;
mod chance;
mod copy;
mod early_end;
mod elsewhere;
mod fabric;
mod fused;
mod model;
mod node;
mod ram;
mod shares;
mod smoke;
mod storm;
mod witness;
