//! A stream of PDUs, framed as a transport frames it.

use nvmf_wire::digest::crc32c;
use nvmf_wire::pdu::{
    C2hEnd, Fes, Framed, Framing, IC_BYTES, MAX_DATA_OFFSET, Params, Pdu, PduType, Peek, Phase,
    Side, TERM_BYTES, TERM_MAX_DATA, encode_c2h_data, encode_capsule_cmd, encode_capsule_resp,
    encode_h2c_data, encode_icreq, encode_icresp, encode_r2t, encode_term_req, peek,
};
use zerocopy::IntoBytes;

/// The most bytes of a header with its digest that can be asked for before it is framed.
const MOST_NEEDED: usize = TERM_BYTES + TERM_MAX_DATA;

/// Frames `bytes` as one connection's stream. The first two bytes choose side, phase, digests
/// and alignment; bit 7 of the first makes header digests right, since no fuzzer guesses them.
pub fn pdu_framing(bytes: &[u8]) {
    let [how, pda, stream @ ..] = bytes else { return };
    let mut params = Params {
        receiver: if how & 1 == 0 { Side::Controller } else { Side::Host },
        phase: if how & 2 == 0 { Phase::Ready } else { Phase::Initialize },
        hdgst: how & 4 != 0,
        ddgst: how & 8 != 0,
        pda: pda & 31,
        max_capsule_data: if how & 16 == 0 { 8192 } else { 0 },
        max_data: if how & 32 == 0 { 1 << 17 } else { u32::MAX },
    };
    let mut stream = stream.to_vec();
    let mut at = 0;
    while at < stream.len() {
        if how & 128 != 0 && params.hdgst {
            mend_digest(&mut stream[at..]);
        }
        let rest = &stream[at..];
        let framed = match peek(rest, &params) {
            Ok(Peek::NeedMore(n)) => {
                assert!(n > rest.len() && n <= MOST_NEEDED);
                return;
            }
            Ok(Peek::Pdu(framed)) => framed,
            Err(error) => {
                assert_eq!(Fes::from_code(error.fes as u16), Some(error.fes));
                return answer_with_term_req(&params, error.fes, error.fei, rest);
            }
        };
        check(&framed, &params, rest);
        check_prefixes(&framed, &params, rest);
        match framed.pdu {
            Pdu::IcReq(pdu) => agree(&mut params, pdu.hdgst(), pdu.ddgst()),
            Pdu::IcResp(pdu) => agree(&mut params, pdu.hdgst(), pdu.ddgst()),
            Pdu::TermReq(_) => return,
            _ => {}
        }
        at = at.saturating_add(framed.total_len as usize);
    }
}

fn agree(params: &mut Params, hdgst: bool, ddgst: bool) {
    params.phase = Phase::Ready;
    (params.hdgst, params.ddgst) = (hdgst, ddgst);
}

/// Puts the right header digest at the place HLEN names.
fn mend_digest(pdu: &mut [u8]) {
    let hlen = usize::from(pdu.get(2).copied().unwrap_or(0));
    if pdu.len() >= hlen + 4 {
        let (header, rest) = pdu.split_at_mut(hlen);
        rest[..4].copy_from_slice(&crc32c(header).to_le_bytes());
    }
}

/// What must hold of an accepted header.
fn check(framed: &Framed<'_>, params: &Params, bytes: &[u8]) {
    assert!(framed.header_len as usize <= bytes.len());
    assert!(framed.data_offset >= framed.header_len);
    let digest = if framed.data_digest { 4 } else { 0 };
    let end = framed.data_offset.checked_add(framed.data_len).and_then(|n| n.checked_add(digest));
    assert_eq!(Some(framed.total_len), end);
    let kind = PduType::from_code(bytes[0]).expect("an accepted type");
    if matches!(framed.pdu, Pdu::TermReq(_)) {
        assert!(bytes.len() >= framed.total_len as usize);
        assert!(framed.data_len as usize <= TERM_MAX_DATA);
        return;
    }
    match framed.pdu {
        Pdu::H2cData(pdu) => assert_eq!(pdu.datal.get(), framed.data_len),
        Pdu::C2hData(pdu) => assert_eq!(pdu.datal.get(), framed.data_len),
        _ => {}
    }
    if framed.data_len > 0 {
        assert_eq!(framed.data_digest, params.ddgst);
        assert_eq!(framed.data_offset % ((u32::from(params.pda) + 1) * 4), 0);
        let limit = match kind {
            PduType::CapsuleCmd => params.max_capsule_data,
            _ => params.max_data,
        };
        assert!(framed.data_len <= limit);
    }
    if framed.data_len <= u32::MAX - 512 {
        check_written_again(framed, params);
    }
}

