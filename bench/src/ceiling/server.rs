//! The answering half: pinned, polling, over a populated region.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use clap::Args;
use reactor::thread::pin;

use super::frame::{COMMAND_BYTES, Command, RESPONSE_BYTES, encode_response};
use super::inbound::{Arrival, Inbound, Message};
use super::outbound::Outbound;
use super::{Movement, fill, holds, payloads, validate};
use crate::region::{Region, prefetch};
use crate::sample::Workload;
use crate::socket::{Tuning, prepare};

/// Flags of `bench ceiling-server`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Core to pin to.
    #[arg(long, default_value_t = 0)]
    pub core: usize,
    /// Port on 127.0.0.1; 0 takes a free one, printed on the first line.
    #[arg(long, default_value_t = 0)]
    pub port: u16,
    #[command(flatten)]
    pub(crate) workload: Workload,
    #[command(flatten)]
    pub(crate) movement: Movement,
    #[command(flatten)]
    pub(crate) tuning: Tuning,
}

struct Connection {
    socket: TcpStream,
    inbound: Inbound<COMMAND_BYTES>,
    outbound: Outbound<RESPONSE_BYTES>,
    received: Vec<Message>,
}

/// Accepts the workload's connections, answers until the last has closed, and returns.
///
/// # Errors
/// Returns socket errors, and `InvalidData` for a command outside the region or, with
/// `--check`, a write whose payload is not the pattern of its place.
pub fn run(options: &Options) -> io::Result<()> {
    validate(&options.workload, &options.movement)?;
    pin(options.core)?;
    let mut region = Region::new(options.movement.region)?;
    fill(region.bytes_mut(), 0);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
    let pages = serde_json::to_value(region.backing().to_string())?;
    let mut out = io::stdout().lock();
    writeln!(out, r#"{{"port":{},"pages":{pages}}}"#, listener.local_addr()?.port())?;
    out.flush()?;

    let mut connections = Vec::with_capacity(options.workload.connections);
    while connections.len() < options.workload.connections {
        let (socket, _) = listener.accept()?;
        connections.push(Connection::new(socket, options)?);
    }
    while !connections.is_empty() {
        let mut ended = None;
        for (index, connection) in connections.iter_mut().enumerate() {
            if connection.turn(region.bytes_mut(), options)? == Arrival::End {
                ended = Some(index);
            }
        }
        if let Some(index) = ended {
            connections.swap_remove(index);
        }
    }
    Ok(())
}

impl Connection {
    fn new(socket: TcpStream, options: &Options) -> io::Result<Self> {
        prepare(&socket, &options.tuning)?;
        let (command, response) = payloads(&options.workload);
        let movement = &options.movement;
        Ok(Self {
            socket,
            inbound: Inbound::new(movement.rxbuf, command, movement.direct_min),
            received: Vec::with_capacity(options.workload.depth),
            outbound: Outbound::new(options.workload.depth, response, movement.stages(response)),
        })
    }

    fn turn(&mut self, region: &mut [u8], options: &Options) -> io::Result<Arrival> {
        self.outbound.flush(&mut self.socket, region)?;
        let arrival = self.inbound.receive(&mut self.socket, region)?;
        if arrival != Arrival::Bytes {
            return Ok(arrival);
        }
        while let Some(message) = self.inbound.next(region, locate)? {
            // Gathering in a second pass lets the first lines of every payload arrive meanwhile.
            if let Some(bytes) = region.get(message.place..) {
                prefetch(bytes);
            }
            self.received.push(message);
        }
        let mut batched = 0;
        for message in self.received.drain(..) {
            let place = message.place;
            let Some(bytes) = region.get(place..place.saturating_add(options.workload.payload))
            else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            if options.movement.check && !holds(bytes, place) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "wrong data in the region"));
            }
            self.outbound.push(encode_response(message.tag), region, place);
            batched += 1;
            if batched == options.movement.batch {
                self.outbound.flush(&mut self.socket, region)?;
                batched = 0;
            }
        }
        self.outbound.flush(&mut self.socket, region)?;
        Ok(arrival)
    }
}

fn locate(header: &[u8; COMMAND_BYTES]) -> Option<Message> {
    let command = Command::decode(header);
    Some(Message { tag: command.tag, place: usize::try_from(command.place).ok()? })
}
