//! A simulated network: byte streams with delay, cut into pieces of any size, that stall, are
//! reset, or are closed by either end.

use crate::plan::{Plan, Planted};
use crate::rng::Rng;
use bdev::DmaSlice;
use nvmf::transport::Origin;
use nvmf_tcp::{Arrival, Interest, Moved, Poller, Ready};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::sync::{Arc, Mutex, MutexGuard};

/// The number of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(usize);

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToTarget,
    ToHost,
}

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// After its last byte.
    Finished,
    /// Whatever was under way is gone.
    Reset,
}

/// What a call moves.
enum Took {
    Bytes(usize),
    Nothing,
    End(End),
}

/// One direction of a connection.
#[derive(Default)]
struct Stream {
    /// When it arrives, and what.
    segments: VecDeque<(u64, VecDeque<u8>)>,
    /// Bytes sent and not received.
    held: usize,
    /// Bytes that the next receive was said to find at the least.
    promised: usize,
    /// When the last segment arrives.
    last_ns: u64,
    /// When and how it ends.
    end: Option<(u64, End)>,
}

struct Conn {
    reactor: usize,
    arrives_ns: u64,
    accepted: bool,
    to_target: Stream,
    to_host: Stream,
    /// Nothing arrives before this.
    stalled_ns: u64,
    /// Until when its host takes nothing from it.
    deaf_ns: u64,
    host_open: bool,
    target_open: bool,
}

impl Conn {
    fn stream(&mut self, way: Way) -> &mut Stream {
        match way {
            Way::ToTarget => &mut self.to_target,
            Way::ToHost => &mut self.to_host,
        }
    }
}

/// All connections of a run.
pub struct Net {
    now_ns: u64,
    rng: Rng,
    conns: Vec<Conn>,
    delay_ns: u64,
    window: usize,
    reactors: usize,
    flips_left: u32,
    overstates: bool,
    /// The node listens.
    listening: bool,
}

/// The network, shared by its sockets.
pub type SharedNet = Arc<Mutex<Net>>;

pub(crate) fn locked(net: &SharedNet) -> MutexGuard<'_, Net> {
    net.lock().expect("one thread runs a simulation")
}

impl Net {
    /// A network without connections.
    pub fn new(plan: &Plan, rng: Rng) -> Net {
        Net {
            now_ns: 0,
            rng,
            conns: Vec::new(),
            delay_ns: plan.net_delay_ns,
            window: plan.net_window,
            reactors: plan.reactors,
            flips_left: if plan.planted == Some(Planted::FlippedBit) { 20 } else { 0 },
            overstates: plan.planted == Some(Planted::BytesThatAreNotThere),
            listening: false,
        }
    }

