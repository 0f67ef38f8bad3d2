//! What a transport did.

use bdev::Counter;

macro_rules! totals {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts of one transport, readable from any thread. One writer.
        #[derive(Debug, Default)]
        #[repr(align(64))]
        pub struct Stats {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Stats {
            /// Each count, with its name.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

totals! {
    /// Queue pairs made.
    opened,
    /// Queue pairs destroyed.
    closed,
    /// Connections turned away for want of a place, of memory, or by the device.
    refused,
    /// Commands received.
    commands,
    /// Commands that came with their data.
    in_capsule,
    /// RDMA READs.
    reads,
    /// Bytes read from hosts.
    read_bytes,
    /// RDMA WRITEs.
    writes,
    /// Bytes written to hosts.
    write_bytes,
    /// Answers sent.
    sends,
    /// Chains of work requests posted.
    posts,
    /// Chains of receives posted.
    receive_posts,
    /// Work requests that failed, without those that were dropped with their queue pair.
    failures,
    /// Capsules that waited for a place for their command.
    put_off,
    /// Ports that could not be opened for want of memory or by the device.
    port_failures,
}