/// What was read can be written, and is read the same.
fn check_written_again(framed: &Framed<'_>, params: &Params) {
    let framing = Framing { hdgst: params.hdgst, ddgst: params.ddgst, pda: params.pda };
    let len = framed.data_len;
    let mut out = [0xee; if IC_BYTES > MAX_DATA_OFFSET { IC_BYTES } else { MAX_DATA_OFFSET }];
    let ic: &mut [u8; IC_BYTES] = (&mut out[..IC_BYTES]).try_into().expect("the length is given");
    let written = match framed.pdu {
        Pdu::IcReq(p) if p.maxr2t.get() < u32::MAX => {
            encode_icreq(ic, p.hpda, p.hdgst(), p.ddgst(), p.maxr2t.get() + 1)
        }
        Pdu::IcReq(_) | Pdu::TermReq(_) => return,
        Pdu::IcResp(p) => encode_icresp(ic, p.cpda, p.hdgst(), p.ddgst(), p.maxh2cdata.get()),
        Pdu::CapsuleCmd(p) => encode_capsule_cmd(&mut out, framing, &p.sqe, len),
        Pdu::CapsuleResp(p) => encode_capsule_resp(&mut out, framing, &p.cqe),
        Pdu::H2cData(p) => {
            let (cccid, ttag, datao) = (p.cccid.get(), p.ttag.get(), p.datao.get());
            encode_h2c_data(&mut out, framing, cccid, ttag, datao, len, p.last())
        }
        Pdu::C2hData(p) => {
            let end = match (p.last(), p.success()) {
                (true, true) => C2hEnd::LastSuccess,
                (true, false) => C2hEnd::Last,
                (false, _) => C2hEnd::More,
            };
            encode_c2h_data(&mut out, framing, p.cccid.get(), p.datao.get(), len, end)
        }
        Pdu::R2t(p) => {
            let (cccid, ttag) = (p.cccid.get(), p.ttag.get());
            encode_r2t(&mut out, framing, cccid, ttag, p.r2to.get(), p.r2tl.get())
        }
    };
    let Ok(Peek::Pdu(again)) = peek(&out[..written], params) else {
        panic!("{framed:?} is not read again from {:x?}", &out[..written]);
    };
    assert_eq!(fields(&again.pdu), fields(&framed.pdu));
    assert_eq!((again.header_len, again.data_len), (framed.header_len, len));
    assert_eq!(again.data_offset as usize, written);
}

/// The fields of a PDU that its encoder takes: the common ones as numbers, the rest as bytes.
fn fields<'a>(pdu: &Pdu<'a>) -> ([u32; 4], &'a [u8]) {
    match *pdu {
        Pdu::IcReq(p) => ([p.hpda.into(), u32::from(p.dgst) & 3, p.maxr2t.get(), 0], &[]),
        Pdu::IcResp(p) => ([p.cpda.into(), u32::from(p.dgst) & 3, p.maxh2cdata.get(), 0], &[]),
        Pdu::TermReq(p) => ([p.fes.get().into(), p.fei.get(), 0, 0], &[]),
        Pdu::CapsuleCmd(p) => ([0; 4], p.sqe.as_bytes()),
        Pdu::CapsuleResp(p) => ([0; 4], p.cqe.as_bytes()),
        Pdu::H2cData(p) => {
            let (cccid, ttag) = (p.cccid.get().into(), p.ttag.get().into());
            ([cccid, ttag, p.datao.get(), p.last().into()], &[])
        }
        Pdu::C2hData(p) => {
            let (last, success) = (p.last().into(), p.success().into());
            ([p.cccid.get().into(), p.datao.get(), last, success], &[])
        }
        Pdu::R2t(p) => {
            let (cccid, ttag) = (p.cccid.get().into(), p.ttag.get().into());
            ([cccid, ttag, p.r2to.get(), p.r2tl.get()], &[])
        }
    }
}

/// A PDU that is accepted whole is waited for, never refused, when it comes in pieces.
fn check_prefixes(framed: &Framed<'_>, params: &Params, bytes: &[u8]) {
    for cut in [0, 1, 7, 8, 9, 23, 24, 71, framed.header_len as usize - 1] {
        if cut >= framed.header_len as usize {
            continue;
        }
        match peek(&bytes[..cut], params) {
            Ok(Peek::NeedMore(n)) => assert!(n > cut && n <= framed.header_len as usize),
            other => panic!("{other:?} of {cut} bytes of an accepted PDU"),
        }
    }
}

/// The TermReq that answers a fault is one that its receiver accepts.
fn answer_with_term_req(params: &Params, fes: Fes, fei: u32, bytes: &[u8]) {
    let mut out = [0xee; MOST_NEEDED];
    let len = encode_term_req(&mut out, params.receiver, fes, fei, bytes);
    let receiver = match params.receiver {
        Side::Controller => Side::Host,
        Side::Host => Side::Controller,
    };
    let Ok(Peek::Pdu(framed)) = peek(&out[..len], &Params { receiver, ..*params }) else {
        panic!("our own TermReq is refused");
    };
    let Pdu::TermReq(pdu) = framed.pdu else { panic!("a TermReq is read as {:?}", framed.pdu) };
    assert_eq!((pdu.fes.get(), pdu.fei.get()), (fes as u16, fei));
    assert_eq!(framed.data_len as usize, bytes.len().min(TERM_MAX_DATA));
}
