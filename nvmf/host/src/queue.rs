//! A queue that waits: one command at a time or several, each with an answer in time or an error.
//!
//! For everything off the data path: connecting, the admin queue, tools and tests.

use crate::qpair::{Broken, Ended, MAX_R2T, Payload, Qpair, QueueParams, RdmaQpair, Ring};
use crate::{AnyQueuePair, Error, Options, QueuePair, Socket, TcpSocket, Transport};
use bdev::sleep::{Sleeper, clock_ns};
use bdev::{DmaSlice, Memory};
use nvme_spec::{Cqe, Sqe};
use nvmf_wire::connect::{Connect, ConnectData, Connected, cattr};
use nvmf_wire::pdu::{
    self, Framing, IC_BYTES, IcResp, Params, Pdu, Peek, Side, encode_icreq, peek,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use verbs::initiator::{ConnectError, Dialer, Wish};
use zerocopy::IntoBytes;

/// The most data of one command on a waiting queue, in bytes.
pub const MAX_DATA_BYTES: usize = 1 << 20;

/// The data of a command.
#[derive(Debug)]
pub enum Data<'a> {
    /// None.
    None,
    /// From the controller into this.
    In(&'a mut [u8]),
    /// From this to the controller.
    Out(&'a [u8]),
}

/// The caller's name for a command that was posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(u32);

/// One queue pair of a controller.
pub struct Queue {
    qpair: AnyQueuePair,
    address: SocketAddr,
    timeout: Duration,
    ended: Vec<(u32, Ended)>,
    next_token: u32,
    /// Where data of [`Queue::execute`] passes through.
    data: DmaSlice,
    /// Keeps `data` mapped; dropped after the queue pair that may refer to it.
    _memory: Arc<Memory>,
}

/// What a new queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueKind {
    /// Its identifier; 0 for the admin queue.
    pub qid: u16,
    /// The controller; FFFFh for a new one.
    pub cntlid: u16,
    /// Commands outstanding at once.
    pub depth: u16,
    /// The most bytes of data in a command capsule.
    pub in_capsule_bytes: u32,
}

impl Queue {
    /// Opens a connection and connects the queue. Returns it with the
    /// result of Connect.
    ///
    /// # Errors
    /// Why not.
    pub fn connect(options: &Options, kind: QueueKind) -> Result<(Queue, Connected), Error> {
        let mut queue = Queue::open(options, kind)?;
        let connect = Connect {
            recfmt: 0,
            qid: kind.qid,
            // Without flow control as many commands as entries less one may be outstanding,
            // which is the zero-based size.
            sqsize: kind.depth,
            cattr: cattr::DISABLE_SQ_FLOW,
            kato_ms: match kind.qid {
                0 => u32::try_from(options.keep_alive.as_millis()).unwrap_or(u32::MAX),
                _ => 0,
            },
        };
        let Options { host, subsystem, .. } = options;
        let data = ConnectData::new(host.id, kind.cntlid, subsystem, &host.nqn);
        let ended = queue.execute("Connect", connect.sqe(0), Data::Out(data.as_bytes()))?;
        let status = ended.cqe.status();
        let dword = ended.cqe.dw0.get();
        if !status.is_success() {
            return Err(Error::Refused {
                address: options.address,
                subsystem: subsystem.as_str().into(),
                host: host.nqn.as_str().into(),
                status,
                dword,
            });
        }
        Ok((queue, Connected::from_dword(dword)))
    }

    /// Opens a connection, no more: the queue takes commands, and the first has to be Connect.
    ///
    /// # Errors
    /// Why not.
    pub fn open(options: &Options, kind: QueueKind) -> Result<Queue, Error> {
        let memory = Memory::map(1, MAX_DATA_BYTES + Ring::bytes(kind.depth))
            .map_err(|why| Error::Local { what: "map memory for commands".into(), why })?;
        let memory = Arc::new(memory);
        let qpair = match &options.transport {
            Transport::Tcp => AnyQueuePair::Tcp(Box::new(open_tcp(options, kind)?)),
            Transport::Rdma(dialer) => {
                let qpair = open_rdma(dialer.as_ref(), options, kind, &memory)?;
                AnyQueuePair::Rdma(Box::new(qpair))
            }
        };
        Ok(Queue {
            qpair,
            address: options.address,
            timeout: options.admin_timeout,
            ended: Vec::new(),
            next_token: 0,
            data: memory.slice(0, 0, MAX_DATA_BYTES),
            _memory: memory,
        })
    }

    /// How long a command may take, from now on.
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Executes one command and waits for its end, whatever its status. `what` names it in
    /// errors. Command identifier and, unless it is set, the data pointer are filled in.
    ///
    /// # Errors
    /// The connection is lost, or there is no answer in time; it is of no use afterwards.
    ///
    /// # Panics
    /// If the data is longer than [`MAX_DATA_BYTES`].
    pub fn execute(&mut self, what: &str, sqe: Sqe, data: Data<'_>) -> Result<Ended, Error> {
        let payload = match &data {
            Data::None => Payload::None,
            Data::In(into) => Payload::ToHost(self.data.sub(0, into.len())),
            Data::Out(from) => {
                let memory = self.data.sub(0, from.len());
                memory.copy_in(0, from);
                Payload::ToController(memory)
            }
        };
        let token = self.post(sqe, payload);
        let ended = self.wait(what, token)?;
        if let Data::In(into) = data {
            let bytes = ended.received.min(into.len());
            self.data.copy_out(0, &mut into[..bytes]);
        }
        Ok(ended)
    }

    /// As [`Queue::execute`], but a status other than success is an error, and so is data that
    /// did not arrive as it should.
    ///
    /// # Errors
    /// As above.
    pub fn succeed(&mut self, what: &str, sqe: Sqe, data: Data<'_>) -> Result<Cqe, Error> {
        let ended = self.execute(what, sqe, data)?;
        match ended.status() {
            status if status.is_success() => Ok(ended.cqe),
            status => Err(Error::Command { what: what.into(), status }),
        }
    }

    /// Hands a command over, to be sent with the next wait. The memory of `payload` is left
    /// alone until the command has ended.
    ///
    /// # Panics
    /// If as many commands as the queue holds are outstanding.
    pub fn post(&mut self, sqe: Sqe, payload: Payload) -> Token {
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        self.qpair.submit(token.0, sqe, payload, u64::MAX);
        token
    }

    /// Waits for the end of a command.
    ///
    /// # Errors
    /// The connection is lost, or there is no answer in time; it is of no use afterwards.
    pub fn wait(&mut self, what: &str, token: Token) -> Result<Ended, Error> {
        let limit = clock_ns().saturating_add(nanos(self.timeout));
        loop {
            if let Some(at) = self.ended.iter().position(|(ended, _)| *ended == token.0) {
                return Ok(self.ended.swap_remove(at).1);
            }
            let now = clock_ns();
            if now >= limit {
                return Err(Error::Timeout { address: self.address, during: what.into() });
            }
            if self.service(what)? == 0 {
                self.sleep(Duration::from_nanos(limit - now));
            }
        }
    }

    /// Sends and takes what is there now, without waiting. Returns how much was done.
    ///
    /// # Errors
    /// The connection is lost.
    pub fn service(&mut self, what: &str) -> Result<u32, Error> {
        let Queue { qpair, ended, .. } = self;
        let work = qpair.poll(clock_ns(), |token, how| ended.push((token, how)));
        work.map_err(|why| {
            self.qpair.abandon(&why);
            Error::Broken { address: self.address, during: what.into(), why }
        })
    }

    /// The end of a posted command, if it has come.
    pub fn take(&mut self, token: Token) -> Option<Ended> {
        let at = self.ended.iter().position(|(ended, _)| *ended == token.0)?;
        Some(self.ended.swap_remove(at).1)
    }

    fn sleep(&self, limit: Duration) {
        if !self.qpair.may_sleep() {
            return;
        }
        let mut sleeper = Sleeper::default();
        match self.qpair.is_blocked() {
            true => sleeper.until_ready(self.fd()),
            false => sleeper.until_readable(self.fd()),
        };
        // An error is an early wake-up.
        let _ = sleeper.sleep(Some(limit));
    }

    /// Readable when there is something to take, once [`Queue::may_sleep`].
    pub(crate) fn fd(&self) -> std::os::fd::RawFd {
        self.qpair.fd().expect("a connection has a descriptor")
    }

    /// Whether whatever happens next makes the descriptor readable.
    pub(crate) fn may_sleep(&self) -> bool {
        self.qpair.may_sleep()
    }

    /// The queue pair, for the data path.
    ///
    /// # Errors
    /// The target sent something that nobody asked for.
    pub(crate) fn into_queue_pair(self) -> Result<AnyQueuePair, Error> {
        if !self.qpair.is_quiet() {
            return Err(Error::Unsuitable {
                address: self.address,
                what: "sends before it is asked".into(),
            });
        }
        Ok(self.qpair)
    }
}

/// A span in ns, as the clock counts it.
pub(crate) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn open_tcp(options: &Options, kind: QueueKind) -> Result<Qpair<TcpSocket, u32>, Error> {
    let mut socket = open_socket(options)?;
    let icresp = initialise(&mut socket, options)?;
    let params = QueueParams {
        framing: Framing { hdgst: icresp.hdgst(), ddgst: icresp.ddgst(), pda: icresp.cpda },
        max_h2c_data: icresp.maxh2cdata.get(),
        in_capsule_bytes: kind.in_capsule_bytes,
        depth: kind.depth,
    };
    Ok(Qpair::new(socket, params))
}

fn open_rdma(
    dialer: &dyn Dialer,
    options: &Options,
    kind: QueueKind,
    memory: &Arc<Memory>,
) -> Result<RdmaQpair<u32>, Error> {
    let address = options.address;
    let not_connected = |why| Error::NotConnected { address, why };
    if options.header_digest || options.data_digest {
        let why = "NVMe/RDMA has no digests; the network guards its packets itself";
        return Err(not_connected(ConnectError::Failed(why.into())));
    }
    let ring = Ring::new(memory.clone(), MAX_DATA_BYTES, kind.depth);
    let wish = Wish { qid: kind.qid, cntlid: kind.cntlid, depth: kind.depth };
    let limit = options.connect_timeout;
    let link = dialer.connect(address, &wish, memory, &ring.landings(), limit);
    // Capsules of the admin queue hold no data (NVMe/RDMA Transport Specification, "Capsules").
    let in_capsule_bytes = if kind.qid == 0 { 0 } else { kind.in_capsule_bytes };
    Ok(RdmaQpair::new(link.map_err(not_connected)?, ring, in_capsule_bytes))
}

fn open_socket(options: &Options) -> Result<TcpSocket, Error> {
    let congestion = options.congestion.as_deref();
    TcpSocket::connect(options.address, options.connect_timeout, congestion).map_err(|why| {
        match (why.kind(), congestion) {
            (io::ErrorKind::NotFound, Some(name)) => {
                Error::Local { what: format!("use the congestion control {name}"), why }
            }
            _ => Error::Unreachable { address: options.address, why },
        }
    })
}

/// Exchanges ICReq and ICResp.
fn initialise(socket: &mut TcpSocket, options: &Options) -> Result<IcResp, Error> {
    let Options { header_digest, data_digest, address, .. } = options;
    let (address, during) = (*address, "ICReq");
    let broken = |why| Error::Broken { address, during: during.into(), why };
    let limit = clock_ns().saturating_add(nanos(options.connect_timeout));
    let mut request = [0; IC_BYTES];
    encode_icreq(&mut request, 0, *header_digest, *data_digest, MAX_R2T);
    let sent = socket.send(&[IoSlice::new(&request)]).map_err(|e| broken(Broken::Network(e)))?;
    if sent != Some(request.len()) {
        return Err(broken(Broken::Protocol("no room for an ICReq")));
    }
    let mut bytes = [0; pdu::TERM_BYTES + pdu::TERM_MAX_DATA];
    let mut have = 0;
    loop {
        match peek(&bytes[..have], &Params::initialize(Side::Host)) {
            Err(error) => return Err(broken(Broken::Wire(error))),
            Ok(Peek::Pdu(framed)) => return accept(framed.pdu, options),
            Ok(Peek::NeedMore(want)) => {
                let want = want.min(bytes.len());
                let into = &mut bytes[have..want];
                match socket.recv(&mut [IoSliceMut::new(into)]) {
                    Err(error) => return Err(broken(Broken::Network(error))),
                    Ok(Some(0)) => return Err(broken(Broken::Ended)),
                    Ok(Some(n)) => have += n,
                    Ok(None) => {
                        let now = clock_ns();
                        if now >= limit {
                            return Err(Error::Timeout { address, during: during.into() });
                        }
                        let fd = socket.fd().expect("a TCP socket has a descriptor");
                        let limit = Duration::from_nanos(limit - now);
                        // An error is an early wake-up.
                        let _ = Sleeper::default().until_readable(fd).sleep(Some(limit));
                    }
                }
            }
        }
    }
}

/// Checks the answer to our ICReq.
fn accept(answer: Pdu<'_>, options: &Options) -> Result<IcResp, Error> {
    let address = options.address;
    match answer {
        Pdu::IcResp(icresp) => {
            let unsuitable = |what: &str| Error::Unsuitable { address, what: what.into() };
            if icresp.hdgst() != options.header_digest {
                return Err(unsuitable("does not agree on header digests"));
            }
            if icresp.ddgst() != options.data_digest {
                return Err(unsuitable("does not agree on data digests"));
            }
            Ok(*icresp)
        }
        Pdu::TermReq(term) => Err(Error::Broken {
            address,
            during: "ICReq".into(),
            why: Broken::Terminated { fes: term.fes.get(), fei: term.fei.get() },
        }),
        _ => Err(Error::Broken {
            address,
            during: "ICReq".into(),
            why: Broken::Wire(pdu::WireError::sequence(0)),
        }),
    }
}
