//! Flushing on the way down.

use bdev::Addr;
use reactor::Handle;
use reactor::client::{Client, Operation, Size};
use std::time::{Duration, Instant};

/// Flushes `channels` of one reactor. Returns the places of those that failed or did not end within
/// `patience` of the one before.
pub(crate) fn flush(reactor: &Handle, channels: Vec<Addr>, patience: Duration) -> Vec<usize> {
    let mut left: Vec<usize> = (0..channels.len()).collect();
    if left.is_empty() {
        return left;
    }
    let size = Size { depth: channels.len() as u32, buffers: 0, buffer_bytes: 0 };
    let mut client = match Client::over(reactor, channels, size) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(error, "nothing can be flushed on the way down");
            return left;
        }
    };
    for place in &left {
        let sent = client.submit(*place, Operation::flush(), None, *place as u64);
        sent.expect("there is a place for each");
    }
    while !left.is_empty() {
        match client.wait(Some(Instant::now() + patience)) {
            Ok(flushed) if flushed.status.is_success() => {
                left.retain(|place| *place as u64 != flushed.tag);
            }
            Ok(flushed) => {
                let (place, status) = (flushed.tag, flushed.status);
                tracing::error!(place, %status, "a flush failed on the way down");
                break;
            }
            Err(_) => break,
        }
    }
    // Others may be under way still: then nobody waits for them.
    if left.is_empty() {
        client.close(Some(Instant::now() + patience));
    }
    left
}
