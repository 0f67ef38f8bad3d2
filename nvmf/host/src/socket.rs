//! Byte streams that a queue pair runs over.

use rustix::net::sockopt;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// A byte stream that never blocks.
pub trait Socket: Send {
    /// Receives what is there into `into`, one piece after the other. `None` when nothing is
    /// there now, `Some(0)` when the peer has ended the stream.
    ///
    /// # Errors
    /// The stream is broken.
    fn recv(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>>;

    /// Sends as much of `from` as fits. `None` when nothing fits now.
    ///
    /// # Errors
    /// The stream is broken.
    fn send(&mut self, from: &[IoSlice<'_>]) -> io::Result<Option<usize>>;

    /// A descriptor that becomes readable when there is something to receive.
    fn fd(&self) -> Option<RawFd> {
        None
    }
}

/// How long a target may be gone before the connection is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// A TCP connection.
#[derive(Debug)]
pub struct TcpSocket(TcpStream);

impl TcpSocket {
    /// Connects within `limit`, without Nagle's delay, and with the congestion control algorithm
    /// `congestion` of the kernel if one is given.
    ///
    /// # Errors
    /// The kernel's; a congestion control that it does not know is `NotFound`.
    pub fn connect(
        address: SocketAddr,
        limit: Duration,
        congestion: Option<&str>,
    ) -> io::Result<TcpSocket> {
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        // A target that vanishes is noticed between two keep alives, too.
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, PATIENCE / 2)?;
        sockopt::set_tcp_keepintvl(&stream, PATIENCE / 6)?;
        sockopt::set_tcp_keepcnt(&stream, 3)?;
        sockopt::set_tcp_user_timeout(&stream, PATIENCE.as_millis() as u32)?;
        if let Some(name) = congestion {
            sockopt::set_tcp_congestion(&stream, name)?;
        }
        stream.set_nonblocking(true)?;
        Ok(TcpSocket(stream))
    }

    /// Another handle to the same connection, with which someone else can end it.
    ///
    /// # Errors
    /// The kernel's, when it has no descriptor left.
    pub fn handle(&self) -> io::Result<TcpStream> {
        self.0.try_clone()
    }
}

fn unless_blocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}

impl Socket for TcpSocket {
    fn recv(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        unless_blocked(match into {
            [one] => self.0.read(one),
            many => self.0.read_vectored(many),
        })
    }

    fn send(&mut self, from: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        unless_blocked(match from {
            [one] => self.0.write(one),
            many => self.0.write_vectored(many),
        })
    }

    fn fd(&self) -> Option<RawFd> {
        Some(self.0.as_raw_fd())
    }
}
