//! TCP socket options that `std` does not offer.

use std::io;
use std::net::TcpStream;

use clap::Args;
use rustix::net::sockopt;

/// How the sockets of a measured pair are set.
#[derive(Args, Clone, Debug)]
pub struct Tuning {
    /// Congestion control of every connection; the machine's default where empty.
    #[arg(long, default_value = "reno")]
    pub congestion: String,
    /// SO_SNDBUF in bytes; 0 leaves the kernel's autotuning.
    #[arg(long, default_value_t = 0)]
    pub sndbuf: usize,
    /// SO_RCVBUF in bytes; 0 leaves the kernel's autotuning.
    #[arg(long, default_value_t = 0)]
    pub rcvbuf: usize,
}

/// Makes `stream` nonblocking without Nagle's delay, and applies `tuning`.
///
/// # Errors
/// Returns the kernel's error, `ENOENT` where it does not know the congestion control.
pub fn prepare(stream: &TcpStream, tuning: &Tuning) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    if !tuning.congestion.is_empty() {
        sockopt::set_tcp_congestion(stream, &tuning.congestion)?;
    }
    if tuning.sndbuf != 0 {
        sockopt::set_socket_send_buffer_size(stream, tuning.sndbuf)?;
    }
    if tuning.rcvbuf != 0 {
        sockopt::set_socket_recv_buffer_size(stream, tuning.rcvbuf)?;
    }
    Ok(())
}

/// The congestion control in force on `stream`.
///
/// # Errors
/// Returns the kernel's error.
pub fn congestion(stream: &TcpStream) -> io::Result<String> {
    Ok(sockopt::tcp_congestion(stream)?)
}