    /// Sets the clock.
    pub fn set_now(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// Whether the node takes connections.
    pub fn set_listening(&mut self, listening: bool) {
        self.listening = listening;
    }

    fn delay(&mut self) -> u64 {
        let slow = if self.rng.one_in(30) { 8 } else { 1 };
        self.rng.within(500, self.delay_ns) * slow
    }

    /// Opens a connection to the node; `None` when it does not listen.
    fn connect(&mut self) -> Option<ConnId> {
        if !self.listening {
            return None;
        }
        let arrives_ns = self.now_ns + self.delay();
        self.conns.push(Conn {
            reactor: self.rng.below(self.reactors as u64) as usize,
            arrives_ns,
            accepted: false,
            to_target: Stream::default(),
            to_host: Stream::default(),
            stalled_ns: 0,
            deaf_ns: 0,
            host_open: true,
            target_open: true,
        });
        Some(ConnId(self.conns.len() - 1))
    }

    fn send(&mut self, id: ConnId, way: Way, pieces: &mut dyn Iterator<Item = &[u8]>) -> Took {
        let arrives = self.now_ns + self.delay();
        let (window, some) = (self.window, self.rng.one_in(6));
        let part = self.rng.within(1, 2_000) as usize;
        let flip = self.flips_left > 0 && self.rng.one_in(12);
        let conn = &mut self.conns[id.0];
        let other_open = if way == Way::ToTarget { conn.target_open } else { conn.host_open };
        let stalled_ns = conn.stalled_ns;
        let stream = conn.stream(way);
        if !other_open || stream.end.is_some() {
            return Took::End(End::Reset);
        }
        let mut room = window.saturating_sub(stream.held);
        if some {
            room = room.min(part);
        }
        let mut bytes = VecDeque::new();
        for piece in pieces {
            bytes.extend(&piece[..piece.len().min(room - bytes.len())]);
        }
        let count = bytes.len();
        if count == 0 {
            return Took::Nothing;
        }
        if flip && count > 600 {
            // Most of what is long is payload.
            bytes[count - 100] ^= 0x10;
            self.flips_left -= 1;
        }
        stream.last_ns = arrives.max(stream.last_ns).max(stalled_ns);
        stream.held += count;
        stream.segments.push_back((stream.last_ns, bytes));
        Took::Bytes(count)
    }

    /// Bytes that have arrived, which the next receive finds.
    fn waiting(&mut self, id: ConnId, way: Way) -> usize {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[id.0];
        let stalled = now_ns < conn.stalled_ns;
        let stream = conn.stream(way);
        let arrived = stream.segments.iter().take_while(|(at_ns, _)| !stalled && *at_ns <= now_ns);
        stream.promised = arrived.map(|(_, bytes)| bytes.len()).sum();
        if self.overstates { usize::MAX } else { stream.promised }
    }

    /// Receives into `room` bytes, given piece by piece to `put`.
    fn recv(&mut self, id: ConnId, way: Way, room: usize, put: &mut dyn FnMut(u8)) -> Took {
        let (now_ns, short) = (self.now_ns, self.rng.one_in(8));
        let part = self.rng.within(1, 300) as usize;
        let conn = &mut self.conns[id.0];
        if now_ns < conn.stalled_ns || way == Way::ToHost && now_ns < conn.deaf_ns {
            return Took::Nothing;
        }
        let stream = conn.stream(way);
        let room = if short { room.min(part.max(stream.promised)) } else { room };
        stream.promised = 0;
        let mut count = 0;
        while count < room
            && let Some((at_ns, bytes)) = stream.segments.front_mut()
            && *at_ns <= now_ns
        {
            let take = bytes.len().min(room - count);
            bytes.drain(..take).for_each(&mut *put);
            count += take;
            if bytes.is_empty() {
                stream.segments.pop_front();
            }
        }
        stream.held -= count;
        match stream.end {
            _ if count > 0 => Took::Bytes(count),
            Some((at_ns, end)) if at_ns <= now_ns && stream.segments.is_empty() => Took::End(end),
            _ => Took::Nothing,
        }
    }

    /// One end will send no more.
    fn end(&mut self, id: ConnId, way: Way, end: End) {
        let at_ns = self.now_ns + self.delay();
        let conn = &mut self.conns[id.0];
        let at_ns = at_ns.max(conn.stalled_ns);
        let stream = conn.stream(way);
        if stream.end.is_none() {
            stream.end = Some((at_ns.max(stream.last_ns), end));
        }
    }

    fn drop_host(&mut self, id: ConnId) {
        let end = if self.rng.coin() { End::Finished } else { End::Reset };
        self.end(id, Way::ToTarget, end);
        let conn = &mut self.conns[id.0];
        conn.host_open = false;
        // Never accepted: nobody will close the other end.
        conn.target_open &= conn.accepted;
    }

    fn drop_target(&mut self, id: ConnId) {
        self.end(id, Way::ToHost, End::Finished);
        self.conns[id.0].target_open = false;
    }

    /// The connections that stand.
    fn standing(&self) -> Vec<usize> {
        let stands = |conn: &Conn| conn.host_open && conn.target_open && conn.accepted;
        (0..self.conns.len()).filter(|n| stands(&self.conns[*n])).collect()
    }

    /// Resets one connection, if any stands: what is under way is lost, and both ends learn of it.
    pub fn reset_one(&mut self) {
        let standing = self.standing();
        if !standing.is_empty() {
            let which = standing[self.rng.below(standing.len() as u64) as usize];
            self.reset(which);
        }
    }

    fn reset(&mut self, which: usize) {
        let now_ns = self.now_ns;
        let conn = &mut self.conns[which];
        conn.stalled_ns = 0;
        for stream in [&mut conn.to_target, &mut conn.to_host] {
            *stream = Stream { end: Some((now_ns, End::Reset)), ..Stream::default() };
        }
    }

    /// Resets every connection: the node is gone.
    pub fn reset_all(&mut self) {
        for which in 0..self.conns.len() {
            self.reset(which);
            self.conns[which].target_open = false;
        }
    }

    /// Nothing arrives on one connection for `ns`.
    pub fn stall_one(&mut self, ns: u64) {
        let standing = self.standing();
        if !standing.is_empty() {
            let which = standing[self.rng.below(standing.len() as u64) as usize];
            self.conns[which].stalled_ns = self.now_ns + ns;
        }
    }

    /// The host takes nothing from a connection until then.
    pub fn deafen(&mut self, id: ConnId, until_ns: u64) {
        self.conns[id.0].deaf_ns = until_ns;
    }

    /// Whether the host of a connection takes nothing from it.
    pub fn is_deaf(&self, id: ConnId) -> bool {
        self.now_ns < self.conns[id.0].deaf_ns
    }

    /// Whether the host of a connection has ever taken nothing from it.
    pub fn was_deaf(&self, id: ConnId) -> bool {
        self.conns[id.0].deaf_ns > 0
    }

    /// Whether the target has given up its end.
    pub fn is_gone(&self, id: ConnId) -> bool {
        !self.conns[id.0].target_open
    }

    /// Connections of which some end is open.
    pub fn open(&self) -> usize {
        self.conns.iter().filter(|conn| conn.host_open || conn.target_open).count()
    }

    /// Whether the target's end of something on `reactor` has something to do, as epoll would say:
    /// a new connection, bytes, an end, or room.
    pub fn is_ready(&self, reactor: usize, watched: &Watched) -> bool {
        self.conns.iter().enumerate().filter(|(_, conn)| conn.reactor == reactor).any(
            |(n, conn)| {
                let arrives = !conn.accepted && conn.host_open && conn.arrives_ns <= self.now_ns;
                let watch = watched.iter().find(|(_, (id, _))| id.0 == n);
                arrives
                    || watch.is_some_and(|(_, (id, interest))| {
                        let ready = self.readiness(*id, *interest);
                        ready.0 || ready.1
                    })
            },
        )
    }

    fn readiness(&self, id: ConnId, interest: Interest) -> (bool, bool) {
        let conn = &self.conns[id.0];
        let stream = &conn.to_target;
        let arrived = stream.segments.front().is_some_and(|(at_ns, _)| *at_ns <= self.now_ns);
        let ended =
            stream.segments.is_empty() && stream.end.is_some_and(|(at_ns, _)| at_ns <= self.now_ns);
        let flows = conn.stalled_ns <= self.now_ns;
        let broken = ended && stream.end.is_some_and(|(_, end)| end == End::Reset);
        let room = conn.to_host.held < self.window || !conn.host_open;
        let read = flows && (broken || (interest.read && (arrived || ended)));
        (read, interest.write && room)
    }

    /// The next time at which something arrives.
    pub fn next_event_ns(&self) -> Option<u64> {
        let later = |at_ns: u64| (at_ns > self.now_ns).then_some(at_ns);
        let of_stream = |conn: &Conn, stream: &Stream| {
            let at = |at_ns: u64| later(at_ns.max(conn.stalled_ns));
            let first = stream.segments.front().and_then(|(at_ns, _)| at(*at_ns));
            let end = stream.end.and_then(|(at_ns, _)| at(at_ns));
            first.into_iter().chain(end).min()
        };
        let open = self.conns.iter().filter(|conn| conn.host_open || conn.target_open);
        open.flat_map(|conn| {
            let arrival = if conn.accepted { None } else { later(conn.arrives_ns) };
            let hears = later(conn.deaf_ns);
            [of_stream(conn, &conn.to_target), of_stream(conn, &conn.to_host), arrival, hears]
        })
        .flatten()
        .min()
    }
}

fn reset_error() -> io::Error {
    io::Error::from(ErrorKind::ConnectionReset)
}

/// The host's end of a connection.
pub struct HostSocket {
    net: SharedNet,
    id: ConnId,
}

impl HostSocket {
    /// Connects to the node; `None` when it refuses.
    pub fn connect(net: &SharedNet) -> Option<HostSocket> {
        let id = locked(net).connect()?;
        Some(HostSocket { net: net.clone(), id })
    }

