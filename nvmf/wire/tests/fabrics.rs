//! Fabrics commands, names, the discovery log and RDMA private data.

use nvme_spec::opcode::fabrics;
use nvme_spec::{Cqe, Sqe, Status};
use nvmf_wire::connect::{
    Authentication, BadParameter, CNTLID_DYNAMIC, Connect, ConnectData, Connected, Disconnect,
};
use nvmf_wire::discovery::{
    AdrFam, Entry, Header, Log, LogError, Record, SubType, TrType, log_bytes, read_log, treq,
};
use nvmf_wire::property::{PropertyGet, PropertySet, Width, put_value, value};
use nvmf_wire::rdma::{CmReject, Reject};
use nvmf_wire::{Nqn, NqnError, nqn};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

#[test]
fn connect_bytes() {
    let connect = Connect { recfmt: 0, qid: 3, sqsize: 127, cattr: 4, kato_ms: 5000 };
    let sqe = connect.sqe(9);
    let bytes = sqe.as_bytes();
    assert_eq!(bytes[..8], [0x7f, 0x40, 9, 0, 1, 0, 0, 0]);
    assert_eq!(bytes[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 1]);
    assert_eq!(bytes[40..52], [0, 0, 3, 0, 127, 0, 4, 0, 0x88, 0x13, 0, 0]);
    assert_eq!(bytes[52..], [0; 12]);
    assert!(connect.disables_sq_flow());
    assert_eq!((sqe.opcode, sqe.fctype()), (fabrics::FABRICS, fabrics::CONNECT));
}

#[test]
fn connect_data_fields() {
    let (host, subsystem) = (Nqn::new("nqn.2014-08.com.example:host").unwrap(), Nqn::discovery());
    let data = ConnectData::new([7; 16], CNTLID_DYNAMIC, &subsystem, &host);
    let bytes = data.as_bytes();
    assert_eq!(bytes[..18], [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 0xff, 0xff]);
    assert_eq!(
        bytes[256..][..nqn::DISCOVERY.len() + 1],
        *b"nqn.2014-08.org.nvmexpress.discovery\0"
    );
    assert_eq!(bytes[512..541], *b"nqn.2014-08.com.example:host\0");
    assert_eq!((data.subnqn(), data.hostnqn()), (Ok(subsystem), Ok(host)));
    assert!(data.subnqn().unwrap().is_discovery());
}

#[test]
fn connect_results() {
    assert_eq!(BadParameter::Qid.dword(), 42);
    assert_eq!(BadParameter::HostNqn.dword(), 0x1_0200);
    let cqe = BadParameter::SubNqn.refuse(5);
    assert_eq!(cqe.dw0.get(), 0x1_0100);
    assert_eq!(cqe.status(), Status::CONNECT_INVALID_PARAMETERS.dnr());
    let granted = Connected { cntlid: 0x1234, authenticate: true, secure_channel: false };
    assert_eq!(granted.dword(), 0x2_1234);
    assert_eq!(Connected::from_dword(granted.dword()), granted);
}

#[test]
fn property_bytes() {
    let set = PropertySet { width: Width::Four, offset: 0x14, value: 0x46_0001 };
    assert_eq!(set.sqe(1).as_bytes()[4], 0);
    assert_eq!(
        set.sqe(1).as_bytes()[40..56],
        [0, 0, 0, 0, 0x14, 0, 0, 0, 1, 0, 0x46, 0, 0, 0, 0, 0]
    );
    let get = PropertyGet { width: Width::Eight, offset: 0 };
    assert_eq!(get.sqe(1).as_bytes()[4], 4);
    assert_eq!(get.sqe(1).as_bytes()[40..48], [1, 0, 0, 0, 0, 0, 0, 0]);
    let mut cqe = Cqe::new(1, Status::SUCCESS);
    put_value(&mut cqe, 0x0102_0304_0506_0708);
    assert_eq!(value(&cqe), 0x0102_0304_0506_0708);
    assert_eq!(cqe.as_bytes()[..8], [8, 7, 6, 5, 4, 3, 2, 1]);
}

#[test]
fn authentication_fields() {
    let mut bytes = [0u8; 64];
    bytes[40..48].copy_from_slice(&[0, 1, 2, 0xe9, 0x10, 0, 0, 0]);
    let view = Authentication::of(Sqe::ref_from_bytes(&bytes).unwrap());
    assert_eq!(view, Authentication { spsp: 0x0201, secp: 0xe9, bytes: 16 });
}

