//! The discovery log page (Base Specification, "Discovery Log Page (Log Page Identifier 70h)").

use crate::nqn::{Nqn, NqnError};
use nvme_spec::identify::{ascii, put_ascii};
use nvme_spec::layout;
use zerocopy::little_endian::{U16, U64};
use zerocopy::{FromBytes, IntoBytes};

/// The TCP and RDMA port of the discovery service.
pub const PORT: u16 = 8009;

/// The least admin queue entries a record may name.
pub const MIN_ASQSZ: u16 = 32;

layout! {
    /// Discovery Log Page header; records follow.
    pub struct Header[1024] {
        /// Generation counter: changes with the log's content.
        0 => genctr: U64,
        /// Records that follow.
        8 => numrec: U64,
        /// Record format, 0.
        16 => recfmt: U16,
        /// Reserved.
        18 => rsvd18: [u8; 1006],
    }

    /// Discovery Log Page Entry.
    pub struct Entry[1024] {
        /// Transport type; see [`TrType`].
        0 => trtype: u8,
        /// Address family; see [`AdrFam`].
        1 => adrfam: u8,
        /// Subsystem type; see [`SubType`].
        2 => subtype: u8,
        /// Transport requirements; see [`treq`].
        3 => treq: u8,
        /// Port identifier.
        4 => portid: U16,
        /// Controller identifier; FFFFh in the dynamic model.
        6 => cntlid: U16,
        /// Most entries of the admin submission queue.
        8 => asqsz: U16,
        /// See [`eflags`].
        10 => eflags: U16,
        /// Reserved.
        12 => rsvd12: [u8; 20],
        /// Transport service, here the port in decimal; ASCII padded with spaces.
        32 => trsvcid: [u8; 32],
        /// Reserved.
        64 => rsvd64: [u8; 192],
        /// Subsystem, UTF-8 padded with NULs.
        256 => subnqn: [u8; 256],
        /// Transport address; ASCII padded with spaces.
        512 => traddr: [u8; 256],
        /// Transport specific address subtype.
        768 => tsas: [u8; 256],
    }
}

/// Declares an enum for a byte of the log in which peers may put values we do not know.
macro_rules! codes {
    ($($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $code:literal,)* })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vmeta])* $variant,)*
            /// Any other code.
            Other(u8),
        }

        impl $name {
            /// From the code on the wire.
            pub const fn from_code(code: u8) -> $name {
                match code {
                    $($code => $name::$variant,)*
                    other => $name::Other(other),
                }
            }

            /// The code on the wire.
            pub const fn code(self) -> u8 {
                match self {
                    $($name::$variant => $code,)*
                    $name::Other(code) => code,
                }
            }
        }
    )*};
}

codes! {
    /// Transport type.
    TrType {
        /// RDMA.
        Rdma = 1,
        /// Fibre Channel.
        Fc = 2,
        /// TCP.
        Tcp = 3,
        /// Within the host.
        IntraHost = 254,
    }

    /// Address family.
    AdrFam {
        /// IPv4.
        Ipv4 = 1,
        /// IPv6.
        Ipv6 = 2,
        /// InfiniBand.
        InfiniBand = 3,
        /// Fibre Channel.
        Fc = 4,
        /// Within the host.
        IntraHost = 254,
    }

    /// Subsystem type.
    SubType {
        /// Another discovery subsystem.
        Referral = 1,
        /// An NVM subsystem.
        Nvm = 2,
        /// The discovery subsystem that was asked.
        Current = 3,
    }
}

/// Transport requirements.
pub mod treq {
    /// Secure channel not specified.
    pub const SECURE_NOT_SPECIFIED: u8 = 0;
    /// Secure channel required.
    pub const SECURE_REQUIRED: u8 = 1;
    /// Secure channel not required.
    pub const SECURE_NOT_REQUIRED: u8 = 2;
    /// Submission queue flow control may be disabled.
    pub const DISABLE_SQ_FLOW: u8 = 1 << 2;
}

/// Entry flags.
pub mod eflags {
    /// The same information as other records: connecting to one of them is enough.
    pub const DUPLICATE: u16 = 1 << 0;
    /// The discovery controller takes persistent connections.
    pub const PERSISTENT: u16 = 1 << 1;
}

/// TSAS byte 0 of TCP: no transport security.
pub const TCP_SECTYPE_NONE: u8 = 0;
/// TSAS byte 0 of TCP: TLS 1.3.
pub const TCP_SECTYPE_TLS13: u8 = 2;

/// One record, in our terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Transport type.
    pub trtype: TrType,
    /// Address family.
    pub adrfam: AdrFam,
    /// Subsystem type.
    pub subtype: SubType,
    /// See [`treq`].
    pub treq: u8,
    /// Port identifier.
    pub portid: u16,
    /// Controller identifier.
    pub cntlid: u16,
    /// Most entries of the admin submission queue.
    pub asqsz: u16,
    /// See [`eflags`].
    pub eflags: u16,
    /// Transport service: the port.
    pub trsvcid: &'a str,
    /// Subsystem.
    pub subnqn: Nqn,
    /// Transport address.
    pub traddr: &'a str,
    /// First byte of the transport specific address subtype: on TCP the security type.
    pub sectype: u8,
}

