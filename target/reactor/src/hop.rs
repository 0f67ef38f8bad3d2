//! One hop to another reactor: how a bdev that lives on one reactor is reached from the others.
//!
//! A [`Hop`] is a bdev whose channels put operations into an SPSC ring to the home reactor, where
//! an edge submits them to the real channel and puts the completions into a ring back. Both rings
//! hold as much as can be outstanding, so neither is ever full.

use crate::{Handle, Reactor};
use bdev::spsc::{Consumer, Producer, ring};
use bdev::{Addr, Bdev, Channel, Cx, DmaSlice, Done, Edge, EdgeCx, Geometry, Home, Io, IoFlags};
use bdev::{Op, OpenCx, OpenError, Slab, Tag};
use nvme_spec::Status;
use std::sync::{Arc, OnceLock};

/// A bdev that lives on another reactor, as the others see it.
pub struct Hop {
    inner: Arc<dyn Bdev>,
    home: Handle,
    here: Handle,
}

impl Hop {
    /// `inner`, which lives on `home`, for the use of reactor `here`.
    pub fn new(inner: Arc<dyn Bdev>, home: Handle, here: Handle) -> Hop {
        Hop { inner, home, here }
    }
}

/// The bdev to open on reactor `here` for `bdev`: itself, or a hop to where it lives.
pub fn local(bdev: &Arc<dyn Bdev>, here: &Handle, all: &[Handle]) -> Arc<dyn Bdev> {
    match bdev.home() {
        Home::One(home) if home != here.number() => {
            Arc::new(Hop::new(bdev.clone(), all[home].clone(), here.clone()))
        }
        _ => bdev.clone(),
    }
}

impl Bdev for Hop {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let places = (cx.limit as usize).next_power_of_two();
        let (to_home, at_home) = ring(places);
        let (back, from_home) = ring(places);
        let edge = Arc::new(OnceLock::new());
        let (inner, here, opened) = (self.inner.clone(), self.here.clone(), edge.clone());
        self.home.send(Box::new(move |reactor: &mut Reactor| {
            let target = reactor.stack.open(&inner, reactor.now_ns()).map_err(|error| error.0);
            let server =
                Server { submitted: at_home, ended: back, target, peer: here, rang: false };
            let target = server.target.clone().ok();
            let edge = reactor.add_edge(Box::new(server));
            opened.set(OtherEnd { edge, target }).expect("a hop is opened once");
        }));
        Ok(Box::new(HopChannel {
            // Of a thousand volumes most are idle: places for all that may be under way would take
            // a quarter of a MiB each.
            waiting: Slab::growing(cx.limit),
            to_home,
            from_home,
            home: self.home.clone(),
            edge,
            submissions: 0,
            ring_bell: false,
        }))
    }
}

/// An operation between reactors. Its memory stays with the submitter.
struct Submitted {
    op: Op,
    flags: IoFlags,
    lba: u64,
    blocks: u32,
    data: DmaSlice,
    name: Name,
}

/// An operation between reactors: its place, and which use of it this is, so that one that was asked
/// back and has ended is not taken for the next in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    place: u32,
    number: u32,
}

impl Name {
    fn tag(self) -> Tag {
        Tag(u64::from(self.number) << 32 | u64::from(self.place))
    }
}

/// What is on the home reactor.
#[derive(Debug)]
struct OtherEnd {
    edge: Addr,
    target: Option<Addr>,
}

/// A completion between reactors.
struct Ended {
    place: u32,
    status: Status,
}

/// Who waits for an operation, and which one it is.
struct Waiting {
    reply_to: Addr,
    reply_tag: Tag,
    number: u32,
}

struct HopChannel {
    waiting: Slab<Waiting>,
    to_home: Producer<Submitted>,
    from_home: Consumer<Ended>,
    home: Handle,
    edge: Arc<OnceLock<OtherEnd>>,
    submissions: u32,
    ring_bell: bool,
}

