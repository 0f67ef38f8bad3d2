//! Connections that do nothing: what a connection costs a target in memory.

use std::io::{self, Read as _, Write as _};

use clap::Args;

use super::Remote;

/// Flags of `bench forebay-hold`.
#[derive(Args, Clone, Debug)]
pub struct HoldOptions {
    #[command(flatten)]
    pub(crate) remote: Remote,
    /// Hosts to connect as; each opens an admin queue and one I/O queue.
    #[arg(long, default_value_t = 32)]
    pub hosts: usize,
    /// Commands each I/O queue may have outstanding.
    #[arg(long, default_value_t = 128)]
    pub depth: usize,
}

/// Connects, says so with the line `connected`, and stays until standard input ends.
///
/// # Errors
/// Why it cannot connect.
pub fn hold(options: &HoldOptions) -> io::Result<()> {
    let remotes = options.remote.connect(options.hosts, options.depth)?;
    writeln!(io::stdout(), "connected")?;
    io::stdin().read_to_end(&mut Vec::new())?;
    remotes.iter().for_each(|remote| remote.disconnect());
    Ok(())
}
