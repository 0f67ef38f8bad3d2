//! Hosts that misbehave: they ask for much and take nothing, announce data and send none, or have the
//! target work without end. Each is one thread with a connection for its admin queue and one for I/O,
//! and comes back when it is thrown out.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nvme_spec::dsm::{DatasetManagement, Range};
use nvme_spec::opcode::nvm;
use nvme_spec::property::{CC, Cc};
use nvme_spec::{Sgl, Sqe};
use nvmf_wire::Nqn;
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect, ConnectData, Connected, cattr};
use nvmf_wire::pdu::{
    Framing, IC_BYTES, MAX_DATA_OFFSET, Params, Pdu, Peek, Phase, Side, encode_capsule_cmd,
    encode_icreq, peek,
};
use nvmf_wire::property::{PropertySet, Width};
use zerocopy::IntoBytes;

/// What a host does to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Reads of 1 MiB, and nothing of them is taken from the socket.
    TakesNothing,
    /// Writes of 1 MiB, and no R2T is answered.
    SendsNothing,
    /// Dataset Management of all blocks, in as many ranges as go in one command.
    Deallocates,
    /// Flush, as often as the queue holds, and no answer is taken.
    Flushes,
}

impl Manner {
    /// All of them, twice.
    pub const EIGHT: [Manner; 8] = [
        Manner::TakesNothing,
        Manner::SendsNothing,
        Manner::Deallocates,
        Manner::Flushes,
        Manner::TakesNothing,
        Manner::SendsNothing,
        Manner::Deallocates,
        Manner::Flushes,
    ];
}

/// Bytes of a large command.
const LARGE: u32 = 1 << 20;
/// Commands of an I/O queue.
const DEPTH: u16 = 64;
/// Ranges of a Dataset Management: DMRL.
const RANGES: usize = 128;
/// Blocks of a range: DMRSL.
const RANGE_BLOCKS: u32 = 1 << 21;
/// How long a host waits before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Where the hosts go.
#[derive(Clone, Debug)]
pub struct Victim {
    /// The target.
    pub address: SocketAddr,
    /// The subsystem.
    pub nqn: String,
    /// Bytes of a block of namespace 1.
    pub block_bytes: u32,
    /// Blocks of it.
    pub blocks: u64,
}

/// Hosts that misbehave until this is dropped.
pub struct Misbehaving {
    stop: Arc<AtomicBool>,
    under_way: Arc<AtomicU32>,
    threads: Vec<JoinHandle<()>>,
}

impl Misbehaving {
    /// Starts a host for each of `manners`.
    pub fn start(victim: &Victim, manners: &[Manner]) -> Misbehaving {
        let stop = Arc::new(AtomicBool::new(false));
        let under_way = Arc::new(AtomicU32::new(0));
        let spawn = |(number, manner): (usize, &Manner)| {
            let (victim, manner) = (victim.clone(), *manner);
            let (stop, under_way) = (stop.clone(), under_way.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let mut counted = false;
                    // It was thrown out, or is not let in yet: it comes back.
                    let _ = misbehave(&victim, number, manner, &stop, || {
                        counted = true;
                        under_way.fetch_add(1, Ordering::Relaxed);
                    });
                    under_way.fetch_sub(u32::from(counted), Ordering::Relaxed);
                    std::thread::sleep(LOOK);
                }
            })
        };
        let threads = manners.iter().enumerate().map(spawn).collect();
        Misbehaving { stop, under_way, threads }
    }

    /// Waits until all of them have sent what they have to send.
    ///
    /// # Errors
    /// One of them has ended.
    pub fn all_at_it(&self) -> io::Result<()> {
        while (self.under_way() as usize) < self.threads.len() {
            if self.threads.iter().any(JoinHandle::is_finished) {
                return Err(io::Error::other("a host that should misbehave has ended"));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Hosts that have sent what they have to send, and are not thrown out.
    pub fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that has panicked has said so.
            let _ = thread.join();
        }
    }
}

/// One connection, bytes in and bytes out.
struct Line {
    socket: TcpStream,
    params: Params,
    input: Vec<u8>,
}

