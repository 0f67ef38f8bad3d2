//! Flushing on the way down.

use bdev::{Addr, DmaSlice, Done, Edge, EdgeCx, Io, IoFlags, Op, Tag};
use nvme_spec::Status;
use reactor::{Handle, Reactor};
use std::sync::mpsc;
use std::time::Duration;

/// Sends one flush to each of its channels and reports how each ended.
struct Flusher {
    channels: Vec<Addr>,
    submitted: bool,
    report: mpsc::Sender<(usize, Status)>,
}

impl Edge for Flusher {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        if std::mem::replace(&mut self.submitted, true) {
            return 0;
        }
        for (place, channel) in self.channels.iter().enumerate() {
            let (op, flags, data) = (Op::Flush, IoFlags::NONE, DmaSlice::EMPTY);
            let (lba, blocks, reply_to, reply_tag) = (0, 0, cx.me, Tag(place as u64));
            cx.submit(*channel, Io { op, flags, lba, blocks, data, reply_to, reply_tag });
        }
        self.channels.len() as u32
    }

    fn done(&mut self, done: Done, _cx: &mut EdgeCx<'_>) {
        // Whoever asked may have given up waiting.
        let _ = self.report.send((done.tag.0 as usize, done.status));
    }
}

/// Flushes `channels` of one reactor. Returns the places of those that failed or did not end within
/// `patience`.
pub(crate) fn flush(reactor: &Handle, channels: Vec<Addr>, patience: Duration) -> Vec<usize> {
    let (report, ended) = mpsc::channel();
    let mut left: Vec<usize> = (0..channels.len()).collect();
    if left.is_empty() {
        return left;
    }
    let edge = reactor.call(move |reactor: &mut Reactor| {
        reactor.add_edge(Box::new(Flusher { channels, submitted: false, report }))
    });
    while !left.is_empty() {
        match ended.recv_timeout(patience) {
            Ok((place, status)) if status.is_success() => left.retain(|p| *p != place),
            Ok((place, status)) => {
                tracing::error!(place, %status, "a flush failed on the way down");
                break;
            }
            Err(_) => break,
        }
    }
    if left.is_empty()
        && let Some(edge) = edge
    {
        reactor.call(move |reactor| reactor.remove_edge(edge).is_some());
    }
    left
}