#[test]
fn names() {
    for good in [
        nqn::DISCOVERY,
        "nqn.2014-08.com.example:nvme:nvm-subsystem-sn-d78432",
        "nqn.2024-12.io.forebay:a_b/c",
        "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "nqn.2014-08.org.linux:\u{fc}",
    ] {
        assert_eq!(Nqn::new(good).map(|n| n.to_string()), Ok(good.to_owned()));
    }
    let long = format!("nqn.2014-08.a:{}", "x".repeat(209));
    assert!(Nqn::new(&long).is_ok());
    for (bad, error) in [
        ("", NqnError::Empty),
        (&format!("{long}x"), NqnError::TooLong),
        ("nqn.2014-08.a:b c", NqnError::BadCharacter),
        ("nqn.2014-08.a:b\n", NqnError::BadCharacter),
        ("nqn.2014-08.a:b\0", NqnError::BadCharacter),
        ("iqn.2014-08.a:b", NqnError::BadDate),
        ("nqn.2014-13.a:b", NqnError::BadDate),
        ("nqn.2014-00.a:b", NqnError::BadDate),
        ("nqn.214-08.a:b", NqnError::BadDate),
        ("nqn.2014-+8.a:b", NqnError::BadDate),
        ("nqn.2014-08", NqnError::BadDate),
        ("nqn.2014-08.:b", NqnError::BadDomain),
        ("nqn.2014-08.a..b:c", NqnError::BadDomain),
        ("nqn.2014-08.a:", NqnError::EmptyName),
        ("nqn.2014-08.org.nvmexpress:uuid:f81d4fae", NqnError::BadUuid),
        ("nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bfg", NqnError::BadUuid),
    ] {
        assert_eq!(Nqn::new(bad), Err(error), "{bad:?}");
    }
}

#[test]
fn names_in_fields() {
    let mut field = [b'x'; 256];
    assert_eq!(Nqn::from_field(&field), Err(NqnError::TooLong));
    field[224] = 0;
    assert_eq!(Nqn::from_field(&field), Err(NqnError::TooLong));
    field[223] = 0;
    assert_eq!(Nqn::from_field(&field).map(|n| n.as_str().len()), Ok(223));
    field[0] = 0xff;
    assert_eq!(Nqn::from_field(&field), Err(NqnError::NotUtf8));
    field[0] = 0;
    assert_eq!(Nqn::from_field(&field), Err(NqnError::Empty));
    for control in ['\n', '\r', '\x1b', '\x7f', '\u{9b}'] {
        let name = format!("host{control}");
        assert_eq!(Nqn::lenient(&name), Err(NqnError::BadCharacter), "{control:?}");
    }
}

fn record(traddr: &str) -> Record<'_> {
    Record {
        trtype: TrType::Tcp,
        adrfam: AdrFam::Ipv4,
        subtype: SubType::Nvm,
        treq: treq::SECURE_NOT_REQUIRED | treq::DISABLE_SQ_FLOW,
        portid: 1,
        cntlid: CNTLID_DYNAMIC,
        asqsz: 128,
        eflags: 0,
        trsvcid: "4420",
        subnqn: Nqn::new("nqn.2014-08.com.example:a").unwrap(),
        traddr,
        sectype: 0,
    }
}

#[test]
fn discovery_entry_bytes() {
    let entry = record("192.0.2.7").entry();
    let bytes = entry.as_bytes();
    assert_eq!(bytes[..12], [3, 1, 2, 6, 1, 0, 0xff, 0xff, 128, 0, 0, 0]);
    assert_eq!(bytes[32..64], *b"4420                            ");
    assert_eq!(bytes[256..282], *b"nqn.2014-08.com.example:a\0");
    assert_eq!(bytes[512..522], *b"192.0.2.7 ");
    assert_eq!(bytes[767], b' ');
    assert_eq!(bytes[768..], [0; 256]);
}

#[test]
fn discovery_addresses_padded_with_nuls_are_read() {
    let mut entry = record("192.0.2.7").entry();
    entry.traddr[9..].fill(0);
    entry.trsvcid = [0; 32];
    let read = entry.record().unwrap();
    assert_eq!((read.traddr, read.trsvcid), ("192.0.2.7", ""));
}

#[test]
fn logs_that_are_none() {
    assert_eq!(Log::parse(&[0; 1023]).unwrap_err(), LogError::Short);
    let mut header = Header::default();
    header.recfmt.set(1);
    assert_eq!(Log::parse(header.as_bytes()).unwrap_err(), LogError::RecordFormat(1));
    for records in [1, u64::MAX, u64::MAX / 1024] {
        let mut header = Header::default();
        header.numrec.set(records);
        let error = Log::parse(header.as_bytes()).unwrap_err();
        assert_eq!(error, LogError::Incomplete { records });
    }
    assert_eq!(log_bytes(2), Some(3072));
    assert_eq!(log_bytes(u64::MAX), None);
}

