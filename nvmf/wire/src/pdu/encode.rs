//! Headers written for sending.

use super::layouts::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, DGST_DATA, DGST_HEADER, H2cData, IcReq, IcResp,
    PduType, R2t, TermReq, flags,
};
use super::{Fes, IC_BYTES, Side, TERM_BYTES, TERM_MAX_DATA};
use crate::digest::{DIGEST_BYTES, crc32c};
use nvme_spec::{Cqe, Sqe};
use zerocopy::little_endian::{U16, U32};
use zerocopy::{Immutable, IntoBytes};

/// How PDUs to the peer are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Framing {
    /// Header digests are in use.
    pub hdgst: bool,
    /// Data digests are in use.
    pub ddgst: bool,
    /// The peer's alignment: HPDA to a host, CPDA to a controller; 0 to 31.
    pub pda: u8,
}

impl Framing {
    /// Bytes of a header of `kind` with its digest.
    #[inline]
    pub const fn header_len(self, kind: PduType) -> usize {
        kind.header_bytes() + if self.hdgst && kind.has_header_digest() { DIGEST_BYTES } else { 0 }
    }

    /// Offset of the data of a PDU of `kind`: the header's length, aligned as the peer asks.
    #[inline]
    pub const fn data_offset(self, kind: PduType) -> usize {
        let header_len = self.header_len(kind);
        // Headers and digests are multiples of 4 bytes; a division costs more than all the rest.
        if self.pda == 0 {
            header_len
        } else {
            header_len.next_multiple_of((self.pda as usize + 1) * 4)
        }
    }

    /// Bytes of a PDU of `kind` with `data` bytes.
    pub const fn pdu_len(self, kind: PduType, data: usize) -> usize {
        if data == 0 {
            self.header_len(kind)
        } else {
            self.data_offset(kind) + data + if self.ddgst { DIGEST_BYTES } else { 0 }
        }
    }

    /// The common header of a PDU of `kind` with `data` bytes.
    #[inline]
    fn common(self, kind: PduType, extra: u8, data: u32) -> CommonHeader {
        let mut flags = extra;
        if self.hdgst && kind.has_header_digest() {
            flags |= flags::HDGST;
        }
        if self.ddgst && data != 0 {
            flags |= flags::DDGST;
        }
        let pdo = if data == 0 { 0 } else { self.data_offset(kind) };
        let pdo = u8::try_from(pdo).expect("the alignment is at most 128 bytes");
        let tail = if self.ddgst { DIGEST_BYTES as u32 } else { 0 };
        let plen = if data == 0 {
            self.header_len(kind) as u32
        } else {
            u32::from(pdo).checked_add(data).and_then(|n| n.checked_add(tail)).expect("below 4 GiB")
        };
        let hlen = kind.header_bytes() as u8;
        CommonHeader { kind: kind as u8, flags, hlen, pdo, plen: U32::new(plen) }
    }
}

/// Writes `header`, its digest if there is to be one, and zeroes up to `until`; returns `until`.
#[inline]
fn put<T: IntoBytes + Immutable>(
    out: &mut [u8],
    header: &T,
    framing: Framing,
    until: usize,
) -> usize {
    let out = &mut out[..until];
    let (head, rest) = out.split_at_mut(size_of::<T>());
    head.copy_from_slice(header.as_bytes());
    let padding = if framing.hdgst {
        let (digest, padding) = rest.split_at_mut(DIGEST_BYTES);
        digest.copy_from_slice(&crc32c(head).to_le_bytes());
        padding
    } else {
        rest
    };
    if !padding.is_empty() {
        padding.fill(0);
    }
    until
}

/// Writes a PDU without data.
#[inline]
fn put_alone<T: IntoBytes + Immutable>(
    out: &mut [u8],
    header: &T,
    framing: Framing,
    kind: PduType,
) -> usize {
    put(out, header, framing, framing.header_len(kind))
}

/// Writes a command capsule that `data` bytes of in-capsule data will follow; returns the offset
/// at which they stand, or the length of the PDU when there are none. The data's digest, if in
/// use, follows the data. Panics when `out` is shorter: [`super::MAX_DATA_OFFSET`] is always
/// enough.
#[inline]
pub fn encode_capsule_cmd(out: &mut [u8], framing: Framing, sqe: &Sqe, data: u32) -> usize {
    let kind = PduType::CapsuleCmd;
    let pdu = CapsuleCmd { ch: framing.common(kind, 0, data), sqe: *sqe };
    if data == 0 {
        put_alone(out, &pdu, framing, kind)
    } else {
        put(out, &pdu, framing, framing.data_offset(kind))
    }
}

/// Writes a response capsule; returns its length, 24 or 28 bytes.
#[inline]
pub fn encode_capsule_resp(out: &mut [u8], framing: Framing, cqe: &Cqe) -> usize {
    let kind = PduType::CapsuleResp;
    let pdu = CapsuleResp { ch: framing.common(kind, 0, 0), cqe: *cqe };
    put_alone(out, &pdu, framing, kind)
}

/// What a C2HData says about the rest of its command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum C2hEnd {
    /// More data follows.
    More,
    /// The last data; a response capsule follows.
    Last,
    /// The last data, and the command succeeded: no response capsule follows. Only where the
    /// host disabled submission queue flow control.
    LastSuccess,
}

