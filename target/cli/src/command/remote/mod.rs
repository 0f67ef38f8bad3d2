//! Commands to remote targets, through our own initiator.

pub mod discover;
pub mod identify;
pub mod io;

use clap::{Args, ValueEnum};
use nvmf_host::{Host, Options, Transport, resolve};
use nvmf_wire::Nqn;

/// A fabric by which a target is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fabric {
    /// NVMe/TCP.
    Tcp,
    /// NVMe/RDMA, by the RDMA devices of this machine.
    Rdma,
}

/// Whom to connect to and as whom.
#[derive(Args)]
pub struct Remote {
    /// Address of the target: host:port.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The fabric.
    #[arg(long, value_enum, default_value_t = Fabric::Tcp)]
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