#[test]
fn rejects() {
    let bytes = Reject::NoResources.private_data();
    assert_eq!(bytes.as_bytes(), [0, 0, 6, 0]);
    let read = CmReject::ref_from_bytes(bytes.as_bytes()).unwrap();
    assert_eq!(Reject::from_code(read.sts.get()), Some(Reject::NoResources));
    assert_eq!(Reject::from_code(0), None);
}

proptest! {
    #[test]
    fn connect_round_trip(qid: u16, sqsize: u16, cattr: u8, kato_ms: u32, cid: u16) {
        let connect = Connect { recfmt: 0, qid, sqsize, cattr, kato_ms };
        let sqe = connect.sqe(cid);
        prop_assert_eq!(Connect::of(&sqe), connect);
        prop_assert_eq!(sqe.cid(), cid);
    }

    #[test]
    fn properties_round_trip(eight: bool, offset: u32, value: u64) {
        let width = if eight { Width::Eight } else { Width::Four };
        let get = PropertyGet { width, offset };
        prop_assert_eq!(PropertyGet::of(&get.sqe(1)), get);
        let value = if eight { value } else { value & 0xffff_ffff };
        let set = PropertySet { width, offset, value };
        prop_assert_eq!(PropertySet::of(&set.sqe(1)), set);
    }

    #[test]
    fn bad_parameters_round_trip(dword in 0u32..0x2_0000) {
        prop_assert_eq!(BadParameter::from_dword(dword).dword(), dword);
    }

    /// Any bytes are a name or none, and a name is the same after another trip.
    #[test]
    fn any_field_is_read(bytes in prop::collection::vec(any::<u8>(), 256)) {
        let field: [u8; 256] = bytes.try_into().unwrap();
        if let Ok(name) = Nqn::from_field(&field) {
            prop_assert_eq!(Nqn::from_field(&name.to_field()), Ok(name));
        }
    }

    #[test]
    fn any_text_is_judged(text in "\\PC{0,80}|nqn\\.[0-9]{4}-[0-9]{2}\\.[a-z.]{0,9}(:.{0,9})?") {
        if let Ok(name) = Nqn::new(&text) {
            prop_assert_eq!(name.as_str(), &text);
            prop_assert_eq!(Nqn::from_field(&name.to_field()), Ok(name));
        }
    }

    #[test]
    fn any_command_is_viewed(bytes: [[u8; 32]; 2]) {
        let sqe = Sqe::ref_from_bytes(bytes.as_bytes()).unwrap();
        let _ = (Connect::of(sqe), Disconnect::of(sqe), Authentication::of(sqe));
        let _ = (PropertyGet::of(sqe), PropertySet::of(sqe));
    }

    #[test]
    fn records_round_trip(traddr in "[0-9a-f:.]{1,40}", trsvcid in "[0-9]{1,5}", codes: [u8; 5]) {
        let sent = Record {
            trtype: TrType::from_code(codes[0]),
            adrfam: AdrFam::from_code(codes[1]),
            subtype: SubType::from_code(codes[2]),
            treq: codes[3],
            trsvcid: &trsvcid,
            sectype: codes[4],
            ..record(&traddr)
        };
        let entry = sent.entry();
        prop_assert_eq!(entry.record(), Ok(sent));
    }

    /// A log read in pieces of any size is the log.
    #[test]
    fn log_in_pieces(count in 0usize..4, size in 1usize..3000) {
        let entries: Vec<Entry> =
            (0..count).map(|n| record(["192.0.2.1", "192.0.2.2", "::1"][n % 3]).entry()).collect();
        let mut log = Vec::new();
        loop {
            let mut piece = vec![0xee; size];
            let n = read_log(9, &entries, log.len() as u64, &mut piece);
            prop_assert!(piece[n..].iter().all(|&b| b == 0));
            log.extend_from_slice(&piece[..n]);
            if n < size {
                break;
            }
        }
        prop_assert_eq!(Some(log.len()), log_bytes(count as u64));
        let read = Log::parse(&log).unwrap();
        prop_assert_eq!(read.genctr(), 9);
        prop_assert_eq!(read.entries(), &entries[..]);
        prop_assert_eq!(read_log(9, &entries, u64::MAX, &mut [0; 8]), 0);
    }

    #[test]
    fn any_bytes_are_a_log_or_none(bytes in prop::collection::vec(any::<u8>(), 0..2100), records in 0u8..3) {
        let mut bytes = bytes;
        if let Some(header) = bytes.get_mut(8..18) {
            header.fill(0);
            header[0] = records;
        }
        if let Ok(log) = Log::parse(&bytes) {
            let _ = log.entries().iter().map(Entry::record).filter(Result::is_ok).count();
        }
    }
}
