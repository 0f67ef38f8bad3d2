//! The asking half: keeps `depth` commands in flight on each connection and takes the time.

use std::io;
use std::net::{Ipv4Addr, TcpStream};

use clap::Args;
use reactor::thread::{clock_ns, pin};

use super::frame::{COMMAND_BYTES, Command, RESPONSE_BYTES, decode_response};
use super::inbound::{Arrival, Inbound, Message};
use super::outbound::Outbound;
use super::{Movement, fill, holds, payloads, validate};
use crate::random::Random;
use crate::region::Region;
use crate::sample::{Meter, Op, Span, Workload};
use crate::socket::{self, Tuning, prepare};

/// Empty polls between two readings of the clock: an idle client still stops in time.
const POLLS_PER_READING: u32 = 4096;

/// Flags of `bench ceiling-client`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Core to pin to.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// Port of the answering half on 127.0.0.1.
    #[arg(long)]
    pub port: u16,
    #[command(flatten)]
    pub(crate) workload: Workload,
    #[command(flatten)]
    pub(crate) movement: Movement,
    #[command(flatten)]
    pub(crate) tuning: Tuning,
    #[command(flatten)]
    pub(crate) span: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Every answer is followed by a new command.
    Loading,
    /// The sample is taken: what is in flight is still received, and verified if asked for.
    Draining,
}

struct Slot {
    place: usize,
    issued_ns: u64,
}

struct Connection {
    socket: TcpStream,
    inbound: Inbound<RESPONSE_BYTES>,
    outbound: Outbound<COMMAND_BYTES>,
    memory: Region,
    slots: Vec<Slot>,
    in_flight: usize,
    random: Random,
}

/// Connects, takes one sample and prints it as a line of JSON.
///
/// # Errors
/// Returns socket errors, `UnexpectedEof` where the target closes, and `InvalidData` for an
/// unknown tag or, with `--check`, a payload that is not the pattern of its place.
pub fn run(options: &Options) -> io::Result<()> {
    validate(&options.workload, &options.movement)?;
    pin(options.core)?;
    let mut connections = (0..options.workload.connections)
        .map(|index| Connection::open(options, index))
        .collect::<io::Result<Vec<_>>>()?;
    let congestion = socket::congestion(&connections[0].socket)?;
    let now_ns = clock_ns();
    let mut meter = Meter::start(&options.span, now_ns);
    for connection in &mut connections {
        connection.start(options, now_ns)?;
    }
    let mut idle = 0;
    while !meter.is_over() {
        for connection in &mut connections {
            match connection.turn(options, &mut meter, Phase::Loading)? {
                Arrival::Bytes => {}
                Arrival::Nothing | Arrival::End => idle += 1,
            }
        }
        if idle >= POLLS_PER_READING {
            meter.tick(clock_ns());
            idle = 0;
        }
    }
    let sample = meter.finish(options.workload.payload, congestion);
    for connection in &mut connections {
        while connection.in_flight > 0 {
            connection.turn(options, &mut meter, Phase::Draining)?;
        }
    }
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

impl Connection {
    fn open(options: &Options, index: usize) -> io::Result<Self> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, options.port))?;
        prepare(&socket, &options.tuning)?;
        let Workload { payload, depth, .. } = options.workload;
        let (command, response) = payloads(&options.workload);
        let movement = &options.movement;
        Ok(Self {
            socket,
            inbound: Inbound::new(movement.rxbuf, response, movement.direct_min),
            outbound: Outbound::new(depth, command, movement.stages(command)),
            memory: Region::new(depth * payload)?,
            slots: (0..depth).map(|_| Slot { place: 0, issued_ns: 0 }).collect(),
            in_flight: 0,
            random: Random::new(index as u64 + 1),
        })
    }

    fn start(&mut self, options: &Options, now_ns: u64) -> io::Result<()> {
        for tag in 0..self.slots.len() {
            self.issue(tag, options, now_ns);
        }
        self.outbound.flush(&mut self.socket, self.memory.bytes())
    }

    fn issue(&mut self, tag: usize, options: &Options, now_ns: u64) {
        let payload = options.workload.payload;
        let places = options.movement.region / payload;
        let place = payload * self.random.below(places as u64) as usize;
        self.slots[tag] = Slot { place, issued_ns: now_ns };
        self.in_flight += 1;
        if options.movement.check && options.workload.op == Op::Write {
            fill(&mut self.memory.bytes_mut()[tag * payload..(tag + 1) * payload], place);
        }
        let command = Command { tag: tag as u16, place: place as u64 };
        self.outbound.push(command.encode(), self.memory.bytes(), tag * payload);
    }

    /// One turn; an end of the stream is an error.
    fn turn(&mut self, options: &Options, meter: &mut Meter, phase: Phase) -> io::Result<Arrival> {
        self.outbound.flush(&mut self.socket, self.memory.bytes())?;
        match self.inbound.receive(&mut self.socket, self.memory.bytes_mut())? {
            Arrival::Nothing => return Ok(Arrival::Nothing),
            Arrival::End => return Err(io::ErrorKind::UnexpectedEof.into()),
            Arrival::Bytes => {}
        }
        let now_ns = clock_ns();
        meter.tick(now_ns);
        let Workload { payload, depth, .. } = options.workload;
        let locate = |header: &[u8; RESPONSE_BYTES]| {
            let tag = decode_response(header);
            (usize::from(tag) < depth).then_some(Message { tag, place: usize::from(tag) * payload })
        };
        let mut batched = 0;
        while let Some(message) = self.inbound.next(self.memory.bytes_mut(), locate)? {
            let slot = &self.slots[usize::from(message.tag)];
            meter.record(now_ns.saturating_sub(slot.issued_ns));
            let bytes = &self.memory.bytes()[message.place..message.place + payload];
            if options.movement.check && !holds(bytes, slot.place) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "wrong data in a slot"));
            }
            self.in_flight -= 1;
            if phase == Phase::Loading {
                self.issue(usize::from(message.tag), options, now_ns);
            }
            batched += 1;
            if batched == options.movement.batch {
                self.outbound.flush(&mut self.socket, self.memory.bytes())?;
                batched = 0;
            }
        }
        self.outbound.flush(&mut self.socket, self.memory.bytes())?;
        Ok(Arrival::Bytes)
    }
}