impl Record<'_> {
    /// The record on the wire. Addresses longer than their field are cut.
    pub fn entry(&self) -> Entry {
        let mut entry = Entry {
            trtype: self.trtype.code(),
            adrfam: self.adrfam.code(),
            subtype: self.subtype.code(),
            treq: self.treq,
            portid: U16::new(self.portid),
            cntlid: U16::new(self.cntlid),
            asqsz: U16::new(self.asqsz),
            eflags: U16::new(self.eflags),
            subnqn: self.subnqn.to_field(),
            ..Entry::default()
        };
        put_ascii(&mut entry.trsvcid, self.trsvcid);
        put_ascii(&mut entry.traddr, self.traddr);
        entry.tsas[0] = self.sectype;
        entry
    }
}

impl Entry {
    /// The address of the port, as far as it is text.
    pub fn address(&self) -> &str {
        before_nul(&self.traddr)
    }

    /// The service, a port number on IP, as far as it is text.
    pub fn service(&self) -> &str {
        before_nul(&self.trsvcid)
    }

    /// The record, unless its name is none. Addresses may be padded with spaces or NULs, since
    /// both are seen.
    pub fn record(&self) -> Result<Record<'_>, NqnError> {
        Ok(Record {
            trtype: TrType::from_code(self.trtype),
            adrfam: AdrFam::from_code(self.adrfam),
            subtype: SubType::from_code(self.subtype),
            treq: self.treq,
            portid: self.portid.get(),
            cntlid: self.cntlid.get(),
            asqsz: self.asqsz.get(),
            eflags: self.eflags.get(),
            trsvcid: self.service(),
            subnqn: Nqn::from_field(&self.subnqn)?,
            traddr: self.address(),
            sectype: self.tsas[0],
        })
    }
}

/// The text before the first NUL, without padding.
fn before_nul(field: &[u8]) -> &str {
    ascii(field.split(|&b| b == 0).next().unwrap_or_default())
}

/// Fills `out` with the part of the log that starts at `offset` bytes; returns how much of `out`
/// that is. What is beyond the end of the log is zeroed.
pub fn read_log(genctr: u64, entries: &[Entry], offset: u64, out: &mut [u8]) -> usize {
    let header = Header {
        genctr: U64::new(genctr),
        numrec: U64::new(entries.len() as u64),
        ..Header::default()
    };
    out.fill(0);
    let mut at = offset;
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let record = (at / size_of::<Entry>() as u64) as usize;
        let within = (at % size_of::<Entry>() as u64) as usize;
        let bytes = match record.checked_sub(1).map(|index| entries.get(index)) {
            None => header.as_bytes(),
            Some(Some(entry)) => entry.as_bytes(),
            Some(None) => break,
        };
        let n = rest.len().min(bytes.len() - within);
        rest[..n].copy_from_slice(&bytes[within..within + n]);
        filled += n;
        at += n as u64;
    }
    filled
}

/// The bytes of a whole log with `records` records; `None` when no memory could hold it.
pub fn log_bytes(records: u64) -> Option<usize> {
    let records = usize::try_from(records).ok()?;
    records.checked_add(1)?.checked_mul(size_of::<Entry>())
}

/// A log as received.
#[derive(Clone, Copy, Debug)]
pub struct Log<'a> {
    header: &'a Header,
    entries: &'a [Entry],
}

/// Why bytes are not a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogError {
    /// Shorter than its header.
    Short,
    /// A record format we do not know.
    RecordFormat(u16),
    /// Not all records are there: read the log again, this many bytes.
    Incomplete {
        /// Records the header tells.
        records: u64,
    },
}

impl core::fmt::Display for LogError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LogError::Short => f.write_str("the discovery log is shorter than its header"),
            LogError::RecordFormat(n) => write!(f, "unknown discovery record format {n}"),
            LogError::Incomplete { records } => {
                write!(f, "the discovery log has {records} records, not all were read")
            }
        }
    }
}

impl std::error::Error for LogError {}

impl<'a> Log<'a> {
    /// A log from its bytes, which may be more than the log.
    pub fn parse(bytes: &'a [u8]) -> Result<Log<'a>, LogError> {
        let (header, rest) = Header::ref_from_prefix(bytes).map_err(|_| LogError::Short)?;
        if header.recfmt.get() != 0 {
            return Err(LogError::RecordFormat(header.recfmt.get()));
        }
        let records = header.numrec.get();
        let incomplete = LogError::Incomplete { records };
        let count = usize::try_from(records).map_err(|_| incomplete)?;
        let (entries, _) =
            <[Entry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| incomplete)?;
        Ok(Log { header, entries })
    }

    /// The generation counter. A log read in pieces is whole only if it has not changed.
    pub fn genctr(&self) -> u64 {
        self.header.genctr.get()
    }

    /// The records as they stand.
    pub fn entries(&self) -> &'a [Entry] {
        self.entries
    }
}
