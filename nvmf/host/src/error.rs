//! What can go wrong, in sentences.

use crate::qpair::Broken;
use nvme_spec::Status;
use nvmf_wire::connect::BadParameter;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use verbs::initiator::ConnectError;

/// Why something with a remote controller did not work.
#[derive(Debug)]
pub enum Error {
    /// A name or an address means nothing.
    Address {
        /// What was given.
        text: String,
        /// The resolver's reason.
        why: Option<io::Error>,
    },
    /// No TCP connection.
    Unreachable {
        /// Whom to.
        address: SocketAddr,
        /// The kernel's reason.
        why: io::Error,
    },
    /// There is no RDMA on this machine.
    NoRdma {
        /// Why, as the end of the sentence "RDMA is off: ".
        why: String,
    },
    /// No RDMA connection.
    NotConnected {
        /// Whom to.
        address: SocketAddr,
        /// Why.
        why: ConnectError,
    },
    /// A setting of our own side that the kernel refuses.
    Local {
        /// What was tried.
        what: String,
        /// The kernel's reason.
        why: io::Error,
    },
    /// The connection was made and then lost.
    Broken {
        /// Whom to.
        address: SocketAddr,
        /// What was under way.
        during: String,
        /// Why.
        why: Broken,
    },
    /// No answer in time.
    Timeout {
        /// Whom from.
        address: SocketAddr,
        /// What was under way.
        during: String,
    },
    /// The target refuses to connect us.
    Refused {
        /// Who.
        address: SocketAddr,
        /// What we wanted to connect to.
        subsystem: String,
        /// As whom.
        host: String,
        /// Its status.
        status: Status,
        /// Dword 0 of its answer.
        dword: u32,
    },
    /// A command failed.
    Command {
        /// Which.
        what: String,
        /// Its status.
        status: Status,
    },
    /// The target does something that we cannot work with.
    Unsuitable {
        /// Who.
        address: SocketAddr,
        /// What, as the rest of a sentence.
        what: String,
    },
}

impl Error {
    /// The status of the command that failed, if one did.
    pub fn status(&self) -> Option<Status> {
        match self {
            Error::Refused { status, .. } | Error::Command { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the connection is lost, so that nothing more can be done with it.
    pub fn is_fatal(&self) -> bool {
        !matches!(self, Error::Command { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::NoRdma { why } => write!(f, "RDMA is off: {why}"),
            Error::NotConnected { address, why } => {
                write!(f, "no connection over RDMA to {address}: {why}")
            }
            Error::Address { text, why: None } => write!(f, "{text} names no address"),
            Error::Address { text, why: Some(why) } => {
                write!(f, "{text} is no address that can be found: {why}")
            }
            Error::Unreachable { address, why } => write!(f, "cannot connect to {address}: {why}"),
            Error::Local { what, why } => write!(f, "cannot {what}: {why}"),
            Error::Broken { address, during, why } => {
                write!(f, "the connection to {address} was lost during {during}: {why}")
            }
            Error::Timeout { address, during } => {
                write!(f, "{address} did not answer in time ({during})")
            }
            Error::Refused { address, subsystem, host, status, dword } => {
                write!(f, "{address} refused the connection to {subsystem}: {status}")?;
                refused_because(f, host, subsystem, *status, *dword)
            }
            Error::Command { what, status } => write!(f, "{what} failed: {status}"),
            Error::Unsuitable { address, what } => write!(f, "the target at {address} {what}"),
        }
    }
}

/// What a refusal of Connect means for the person who reads it.
fn refused_because(
    f: &mut fmt::Formatter<'_>,
    host: &str,
    subsystem: &str,
    status: Status,
    dword: u32,
) -> fmt::Result {
    match status.code() {
        Status::CONNECT_INVALID_HOST => {
            write!(f, "; add {host} to the hosts of the subsystem")
        }
        Status::CONNECT_INVALID_PARAMETERS => match BadParameter::from_dword(dword) {
            BadParameter::SubNqn => write!(f, "; there is no subsystem {subsystem}"),
            BadParameter::HostNqn => write!(f, "; it does not take the host NQN {host}"),
            BadParameter::HostId => f.write_str("; it does not take the host identifier"),
            BadParameter::Cntlid => f.write_str("; the controller is gone"),
            BadParameter::Qid => f.write_str("; it does not take the queue identifier"),
            BadParameter::Sqsize => f.write_str("; it does not take the queue size"),
            BadParameter::Cattr => f.write_str("; it does not take the connect attributes"),
            BadParameter::Kato => f.write_str("; it does not take the keep alive timeout"),
            BadParameter::Other { offset, in_data } => {
                let part = if in_data { "data" } else { "command" };
                write!(f, "; it does not take byte {offset} of the {part}")
            }
        },
        Status::CONNECT_BUSY => f.write_str("; it has no controller or queue free"),
        Status::AUTHENTICATION_REQUIRED => f.write_str("; the host has to authenticate"),
        _ => Ok(()),
    }
}

impl std::error::Error for Error {}
