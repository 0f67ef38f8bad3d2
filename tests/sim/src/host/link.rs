//! One connection of a host: initialisation, then a production queue pair.

use crate::network::{ConnId, HostSocket, SharedNet};
use crate::node::{IN_CAPSULE_BYTES, NQN};
use crate::plan::Plan;
use nvme_spec::Sqe;
use nvmf_host::Socket;
use nvmf_host::qpair::{Broken, Ended, MAX_R2T, Payload, Qpair, QueueParams};
use nvmf_wire::Nqn;
use nvmf_wire::connect::{Connect, ConnectData, cattr};
use nvmf_wire::pdu::{Framing, IC_BYTES, Params, Pdu, Peek, Side, encode_icreq, peek};
use std::io::{IoSlice, IoSliceMut};

/// How long a command may take on a network and a drive that work, in ns: far more than any
/// accident lasts.
const COMMAND_NS: u64 = 10_000_000_000;

enum State {
    Greeting { socket: HostSocket, sent: usize, got: Vec<u8> },
    Open(Box<Qpair<HostSocket, u64>>),
    Broken,
}

/// A connection.
pub struct Link {
    id: ConnId,
    state: State,
    header_digest: bool,
    data_digest: bool,
    depth: u16,
}

impl Link {
    /// Opens a connection for a queue of `depth`; `None` when it is refused.
    pub fn open(net: &SharedNet, plan: &Plan, depth: u16) -> Option<Link> {
        let socket = HostSocket::connect(net)?;
        Some(Link {
            id: socket.id(),
            state: State::Greeting { socket, sent: 0, got: Vec::new() },
            header_digest: plan.header_digest,
            data_digest: plan.data_digest,
            depth,
        })
    }

    /// The connection's number.
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// Whether commands may be submitted.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Commands that may be submitted now.
    pub fn room(&self) -> u32 {
        match &self.state {
            State::Open(qpair) => u32::from(self.depth) - qpair.outstanding(),
            State::Greeting { .. } | State::Broken => 0,
        }
    }

    /// Submits a command by its number.
    pub fn submit(&mut self, command: u64, sqe: Sqe, payload: Payload, now_ns: u64) {
        let State::Open(qpair) = &mut self.state else { panic!("submitted on no queue") };
        qpair.submit(command, sqe, payload, now_ns + COMMAND_NS);
    }

    /// Moves on. Appends the commands that ended to `ended`. Returns whether anything was done.
    ///
    /// # Errors
    /// Why the connection is lost.
    pub fn poll(&mut self, now_ns: u64, ended: &mut Vec<(u64, Ended)>) -> Result<bool, Broken> {
        match &mut self.state {
            State::Greeting { .. } => self.greet(),
            State::Open(qpair) => {
                qpair.poll(now_ns, |command, how| ended.push((command, how))).map(|work| work > 0)
            }
            State::Broken => Ok(false),
        }
    }

    /// Sends ICReq, and takes ICResp.
    fn greet(&mut self) -> Result<bool, Broken> {
        let State::Greeting { socket, sent, got } = &mut self.state else { return Ok(false) };
        let mut request = [0; IC_BYTES];
        encode_icreq(&mut request, 0, self.header_digest, self.data_digest, MAX_R2T);
        if *sent < request.len() {
            let bytes = socket.send(&[IoSlice::new(&request[*sent..])]).map_err(Broken::Network)?;
            *sent += bytes.unwrap_or(0);
            return Ok(bytes.is_some());
        }
        let want = match peek(got, &Params::initialize(Side::Host))? {
            Peek::NeedMore(want) => want,
            Peek::Pdu(framed) => {
                let Pdu::IcResp(icresp) = framed.pdu else {
                    return Err(Broken::Protocol("an answer to ICReq that is no ICResp"));
                };
                let params = QueueParams {
                    framing: Framing {
                        hdgst: icresp.hdgst(),
                        ddgst: icresp.ddgst(),
                        pda: icresp.cpda,
                    },
                    max_h2c_data: icresp.maxh2cdata.get(),
                    in_capsule_bytes: IN_CAPSULE_BYTES,
                    depth: self.depth,
                };
                self.start(params);
                return Ok(true);
            }
        };
        let mut bytes = vec![0; want - got.len()];
        match socket.recv(&mut [IoSliceMut::new(&mut bytes)]).map_err(Broken::Network)? {
            Some(0) => Err(Broken::Ended),
            Some(count) => {
                got.extend_from_slice(&bytes[..count]);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn start(&mut self, params: QueueParams) {
        let State::Greeting { socket, .. } = std::mem::replace(&mut self.state, State::Broken)
        else {
            unreachable!("only a greeting starts a queue")
        };
        self.state = State::Open(Box::new(Qpair::new(socket, params)));
    }

    /// When to poll even if nothing arrives.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        match &self.state {
            State::Open(qpair) => qpair.next_deadline_ns(),
            State::Greeting { .. } | State::Broken => None,
        }
    }

    /// Gives the connection up. `each` hears of the commands that have not ended.
    pub fn give_up(&mut self, each: impl FnMut(u64)) {
        if let State::Open(qpair) = &mut self.state {
            qpair.drain(each);
        }
        self.state = State::Broken;
    }
}

/// The Connect command of a queue, and its data.
pub fn connect_command(
    plan: &Plan,
    host: usize,
    qid: u16,
    cntlid: u16,
    depth: u16,
) -> (Sqe, ConnectData) {
    let connect = Connect {
        recfmt: 0,
        qid,
        sqsize: depth,
        cattr: if plan.seed.is_multiple_of(2) { cattr::DISABLE_SQ_FLOW } else { 0 },
        kato_ms: if qid == 0 { plan.kato_ms } else { 0 },
    };
    let name = |text: &str| Nqn::new(text).expect("a fixed name");
    let host_nqn = format!("nqn.2024-01.io.forebay:host-{host}");
    let data = ConnectData::new([host as u8 + 1; 16], cntlid, &name(NQN), &name(&host_nqn));
    (connect.sqe(0), data)
}
