//! The command line: what it asks an appliance through the API, what it asks any NVMe over Fabrics
//! target through our own initiator, and what it does with the drives of the machine that it is typed
//! on. It links nothing of the target.

#![forbid(unsafe_code)]

pub mod command;
mod connection;
mod flags;
pub mod print;
