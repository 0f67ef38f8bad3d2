//! PDUs: bytes against the specification's layout, encode against peek, and bad peers.

use nvme_spec::{Cqe, Sgl, Sqe, Status, opcode};
use nvmf_wire::digest::{DataDigest, crc32c};
use nvmf_wire::pdu::{
    C2hEnd, Fes, Framed, Framing, IC_BYTES, MAX_DATA_OFFSET, MAX_PDA, Params, Pdu, PduType, Peek,
    Phase, Side, TERM_BYTES, TERM_MAX_DATA, WireError, encode_c2h_data, encode_capsule_cmd,
    encode_capsule_resp, encode_h2c_data, encode_icreq, encode_icresp, encode_r2t, encode_term_req,
    peek,
};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

fn ready(receiver: Side, framing: Framing) -> Params {
    Params {
        receiver,
        phase: Phase::Ready,
        hdgst: framing.hdgst,
        ddgst: framing.ddgst,
        pda: framing.pda,
        max_capsule_data: 8192,
        max_data: 1 << 20,
    }
}

fn framed<'a>(bytes: &'a [u8], params: &Params) -> Framed<'a> {
    match peek(bytes, params) {
        Ok(Peek::Pdu(framed)) => framed,
        other => panic!("{other:?} for {bytes:x?}"),
    }
}

/// A PDU as it goes out: what the encoder wrote, the data, the data's digest.
fn whole(framing: Framing, data: &[u8], encode: impl FnOnce(&mut [u8]) -> usize) -> Vec<u8> {
    let mut bytes = vec![0xee; MAX_DATA_OFFSET];
    let offset = encode(&mut bytes);
    bytes.truncate(offset);
    bytes.extend_from_slice(data);
    if framing.ddgst && !data.is_empty() {
        let mut digest = DataDigest::new();
        digest.update(data);
        bytes.extend_from_slice(&digest.bytes());
    }
    bytes
}

#[test]
fn initialize_bytes() {
    let mut out = [0xee; IC_BYTES];
    assert_eq!(encode_icreq(&mut out, 3, true, false, 16), 128);
    assert_eq!(out[..16], [0, 0, 128, 0, 128, 0, 0, 0, 0, 0, 3, 1, 15, 0, 0, 0]);
    assert_eq!(out[16..], [0; 112]);
    let params = Params::initialize(Side::Controller);
    let Pdu::IcReq(pdu) = framed(&out, &params).pdu else { panic!() };
    assert_eq!((pdu.hpda, pdu.hdgst(), pdu.ddgst(), pdu.maxr2t.get()), (3, true, false, 15));

    encode_icresp(&mut out, 0, false, true, 0x2_0000);
    assert_eq!(out[..16], [1, 0, 128, 0, 128, 0, 0, 0, 0, 0, 0, 2, 0, 0, 2, 0]);
    let Pdu::IcResp(pdu) = framed(&out, &Params::initialize(Side::Host)).pdu else { panic!() };
    assert_eq!((pdu.hdgst(), pdu.ddgst(), pdu.maxh2cdata.get()), (false, true, 0x2_0000));
}