/// Writes a C2HData header for `datal` bytes (at least one) at `datao` of the command's data;
/// returns the offset at which the data stands. The data's digest, if in use, follows the data.
#[inline]
pub fn encode_c2h_data(
    out: &mut [u8],
    framing: Framing,
    cccid: u16,
    datao: u32,
    datal: u32,
    end: C2hEnd,
) -> usize {
    let kind = PduType::C2hData;
    let extra = match end {
        C2hEnd::More => 0,
        C2hEnd::Last => flags::LAST,
        C2hEnd::LastSuccess => flags::LAST | flags::SUCCESS,
    };
    assert!(datal != 0, "a data PDU carries data");
    let pdu = C2hData {
        ch: framing.common(kind, extra, datal),
        cccid: U16::new(cccid),
        rsvd10: [0; 2],
        datao: U32::new(datao),
        datal: U32::new(datal),
        rsvd20: [0; 4],
    };
    put(out, &pdu, framing, framing.data_offset(kind))
}

/// Writes an H2CData header for `datal` bytes (at least one) at `datao` of the command's data,
/// in answer to the R2T with `ttag`; returns the offset at which the data stands. The data's
/// digest, if in use, follows the data.
pub fn encode_h2c_data(
    out: &mut [u8],
    framing: Framing,
    cccid: u16,
    ttag: u16,
    datao: u32,
    datal: u32,
    last: bool,
) -> usize {
    let kind = PduType::H2cData;
    assert!(datal != 0, "a data PDU carries data");
    let pdu = H2cData {
        ch: framing.common(kind, if last { flags::LAST } else { 0 }, datal),
        cccid: U16::new(cccid),
        ttag: U16::new(ttag),
        datao: U32::new(datao),
        datal: U32::new(datal),
        rsvd20: [0; 4],
    };
    put(out, &pdu, framing, framing.data_offset(kind))
}

/// Writes an R2T that asks for `r2tl` bytes at `r2to` of the command's data; returns its length.
pub fn encode_r2t(
    out: &mut [u8],
    framing: Framing,
    cccid: u16,
    ttag: u16,
    r2to: u32,
    r2tl: u32,
) -> usize {
    let kind = PduType::R2t;
    let pdu = R2t {
        ch: framing.common(kind, 0, 0),
        cccid: U16::new(cccid),
        ttag: U16::new(ttag),
        r2to: U32::new(r2to),
        r2tl: U32::new(r2tl),
        rsvd20: [0; 4],
    };
    put_alone(out, &pdu, framing, kind)
}

const fn dgst(hdgst: bool, ddgst: bool) -> u8 {
    (if hdgst { DGST_HEADER } else { 0 }) | (if ddgst { DGST_DATA } else { 0 })
}

/// Writes an ICReq. `hpda` is the host's own alignment, `maxr2t` the R2Ts it takes for one
/// command at a time (at least one).
pub fn encode_icreq(
    out: &mut [u8; IC_BYTES],
    hpda: u8,
    hdgst: bool,
    ddgst: bool,
    maxr2t: u32,
) -> usize {
    let pdu = IcReq {
        ch: Framing::default().common(PduType::IcReq, 0, 0),
        hpda,
        dgst: dgst(hdgst, ddgst),
        maxr2t: U32::new(maxr2t.checked_sub(1).expect("at least one R2T")),
        ..IcReq::default()
    };
    put(out, &pdu, Framing::default(), IC_BYTES)
}

/// Writes an ICResp. `cpda` is the controller's own alignment, `maxh2cdata` the most bytes it
/// takes in one H2CData.
pub fn encode_icresp(
    out: &mut [u8; IC_BYTES],
    cpda: u8,
    hdgst: bool,
    ddgst: bool,
    maxh2cdata: u32,
) -> usize {
    let pdu = IcResp {
        ch: Framing::default().common(PduType::IcResp, 0, 0),
        cpda,
        dgst: dgst(hdgst, ddgst),
        maxh2cdata: U32::new(maxh2cdata),
        ..IcResp::default()
    };
    put(out, &pdu, Framing::default(), IC_BYTES)
}

/// Writes the TermReq by which `sender` ends the connection, with as much of the offending
/// `header` as it may carry; returns its length.
pub fn encode_term_req(
    out: &mut [u8; TERM_BYTES + TERM_MAX_DATA],
    sender: Side,
    fes: Fes,
    fei: u32,
    header: &[u8],
) -> usize {
    let header = &header[..header.len().min(TERM_MAX_DATA)];
    let kind = match sender {
        Side::Controller => PduType::C2hTermReq,
        Side::Host => PduType::H2cTermReq,
    };
    let len = TERM_BYTES + header.len();
    let mut ch = Framing::default().common(kind, 0, 0);
    ch.plen = U32::new(len as u32);
    let pdu = TermReq { ch, fes: U16::new(fes as u16), fei: U32::new(fei), ..TermReq::default() };
    put(out, &pdu, Framing::default(), TERM_BYTES);
    out[TERM_BYTES..len].copy_from_slice(header);
    len
}
