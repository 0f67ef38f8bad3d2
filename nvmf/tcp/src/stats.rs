//! What connections did.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// PDUs received.
    pub rx_pdus: u64,
    /// PDUs sent.
    pub tx_pdus: u64,
    /// Calls that received something.
    pub recvs: u64,
    /// Calls that found nothing to receive.
    pub empty_recvs: u64,
    /// Calls that sent something.
    pub sends: u64,
    /// Calls that found no room to send.
    pub full_sends: u64,
    /// Commands received.
    pub commands: u64,
}

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one transport, readable from any thread. One writer.
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct Stats {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }
    };
}

totals! {
    /// Bytes received.
    rx_bytes,
    /// Bytes sent.
    tx_bytes,
    /// PDUs received.
    rx_pdus,
    /// PDUs sent.
    tx_pdus,
    /// Calls that received something.
    recvs,
    /// Calls that found nothing to receive.
    empty_recvs,
    /// Calls that sent something.
    sends,
    /// Calls that found no room to send.
    full_sends,
    /// Commands received.
    commands,
    /// Connections taken on.
    opened,
    /// Connections gone.
    closed,
    /// Connections turned away for want of a place or of memory.
    refused,
    /// Connections that ended because the host broke the protocol.
    protocol_errors,
    /// Data that came with a wrong digest.
    digest_errors,
    /// Connections held back for want of a place for a command or of memory.
    held_back,
}

impl Stats {
    /// Adds to a count. Only the transport does, so that a plain load and store are enough.
    pub(crate) fn add(count: &AtomicU64, more: u64) {
        count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Adds what happened on a connection since `before`.
    pub(crate) fn add_since(&self, before: &Counters, now: &Counters) {
        for (count, before, now) in [
            (&self.rx_bytes, before.rx_bytes, now.rx_bytes),
            (&self.tx_bytes, before.tx_bytes, now.tx_bytes),
            (&self.rx_pdus, before.rx_pdus, now.rx_pdus),
            (&self.tx_pdus, before.tx_pdus, now.tx_pdus),
            (&self.recvs, before.recvs, now.recvs),
            (&self.empty_recvs, before.empty_recvs, now.empty_recvs),
            (&self.sends, before.sends, now.sends),
            (&self.full_sends, before.full_sends, now.full_sends),
            (&self.commands, before.commands, now.commands),
        ] {
            if now != before {
                Stats::add(count, now - before);
            }
        }
    }
}
