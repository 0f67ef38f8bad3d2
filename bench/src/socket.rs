//! TCP socket options that `std` does not offer.
#![allow(unsafe_code)]

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use clap::Args;

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
        let name = tuning.congestion.as_bytes();
        set(stream, libc::IPPROTO_TCP, libc::TCP_CONGESTION, name)?;
    }
    for (bytes, option) in [(tuning.sndbuf, libc::SO_SNDBUF), (tuning.rcvbuf, libc::SO_RCVBUF)] {
        if bytes != 0 {
            let value = i32::try_from(bytes).unwrap_or(i32::MAX);
            set(stream, libc::SOL_SOCKET, option, &value.to_ne_bytes())?;
        }
    }
    Ok(())
}

/// The congestion control in force on `stream`.
///
/// # Errors
/// Returns the kernel's error.
pub fn congestion(stream: &TcpStream) -> io::Result<String> {
    let mut name = [0u8; 16];
    let mut len = name.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `name`.
    let rc = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            name.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if rc != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned())
}

fn set(stream: &TcpStream, level: i32, option: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the kernel reads `len` bytes of `value`.
    let rc =
        unsafe { libc::setsockopt(stream.as_raw_fd(), level, option, value.as_ptr().cast(), len) };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
