//! Every size and time of the server, in one place.

use std::time::Duration;

/// Connections at once: browsers hold up to 6 each, programs one.
pub(crate) const CONNECTIONS: usize = 256;
/// Connections over the socket of the data directory, besides those.
pub(crate) const LOCAL_CONNECTIONS: usize = 32;
/// Of those, connections that the machine's own loopback has for itself.
pub(crate) const LOOPBACK_CONNECTIONS: usize = 32;
/// Streams of events at once, those that each role has for itself among them. What is left of the connections is for everything else.
pub(crate) const STREAMS: usize = CONNECTIONS / 4;
/// Streams that each role has for itself, and how many of those one token opens.
pub(crate) const STREAMS_OF_ROLE: usize = STREAMS / 8;
/// Likewise.
pub(crate) const STREAMS_OF_ONE: usize = STREAMS_OF_ROLE / 2;
/// Calls of the appliance at once, each on a thread of its own.
pub(crate) const CALLS: usize = 32;
/// Of those, calls that operators and admins have for themselves.
pub(crate) const CALLS_OF_OPERATORS: usize = CALLS / 4;
/// The longest body: a declaration of 1,000 volumes with ten hosts each has about 1 MiB.
pub(crate) const BODY_BYTES: usize = 4 << 20;
/// The longest body of somebody who has shown no token: a log-in.
pub(crate) const OPEN_BODY_BYTES: usize = 4 << 10;
/// Threads that may block: one for each call, and some that write down who was not let in.
pub(crate) const THREADS: usize = CALLS + 4;
/// How long a client may take to send the head of a request, and to send the next one.
pub(crate) const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to send a body.
pub(crate) const BODY_TIME: Duration = Duration::from_secs(30);
/// How long a client may take to agree on TLS.
pub(crate) const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// How long a request waits for the appliance. What was begun goes on after.
pub(crate) const CALL_TIME: Duration = Duration::from_secs(60);
/// How long requests under way may take when the server stops.
pub(crate) const STOP_TIME: Duration = Duration::from_secs(10);
/// How often a stream of events without any says that it is alive.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// Events read from the log at once for a stream.
pub(crate) const STREAM_BATCH: usize = 128;
/// How often the certificate is looked at: whether its files have changed, and when it ends.
pub(crate) const CERTIFICATE_LOOK: Duration = Duration::from_secs(10);
/// How often what was counted of requests that changed nothing is looked at, to be written down.
pub(crate) const AUDIT_LOOK: Duration = Duration::from_secs(5);