    /// The connection.
    pub fn id(&self) -> ConnId {
        self.id
    }
}

impl Drop for HostSocket {
    fn drop(&mut self) {
        locked(&self.net).drop_host(self.id);
    }
}

impl nvmf_host::Socket for HostSocket {
    fn recv(&mut self, into: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        let room = into.iter().map(|piece| piece.len()).sum();
        let mut places = into.iter_mut().flat_map(|piece| piece.iter_mut());
        let mut put = |byte| *places.next().expect("no more than there is room") = byte;
        match locked(&self.net).recv(self.id, Way::ToHost, room, &mut put) {
            Took::Bytes(count) => Ok(Some(count)),
            Took::Nothing => Ok(None),
            Took::End(End::Finished) => Ok(Some(0)),
            Took::End(End::Reset) => Err(reset_error()),
        }
    }

    fn send(&mut self, from: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let mut pieces = from.iter().map(|piece| &**piece);
        match locked(&self.net).send(self.id, Way::ToTarget, &mut pieces) {
            Took::Bytes(count) => Ok(Some(count)),
            Took::Nothing => Ok(None),
            Took::End(_) => Err(reset_error()),
        }
    }
}

/// The target's end of a connection.
pub struct TargetSocket {
    net: SharedNet,
    id: ConnId,
}

impl Drop for TargetSocket {
    fn drop(&mut self) {
        locked(&self.net).drop_target(self.id);
    }
}

impl nvmf_tcp::Socket for TargetSocket {
    fn recv(&mut self, into: &[DmaSlice]) -> Moved {
        let room: usize = into.iter().map(|piece| piece.len()).sum();
        let mut got = Vec::with_capacity(room.min(1 << 16));
        let took = locked(&self.net).recv(self.id, Way::ToTarget, room, &mut |byte| got.push(byte));
        let mut rest = &got[..];
        for piece in into {
            let (now, later) = rest.split_at(rest.len().min(piece.len()));
            piece.copy_in(0, now);
            rest = later;
        }
        match took {
            Took::Bytes(count) => Moved::Bytes(count),
            Took::Nothing => Moved::Blocked,
            Took::End(End::Finished) => Moved::Ended,
            Took::End(End::Reset) => Moved::Failed(reset_error()),
        }
    }

