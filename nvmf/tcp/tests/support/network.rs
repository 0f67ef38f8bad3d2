//! Simulated connections: bytes are cut where the test says.

use bdev::DmaSlice;
use nvmf::transport::Origin;
use nvmf_tcp::{Arrival, Interest, Moved, Poller, Ready, Socket};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex};

/// Both directions of a connection.
#[derive(Default)]
pub struct Pipe {
    pub to_target: VecDeque<u8>,
    pub from_target: Vec<u8>,
    pub host_ended: bool,
    pub target_ended: bool,
    pub dropped: bool,
    /// Bytes that each call moves at most, in turn; 0 blocks once. Empty: no limit.
    pub cuts: Vec<usize>,
    /// Bytes that each send moves at most.
    pub send_most: Option<usize>,
    turn: usize,
}

impl Pipe {
    fn cut(&mut self, bytes: usize) -> usize {
        let bytes = self.next_cut(bytes);
        self.turn += 1;
        bytes
    }

    /// What the next call makes of `bytes`.
    fn next_cut(&self, bytes: usize) -> usize {
        match self.cuts.len() {
            0 => bytes,
            cuts => bytes.min(self.cuts[(self.turn + 1) % cuts]),
        }
    }
}

pub type SharedPipe = Arc<Mutex<Pipe>>;

/// The target's end.
pub struct PipeSocket(SharedPipe);

impl Drop for PipeSocket {
    fn drop(&mut self) {
        self.0.lock().unwrap().dropped = true;
    }
}

impl Socket for PipeSocket {
    fn recv(&mut self, into: &[DmaSlice]) -> Moved {
        let mut pipe = self.0.lock().unwrap();
        let room: usize = into.iter().map(|piece| piece.len()).sum();
        assert!(room > 0, "room for something");
        if pipe.to_target.is_empty() {
            return if pipe.host_ended { Moved::Ended } else { Moved::Blocked };
        }
        let there = room.min(pipe.to_target.len());
        let bytes = pipe.cut(there);
        if bytes == 0 {
            return Moved::Blocked;
        }
        let moved: Vec<u8> = pipe.to_target.drain(..bytes).collect();
        let mut rest = &moved[..];
        for piece in into {
            let (now, later) = rest.split_at(rest.len().min(piece.len()));
            piece.copy_in(0, now);
            rest = later;
        }
        Moved::Bytes(bytes)
    }

    fn waiting(&self) -> usize {
        let pipe = self.0.lock().unwrap();
        pipe.next_cut(pipe.to_target.len())
    }

    fn send(&mut self, from: &[DmaSlice]) -> Moved {
        let mut pipe = self.0.lock().unwrap();
        if pipe.host_ended {
            return Moved::Failed(io::ErrorKind::BrokenPipe.into());
        }
        let whole: usize = from.iter().map(|piece| piece.len()).sum();
        assert!(whole > 0, "something to send");
        let bytes = pipe.cut(whole).min(pipe.send_most.unwrap_or(whole));
        let mut left = bytes;
        for piece in from {
            let mut copy = vec![0; piece.len().min(left)];
            piece.copy_out(0, &mut copy);
            pipe.from_target.extend_from_slice(&copy);
            left -= copy.len();
        }
        if bytes == 0 { Moved::Blocked } else { Moved::Bytes(bytes) }
    }

    fn finish(&mut self) {
        self.0.lock().unwrap().target_ended = true;
    }
}

/// The network as the target sees it.
#[derive(Default, Clone)]
pub struct Network(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    arriving: VecDeque<SharedPipe>,
    watched: BTreeMap<u16, (SharedPipe, Interest)>,
}

impl Network {
    /// A new connection.
    pub fn connect(&self) -> SharedPipe {
        let pipe = SharedPipe::default();
        self.0.lock().unwrap().arriving.push_back(pipe.clone());
        pipe
    }
}

impl Poller for Network {
    type Socket = PipeSocket;

    fn accept(&mut self) -> Option<Arrival<PipeSocket>> {
        let pipe = self.0.lock().unwrap().arriving.pop_front()?;
        let address = "192.0.2.1:4420".parse().unwrap();
        Some(Arrival { socket: PipeSocket(pipe), origin: Origin::alone(address, address) })
    }

    fn add(&mut self, place: u16, socket: &PipeSocket) -> io::Result<()> {
        let watched = &mut self.0.lock().unwrap().watched;
        let before = watched.insert(place, (socket.0.clone(), Interest::READ));
        assert!(before.is_none(), "a place is watched once");
        Ok(())
    }

    fn change(&mut self, place: u16, _socket: &PipeSocket, interest: Interest) {
        self.0.lock().unwrap().watched.get_mut(&place).expect("watched").1 = interest;
    }

    fn remove(&mut self, place: u16, _socket: &PipeSocket) {
        self.0.lock().unwrap().watched.remove(&place).expect("watched");
    }

    fn ready(&mut self, out: &mut Vec<Ready>) {
        for (place, (pipe, interest)) in &self.0.lock().unwrap().watched {
            let pipe = pipe.lock().unwrap();
            let read = interest.read && (!pipe.to_target.is_empty() || pipe.host_ended);
            if read || interest.write {
                out.push(Ready { place: *place, read, write: interest.write });
            }
        }
    }
}
