//! A target for tests: the controller's side of the protocol over byte buffers, with RAM behind
//! it and knobs for everything that the specification leaves to a controller.

mod pipe;
mod server;
pub(crate) mod strategy;

pub(crate) use pipe::Pipe;
pub(crate) use server::Server;

use nvme_spec::dsm::Range;
use nvme_spec::identify::{IdentifyController, IdentifyNamespace, NamespaceList, bits, cns};
use nvme_spec::log::{GetLogPage, lid};
use nvme_spec::opcode::{admin, fabrics, nvm};
use nvme_spec::property::{self, Cap, Csts, css};
use nvme_spec::{Cqe, Sgl, Sqe, Status};
use nvmf_wire::connect::Connect;
use nvmf_wire::digest::DataDigest;
use nvmf_wire::discovery::{Entry, read_log};
use nvmf_wire::pdu::*;
use nvmf_wire::property::{PropertyGet, PropertySet, put_value};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, IntoBytes};

pub(crate) const BLOCK: usize = 512;

/// What a controller may choose.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) hdgst: bool,
    pub(crate) ddgst: bool,
    pub(crate) cpda: u8,
    pub(crate) maxh2cdata: u32,
    pub(crate) r2t_bytes: usize,
    pub(crate) c2h_bytes: usize,
    pub(crate) success: bool,
    /// Which command's next PDU is sent: from this sequence, over and over.
    pub(crate) order: Vec<u8>,
    /// Read commands of this many and more have a wrong data digest.
    pub(crate) damage_reads_from: u32,
    pub(crate) ioccsz: u32,
    pub(crate) mdts: u8,
    pub(crate) refuse_host: bool,
}

impl Default for Knobs {
    fn default() -> Knobs {
        Knobs {
            hdgst: false,
            ddgst: false,
            cpda: 0,
            maxh2cdata: 131072,
            r2t_bytes: 131072,
            c2h_bytes: 131072,
            success: true,
            order: vec![0],
            damage_reads_from: u32::MAX,
            ioccsz: (64 + 8192) / 16,
            mdts: 0,
            refuse_host: false,
        }
    }
}

/// What all connections share.
pub(crate) struct Storage {
    pub(crate) ram: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) commands: u64,
    pub(crate) blocks: u64,
    /// Event dwords to answer the next event requests with.
    pub(crate) events: Vec<u32>,
}

impl Storage {
    pub(crate) fn new(blocks: usize) -> Arc<Mutex<Storage>> {
        Arc::new(Mutex::new(Storage {
            ram: vec![0; blocks * BLOCK],
            entries: Vec::new(),
            commands: 0,
            blocks: blocks as u64,
            events: Vec::new(),
        }))
    }
}

struct Write {
    sqe: Sqe,
    data: Vec<u8>,
    got: usize,
}

/// One connection.
pub(crate) struct Fake {
    knobs: Knobs,
    storage: Arc<Mutex<Storage>>,
    params: Params,
    input: Vec<u8>,
    /// PDUs to be sent, by command; those of one command stay in order.
    streams: Vec<VecDeque<Vec<u8>>>,
    writes: HashMap<u16, Write>,
    turn: usize,
    reads: u32,
    cc: u32,
    is_admin: bool,
    event_requests: VecDeque<u16>,
    pub(crate) failed: Option<WireError>,
}

impl Fake {
    /// Before ICReq.
    pub(crate) fn new(knobs: Knobs, storage: Arc<Mutex<Storage>>) -> Fake {
        Fake {
            knobs,
            storage,
            params: Params::initialize(Side::Controller),
            input: Vec::new(),
            streams: Vec::new(),
            writes: HashMap::new(),
            turn: 0,
            reads: 0,
            cc: 0,
            is_admin: false,
            event_requests: VecDeque::new(),
            failed: None,
        }
    }

    /// After ICReq and ICResp.
    pub(crate) fn ready(knobs: Knobs, storage: Arc<Mutex<Storage>>) -> Fake {
        let mut fake = Fake::new(knobs, storage);
        fake.become_ready();
        fake
    }

