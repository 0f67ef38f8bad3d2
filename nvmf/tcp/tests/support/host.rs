//! The host's side of the protocol, bytes in and bytes out.

use nvme_spec::{Cqe, Sgl, Sqe};
use nvmf_wire::digest::crc32c;
use nvmf_wire::pdu::{
    Framing, IC_BYTES, MAX_DATA_OFFSET, Params, Pdu, Peek, Phase, Side, encode_capsule_cmd,
    encode_h2c_data, encode_icreq, peek,
};
use std::collections::HashMap;

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    pub cid: u16,
    pub cqe: Option<Cqe>,
    pub data: Vec<u8>,
}

/// A host on one connection.
pub struct Host {
    pub params: Params,
    pub framing: Framing,
    pub maxh2cdata: u32,
    pub out: Vec<u8>,
    input: Vec<u8>,
    writes: HashMap<u16, Vec<u8>>,
    reads: HashMap<u16, Vec<u8>>,
    pub done: Vec<Done>,
    pub term: Option<(u16, u32)>,
    /// R2Ts seen: tag, offset, length.
    pub r2ts: Vec<(u16, u32, u32)>,
    /// Answer R2Ts.
    pub answers: bool,
    /// The next data digest is wrong.
    pub spoil: bool,
}

impl Host {
    /// A host that has queued its ICReq.
    pub fn new(hdgst: bool, ddgst: bool, hpda: u8, maxr2t: u32) -> Host {
        let mut icreq = [0; IC_BYTES];
        encode_icreq(&mut icreq, hpda, hdgst, ddgst, maxr2t);
        let mut params = Params::initialize(Side::Host);
        params.pda = hpda;
        params.max_data = u32::MAX;
        Host {
            params,
            framing: Framing { hdgst, ddgst, pda: 0 },
            maxh2cdata: 4096,
            out: icreq.to_vec(),
            input: Vec::new(),
            writes: HashMap::new(),
            reads: HashMap::new(),
            done: Vec::new(),
            term: None,
            r2ts: Vec::new(),
            answers: true,
            spoil: false,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.params.phase == Phase::Ready
    }

    pub fn read(&mut self, cid: u16, at: u64, bytes: u32) {
        let mut sqe = Sqe::new(super::READ, cid, 1);
        sqe.set_slba(at);
        sqe.dptr = Sgl::transport(bytes);
        self.reads.insert(cid, Vec::new());
        self.send(&sqe, &[]);
    }

    pub fn write_in_capsule(&mut self, cid: u16, at: u64, data: &[u8]) {
        let mut sqe = Sqe::new(super::WRITE, cid, 1);
        sqe.set_slba(at);
        sqe.dptr = Sgl::in_capsule(0, data.len() as u32);
        self.send(&sqe, data);
    }

    pub fn write(&mut self, cid: u16, at: u64, data: Vec<u8>) {
        let mut sqe = Sqe::new(super::WRITE, cid, 1);
        sqe.set_slba(at);
        sqe.dptr = Sgl::transport(data.len() as u32);
        self.writes.insert(cid, data);
        self.send(&sqe, &[]);
    }

    /// Queues a capsule.
    pub fn send(&mut self, sqe: &Sqe, data: &[u8]) {
        let mut head = [0; MAX_DATA_OFFSET];
        let len = encode_capsule_cmd(&mut head, self.framing, sqe, data.len() as u32);
        self.out.extend_from_slice(&head[..len]);
        if !data.is_empty() {
            self.out.extend_from_slice(data);
            self.push_digest(data);
        }
    }

    fn push_digest(&mut self, data: &[u8]) {
        if self.framing.ddgst {
            let wrong = u32::from(std::mem::take(&mut self.spoil));
            self.out.extend_from_slice(&(crc32c(data) ^ wrong).to_le_bytes());
        }
    }

    /// Queues one H2CData as it is told.
    pub fn h2c_data(&mut self, cid: u16, ttag: u16, at: u32, data: &[u8], last: bool) {
        let mut head = [0; MAX_DATA_OFFSET];
        let bytes = data.len() as u32;
        let len = encode_h2c_data(&mut head, self.framing, cid, ttag, at, bytes, last);
        self.out.extend_from_slice(&head[..len]);
        self.out.extend_from_slice(data);
        self.push_digest(data);
    }

    fn answer(&mut self, cid: u16, ttag: u16, from: u32, bytes: u32) {
        let data = self.writes[&cid][from as usize..(from + bytes) as usize].to_vec();
        let pieces: Vec<&[u8]> = data.chunks(self.maxh2cdata as usize).collect();
        let mut at = from;
        for (number, piece) in pieces.iter().enumerate() {
            self.h2c_data(cid, ttag, at, piece, number + 1 == pieces.len());
            at += piece.len() as u32;
        }
    }

    /// Takes what the target sent.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while at < input.len() {
            match self.pdu(&input[at..]) {
                Some(bytes) => at += bytes,
                None => break,
            }
        }
        self.input = input[at..].to_vec();
    }

    fn pdu(&mut self, bytes: &[u8]) -> Option<usize> {
        let framed = match peek(bytes, &self.params) {
            Ok(Peek::NeedMore(_)) => return None,
            Ok(Peek::Pdu(framed)) => framed,
            Err(error) => panic!("the target sent a wrong PDU: {error}"),
        };
        let whole = bytes.get(..framed.total_len as usize)?;
        let data = framed.data_offset as usize..(framed.data_offset + framed.data_len) as usize;
        if framed.data_digest {
            let sent = &whole[data.end..];
            assert_eq!(crc32c(&whole[data.clone()]).to_le_bytes(), sent, "data digest");
        }
        match framed.pdu {
            Pdu::IcResp(pdu) => {
                self.params.phase = Phase::Ready;
                self.params.hdgst = pdu.hdgst();
                self.params.ddgst = pdu.ddgst();
                assert_eq!((pdu.hdgst(), pdu.ddgst()), (self.framing.hdgst, self.framing.ddgst));
                self.maxh2cdata = pdu.maxh2cdata.get();
            }
            Pdu::C2hData(pdu) => {
                let cid = pdu.cccid.get();
                let read = self.reads.get_mut(&cid).expect("data for a read");
                assert_eq!(read.len() as u32, pdu.datao.get());
                read.extend_from_slice(&whole[data]);
                if pdu.success() {
                    let data = self.reads.remove(&cid).unwrap();
                    self.done.push(Done { cid, cqe: None, data });
                }
            }
            Pdu::CapsuleResp(pdu) => {
                let cid = pdu.cqe.cid.get();
                let data = self.reads.remove(&cid).unwrap_or_default();
                self.writes.remove(&cid);
                self.done.push(Done { cid, cqe: Some(pdu.cqe), data });
            }
            Pdu::R2t(pdu) => {
                let (cid, tag) = (pdu.cccid.get(), pdu.ttag.get());
                self.r2ts.push((tag, pdu.r2to.get(), pdu.r2tl.get()));
                if self.answers {
                    self.answer(cid, tag, pdu.r2to.get(), pdu.r2tl.get());
                }
            }
            Pdu::TermReq(pdu) => self.term = Some((pdu.fes.get(), pdu.fei.get())),
            other => panic!("unexpected {other:?}"),
        }
        Some(whole.len())
    }
}
