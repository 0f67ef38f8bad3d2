//! From received bytes to a checked header.

use super::layouts::{
    C2hData, CapsuleCmd, CapsuleResp, CommonHeader, H2cData, IcReq, IcResp, PduType, R2t, TermReq,
    flags,
};
use super::{COMMON_BYTES, Fes, MAX_PDA, MIN_MAXH2CDATA, TERM_BYTES, TERM_MAX_DATA, WireError};
use crate::digest::{DIGEST_BYTES, crc32c};
use core::mem::offset_of;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The controller's.
    Controller,
    /// The host's.
    Host,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Before ICReq or ICResp has come.
    Initialize,
    /// After it.
    Ready,
}

/// What the connection agreed on and how much the receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Params {
    /// The receiving side; decides which PDUs may come.
    pub receiver: Side,
    /// How far the connection is.
    pub phase: Phase,
    /// Header digests are in use.
    pub hdgst: bool,
    /// Data digests are in use.
    pub ddgst: bool,
    /// The receiver's own alignment: CPDA at a controller, HPDA at a host; 0 to 31.
    pub pda: u8,
    /// The most bytes of in-capsule data.
    pub max_capsule_data: u32,
    /// The most bytes of data in one H2CData (the MAXH2CDATA of the controller) or C2HData.
    pub max_data: u32,
}

impl Params {
    /// A connection of which nothing is known yet.
    pub const fn initialize(receiver: Side) -> Params {
        Params {
            receiver,
            phase: Phase::Initialize,
            hdgst: false,
            ddgst: false,
            pda: 0,
            max_capsule_data: 0,
            max_data: 0,
        }
    }
}

