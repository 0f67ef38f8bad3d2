//! What to connect to, as whom, and how patiently.

use crate::Error;
use nvme_spec::Fabric;
use nvmf_wire::{Nqn, nqn};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};
use verbs::Initiator;
use verbs::initiator::Dialer;

/// Who connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Host NQN: what a subsystem's list of hosts names.
    pub nqn: Nqn,
    /// Host identifier: the same for every connection of one host; never zero.
    pub id: [u8; 16],
}

impl Host {
    /// The host with identifier `id`, named after it.
    pub fn of_id(id: [u8; 16]) -> Host {
        let name = format!("{}{}", nqn::UUID_PREFIX, uuid_text(&id));
        Host { nqn: Nqn::new(&name).expect("a UUID makes a name"), id }
    }

    /// This machine, as nvme-cli names it: `/etc/nvme/hostnqn` and `/etc/nvme/hostid`, else
    /// after `/etc/machine-id`, else at random.
    pub fn local() -> Host {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let id = uuid_bytes(&read("/etc/nvme/hostid"))
            .or_else(|| uuid_bytes(&read("/etc/machine-id")))
            .or_else(|| uuid_bytes(&read("/proc/sys/kernel/random/uuid")))
            .filter(|id| *id != [0; 16])
            .unwrap_or(*b"forebay-host-id!");
        match Nqn::new(read("/etc/nvme/hostnqn").trim()) {
            Ok(nqn) => Host { nqn, id },
            Err(_) => Host::of_id(id),
        }
    }
}

/// The text of a UUID: 8-4-4-4-12 hexadecimal digits.
pub fn uuid_text(id: &[u8; 16]) -> String {
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| &hex[from..to];
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// The bytes of 32 hexadecimal digits, with or without dashes.
pub fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).map(|digit| digit as u8))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    if digits.len() == 32 { bytes.try_into().ok() } else { None }
}

/// A fabric, with what makes connections over it.
#[derive(Clone, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// RDMA, with connections made by this.
    Rdma(Arc<dyn Dialer>),
}

impl Transport {
    /// Over `fabric`; RDMA with the devices of this machine.
    ///
    /// # Errors
    /// [`Error::NoRdma`] when it has none that can be used.
    pub fn over(fabric: Fabric) -> Result<Transport, Error> {
        match fabric {
            Fabric::Tcp => Ok(Transport::Tcp),
            Fabric::Rdma => match Initiator::open() {
                Ok(initiator) => Ok(Transport::Rdma(Arc::new(initiator))),
                Err(why) => Err(Error::NoRdma { why }),
            },
        }
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Tcp => "Tcp",
            Transport::Rdma(_) => "Rdma",
        })
    }
}

/// Everything that can be chosen about a connection. [`Options::new`] fills in what is usual.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the target listens.
    pub address: SocketAddr,
    /// By which fabric.
    pub transport: Transport,
    /// The subsystem.
    pub subsystem: Nqn,
    /// Who connects.
    pub host: Host,
    /// I/O queues to ask for: as many reactors can open the namespace.
    pub queues: u16,
    /// Commands outstanding in one I/O queue; the target may allow fewer.
    pub depth: u16,
    /// Header digests, over TCP.
    pub header_digest: bool,
    /// Data digests, over TCP.
    pub data_digest: bool,
    /// Congestion control of the sockets (`TCP_CONGESTION`), or the system's own.
    pub congestion: Option<String>,
    /// Keep alive timeout; zero for none.
    pub keep_alive: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long an admin command may take.
    pub admin_timeout: Duration,
    /// How long an I/O command may take, after which the connection is given up.
    pub io_timeout: Duration,
    /// Wait before the second attempt to reconnect; doubles with each further one.
    pub reconnect_delay: Duration,
    /// The longest wait between two attempts.
    pub reconnect_delay_max: Duration,
    /// How long operations wait for a connection that is lost, before they fail.
    pub loss_timeout: Duration,
    /// How often an operation that was under way in a connection that was lost is sent again.
    pub retries: u8,
}

impl Options {
    /// The usual options.
    pub fn new(address: SocketAddr, subsystem: Nqn, host: Host) -> Options {
        Options {
            address,
            transport: Transport::Tcp,
            subsystem,
            host,
            queues: 1,
            depth: 128,
            header_digest: false,
            data_digest: false,
            congestion: None,
            keep_alive: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            admin_timeout: Duration::from_secs(30),
            io_timeout: Duration::from_secs(30),
            reconnect_delay: Duration::from_millis(100),
            reconnect_delay_max: Duration::from_secs(5),
            loss_timeout: Duration::from_secs(600),
            retries: 5,
        }
    }
}

/// The address that `text` (`host:port`, or a host alone for `port`) names.
///
/// # Errors
/// [`Error::Address`] when it names none.
pub fn resolve(text: &str, port: u16) -> Result<SocketAddr, Error> {
    let with_port = text.to_socket_addrs();
    let found = with_port.or_else(|_| {
        let host = text.trim_start_matches('[').trim_end_matches(']');
        (host, port).to_socket_addrs()
    });
    match found {
        Ok(mut all) => all.next().ok_or_else(|| Error::Address { text: text.into(), why: None }),
        Err(why) => Err(Error::Address { text: text.into(), why: Some(why) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_survives_its_text() {
        let id = *b"\x01\x23\x45\x67\x89\xab\xcd\xef\xfe\xdc\xba\x98\x76\x54\x32\x10";
        assert_eq!(uuid_text(&id), "01234567-89ab-cdef-fedc-ba9876543210");
        assert_eq!(uuid_bytes(&format!(" {}\n", uuid_text(&id))), Some(id));
        for wrong in
            ["", "0123", "z1234567-89ab-cdef-fedc-ba9876543210", "\u{e9}".repeat(16).as_str()]
        {
            assert_eq!(uuid_bytes(wrong), None);
        }
    }

    #[test]
    fn a_host_is_named_after_its_identifier() {
        let host = Host::of_id([7; 16]);
        assert!(host.nqn.as_str().ends_with(":uuid:07070707-0707-0707-0707-070707070707"));
        assert_ne!(Host::local().id, [0; 16]);
    }

    #[test]
    fn addresses_resolve_with_and_without_a_port() {
        assert_eq!(resolve("127.0.0.1:99", 8009).unwrap().to_string(), "127.0.0.1:99");
        assert_eq!(resolve("127.0.0.1", 8009).unwrap().to_string(), "127.0.0.1:8009");
        assert_eq!(resolve("[::1]", 8009).unwrap().to_string(), "[::1]:8009");
        assert_eq!(resolve("::1", 8009).unwrap().to_string(), "[::1]:8009");
        let error = resolve("127.0.0.1:notaport", 1).unwrap_err().to_string();
        assert!(error.contains("127.0.0.1:notaport"), "{error}");
    }
}