impl Line {
    /// Connects. With data digests, so that what is read goes by way of buffers on every device.
    fn open(address: SocketAddr) -> io::Result<Line> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(LOOK))?;
        let mut icreq = [0; IC_BYTES];
        encode_icreq(&mut icreq, 0, false, true, 1);
        socket.write_all(&icreq)?;
        let mut line = Line { socket, params: Params::initialize(Side::Host), input: Vec::new() };
        line.next(&AtomicBool::new(false))?;
        line.params.phase = Phase::Ready;
        line.params.ddgst = true;
        line.params.max_data = u32::MAX;
        Ok(line)
    }

    fn send(&mut self, sqe: &Sqe, data: &[u8]) -> io::Result<()> {
        let framing = Framing { hdgst: false, ddgst: true, pda: 0 };
        let mut head = [0; MAX_DATA_OFFSET];
        let len = encode_capsule_cmd(&mut head, framing, sqe, data.len() as u32);
        let mut bytes = head[..len].to_vec();
        if !data.is_empty() {
            bytes.extend_from_slice(data);
            bytes.extend_from_slice(&nvmf_wire::digest::crc32c(data).to_le_bytes());
        }
        self.socket.write_all(&bytes)
    }

    /// The next PDU: the first dword of its completion, if it is one.
    fn next(&mut self, stop: &AtomicBool) -> io::Result<Option<u32>> {
        loop {
            match peek(&self.input, &self.params) {
                Ok(Peek::Pdu(framed)) if framed.total_len as usize <= self.input.len() => {
                    let total = framed.total_len as usize;
                    let dw0 = match framed.pdu {
                        Pdu::CapsuleResp(response) => {
                            if !response.cqe.status().is_success() {
                                return Err(io::Error::other(response.cqe.status().to_string()));
                            }
                            Some(response.cqe.dw0.get())
                        }
                        _ => None,
                    };
                    self.input.drain(..total);
                    return Ok(dw0);
                }
                Ok(_) => {}
                Err(error) => return Err(io::Error::other(error.to_string())),
            }
            if stop.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let mut bytes = [0; 4096];
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends now and then, which finds out about the end of a connection from which nothing is read.
    fn push_on(&mut self, victim: &Victim, stop: &AtomicBool) -> io::Result<()> {
        self.socket.set_write_timeout(Some(LOOK))?;
        let (flush, _) = command(victim, Manner::Flushes);
        while !stop.load(Ordering::Relaxed) {
            std::thread::sleep(LOOK);
            match self.send(&Sqe { cid: (2 * DEPTH).into(), ..flush }, &[]) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn connect(
        &mut self,
        victim: &Victim,
        number: usize,
        qid: u16,
        cntlid: u16,
    ) -> io::Result<u16> {
        let name = |text: &str| Nqn::new(text).map_err(io::Error::other);
        let host = name(&format!("nqn.2026-01.org.example:misbehaving-{number}"))?;
        let data = ConnectData::new([number as u8 + 1; 16], cntlid, &name(&victim.nqn)?, &host);
        let sqsize = if qid == 0 { 31 } else { DEPTH };
        let cattr = cattr::DISABLE_SQ_FLOW;
        let connect = Connect { qid, sqsize, cattr, ..Connect::default() };
        self.send(&connect.sqe(0), data.as_bytes())?;
        let dw0 = self.next(&AtomicBool::new(false))?.unwrap_or_default();
        Ok(Connected::from_dword(dw0).cntlid)
    }
}

/// Connects, misbehaves, and returns when it is thrown out or told to end.
fn misbehave(
    victim: &Victim,
    number: usize,
    manner: Manner,
    stop: &AtomicBool,
    sent: impl FnOnce(),
) -> io::Result<()> {
    let mut admin = Line::open(victim.address)?;
    let cntlid = admin.connect(victim, number, 0, CNTLID_DYNAMIC)?;
    let enable = PropertySet { width: Width::Four, offset: CC, value: Cc::ENABLE.0.into() };
    admin.send(&enable.sqe(1), &[])?;
    admin.next(stop)?;
    let mut queue = Line::open(victim.address)?;
    queue.connect(victim, number, 1, cntlid)?;
    let (sqe, data) = command(victim, manner);
    for cid in 0..DEPTH {
        queue.send(&Sqe { cid: cid.into(), ..sqe }, &data)?;
    }
    sent();
    match manner {
        Manner::TakesNothing | Manner::Flushes => queue.push_on(victim, stop),
        Manner::SendsNothing => loop {
            queue.next(stop)?;
        },
        Manner::Deallocates => {
            for cid in (0..DEPTH).cycle() {
                while queue.next(stop)?.is_none() {}
                queue.send(&Sqe { cid: cid.into(), ..sqe }, &data)?;
            }
            Ok(())
        }
    }
}

/// The command that a host sends, again and again, and its data.
fn command(victim: &Victim, manner: Manner) -> (Sqe, Vec<u8>) {
    let opcode = match manner {
        Manner::TakesNothing => nvm::READ,
        Manner::SendsNothing => nvm::WRITE,
        Manner::Deallocates => nvm::DATASET_MANAGEMENT,
        Manner::Flushes => nvm::FLUSH,
    };
    let mut sqe = Sqe::new(opcode, 0, 1);
    sqe.flags = Sqe::FLAGS_SGL;
    match manner {
        Manner::TakesNothing | Manner::SendsNothing => {
            sqe.set_blocks(LARGE / victim.block_bytes);
            sqe.dptr = Sgl::transport(LARGE);
            (sqe, Vec::new())
        }
        Manner::Flushes => (sqe, Vec::new()),
        Manner::Deallocates => {
            DatasetManagement { ranges: RANGES, deallocate: true }.put(&mut sqe);
            let blocks = u64::from(RANGE_BLOCKS).min(victim.blocks) as u32;
            let range = Range { blocks: blocks.into(), ..Range::default() };
            let data = range.as_bytes().repeat(RANGES);
            sqe.dptr = Sgl::in_capsule(0, data.len() as u32);
            (sqe, data)
        }
    }
}
