//! The connection manager: identifiers of connections, and what happens to them.

use super::sys::{check, check_ptr};
use rdma_mummy_sys as v;
use rustix::io::ioctl_fionbio;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::Duration;
use v::rdma_cm_event_type as kind;

/// Where events of identifiers come.
#[derive(Debug)]
pub(super) struct EventChannel(*mut v::rdma_event_channel);

// SAFETY: the connection manager's library may be called by any thread.
unsafe impl Send for EventChannel {}
// SAFETY: as above.
unsafe impl Sync for EventChannel {}

impl Drop for EventChannel {
    fn drop(&mut self) {
        // SAFETY: every identifier on it is destroyed: its holder keeps it longer than those.
        unsafe { v::rdma_destroy_event_channel(self.0) };
    }
}

/// Bytes of private data that are looked at: what the format has.
const PRIVATE_BYTES: usize = 32;

/// An event.
pub(super) struct CmEvent {
    pub id: *mut v::rdma_cm_id,
    pub kind: kind::Type,
    pub status: i32,
    /// Private data, where it is a request or a rejection.
    pub data: [u8; PRIVATE_BYTES],
    pub data_bytes: usize,
    /// RDMA READs that the other side answers at a time.
    pub reads: u8,
}

impl EventChannel {
    pub(super) fn new() -> io::Result<EventChannel> {
        // SAFETY: makes a new channel.
        let channel = EventChannel(check_ptr(unsafe { v::rdma_create_event_channel() })?);
        ioctl_fionbio(channel.fd(), true)?;
        Ok(channel)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: an open channel, which closes its descriptor when it is destroyed.
        unsafe { BorrowedFd::borrow_raw((*self.0).fd) }
    }

    /// The next event, if one is there.
    pub(super) fn next(&self) -> Option<CmEvent> {
        let mut event = std::ptr::null_mut();
        // SAFETY: an event that is there is copied, its private data within its length, and given
        // back before anything else is done with its identifier.
        unsafe {
            if v::rdma_get_cm_event(self.0, &mut event) != 0 {
                return None;
            }
            let mut copy = CmEvent {
                id: (*event).id,
                kind: (*event).event,
                status: (*event).status,
                data: [0; PRIVATE_BYTES],
                data_bytes: 0,
                reads: 0,
            };
            let with_data = [kind::RDMA_CM_EVENT_CONNECT_REQUEST, kind::RDMA_CM_EVENT_REJECTED];
            if with_data.contains(&copy.kind) {
                let conn = &(*event).param.conn;
                copy.reads = conn.initiator_depth;
                if !conn.private_data.is_null() {
                    copy.data_bytes = usize::from(conn.private_data_len).min(PRIVATE_BYTES);
                    let from = conn.private_data.cast::<u8>();
                    std::ptr::copy_nonoverlapping(from, copy.data.as_mut_ptr(), copy.data_bytes);
                }
            }
            v::rdma_ack_cm_event(event);
            Some(copy)
        }
    }
}

/// RDMA_OPTION_ID and RDMA_OPTION_ID_AFONLY of `rdma/rdma_cma.h`.
const OPTION_ID: libc::c_int = 0;
const OPTION_ID_AFONLY: libc::c_int = 2;

/// An identifier of a connection or of a listener. Destroyed, with its queue pair, when dropped.
pub(super) struct CmId(*mut v::rdma_cm_id);

// SAFETY: as for the channel.
unsafe impl Send for CmId {}

impl Drop for CmId {
    fn drop(&mut self) {
        // SAFETY: ours, and its events have been given back.
        unsafe {
            if !(*self.0).qp.is_null() {
                v::rdma_destroy_qp(self.0);
            }
            v::rdma_destroy_id(self.0);
        }
    }
}

impl CmId {
    /// The identifier of a request that has just come; it is the caller's from now on.
    pub(super) fn of_request(event: &CmEvent) -> CmId {
        CmId(event.id)
    }

    /// One whose events come by `channel`.
    pub(super) fn new(channel: &EventChannel) -> io::Result<CmId> {
        let mut id = std::ptr::null_mut();
        let ps = v::rdma_port_space::RDMA_PS_TCP;
        // SAFETY: the channel is open.
        check(unsafe { v::rdma_create_id(channel.0, &mut id, std::ptr::null_mut(), ps) })?;
        Ok(CmId(id))
    }

    /// Begins to look for the device by which `address` is reached, and for its address there.
    pub(super) fn resolve_address(&self, address: SocketAddr, limit: Duration) -> io::Result<()> {
        let mut storage = to_sockaddr(address);
        let to = (&raw mut storage).cast();
        // SAFETY: ours; the address lies in memory that is large enough for any, and is copied.
        check(unsafe { v::rdma_resolve_addr(self.0, std::ptr::null_mut(), to, millis(limit)) })
    }

    /// Begins to look for the way there.
    pub(super) fn resolve_route(&self, limit: Duration) -> io::Result<()> {
        // SAFETY: ours.
        check(unsafe { v::rdma_resolve_route(self.0, millis(limit)) })
    }

