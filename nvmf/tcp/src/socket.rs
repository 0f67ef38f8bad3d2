//! A byte stream that never blocks, and the real one.

use crate::load::Load;
use crate::sys;
use bdev::DmaSlice;
use nvmf::transport::Origin;
use rustix::io::ioctl_fionread;
use rustix::net::sockopt;
use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// What became of a call that does not block.
#[derive(Debug)]
pub enum Moved {
    /// So many bytes were moved: at least one.
    Bytes(usize),
    /// Nothing can be moved now.
    Blocked,
    /// The peer has ended its direction: nothing more will come.
    Ended,
    /// The connection is broken.
    Failed(io::Error),
}

/// A connected byte stream. The simulator has its own.
pub trait Socket: Send {
    /// Receives into the pieces, in their order, as much as is there.
    fn recv(&mut self, into: &[DmaSlice]) -> Moved;

    /// Bytes that the next receive finds at the least.
    fn waiting(&self) -> usize;

    /// Sends the pieces, in their order, as far as there is room.
    fn send(&mut self, from: &[DmaSlice]) -> Moved;

    /// Ends our direction after what was sent; the other stays open.
    fn finish(&mut self);
}

/// Silence after which the kernel asks a peer whether it is there.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(15);
/// Time between two such questions.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Questions without an answer after which a connection is broken.
const KEEP_ALIVE_PROBES: u32 = 3;
/// Time that what was sent may go without an acknowledgement before a connection is broken, in ms:
/// as long as silence may last.
const USER_TIMEOUT_MS: u32 =
    KEEP_ALIVE_IDLE.as_millis() as u32 + KEEP_ALIVE_PROBES * KEEP_ALIVE_INTERVAL.as_millis() as u32;

/// A connection that has just come.
#[derive(Debug)]
pub struct Arrival<S> {
    /// The connection.
    pub socket: S,
    /// Where it comes from, and what it came to.
    pub origin: Origin,
}

/// How sockets are set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Congestion control by name (`reno`, `cubic`, `dctcp`); the system's default if absent. A
    /// default of `bbr` throttles bulk transfers on short paths.
    pub congestion: Option<String>,
    /// Send buffer in bytes; sized by the kernel if absent.
    pub send_buffer_bytes: Option<u32>,
    /// Receive buffer in bytes; sized by the kernel if absent.
    pub recv_buffer_bytes: Option<u32>,
}

impl SocketOptions {
    /// Applies them to a listener, whose connections inherit them, or to a connection.
    ///
    /// # Errors
    /// The kernel's: an unknown congestion control, or one that needs a privilege.
    pub fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        // A host that vanishes is noticed without NVMe's Keep Alive, too, which it may turn off.
        sockopt::set_socket_keepalive(socket, true)?;
        sockopt::set_tcp_keepidle(socket, KEEP_ALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(socket, KEEP_ALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(socket, KEEP_ALIVE_PROBES)?;
        sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT_MS)?;
        if let Some(name) = &self.congestion {
            sockopt::set_tcp_congestion(socket, name)?;
        }
        let most = |bytes: u32| bytes.min(i32::MAX as u32) as usize;
        if let Some(bytes) = self.send_buffer_bytes {
            sockopt::set_socket_send_buffer_size(socket, most(bytes))?;
        }
        if let Some(bytes) = self.recv_buffer_bytes {
            sockopt::set_socket_recv_buffer_size(socket, most(bytes))?;
        }
        Ok(())
    }
}

/// The congestion control that a socket uses.
///
/// # Errors
/// The kernel's.
pub fn congestion(socket: BorrowedFd<'_>) -> io::Result<String> {
    Ok(sockopt::tcp_congestion(socket)?)
}

/// A connection over TCP.
#[derive(Debug)]
pub struct TcpSocket {
    stream: TcpStream,
    _load: Load,
}

impl TcpSocket {
    /// Makes `stream` nonblocking, and without delay for small segments.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn new(stream: TcpStream, load: Load) -> io::Result<TcpSocket> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(TcpSocket { stream, _load: load })
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn failed(error: io::Error) -> Moved {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Moved::Blocked,
        _ => Moved::Failed(error),
    }
}

impl Socket for TcpSocket {
    fn recv(&mut self, into: &[DmaSlice]) -> Moved {
        match sys::recv(self.stream.as_raw_fd(), into) {
            Ok(0) => Moved::Ended,
            Ok(bytes) => Moved::Bytes(bytes),
            Err(error) => failed(error),
        }
    }

    fn waiting(&self) -> usize {
        // Where the kernel cannot tell, nothing is counted on.
        ioctl_fionread(&self.stream).map_or(0, |bytes| bytes as usize)
    }

    fn send(&mut self, from: &[DmaSlice]) -> Moved {
        match sys::send(self.stream.as_raw_fd(), from) {
            Ok(0) => Moved::Blocked,
            Ok(bytes) => Moved::Bytes(bytes),
            Err(error) => failed(error),
        }
    }

    fn finish(&mut self) {
        // Fails when the peer is gone already, which the next receive says, too.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}