impl Channel for HopChannel {
    fn submit(&mut self, io: Io, _cx: &mut Cx<'_>) {
        let Io { op, flags, lba, blocks, data, .. } = io;
        let (reply_to, reply_tag) = io.into_parts();
        self.submissions = self.submissions.wrapping_add(1);
        let number = self.submissions;
        let place = self.waiting.insert(Waiting { reply_to, reply_tag, number });
        let place = place.unwrap_or_else(|_| panic!("more operations than the channel's limit"));
        let name = Name { place, number };
        let sent = self.to_home.push(Submitted { op, flags, lba, blocks, data, name });
        assert!(sent.is_ok(), "the ring holds as many operations as the channel's limit");
        self.ring_bell = true;
    }

    fn poll(&mut self, cx: &mut Cx<'_>) -> u32 {
        if std::mem::take(&mut self.ring_bell) {
            self.home.wake();
        }
        let mut work = 0;
        while let Some(Ended { place, status }) = self.from_home.pop() {
            let Waiting { reply_to, reply_tag, .. } =
                self.waiting.remove(place).expect("ends once");
            cx.complete_parts(reply_to, reply_tag, status);
            work += 1;
        }
        work
    }

    fn recall(&mut self, reply_to: Addr, reply_tag: Tag, _cx: &mut Cx<'_>) {
        let is_it = |w: &Waiting| (w.reply_to, w.reply_tag) == (reply_to, reply_tag);
        let Some((place, found)) = self.waiting.iter().find(|(_, w)| is_it(w)) else { return };
        let name = Name { place, number: found.number };
        let edge = self.edge.clone();
        self.home.send(Box::new(move |reactor: &mut Reactor| {
            if let Some(OtherEnd { edge, target: Some(target) }) = edge.get() {
                let now_ns = reactor.now_ns();
                reactor.stack.recall(*target, *edge, name.tag(), now_ns);
            }
        }));
    }

    fn polled(&self) -> bool {
        true
    }

    fn outstanding(&self) -> u32 {
        self.waiting.len()
    }
}

impl Drop for HopChannel {
    fn drop(&mut self) {
        let edge = self.edge.clone();
        // Tasks run in order: the one that set the edge has run before this one.
        self.home.send(Box::new(move |reactor: &mut Reactor| {
            if let Some(OtherEnd { edge, .. }) = edge.get() {
                reactor.remove_edge(*edge);
            }
        }));
    }
}

/// The hop's other end, on the home reactor.
struct Server {
    submitted: Consumer<Submitted>,
    ended: Producer<Ended>,
    target: Result<Addr, String>,
    peer: Handle,
    rang: bool,
}

impl Server {
    fn end(&mut self, place: u32, status: Status) {
        let sent = self.ended.push(Ended { place, status });
        assert!(sent.is_ok(), "the ring back holds as many completions as the channel's limit");
        self.rang = true;
    }
}

impl Edge for Server {
    fn poll(&mut self, cx: &mut EdgeCx<'_>) -> u32 {
        let mut work = 0;
        while let Some(Submitted { op, flags, lba, blocks, data, name }) = self.submitted.pop() {
            work += 1;
            let tag = name.tag();
            match self.target {
                Ok(to) => {
                    let io = Io { op, flags, lba, blocks, data, reply_to: cx.me, reply_tag: tag };
                    cx.submit(to, io);
                }
                // It could not be opened where it lives.
                Err(_) => self.end(name.place, Status::NAMESPACE_NOT_READY),
            }
        }
        work
    }

    fn done(&mut self, done: Done, _cx: &mut EdgeCx<'_>) {
        self.end(done.tag.0 as u32, done.status);
    }

    fn flush(&mut self, _cx: &mut EdgeCx<'_>) -> u32 {
        if std::mem::take(&mut self.rang) {
            self.peer.wake();
        }
        0
    }

    fn closed(&mut self, stack: &mut bdev::Stack) {
        if let Ok(target) = self.target {
            stack.close(target);
        }
    }
}
