//! Commands to remote targets, through our own initiator.

pub mod discover;
pub mod identify;
pub mod io;

use crate::cli::{Fabric, Remote};
use nvmf_host::{Host, Options, Transport, resolve};
use nvmf_wire::Nqn;

/// How to reach `subsystem` of a remote target; `port` where the address names none.
fn options(remote: &Remote, subsystem: &str, port: u16) -> Result<Options, String> {
    let address = resolve(&remote.address, port).map_err(|error| error.to_string())?;
    let mut host = Host::local();
    if let Some(nqn) = &remote.hostnqn {
        host.nqn = parse_nqn(nqn)?;
    }
    let mut options = Options::new(address, parse_nqn(subsystem)?, host);
    options.transport = match remote.transport {
        Fabric::Tcp => Transport::Tcp,
        Fabric::Rdma => Transport::rdma().map_err(|error| error.to_string())?,
    };
    options.header_digest = remote.hdr_digest;
    options.data_digest = remote.data_digest;
    options.congestion = remote.congestion.clone();
    Ok(options)
}

fn parse_nqn(text: &str) -> Result<Nqn, String> {
    Nqn::new(text).map_err(|error| format!("\"{text}\" is no NQN: {error}"))
}