    fn waiting(&self) -> usize {
        locked(&self.net).waiting(self.id, Way::ToTarget)
    }

    fn send(&mut self, from: &[DmaSlice]) -> Moved {
        let copied: Vec<Vec<u8>> = from
            .iter()
            .map(|piece| {
                let mut bytes = vec![0; piece.len()];
                piece.copy_out(0, &mut bytes);
                bytes
            })
            .collect();
        let mut pieces = copied.iter().map(|bytes| &bytes[..]);
        match locked(&self.net).send(self.id, Way::ToHost, &mut pieces) {
            Took::Bytes(count) => Moved::Bytes(count),
            Took::Nothing => Moved::Blocked,
            Took::End(_) => Moved::Failed(reset_error()),
        }
    }

    fn finish(&mut self) {
        locked(&self.net).end(self.id, Way::ToHost, End::Finished);
    }
}

/// What one reactor watches, by place.
pub type Watched = BTreeMap<u16, (ConnId, Interest)>;

/// Readiness for one reactor, in place of epoll.
pub struct SimPoller {
    net: SharedNet,
    reactor: usize,
    /// Shared with the node, which wakes the reactor by it.
    watched: Arc<Mutex<Watched>>,
}

impl SimPoller {
    /// For `reactor`.
    pub fn new(net: SharedNet, reactor: usize, watched: Arc<Mutex<Watched>>) -> SimPoller {
        SimPoller { net, reactor, watched }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().expect("one thread runs a simulation")
    }
}

impl Poller for SimPoller {
    type Socket = TargetSocket;

    fn accept(&mut self) -> Option<Arrival<TargetSocket>> {
        let mut net = locked(&self.net);
        let now_ns = net.now_ns;
        let waits = |conn: &Conn| {
            conn.reactor == self.reactor
                && !conn.accepted
                && conn.host_open
                && conn.arrives_ns <= now_ns
        };
        let number = net.conns.iter().position(waits)?;
        net.conns[number].accepted = true;
        Some(Arrival {
            socket: TargetSocket { net: self.net.clone(), id: ConnId(number) },
            origin: Origin::alone(
                ([10, 0, 0, 2], 1024 + (number % 60_000) as u16).into(),
                ([10, 0, 0, 1], 4420).into(),
            ),
        })
    }

    fn add(&mut self, place: u16, socket: &TargetSocket) -> io::Result<()> {
        self.watched().insert(place, (socket.id, Interest::READ));
        Ok(())
    }

    fn change(&mut self, place: u16, socket: &TargetSocket, interest: Interest) {
        self.watched().insert(place, (socket.id, interest));
    }

    fn remove(&mut self, place: u16, _socket: &TargetSocket) {
        self.watched().remove(&place);
    }

    fn ready(&mut self, out: &mut Vec<Ready>) {
        let net = locked(&self.net);
        for (place, (id, interest)) in self.watched().iter() {
            let (read, write) = net.readiness(*id, *interest);
            if read || write {
                out.push(Ready { place: *place, read, write });
            }
        }
    }
}
