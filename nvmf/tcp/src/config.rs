//! How a transport behaves.

use crate::limits;
use nvmf_wire::pdu::MIN_MAXH2CDATA;

const SECOND_NS: u64 = 1_000_000_000;

/// Sizes and times of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Places for connections, those that are ending included.
    pub qpairs: u16,
    /// Commands under way, over all connections.
    pub requests: u32,
    /// Data in a capsule, in bytes.
    pub in_capsule_bytes: u32,
    /// Data in one H2CData, in bytes: at least 4096, a multiple of 4.
    pub max_h2c_data_bytes: u32,
    /// Data asked for with one R2T, in bytes. Less than the largest transfer makes sense for hosts
    /// that take several R2Ts at a time.
    pub r2t_bytes: u32,
    /// Time from a connection to its ICReq, in ns.
    pub icreq_ns: u64,
    /// Time from the first to the last byte of a PDU, in ns.
    pub pdu_ns: u64,
    /// Time from an R2T to the last byte of what it asks for, in ns.
    pub pull_ns: u64,
    /// Time in which a connection may take nothing of what is to be sent while others wait for places
    /// for commands, in ns.
    pub stall_ns: u64,
    /// Time to send the rest on a connection that is ended, and then for the host to end it, in
    /// ns.
    pub linger_ns: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            qpairs: limits::QPAIRS as u16,
            requests: limits::REQUESTS,
            in_capsule_bytes: limits::IN_CAPSULE_BYTES,
            max_h2c_data_bytes: limits::MAX_H2C_DATA_BYTES,
            r2t_bytes: bdev::limits::MAX_TRANSFER_BYTES,
            icreq_ns: 5 * SECOND_NS,
            pdu_ns: 10 * SECOND_NS,
            pull_ns: 30 * SECOND_NS,
            stall_ns: nvmf::limits::STALL_NS,
            linger_ns: SECOND_NS,
        }
    }
}

impl Config {
    /// # Panics
    /// If a value is outside of what the transport or the specification allows.
    pub(crate) fn check(&self) {
        assert!(self.qpairs > 0 && self.requests > 0, "no place for a connection or a command");
        assert!(self.requests <= limits::REQUESTS, "more commands than a transfer tag can name");
        assert!(self.in_capsule_bytes <= limits::IN_CAPSULE_BYTES, "a capsule must be carried");
        assert!(
            self.max_h2c_data_bytes >= MIN_MAXH2CDATA && self.max_h2c_data_bytes.is_multiple_of(4),
            "MAXH2CDATA is at least 4096 and a multiple of 4"
        );
        assert!(self.r2t_bytes > 0, "an R2T asks for something");
    }
}
