//! Counters with one writer each: plain adds on the data path, read by anyone.

pub use bdev::Counter;

macro_rules! counters {
    ($(#[$about:meta])* $live:ident, $read:ident { $($(#[$doc:meta])* $name:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct $live {
            $($(#[$doc])* pub $name: Counter,)*
        }

        /// A reading of the counters, or a sum of readings.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $read {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl $live {
            /// The counters now.
            pub fn read(&self) -> $read {
                $read { $($name: self.$name.get(),)* }
            }
        }

        impl std::ops::AddAssign for $read {
            fn add_assign(&mut self, other: $read) {
                $(self.$name = self.$name.wrapping_add(other.$name);)*
            }
        }

        impl $read {
            /// The counters with their names.
            pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// What one writer (a queue pair, or a reactor on a namespace) has done, on cache lines of its
    /// own.
    IoCounters, IoCounts {
    /// Read commands that succeeded.
    reads,
    /// Write commands that succeeded.
    writes,
    /// Compare commands that ended, equal or not.
    compares,
    /// Verify commands that succeeded.
    verifies,
    /// Write Zeroes commands that succeeded.
    write_zeroes,
    /// Copy commands that succeeded.
    copies,
    /// Dataset Management commands that succeeded.
    deallocates,
    /// Flush commands that succeeded.
    flushes,
    /// Bytes read for Read, Compare and Verify.
    read_bytes,
    /// Bytes written for Write.
    write_bytes,
    /// Commands that ended with a status other than success.
    errors,
    /// Commands that ended with a media or data integrity error (status code type 2h, without
    /// Compare Failure).
    media_errors,
    }
}

counters! {
    /// What the target has done on one reactor, over all its queue pairs.
    ReactorCounters, ReactorCounts {
        /// Connections that came.
        connections,
        /// Connections that the host closed, with Disconnect or without.
        closed_by_host,
        /// Connections that the network ended.
        closed_by_network,
        /// Connections that ended because the host broke the protocol.
        closed_for_protocol,
        /// Connections that the target ended.
        closed_by_target,
        /// Connect commands that were refused.
        refused_connects,
        /// Controllers that ended because their Keep Alive Timer expired.
        keep_alive_expiries,
        /// Commands that came.
        commands,
        /// Commands that ended with a status other than success.
        errors,
        /// Commands that had to wait for a buffer.
        buffer_waits,
    }
}

impl IoCounts {
    /// The sum of readings.
    pub fn sum(readings: impl IntoIterator<Item = IoCounts>) -> IoCounts {
        let mut sum = IoCounts::default();
        readings.into_iter().for_each(|one| sum += one);
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_add_up_by_name() {
        let (a, b) = (IoCounters::default(), IoCounters::default());
        a.reads.add(2);
        a.read_bytes.add(8192);
        b.reads.add(3);
        b.errors.add(1);
        let sum = IoCounts::sum([a.read(), b.read()]);
        assert_eq!((sum.reads, sum.read_bytes, sum.errors, sum.writes), (5, 8192, 1, 0));
        assert!(sum.named().any(|pair| pair == ("reads", 5)));
        assert_eq!(align_of::<IoCounters>(), 128);
    }
}
