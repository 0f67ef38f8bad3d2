//! Which namespace to load, and how its connections are set.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::Args;
use nvmf_host::{Host, Options, RemoteBdev};
use nvmf_wire::Nqn;

/// A namespace of a running target.
#[derive(Args, Clone, Debug)]
pub struct Remote {
    /// Address and port of the target.
    #[arg(long)]
    pub address: SocketAddr,
    /// Subsystem.
    #[arg(long)]
    pub nqn: String,
    /// Namespace.
    #[arg(long, default_value_t = 1)]
    pub nsid: u32,
    /// Congestion control of every connection; the machine's default where empty.
    #[arg(long, default_value = "reno")]
    pub congestion: String,
}

impl Remote {
    /// Connects `count` times, each with one I/O queue for `depth` commands.
    ///
    /// # Errors
    /// Why not.
    pub fn connect(&self, count: usize, depth: usize) -> io::Result<Vec<Arc<RemoteBdev>>> {
        let subsystem = Nqn::new(&self.nqn).map_err(io::Error::other)?;
        let mut options = Options::new(self.address, subsystem, Host::local());
        options.depth = u16::try_from(depth).map_err(io::Error::other)?;
        options.congestion = (!self.congestion.is_empty()).then(|| self.congestion.clone());
        let connect = |_| {
            let remote =
                RemoteBdev::connect(options.clone(), self.nsid).map_err(io::Error::other)?;
            Ok(Arc::new(remote))
        };
        (0..count).map(connect).collect()
    }

    /// The congestion control in force: the one asked for, or the machine's default.
    ///
    /// # Errors
    /// The kernel's, where its default cannot be read.
    pub fn congestion(&self) -> io::Result<String> {
        if !self.congestion.is_empty() {
            return Ok(self.congestion.clone());
        }
        let default = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_congestion_control")?;
        Ok(default.trim().to_owned())
    }
}
