//! Commands to remote targets, through our own initiator.

pub mod discover;
pub mod identify;
pub mod io;

use crate::flags::fabric;
use clap::Args;
use nvmf_host::{Host, Options, Transport, resolve};
use nvmf_wire::Nqn;
use webui_model::Fabric;

/// Whom to connect to and as whom.
#[derive(Args)]
pub struct Remote {
    /// Address of the target: host:port.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The fabric.
    #[arg(long, value_parser = fabric(), default_value_t = Fabric::Tcp)]
    pub transport: Fabric,
    /// NQN to connect as; this machine's unless given.
    #[arg(long, value_name = "NQN")]
    pub hostnqn: Option<String>,
    /// Header digests; TCP only.
    #[arg(long)]
    pub hdr_digest: bool,
    /// Data digests; TCP only.
    #[arg(long)]
    pub data_digest: bool,
    /// Congestion control of the sockets; TCP only.
    #[arg(long, value_name = "NAME")]
    pub congestion: Option<String>,
}

/// How to reach `subsystem` of a remote target; `port` where the address names none.
fn options(remote: &Remote, subsystem: &str, port: u16) -> Result<Options, String> {
    let address = resolve(&remote.address, port).map_err(|error| error.to_string())?;
    let mut host = Host::local();
    if let Some(nqn) = &remote.hostnqn {
        host.nqn = parse_nqn(nqn)?;
    }
    let mut options = Options::new(address, parse_nqn(subsystem)?, host);
    options.transport = Transport::over(remote.transport).map_err(|error| error.to_string())?;
    options.header_digest = remote.hdr_digest;
    options.data_digest = remote.data_digest;
    options.congestion = remote.congestion.clone();
    Ok(options)
}

fn parse_nqn(text: &str) -> Result<Nqn, String> {
    Nqn::new(text).map_err(|error| format!("\"{text}\" is no NQN: {error}"))
}
