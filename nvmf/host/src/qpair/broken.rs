//! Why a connection ended.

use nvmf_wire::pdu::{Fes, WireError};
use std::fmt;
use std::io;

/// Why a queue pair's connection cannot be used any more.
#[derive(Debug)]
pub enum Broken {
    /// The target closed the connection.
    Ended,
    /// The network failed.
    Network(io::Error),
    /// The target sent a PDU that is wrong in itself.
    Wire(WireError),
    /// The target broke the protocol.
    Protocol(&'static str),
    /// The target ended the connection with a C2HTermReq: it thinks that we broke the protocol.
    Terminated {
        /// Fatal error status.
        fes: u16,
        /// Fatal error information.
        fei: u32,
    },
    /// A command was not answered in time.
    Timeout,
    /// RDMA failed, as a sentence.
    Rdma(String),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Ended => f.write_str("the target closed the connection"),
            Broken::Network(error) => write!(f, "the network failed: {error}"),
            Broken::Wire(error) => write!(f, "the target sent a faulty PDU: {error}"),
            Broken::Protocol(what) => write!(f, "the target broke the protocol: {what}"),
            Broken::Terminated { fes, fei } => {
                let text = Fes::from_code(*fes).map_or("unknown reason", Fes::text);
                write!(
                    f,
                    "the target terminated the connection: {text} (FES {fes:#x}, FEI {fei:#x})"
                )
            }
            Broken::Rdma(why) => write!(f, "RDMA failed: {why}"),
            Broken::Timeout => f.write_str("a command was not answered in time"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Broken {
        Broken::Wire(error)
    }
}
