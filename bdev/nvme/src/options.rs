//! Times and sizes that an operator may change.

/// How long the driver waits for what. All in ns of the reactors' clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// An I/O command without completion for this long is aborted.
    pub io_timeout_ns: u64,
    /// What an aborted command gets to complete before the controller is reset.
    pub abort_grace_ns: u64,
    /// An admin command without completion for this long resets the controller.
    pub admin_timeout_ns: u64,
    /// The same for Format NVM, which may erase the whole drive.
    pub format_timeout_ns: u64,
    /// How often the controller's status is read, and time-outs are looked for.
    pub watch_ns: u64,
    /// The same while nothing is under way.
    pub idle_watch_ns: u64,
    /// Resets in a row, without one I/O queue coming up between, before the controller is given up.
    pub attempts: u32,
    /// I/O queues asked for: one a reactor.
    pub io_queues: u16,
    /// Use doorbells in memory where the controller offers them.
    pub shadow_doorbells: bool,
}

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;

impl Default for Options {
    fn default() -> Options {
        Options {
            io_timeout_ns: 30 * S,
            abort_grace_ns: 5 * S,
            admin_timeout_ns: 60 * S,
            format_timeout_ns: 24 * 3600 * S,
            watch_ns: 100 * MS,
            idle_watch_ns: S,
            attempts: 3,
            io_queues: bdev::limits::REACTORS as u16,
            shadow_doorbells: true,
        }
    }
}