    /// Listens on an address; one of IPv6 leaves IPv4 to another, or has both.
    pub(super) fn listen(
        channel: &EventChannel,
        address: SocketAddr,
        only_ipv6: bool,
    ) -> io::Result<CmId> {
        let id = CmId::new(channel)?;
        if address.is_ipv6() {
            id.set_only_ipv6(only_ipv6)?;
        }
        let mut storage = to_sockaddr(address);
        // SAFETY: ours; the address lies in memory that is large enough for any.
        unsafe {
            check(v::rdma_bind_addr(id.0, (&raw mut storage).cast()))?;
            check(v::rdma_listen(id.0, 128))?;
            Ok(id)
        }
    }

    fn set_only_ipv6(&self, only: bool) -> io::Result<()> {
        let mut value = libc::c_int::from(only);
        let (bytes, value) = (size_of_val(&value), (&raw mut value).cast());
        // SAFETY: ours; the value is copied.
        check(unsafe { v::rdma_set_option(self.0, OPTION_ID, OPTION_ID_AFONLY, value, bytes) })
    }

    pub(super) fn raw(&self) -> *mut v::rdma_cm_id {
        self.0
    }

    /// Has its events come by another channel.
    pub(super) fn migrate(&self, channel: &EventChannel) -> io::Result<()> {
        // SAFETY: both are open, and no event of it is held by anybody.
        check(unsafe { v::rdma_migrate_id(self.0, channel.0) })
    }

    /// Marks it with the place of its connection.
    pub(super) fn set_place(&self, place: u16) {
        // SAFETY: ours; the field is for its owner's use.
        unsafe { (*self.0).context = std::ptr::without_provenance_mut(usize::from(place) + 1) };
    }

    /// Turns the host away.
    pub(super) fn reject(&self, data: &[u8]) {
        // SAFETY: private data of that length, which is copied. An error means that the host is
        // gone already.
        unsafe { v::rdma_reject(self.0, data.as_ptr().cast(), data.len() as u8) };
    }

    /// Says goodbye; the queue pair drops what it has.
    pub(super) fn disconnect(&self) {
        // SAFETY: ours. An error means that there is no connection any more.
        unsafe { v::rdma_disconnect(self.0) };
    }

    /// The other end, and ours.
    pub(super) fn ends(&self) -> (SocketAddr, SocketAddr) {
        // SAFETY: the addresses of an identifier lie within it, each in room for any kind.
        unsafe {
            let addr = &(*self.0).route.addr;
            (
                from_sockaddr(&addr.dst_addr_union.dst_storage),
                from_sockaddr(&addr.src_addr_union.src_storage),
            )
        }
    }
}

/// The place that the identifier of an event is marked with.
pub(super) fn place_of(event: &CmEvent) -> Option<u16> {
    // SAFETY: no event comes for an identifier that was destroyed: that waits for its events.
    let context = unsafe { (*event.id).context };
    context.addr().checked_sub(1).and_then(|place| u16::try_from(place).ok())
}

/// A span as the connection manager takes it, at least one.
fn millis(span: Duration) -> libc::c_int {
    libc::c_int::try_from(span.as_millis()).unwrap_or(libc::c_int::MAX).max(1)
}

fn to_sockaddr(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: all zeros are a valid value.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            let to = (&raw mut storage).cast::<libc::sockaddr_in>();
            // SAFETY: the storage is large enough for every kind of address.
            unsafe {
                (*to).sin_family = libc::AF_INET as libc::sa_family_t;
                (*to).sin_port = v4.port().to_be();
                (*to).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            }
        }
        SocketAddr::V6(v6) => {
            let to = (&raw mut storage).cast::<libc::sockaddr_in6>();
            // SAFETY: as above.
            unsafe {
                (*to).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*to).sin6_port = v6.port().to_be();
                (*to).sin6_addr.s6_addr = v6.ip().octets();
                (*to).sin6_scope_id = v6.scope_id();
            }
        }
    }
    storage
}

fn from_sockaddr(storage: &libc::sockaddr_storage) -> SocketAddr {
    match i32::from(storage.ss_family) {
        libc::AF_INET6 => {
            // SAFETY: of that family, so it is one.
            let from = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in6>() };
            let ip = IpAddr::V6(Ipv6Addr::from(from.sin6_addr.s6_addr));
            SocketAddr::new(ip, u16::from_be(from.sin6_port))
        }
        _ => {
            // SAFETY: an IPv4 address, or bytes of ours that are read as one.
            let from = unsafe { &*(&raw const *storage).cast::<libc::sockaddr_in>() };
            let ip = IpAddr::V4(Ipv4Addr::from(from.sin_addr.s_addr.to_ne_bytes()));
            SocketAddr::new(ip, u16::from_be(from.sin_port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back() {
        for text in ["192.0.2.7:4420", "[2001:db8::7]:8009", "0.0.0.0:1"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_sockaddr(&to_sockaddr(address)), address);
        }
    }
}
