//! The initiator's side: connections that we ask for.

use super::cm::{CmEvent, CmId, EventChannel};
use super::devices::Device;
use super::registered::Devices;
use super::sys::check;
use super::verbs_link::VerbsLink;
use crate::initiator::{ConnectError, Dialer, Landing, Link, Wish};
use crate::limits::{RETRIES, TARGET_RNR_RETRIES};
use bdev::Memory;
use bdev::sleep::Sleeper;
use rdma_mummy_sys as v;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use v::rdma_cm_event_type as kind;
use zerocopy::IntoBytes;

/// The connection manager's reason of a rejection by whoever listens.
const REJECTED_BY_CONSUMER: i32 = 28;

/// And of one where nobody listens.
const INVALID_SERVICE: i32 = 8;

/// The shortest time to wait for a connection: the connection manager repeats a request that was
/// lost after 4.3 s, which happens where the way to the target is just being found.
const LEAST_LIMIT: Duration = Duration::from_secs(12);

/// The RDMA devices of the machine, as an initiator uses them. Its protection domains are its
/// own: a target that it connects to reaches the memory lent to these connections, and no other.
#[derive(Clone)]
pub struct Initiator(Arc<Devices>);

impl Initiator {
    /// Looks for devices.
    ///
    /// # Errors
    /// Why there is no RDMA, as the end of the sentence "RDMA is off: ".
    pub fn open() -> Result<Initiator, String> {
        Ok(Initiator(Devices::open()?))
    }
}

impl Dialer for Initiator {
    fn connect(
        &self,
        to: SocketAddr,
        wish: &Wish,
        memory: &Arc<Memory>,
        landings: &[Landing],
        limit: Duration,
    ) -> Result<Box<dyn Link>, ConnectError> {
        let limit = limit.max(LEAST_LIMIT);
        let until = Instant::now() + limit;
        let channel = EventChannel::new().map_err(|error| local("reach the kernel", &error))?;
        let id = CmId::new(&channel).map_err(|error| local("reach the kernel", &error))?;
        id.resolve_address(to, limit).map_err(|error| no_way(&error))?;
        wait_for(&channel, kind::RDMA_CM_EVENT_ADDR_RESOLVED, until)?;
        id.resolve_route(limit).map_err(|error| no_way(&error))?;
        wait_for(&channel, kind::RDMA_CM_EVENT_ROUTE_RESOLVED, until)?;
        // SAFETY: the identifier is ours, and has been given its device.
        let ctx = unsafe { (*id.raw()).verbs };
        let port = self.0.find(ctx);
        let port = port.ok_or_else(|| {
            ConnectError::Failed("the RDMA device that leads there cannot be used".into())
        })?;
        let own = self.0.register(port, memory).map_err(ConnectError::Failed)?;
        let (mut link, raw) = VerbsLink::new(id, channel, own, wish.depth, landings.len())
            .map_err(|error| ConnectError::Failed(error.0))?;
        link.receive(landings).map_err(|error| ConnectError::Failed(error.0))?;
        let private = wish.private_data();
        let mut param = conn_param(self.0.device(port), private.as_bytes());
        // SAFETY: the link holds the identifier; the parameters and their private data are copied.
        check(unsafe { v::rdma_connect(raw, &mut param) })
            .map_err(|error| local("connect", &error))?;
        wait_for(link.channel(), kind::RDMA_CM_EVENT_ESTABLISHED, until)?;
        Ok(Box::new(link))
    }
}

/// The parameters that ask for a connection.
fn conn_param(device: &Device, private: &[u8]) -> v::rdma_conn_param {
    v::rdma_conn_param {
        private_data: private.as_ptr().cast(),
        private_data_len: private.len() as u8,
        responder_resources: device.max_answers,
        // We read nothing of the target's.
        initiator_depth: 0,
        flow_control: 1,
        retry_count: RETRIES,
        rnr_retry_count: TARGET_RNR_RETRIES,
        srq: 0,
        qp_num: 0,
    }
}

/// Waits for an event; any other says why it does not come.
fn wait_for(
    channel: &EventChannel,
    wanted: kind::Type,
    until: Instant,
) -> Result<(), ConnectError> {
    loop {
        match channel.next() {
            Some(event) if event.kind == wanted => return Ok(()),
            Some(event) => return Err(reason(&event)),
            None => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ConnectError::Timeout);
                }
                // An error is an early wake-up.
                let _ =
                    Sleeper::default().until_readable(channel.fd().as_raw_fd()).sleep(Some(left));
            }
        }
    }
}

/// Why a connection is not made.
fn reason(event: &CmEvent) -> ConnectError {
    let code = event.status.saturating_abs();
    let kernel = || io::Error::from_raw_os_error(code);
    match (event.kind, code) {
        (kind::RDMA_CM_EVENT_REJECTED, REJECTED_BY_CONSUMER) => {
            ConnectError::rejection(&event.data[..event.data_bytes])
        }
        (kind::RDMA_CM_EVENT_REJECTED, INVALID_SERVICE) => ConnectError::NobodyListens,
        (kind::RDMA_CM_EVENT_REJECTED, _) => ConnectError::Failed(format!(
            "the connection manager there rejects the connection (reason {code})"
        )),
        (_, libc::ETIMEDOUT) => ConnectError::Timeout,
        (kind::RDMA_CM_EVENT_ADDR_ERROR | kind::RDMA_CM_EVENT_ROUTE_ERROR, _) => no_way(&kernel()),
        (kind::RDMA_CM_EVENT_UNREACHABLE, _) => {
            ConnectError::Failed(format!("the target cannot be reached over RDMA: {}", kernel()))
        }
        (other, _) => ConnectError::Failed(format!(
            "the connection was not made (event {other}, status {})",
            event.status
        )),
    }
}

fn no_way(error: &io::Error) -> ConnectError {
    ConnectError::Failed(match error.raw_os_error() {
        Some(libc::ENODEV | libc::ENXIO) => "no RDMA device of this machine leads there".into(),
        Some(libc::ETIMEDOUT) => return ConnectError::Timeout,
        _ => format!("there is no way there over RDMA: {error}"),
    })
}

fn local(what: &str, error: &io::Error) -> ConnectError {
    ConnectError::Failed(format!("this machine's connection manager cannot {what}: {error}"))
}
