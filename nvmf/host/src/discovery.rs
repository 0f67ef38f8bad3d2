//! Asking a discovery controller what there is.

use crate::{Error, Host, Options, Session};
use nvme_spec::Shown;
use nvme_spec::log::{GetLogPage, lid};
use nvmf_wire::Nqn;
use nvmf_wire::discovery::{AdrFam, Entry, Header, Log, Record, SubType, TrType, log_bytes};
use std::net::SocketAddr;
use zerocopy::FromBytes;

/// How often the log is read again because it changed while it was read.
const ATTEMPTS: u32 = 10;

/// Records that are read at most. More than any fabric has; keeps a faulty target from filling
/// our memory.
const MAX_RECORDS: u64 = 4096;

/// What a discovery log says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// The records.
    pub records: Vec<Found>,
    /// Of each record that is left out, since it names nothing that could be connected to, which
    /// one it is and what is wrong with it.
    pub left_out: Vec<String>,
}

/// One record of the discovery log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Transport.
    pub transport: TrType,
    /// Address family.
    pub family: AdrFam,
    /// What it is.
    pub kind: SubType,
    /// Transport requirements, as in the log.
    pub requirements: u8,
    /// Port identifier.
    pub port_id: u16,
    /// Controller identifier; FFFFh in the dynamic model.
    pub cntlid: u16,
    /// Most entries of the admin queue.
    pub admin_queue_entries: u16,
    /// Entry flags, as in the log.
    pub flags: u16,
    /// Address.
    pub address: String,
    /// Port.
    pub service: String,
    /// Subsystem.
    pub subsystem: String,
    /// On TCP the security type: 0 none, 2 TLS 1.3.
    pub security: u8,
}

impl Found {
    /// Where to connect, if that is an IP address and a port.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.address.parse().ok()?, self.service.parse().ok()?))
    }

    fn of(record: &Record<'_>) -> Found {
        Found {
            transport: record.trtype,
            family: record.adrfam,
            kind: record.subtype,
            requirements: record.treq,
            port_id: record.portid,
            cntlid: record.cntlid,
            admin_queue_entries: record.asqsz,
            flags: record.eflags,
            address: Shown(record.traddr).to_string(),
            service: Shown(record.trsvcid).to_string(),
            subsystem: Shown(record.subnqn.as_str()).to_string(),
            security: record.sectype,
        }
    }
}

impl Discovered {
    fn of(entries: &[Entry]) -> Discovered {
        let mut all = Discovered::default();
        for (entry, number) in entries.iter().zip(1..) {
            match entry.record() {
                Ok(record) => all.records.push(Found::of(&record)),
                Err(why) => {
                    let (address, service) = (Shown(entry.address()), Shown(entry.service()));
                    let which = format!("record {number} (address {address}, port {service})");
                    all.left_out.push(format!("{which} has an NQN that {why}"));
                }
            }
        }
        all
    }
}

/// What the discovery controller at `address` tells `host`.
///
/// # Errors
/// Why it cannot be asked.
pub fn discover(address: SocketAddr, host: Host) -> Result<Discovered, Error> {
    discover_with(&Options::new(address, Nqn::discovery(), host))
}

/// As [`discover`], with all options; the subsystem is a discovery subsystem.
///
/// # Errors
/// Why it cannot be asked.
pub fn discover_with(options: &Options) -> Result<Discovered, Error> {
    let mut session = Session::connect(options)?;
    let log = session.discovery_log()?;
    let discovered = Log::parse(&log).map(|log| Discovered::of(log.entries()));
    discovered.map_err(|why| Error::Unsuitable {
        address: options.address,
        what: format!("has a discovery log that cannot be read: {why}"),
    })
}

impl Session {
    /// The whole discovery log, of one generation.
    ///
    /// # Errors
    /// The command's, or the connection's; or the log changes all the time.
    pub fn discovery_log(&mut self) -> Result<Vec<u8>, Error> {
        let page = GetLogPage { lid: lid::DISCOVERY, ..Default::default() };
        for _ in 0..ATTEMPTS {
            let before = self.discovery_header(page)?;
            let records = before.numrec.get().min(MAX_RECORDS);
            let bytes = log_bytes(records).expect("a bounded log fits into memory");
            let mut log = vec![0; bytes];
            self.log_page(page, 0, &mut log)?;
            let after = self.discovery_header(page)?;
            if after.genctr == before.genctr && after.numrec.get() <= MAX_RECORDS {
                return Ok(log);
            }
        }
        Err(Error::Unsuitable {
            address: self.address(),
            what: "changes its discovery log faster than it can be read, or it is too long".into(),
        })
    }

    fn discovery_header(&mut self, page: GetLogPage) -> Result<Header, Error> {
        let mut bytes = [0; size_of::<Header>()];
        self.log_page(page, 0, &mut bytes)?;
        Ok(Header::read_from_bytes(&bytes).expect("as long as a header"))
    }
}