#[test]
fn capsule_and_data_bytes() {
    let digests = Framing { hdgst: true, ddgst: true, pda: 0 };
    let mut sqe = Sqe::new(opcode::nvm::WRITE, 0x0102, 1);
    sqe.flags = Sqe::FLAGS_SGL;
    sqe.dptr = Sgl::in_capsule(0, 5);
    let bytes = whole(digests, b"hello", |out| encode_capsule_cmd(out, digests, &sqe, 5));
    assert_eq!(bytes[..8], [4, 3, 72, 76, 85, 0, 0, 0]);
    assert_eq!(bytes[8..72], *sqe.as_bytes());
    assert_eq!(bytes[72..76], crc32c(&bytes[..72]).to_le_bytes());
    assert_eq!(bytes[76..81], *b"hello");
    // CRC32C of "hello", from another implementation.
    assert_eq!(bytes[81..], 0x9a71_bb4cu32.to_le_bytes());

    let plain = Framing::default();
    let bytes = whole(plain, &[], |out| encode_capsule_cmd(out, plain, &sqe, 0));
    assert_eq!(bytes[..8], [4, 0, 72, 0, 72, 0, 0, 0]);

    let bytes =
        whole(plain, b"data", |out| encode_c2h_data(out, plain, 7, 4096, 4, C2hEnd::LastSuccess));
    assert_eq!(bytes[..8], [7, 0xc, 24, 24, 28, 0, 0, 0]);
    assert_eq!(bytes[8..24], [7, 0, 0, 0, 0, 16, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);

    let aligned = Framing { hdgst: true, ddgst: false, pda: 31 };
    let bytes = whole(aligned, b"data", |out| encode_h2c_data(out, aligned, 7, 9, 0, 4, true));
    assert_eq!(bytes[..8], [6, 5, 24, 128, 132, 0, 0, 0]);
    assert_eq!(bytes[8..12], [7, 0, 9, 0]);
    assert_eq!(bytes[28..128], [0; 100]);

    let bytes = whole(digests, &[], |out| encode_r2t(out, digests, 7, 9, 0x1000, 0x2000));
    assert_eq!(bytes[..8], [9, 1, 24, 0, 28, 0, 0, 0]);
    assert_eq!(bytes[8..24], [7, 0, 9, 0, 0, 16, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0]);

    let cqe = Cqe::new(7, Status::LBA_OUT_OF_RANGE.dnr());
    let bytes = whole(plain, &[], |out| encode_capsule_resp(out, plain, &cqe));
    assert_eq!(bytes[..8], [5, 0, 24, 0, 24, 0, 0, 0]);
    assert_eq!(bytes[20..], [7, 0, 0, 0x81]);
}

#[test]
fn term_req_bytes() {
    let mut out = [0xee; TERM_BYTES + TERM_MAX_DATA];
    let header: Vec<u8> = (0..200).collect();
    let len = encode_term_req(&mut out, Side::Controller, Fes::HeaderDigest, 0xdead_beef, &header);
    assert_eq!(len, 152);
    assert_eq!(out[..8], [3, 0, 24, 0, 152, 0, 0, 0]);
    assert_eq!(out[8..14], [3, 0, 0xef, 0xbe, 0xad, 0xde]);
    assert_eq!(out[14..24], [0; 10]);
    assert_eq!(out[24..], header[..128]);
    for params in [Params::initialize(Side::Host), ready(Side::Host, Framing::default())] {
        assert_eq!(peek(&out[..151], &params), Ok(Peek::NeedMore(152)));
        let framed = framed(&out, &params);
        let Pdu::TermReq(pdu) = framed.pdu else { panic!() };
        assert_eq!(Fes::from_code(pdu.fes.get()), Some(Fes::HeaderDigest));
        assert_eq!(pdu.fei.get(), 0xdead_beef);
        assert_eq!((framed.data_offset, framed.data_len, framed.total_len), (24, 128, 152));
    }
}

/// The PDUs below: CPDA and HPDA of 8 bytes, data digests, no header digests.
const FRAMING: Framing = Framing { hdgst: false, ddgst: true, pda: 1 };

/// What `peek` says of a good PDU after the given bytes of it are changed.
fn refused(good: &[u8], params: &Params, changes: &[(usize, u8)]) -> WireError {
    let mut bytes = good.to_vec();
    for &(at, value) in changes {
        bytes[at] = value;
    }
    peek(&bytes, params).expect_err("the change makes it bad")
}

fn some_command() -> Vec<u8> {
    whole(FRAMING, &[1; 16], |out| encode_capsule_cmd(out, FRAMING, &Sqe::default(), 16))
}

fn some_h2c_data() -> Vec<u8> {
    whole(FRAMING, &[1; 16], |out| encode_h2c_data(out, FRAMING, 1, 2, 0, 16, true))
}

fn some_c2h_data() -> Vec<u8> {
    whole(FRAMING, &[1; 16], |out| encode_c2h_data(out, FRAMING, 1, 0, 16, C2hEnd::Last))
}

#[test]
fn faults_of_sequence() {
    let (controller, host) = (ready(Side::Controller, FRAMING), ready(Side::Host, FRAMING));
    let mut icreq = [0; IC_BYTES];
    encode_icreq(&mut icreq, 0, false, false, 1);
    assert_eq!(refused(&icreq, &controller, &[]), WireError::sequence(0));
    let early = Params::initialize(Side::Controller);
    assert_eq!(refused(&some_command(), &early, &[]), WireError::sequence(4));
    assert_eq!(refused(&some_c2h_data(), &controller, &[]), WireError::sequence(7));
    assert_eq!(refused(&some_command(), &host, &[]), WireError::sequence(4));
}

#[test]
fn faults_of_a_capsule() {
    let params = ready(Side::Controller, FRAMING);
    let good = some_command();
    framed(&good, &params);
    for (name, changes, field) in [
        ("unknown type", &[(0, 8)], 0),
        ("HLEN", &[(2, 71)], 2),
        ("HDGSTF without agreement", &[(1, 3)], 1),
        ("no DDGSTF", &[(1, 0)], 1),
        ("DDGSTF without data", &[(4, 72)], 1),
        ("PLEN below HLEN", &[(4, 71)], 4),
        ("PDO in the header", &[(3, 64)], 3),
        ("PDO not aligned", &[(3, 76)], 3),
        ("PDO beyond PLEN", &[(3, 200)], 4),
        ("only a digest", &[(4, 76)], 4),
    ] {
        assert_eq!(refused(&good, &params, changes), WireError::field(field), "{name}");
    }
}

#[test]
fn faults_of_data_and_r2t() {
    let (controller, host) = (ready(Side::Controller, FRAMING), ready(Side::Host, FRAMING));
    let (h2c, c2h) = (some_h2c_data(), some_c2h_data());
    framed(&h2c, &controller);
    framed(&c2h, &host);
    assert_eq!(refused(&h2c, &controller, &[(16, 17)]), WireError::field(16));
    assert_eq!(refused(&h2c, &controller, &[(16, 0)]), WireError::field(16));
    assert_eq!(refused(&c2h, &host, &[(1, 8 | 2)]), WireError::field(1));
    let r2t = whole(FRAMING, &[], |out| encode_r2t(out, FRAMING, 1, 2, 0, 16));
    framed(&r2t, &host);
    assert_eq!(refused(&r2t, &host, &[(4, 28)]), WireError::field(4));
}

#[test]
fn faults_of_initialization() {
    let mut icreq = [0; IC_BYTES];
    encode_icreq(&mut icreq, 0, false, false, 1);
    let controller = Params::initialize(Side::Controller);
    for (change, field) in [((4, 129), 4), ((8, 1), 8), ((10, 32), 10)] {
        assert_eq!(refused(&icreq, &controller, &[change]), WireError::field(field));
    }
    let mut icresp = [0; IC_BYTES];
    encode_icresp(&mut icresp, 0, false, false, 4096);
    let host = Params::initialize(Side::Host);
    framed(&icresp, &host);
    // PFV, CPDA, MAXH2CDATA too small, MAXH2CDATA not a multiple of four.
    for (change, field) in [((9, 1), 8), ((10, 32), 10), ((13, 15), 12), ((12, 2), 12)] {
        assert_eq!(refused(&icresp, &host, &[change]), WireError::field(field));
    }
}

#[test]
fn faults_of_limits() {
    let (controller, host) = (ready(Side::Controller, FRAMING), ready(Side::Host, FRAMING));
    let capsule = refused(&some_command(), &controller, &[(5, 0x40)]);
    assert_eq!(capsule, WireError { fes: Fes::LimitExceeded, fei: 4 });
    let two_mib = [(6, 0x20), (18, 0x20)];
    let h2c = refused(&some_h2c_data(), &controller, &two_mib);
    assert_eq!(h2c, WireError { fes: Fes::LimitExceeded, fei: 16 });
    let c2h = refused(&some_c2h_data(), &host, &two_mib);
    assert_eq!(c2h, WireError { fes: Fes::DataOutOfRange, fei: 16 });
}

#[test]
fn the_largest_data_offset() {
    let offsets = (0..=MAX_PDA).flat_map(|pda| {
        [false, true].map(|hdgst| {
            let framing = Framing { hdgst, ddgst: false, pda };
            [PduType::CapsuleCmd, PduType::C2hData].map(|kind| framing.data_offset(kind))
        })
    });
    assert_eq!(offsets.flatten().max(), Some(MAX_DATA_OFFSET));
}

#[test]
fn header_digest_fault_tells_the_digest() {
    let framing = Framing { hdgst: true, ddgst: false, pda: 0 };
    let mut bytes = whole(framing, &[], |out| encode_capsule_cmd(out, framing, &Sqe::default(), 0));
    let params = ready(Side::Controller, framing);
    framed(&bytes, &params);
    bytes[20] ^= 1;
    let received = u32::from_le_bytes(bytes[72..76].try_into().unwrap());
    assert_eq!(peek(&bytes, &params), Err(WireError { fes: Fes::HeaderDigest, fei: received }));
    bytes[20] ^= 1;
    bytes[1] = 0;
    assert_eq!(peek(&bytes, &params), Err(WireError::field(1)));
}

/// What a peer may send, in our terms.
#[derive(Clone, Debug)]
enum Sent {
    Cmd { sqe: [u8; 64], data: Vec<u8> },
    Resp { cqe: [u8; 16] },
    H2c { cccid: u16, ttag: u16, datao: u32, data: Vec<u8>, last: bool },
    C2h { cccid: u16, datao: u32, data: Vec<u8>, end: C2hEnd },
    R2t { cccid: u16, ttag: u16, r2to: u32, r2tl: u32 },
}

fn sent() -> impl Strategy<Value = Sent> {
    let data = || prop::collection::vec(any::<u8>(), 1..300);
    let end = prop_oneof![Just(C2hEnd::More), Just(C2hEnd::Last), Just(C2hEnd::LastSuccess)];
    prop_oneof![
        (any::<[u8; 64]>(), prop::collection::vec(any::<u8>(), 0..300))
            .prop_map(|(sqe, data)| Sent::Cmd { sqe, data }),
        any::<[u8; 16]>().prop_map(|cqe| Sent::Resp { cqe }),
        (any::<(u16, u16, u32, bool)>(), data()).prop_map(|((cccid, ttag, datao, last), data)| {
            Sent::H2c { cccid, ttag, datao, data, last }
        }),
        (any::<(u16, u32)>(), data(), end).prop_map(|((cccid, datao), data, end)| Sent::C2h {
            cccid,
            datao,
            data,
            end
        }),
        any::<(u16, u16, u32, u32)>().prop_map(|(cccid, ttag, r2to, r2tl)| Sent::R2t {
            cccid,
            ttag,
            r2to,
            r2tl
        }),
    ]
}

impl Sent {
    fn to(&self) -> Side {
        match self {
            Sent::Cmd { .. } | Sent::H2c { .. } => Side::Controller,
            Sent::Resp { .. } | Sent::C2h { .. } | Sent::R2t { .. } => Side::Host,
        }
    }

    fn data(&self) -> &[u8] {
        match self {
            Sent::Cmd { data, .. } | Sent::H2c { data, .. } | Sent::C2h { data, .. } => data,
            Sent::Resp { .. } | Sent::R2t { .. } => &[],
        }
    }

    fn encode(&self, framing: Framing) -> Vec<u8> {
        let len = self.data().len() as u32;
        whole(framing, self.data(), |out| match *self {
            Sent::Cmd { ref sqe, .. } => {
                encode_capsule_cmd(out, framing, Sqe::ref_from_bytes(sqe).unwrap(), len)
            }
            Sent::Resp { ref cqe } => {
                encode_capsule_resp(out, framing, Cqe::ref_from_bytes(cqe).unwrap())
            }
            Sent::H2c { cccid, ttag, datao, last, .. } => {
                encode_h2c_data(out, framing, cccid, ttag, datao, len, last)
            }
            Sent::C2h { cccid, datao, end, .. } => {
                encode_c2h_data(out, framing, cccid, datao, len, end)
            }
            Sent::R2t { cccid, ttag, r2to, r2tl } => {
                encode_r2t(out, framing, cccid, ttag, r2to, r2tl)
            }
        })
    }

    fn decode(framed: &Framed<'_>, data: &[u8]) -> Sent {
        let data = data.to_vec();
        match framed.pdu {
            Pdu::CapsuleCmd(p) => Sent::Cmd { sqe: p.sqe.as_bytes().try_into().unwrap(), data },
            Pdu::CapsuleResp(p) => Sent::Resp { cqe: p.cqe.as_bytes().try_into().unwrap() },
            Pdu::H2cData(p) => Sent::H2c {
                cccid: p.cccid.get(),
                ttag: p.ttag.get(),
                datao: p.datao.get(),
                data,
                last: p.last(),
            },
            Pdu::C2hData(p) => Sent::C2h {
                cccid: p.cccid.get(),
                datao: p.datao.get(),
                data,
                end: match (p.last(), p.success()) {
                    (true, true) => C2hEnd::LastSuccess,
                    (true, false) => C2hEnd::Last,
                    (false, _) => C2hEnd::More,
                },
            },
            Pdu::R2t(p) => Sent::R2t {
                cccid: p.cccid.get(),
                ttag: p.ttag.get(),
                r2to: p.r2to.get(),
                r2tl: p.r2tl.get(),
            },
            ref other => panic!("{other:?} is never sent here"),
        }
    }
}

fn framing() -> impl Strategy<Value = Framing> {
    (any::<bool>(), any::<bool>(), 0u8..=31).prop_map(|(hdgst, ddgst, pda)| Framing {
        hdgst,
        ddgst,
        pda,
    })
}

fn params() -> impl Strategy<Value = Params> {
    (framing(), any::<(bool, bool, u16, u16)>()).prop_map(|(framing, (host, new, most, cap))| {
        Params {
            receiver: if host { Side::Host } else { Side::Controller },
            phase: if new { Phase::Initialize } else { Phase::Ready },
            hdgst: framing.hdgst,
            ddgst: framing.ddgst,
            pda: framing.pda,
            max_capsule_data: cap.into(),
            max_data: most.into(),
        }
    })
}

/// What must hold of every answer of `peek`, whatever the bytes.
fn sound(bytes: &[u8], params: &Params) {
    match peek(bytes, params) {
        Ok(Peek::NeedMore(n)) => assert!(n > bytes.len() && n <= TERM_BYTES + TERM_MAX_DATA),
        Ok(Peek::Pdu(f)) => {
            assert!(f.header_len as usize <= bytes.len());
            assert!(f.data_offset >= f.header_len);
            let digest = if f.data_digest { 4 } else { 0 };
            assert_eq!(f.total_len, f.data_offset + f.data_len + digest);
            if f.data_len != 0 && !matches!(f.pdu, Pdu::TermReq(_)) {
                assert_eq!(f.data_digest, params.ddgst);
                assert!(f.data_len <= params.max_data.max(params.max_capsule_data));
                assert!(f.data_offset.is_multiple_of((u32::from(params.pda) + 1) * 4));
            }
        }
        Err(error) => assert!(Fes::from_code(error.fes as u16) == Some(error.fes)),
    }
}

proptest! {
    #[test]
    fn what_is_sent_is_received(sent in sent(), framing in framing(), more: [u8; 3]) {
        let mut bytes = sent.encode(framing);
        let len = bytes.len();
        bytes.extend_from_slice(&more);
        let params = ready(sent.to(), framing);
        let framed = framed(&bytes, &params);
        let data = &bytes[framed.data_offset as usize..][..framed.data_len as usize];
        prop_assert_eq!(framed.total_len as usize, len);
        let received = Sent::decode(&framed, data);
        prop_assert_eq!(format!("{received:?}"), format!("{sent:?}"));
        if framed.data_digest {
            let mut digest = DataDigest::new();
            digest.update(data);
            prop_assert!(digest.matches(bytes[len - 4..len].try_into().unwrap()));
        }
    }

    /// A stream cut anywhere is asked on for, never refused, and never told differently.
    #[test]
    fn pieces_are_waited_for(sent in sent(), framing in framing()) {
        let bytes = sent.encode(framing);
        let params = ready(sent.to(), framing);
        let full = framed(&bytes, &params);
        for cut in 0..bytes.len() {
            match peek(&bytes[..cut], &params) {
                Ok(Peek::NeedMore(n)) => prop_assert!(n > cut && n <= full.header_len as usize),
                Ok(Peek::Pdu(f)) => prop_assert_eq!(f, full),
                Err(error) => prop_assert!(false, "{} at {}", error, cut),
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200), params in params()) {
        sound(&bytes, &params);
    }

    /// Closer to good PDUs than arbitrary bytes: one with a few bytes of its header changed.
    #[test]
    fn damaged_headers_are_answered(
        sent in sent(),
        framing in framing(),
        changes in prop::collection::vec((0usize..24, any::<u8>()), 0..3),
        params in params(),
    ) {
        let mut bytes = sent.encode(framing);
        for (at, value) in changes {
            bytes[at] = value;
        }
        sound(&bytes, &params);
        sound(&bytes, &ready(sent.to(), framing));
    }

    #[test]
    fn lengths_agree_with_encoding(sent in sent(), framing in framing()) {
        let bytes = sent.encode(framing);
        let kind = PduType::from_code(bytes[0]).unwrap();
        prop_assert_eq!(framing.pdu_len(kind, sent.data().len()), bytes.len());
    }
}