    fn become_ready(&mut self) {
        self.params = Params {
            receiver: Side::Controller,
            phase: Phase::Ready,
            hdgst: self.knobs.hdgst,
            ddgst: self.knobs.ddgst,
            pda: self.knobs.cpda,
            max_capsule_data: 8192,
            max_data: self.knobs.maxh2cdata,
        };
    }

    fn framing(&self) -> Framing {
        Framing { hdgst: self.knobs.hdgst, ddgst: self.knobs.ddgst, pda: 0 }
    }

    /// Takes bytes from the host.
    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while self.failed.is_none() {
            let input = std::mem::take(&mut self.input);
            let (used, result) = self.one(&input);
            self.failed = result.err();
            self.input = input[used..].to_vec();
            if used == 0 {
                break;
            }
        }
    }

    /// The next PDU for the host.
    pub(crate) fn next_pdu(&mut self) -> Option<Vec<u8>> {
        while let Some(cid) = self.event_requests.front().copied() {
            let Some(event) = self.storage.lock().unwrap().events.pop() else { break };
            self.event_requests.pop_front();
            let mut cqe = Cqe::new(cid, Status::SUCCESS);
            cqe.dw0 = U32::new(event);
            self.respond(cqe);
        }
        if self.streams.is_empty() {
            return None;
        }
        let pick = usize::from(self.knobs.order[self.turn % self.knobs.order.len()]);
        self.turn += 1;
        let at = pick % self.streams.len();
        let pdu = self.streams[at].pop_front();
        if self.streams[at].is_empty() {
            self.streams.remove(at);
        }
        pdu
    }

    fn one(&mut self, input: &[u8]) -> (usize, Result<(), WireError>) {
        let framed = match peek(input, &self.params) {
            Err(error) => return (0, Err(error)),
            Ok(Peek::NeedMore(_)) => return (0, Ok(())),
            Ok(Peek::Pdu(framed)) if input.len() < framed.total_len as usize => return (0, Ok(())),
            Ok(Peek::Pdu(framed)) => framed,
        };
        let total = framed.total_len as usize;
        let data = &input[framed.data_offset as usize..][..framed.data_len as usize];
        if framed.data_digest {
            let mut digest = DataDigest::new();
            digest.update(data);
            let received = input[total - 4..total].try_into().unwrap();
            assert!(digest.matches(received), "the host sent a wrong data digest");
        }
        match framed.pdu {
            Pdu::IcReq(icreq) => {
                assert_eq!((icreq.hdgst(), icreq.ddgst()), (self.knobs.hdgst, self.knobs.ddgst));
                let mut out = [0; IC_BYTES];
                let Knobs { cpda, hdgst, ddgst, maxh2cdata, .. } = self.knobs;
                encode_icresp(&mut out, cpda, hdgst, ddgst, maxh2cdata);
                self.streams.push(VecDeque::from([out.to_vec()]));
                self.become_ready();
            }
            Pdu::CapsuleCmd(pdu) => self.command(pdu.sqe, data),
            Pdu::H2cData(pdu) => {
                let cid = pdu.cccid.get();
                assert_eq!(pdu.ttag.get(), cid ^ 0x5555);
                let write = self.writes.get_mut(&cid).expect("data for a write");
                let at = pdu.datao.get() as usize;
                write.data[at..at + data.len()].copy_from_slice(data);
                write.got += data.len();
                if write.got == write.data.len() {
                    let Write { sqe, data, .. } = self.writes.remove(&cid).unwrap();
                    self.execute(sqe, &data);
                }
            }
            _ => {}
        }
        (total, Ok(()))
    }

    fn command(&mut self, sqe: Sqe, data: &[u8]) {
        self.storage.lock().unwrap().commands += 1;
        let wanted = sqe.dptr.len() as usize;
        let outgoing = sqe.opcode & 3 == 1 && sqe.opcode != fabrics::FABRICS;
        if sqe.dptr.kind == Sgl::TRANSPORT && outgoing && wanted > 0 {
            let chunk = self.knobs.r2t_bytes.max(wanted.div_ceil(4));
            let mut stream = VecDeque::new();
            for at in (0..wanted).step_by(chunk) {
                let mut out = [0; MAX_HEADER_BYTES];
                let (at, bytes) = (at as u32, chunk.min(wanted - at) as u32);
                let n =
                    encode_r2t(&mut out, self.framing(), sqe.cid(), sqe.cid() ^ 0x5555, at, bytes);
                stream.push_back(out[..n].to_vec());
            }
            self.streams.push(stream);
            self.writes.insert(sqe.cid(), Write { sqe, data: vec![0; wanted], got: 0 });
            return;
        }
        assert_eq!(data.len(), if sqe.dptr.kind == Sgl::IN_CAPSULE { wanted } else { 0 });
        self.execute(sqe, data);
    }

    fn respond(&mut self, cqe: Cqe) {
        let mut out = [0; MAX_HEADER_BYTES];
        let n = encode_capsule_resp(&mut out, self.framing(), &cqe);
        self.streams.push(VecDeque::from([out[..n].to_vec()]));
    }

    /// Data for the host, in pieces, and the completion.
    fn give(&mut self, sqe: &Sqe, data: &[u8]) {
        let mut stream = VecDeque::new();
        let data = &data[..data.len().min(sqe.dptr.len() as usize)];
        self.reads += 1;
        let count = data.len().div_ceil(self.knobs.c2h_bytes);
        for (index, piece) in data.chunks(self.knobs.c2h_bytes).enumerate() {
            let end = match (index + 1 == count, self.knobs.success) {
                (false, _) => C2hEnd::More,
                (true, false) => C2hEnd::Last,
                (true, true) => C2hEnd::LastSuccess,
            };
            let mut out = vec![0; MAX_DATA_OFFSET];
            let at = (index * self.knobs.c2h_bytes) as u32;
            let n =
                encode_c2h_data(&mut out, self.framing(), sqe.cid(), at, piece.len() as u32, end);
            out.truncate(n);
            out.extend_from_slice(piece);
            if self.knobs.ddgst {
                let mut digest = DataDigest::new();
                digest.update(piece);
                let mut bytes = digest.bytes();
                bytes[0] ^= u8::from(self.reads >= self.knobs.damage_reads_from);
                out.extend_from_slice(&bytes);
            }
            stream.push_back(out);
        }
        if !self.knobs.success {
            let mut out = [0; MAX_HEADER_BYTES];
            let cqe = Cqe::new(sqe.cid(), Status::SUCCESS);
            let n = encode_capsule_resp(&mut out, self.framing(), &cqe);
            stream.push_back(out[..n].to_vec());
        }
        self.streams.push(stream);
    }

    fn execute(&mut self, sqe: Sqe, data: &[u8]) {
        if sqe.opcode == fabrics::FABRICS {
            return self.fabrics(sqe, data);
        }
        if self.is_admin { self.admin(sqe) } else { self.io(sqe, data) }
    }

    fn fabrics(&mut self, sqe: Sqe, data: &[u8]) {
        let mut cqe = Cqe::new(sqe.cid(), Status::SUCCESS);
        match sqe.fctype() {
            fabrics::CONNECT => {
                assert_eq!(data.len(), 1024);
                self.is_admin = Connect::of(&sqe).qid == 0;
                cqe.dw0 = U32::new(1);
                if self.knobs.refuse_host {
                    cqe = Cqe::new(sqe.cid(), Status::CONNECT_INVALID_HOST.dnr());
                }
            }
            fabrics::PROPERTY_GET => {
                let value = match PropertyGet::of(&sqe).offset {
                    property::CAP => {
                        Cap { mqes: 127, cqr: true, to: 10, css: css::NVM, ..Cap::default() }.bits()
                    }
                    property::CC => u64::from(self.cc),
                    property::CSTS if self.cc >> 14 & 3 != 0 => u64::from(Csts::SHST_COMPLETE),
                    property::CSTS => u64::from(self.cc & 1),
                    _ => u64::from(property::version(2, 0, 0)),
                };
                put_value(&mut cqe, value);
            }
            fabrics::PROPERTY_SET => self.cc = PropertySet::of(&sqe).value as u32,
            _ => cqe = Cqe::new(sqe.cid(), Status::INVALID_FIELD.dnr()),
        }
        self.respond(cqe);
    }

    fn admin(&mut self, sqe: Sqe) {
        match sqe.opcode {
            admin::IDENTIFY => self.identify(sqe),
            admin::GET_LOG_PAGE => {
                let page = GetLogPage::of(&sqe);
                let mut out = vec![0; page.bytes() as usize];
                if page.lid == lid::DISCOVERY {
                    let storage = self.storage.lock().unwrap();
                    read_log(7, &storage.entries, page.lpo, &mut out);
                }
                self.give(&sqe, &out);
            }
            admin::ASYNC_EVENT => self.event_requests.push_back(sqe.cid()),
            _ => {
                let mut cqe = Cqe::new(sqe.cid(), Status::SUCCESS);
                cqe.dw0 = sqe.cdw11;
                self.respond(cqe);
            }
        }
    }

    fn identify(&mut self, sqe: Sqe) {
        match sqe.cdw10.get() as u8 {
            cns::CONTROLLER => {
                let mut id = IdentifyController {
                    mdts: self.knobs.mdts,
                    ioccsz: U32::new(self.knobs.ioccsz),
                    kas: 1.into(),
                    maxcmd: 128.into(),
                    vwc: 1,
                    oncs: (bits::oncs::WRITE_ZEROES | bits::oncs::DATASET_MANAGEMENT).into(),
                    ..IdentifyController::default()
                };
                nvme_spec::identify::put_ascii(&mut id.mn, "Fake");
                self.give(&sqe, id.as_bytes());
            }
            cns::NAMESPACE => {
                let mut id = IdentifyNamespace::default();
                if sqe.nsid() == 1 {
                    let blocks = self.storage.lock().unwrap().blocks;
                    id.nsze = blocks.into();
                    id.ncap = id.nsze;
                    id.lbaf[0].lbads = 9;
                    id.dlfeat = 1;
                    id.nguid = [9; 16];
                }
                self.give(&sqe, id.as_bytes());
            }
            cns::ACTIVE_NAMESPACES => {
                let list = NamespaceList::above(sqe.nsid(), [1]);
                self.give(&sqe, list.as_bytes());
            }
            cns::NAMESPACE_DESCRIPTORS => self.give(&sqe, &[0; 4096]),
            _ => self.respond(Cqe::new(sqe.cid(), Status::INVALID_FIELD.dnr())),
        }
    }

    fn io(&mut self, sqe: Sqe, data: &[u8]) {
        let at = (sqe.slba() as usize).saturating_mul(BLOCK);
        let bytes = sqe.blocks() as usize * BLOCK;
        let storage = self.storage.clone();
        let mut storage = storage.lock().unwrap();
        let ranged = matches!(sqe.opcode, nvm::READ | nvm::WRITE | nvm::WRITE_ZEROES);
        if ranged && at + bytes > storage.ram.len() {
            return self.respond(Cqe::new(sqe.cid(), Status::LBA_OUT_OF_RANGE.dnr()));
        }
        match sqe.opcode {
            nvm::READ => return self.give(&sqe, &storage.ram[at..at + bytes]),
            nvm::WRITE => storage.ram[at..at + bytes].copy_from_slice(data),
            nvm::WRITE_ZEROES => storage.ram[at..at + bytes].fill(0),
            nvm::DATASET_MANAGEMENT => {
                let range = Range::ref_from_bytes(data).unwrap();
                let at = range.slba.get() as usize * BLOCK;
                storage.ram[at..at + range.blocks.get() as usize * BLOCK].fill(0);
            }
            nvm::FLUSH => {}
            _ => return self.respond(Cqe::new(sqe.cid(), Status::INVALID_OPCODE.dnr())),
        }
        self.respond(Cqe::new(sqe.cid(), Status::SUCCESS));
    }
}