/// A header, by type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pdu<'a> {
    /// Initialize Connection Request.
    IcReq(&'a IcReq),
    /// Initialize Connection Response.
    IcResp(&'a IcResp),
    /// Terminate Connection Request, from either side; its data is the header at fault.
    TermReq(&'a TermReq),
    /// Command Capsule; its data is in-capsule data.
    CapsuleCmd(&'a CapsuleCmd),
    /// Response Capsule.
    CapsuleResp(&'a CapsuleResp),
    /// Host to Controller Data Transfer.
    H2cData(&'a H2cData),
    /// Controller to Host Data Transfer.
    C2hData(&'a C2hData),
    /// Ready to Transfer.
    R2t(&'a R2t),
}

/// A checked header and where the rest of its PDU is. All offsets count from the start of the
/// PDU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The header.
    pub pdu: Pdu<'a>,
    /// Bytes of the header with its digest; what lies between here and the data is padding.
    pub header_len: u32,
    /// Offset of the data in bytes; the end of the header when there is none.
    pub data_offset: u32,
    /// Bytes of data, digest excluded.
    pub data_len: u32,
    /// Bytes of the whole PDU: data offset, data, and the data's digest if there is one.
    pub total_len: u32,
    /// A data digest stands after the data.
    pub data_digest: bool,
}

/// What the bytes at hand tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// Not enough: at least this many bytes, counted from the start of the PDU, are needed.
    NeedMore(usize),
    /// The header is complete, checked, and its digest is right.
    Pdu(Framed<'a>),
}

const KIND: u32 = offset_of!(CommonHeader, kind) as u32;
const FLAGS: u32 = offset_of!(CommonHeader, flags) as u32;
const HLEN: u32 = offset_of!(CommonHeader, hlen) as u32;
const PDO: u32 = offset_of!(CommonHeader, pdo) as u32;
const PLEN: u32 = offset_of!(CommonHeader, plen) as u32;
const DATAL: u32 = offset_of!(H2cData, datal) as u32;

/// Looks at the PDU that starts at `bytes[0]`. `bytes` may hold less than the PDU or more.
///
/// Only the header is looked at; neither payload nor data digest need be there. A TermReq is the
/// exception: all of it, at most 152 bytes, must be there, since nothing follows it.
///
/// The connection cannot go on after an error.
#[inline]
pub fn peek<'a>(bytes: &'a [u8], params: &Params) -> Result<Peek<'a>, WireError> {
    let Ok((ch, _)) = CommonHeader::ref_from_prefix(bytes) else {
        return Ok(Peek::NeedMore(COMMON_BYTES));
    };
    let kind = PduType::from_code(ch.kind).ok_or(WireError::field(KIND))?;
    check_turn(kind, params)?;
    let hlen = kind.header_bytes();
    if usize::from(ch.hlen) != hlen {
        return Err(WireError::field(HLEN));
    }
    let digest = params.hdgst && kind.has_header_digest();
    if kind.has_header_digest() && (ch.flags & flags::HDGST != 0) != digest {
        return Err(WireError::field(FLAGS));
    }
    let header_len = hlen + if digest { DIGEST_BYTES } else { 0 };
    if (ch.plen.get() as usize) < header_len {
        return Err(WireError::field(PLEN));
    }
    let Some(header) = bytes.get(..header_len) else {
        // The lengths are checked before more is received: a wrong one is never waited for.
        check_early(kind, ch, header_len as u32, params)?;
        return Ok(Peek::NeedMore(header_len));
    };
    if digest {
        check_digest(header, hlen)?;
    }
    let framed = frame(kind, header, ch, header_len as u32, params)?;
    let whole = framed.total_len as usize;
    if matches!(framed.pdu, Pdu::TermReq(_)) && bytes.len() < whole {
        return Ok(Peek::NeedMore(whole));
    }
    Ok(Peek::Pdu(framed))
}

/// Whether a PDU of this type may come to this receiver now.
#[inline]
fn check_turn(kind: PduType, params: &Params) -> Result<(), WireError> {
    use PduType::*;
    let expected = match (params.receiver, params.phase) {
        (Side::Controller, Phase::Initialize) => matches!(kind, IcReq | H2cTermReq),
        (Side::Host, Phase::Initialize) => matches!(kind, IcResp | C2hTermReq),
        (Side::Controller, Phase::Ready) => matches!(kind, CapsuleCmd | H2cData | H2cTermReq),
        (Side::Host, Phase::Ready) => {
            matches!(kind, CapsuleResp | C2hData | R2t | C2hTermReq)
        }
    };
    if expected { Ok(()) } else { Err(WireError::sequence(kind as u8)) }
}

/// The checks that the common header alone allows.
#[cold]
fn check_early(
    kind: PduType,
    ch: &CommonHeader,
    header_len: u32,
    params: &Params,
) -> Result<(), WireError> {
    match kind {
        PduType::CapsuleCmd | PduType::H2cData | PduType::C2hData => {
            data_at(ch, header_len, params.pda, params.ddgst).map(|_| ())
        }
        PduType::H2cTermReq | PduType::C2hTermReq => check_term(ch),
        PduType::IcReq | PduType::IcResp | PduType::CapsuleResp | PduType::R2t => {
            check_no_data(ch, header_len)
        }
    }
}

#[inline]
fn check_digest(header: &[u8], hlen: usize) -> Result<(), WireError> {
    let (covered, digest) = header.split_at(hlen);
    let mut received = [0; DIGEST_BYTES];
    received.copy_from_slice(digest);
    let received = u32::from_le_bytes(received);
    if crc32c(covered) == received {
        Ok(())
    } else {
        Err(WireError { fes: Fes::HeaderDigest, fei: received })
    }
}

/// Where the data of a PDU is.
struct Data {
    offset: u32,
    len: u32,
    digest: bool,
}

/// The place of the data by PDO and PLEN; no data at all when PLEN ends with the header.
#[inline]
fn data_at(ch: &CommonHeader, header_len: u32, pda: u8, ddgst: bool) -> Result<Data, WireError> {
    let (plen, pdo) = (ch.plen.get(), u32::from(ch.pdo));
    let digest = ch.flags & flags::DDGST != 0;
    if plen == header_len {
        return if digest {
            Err(WireError::field(FLAGS))
        } else {
            Ok(Data { offset: header_len, len: 0, digest: false })
        };
    }
    if digest != ddgst {
        return Err(WireError::field(FLAGS));
    }
    // A division costs more than all the rest.
    let is_aligned = match pda {
        0 => pdo & 3 == 0,
        _ => pdo.is_multiple_of((u32::from(pda) + 1) * 4),
    };
    if pdo < header_len || !is_aligned {
        return Err(WireError::field(PDO));
    }
    let after = if digest { DIGEST_BYTES as u32 } else { 0 };
    match plen.checked_sub(pdo + after) {
        None | Some(0) => Err(WireError::field(PLEN)),
        Some(len) => Ok(Data { offset: pdo, len, digest }),
    }
}

#[inline]
fn check_no_data(ch: &CommonHeader, header_len: u32) -> Result<(), WireError> {
    if ch.plen.get() == header_len { Ok(()) } else { Err(WireError::field(PLEN)) }
}

#[cold]
fn check_term(ch: &CommonHeader) -> Result<(), WireError> {
    let longest = (TERM_BYTES + TERM_MAX_DATA) as u32;
    if ch.plen.get() <= longest { Ok(()) } else { Err(WireError::field(PLEN)) }
}

/// The header as its type, after the checks of that type.
#[inline]
fn frame<'a>(
    kind: PduType,
    header: &'a [u8],
    ch: &CommonHeader,
    header_len: u32,
    params: &Params,
) -> Result<Framed<'a>, WireError> {
    let none = Data { offset: header_len, len: 0, digest: false };
    let (pdu, data) = match kind {
        PduType::CapsuleCmd => {
            let data = data_at(ch, header_len, params.pda, params.ddgst)?;
            if data.len > params.max_capsule_data {
                return Err(WireError { fes: Fes::LimitExceeded, fei: PLEN });
            }
            (Pdu::CapsuleCmd(view(header)), data)
        }
        PduType::H2cData => {
            let pdu: &H2cData = view(header);
            let data = transfer_data(ch, pdu.datal.get(), header_len, params)?;
            (Pdu::H2cData(pdu), data)
        }
        PduType::C2hData => {
            let pdu: &C2hData = view(header);
            if pdu.success() && !pdu.last() {
                return Err(WireError::field(FLAGS));
            }
            let data = transfer_data(ch, pdu.datal.get(), header_len, params)?;
            (Pdu::C2hData(pdu), data)
        }
        PduType::CapsuleResp => {
            check_no_data(ch, header_len)?;
            (Pdu::CapsuleResp(view(header)), none)
        }
        PduType::R2t => {
            check_no_data(ch, header_len)?;
            (Pdu::R2t(view(header)), none)
        }
        PduType::IcReq => {
            check_no_data(ch, header_len)?;
            (Pdu::IcReq(check_icreq(view(header))?), none)
        }
        PduType::IcResp => {
            check_no_data(ch, header_len)?;
            (Pdu::IcResp(check_icresp(view(header))?), none)
        }
        PduType::H2cTermReq | PduType::C2hTermReq => {
            check_term(ch)?;
            let len = ch.plen.get() - header_len;
            (Pdu::TermReq(view(header)), Data { len, ..none })
        }
    };
    Ok(Framed {
        pdu,
        header_len,
        data_offset: data.offset,
        data_len: data.len,
        total_len: if data.len == 0 { header_len } else { ch.plen.get() },
        data_digest: data.digest,
    })
}

/// The header as a structure. Its length is the type's own, checked against HLEN before.
#[inline]
fn view<T: FromBytes + KnownLayout + Immutable + Unaligned>(header: &[u8]) -> &T {
    match T::ref_from_prefix(header) {
        Ok((view, _)) => view,
        Err(_) => unreachable!("the header is as long as its type"),
    }
}

/// The data of H2CData or C2HData: there must be some, and DATAL and PLEN must agree.
#[inline]
fn transfer_data(
    ch: &CommonHeader,
    datal: u32,
    header_len: u32,
    params: &Params,
) -> Result<Data, WireError> {
    let data = data_at(ch, header_len, params.pda, params.ddgst)?;
    if data.len == 0 || data.len != datal {
        return Err(WireError::field(DATAL));
    }
    if data.len > params.max_data {
        // To a controller the code for a limit means something else: too many R2Ts.
        let fes = match params.receiver {
            Side::Controller => Fes::LimitExceeded,
            Side::Host => Fes::DataOutOfRange,
        };
        return Err(WireError { fes, fei: DATAL });
    }
    Ok(data)
}

#[cold]
fn check_icreq(pdu: &IcReq) -> Result<&IcReq, WireError> {
    if pdu.pfv.get() != 0 {
        return Err(WireError::field(offset_of!(IcReq, pfv) as u32));
    }
    if pdu.hpda > MAX_PDA {
        return Err(WireError::field(offset_of!(IcReq, hpda) as u32));
    }
    Ok(pdu)
}

#[cold]
fn check_icresp(pdu: &IcResp) -> Result<&IcResp, WireError> {
    if pdu.pfv.get() != 0 {
        return Err(WireError::field(offset_of!(IcResp, pfv) as u32));
    }
    if pdu.cpda > MAX_PDA {
        return Err(WireError::field(offset_of!(IcResp, cpda) as u32));
    }
    let most = pdu.maxh2cdata.get();
    if most < MIN_MAXH2CDATA || !most.is_multiple_of(4) {
        return Err(WireError::field(offset_of!(IcResp, maxh2cdata) as u32));
    }
    Ok(pdu)
}
