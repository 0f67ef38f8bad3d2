//! Bytes of stock Linux hosts and targets (tests/golden/pdu), read and written again.

use nvme_spec::feature::{Queues, SetFeatures, fid};
use nvme_spec::identify::{
    Identify, IdentifyController, IdentifyNamespace, NsDescriptor, NsDescriptors, ascii, bits, cns,
};
use nvme_spec::log::{AnaGroups, AnaState, CommandEffects, GetLogPage, lid};
use nvme_spec::property::{self, Cap, Cc};
use nvme_spec::{Cqe, Sgl, SglKind, Sqe, Status, aen, dsm, opcode};
use nvmf_wire::connect::{CNTLID_DYNAMIC, Connect, ConnectData, Connected};
use nvmf_wire::digest::crc32c;
use nvmf_wire::discovery::{Log, LogError};
use nvmf_wire::pdu::{
    C2hEnd, Framed, Framing, IC_BYTES, Params, Pdu, Peek, Phase, Side, encode_c2h_data,
    encode_capsule_cmd, encode_capsule_resp, encode_h2c_data, encode_icreq, encode_icresp,
    encode_r2t, peek,
};
use nvmf_wire::property::{PropertyGet, PropertySet, Width, value};
use std::path::{Path, PathBuf};
use zerocopy::FromBytes;

const KERNELS: [&str; 2] = ["linux-6.1", "linux-6.12"];

fn folder(kernel: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/pdu").join(kernel)
}

/// One captured PDU, as the index tells it.
struct Captured {
    name: String,
    to: Side,
    framing: Framing,
    bytes: Vec<u8>,
}

/// Everything captured with `kernel`.
fn captured(kernel: &str) -> Vec<Captured> {
    let folder = folder(kernel);
    let index =
        std::fs::read_to_string(folder.join("index.tsv")).expect("the index is in the tree");
    let lines = index.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [name, sender, hdgst, ddgst, ..] = fields[..] else { panic!("{line:?}") };
            let to = if sender == "host" { Side::Controller } else { Side::Host };
            let framing = Framing { hdgst: hdgst == "1", ddgst: ddgst == "1", pda: 0 };
            let bytes = std::fs::read(folder.join(name)).expect("the file of the index is there");
            Captured { name: name.to_owned(), to, framing, bytes }
        })
        .collect()
}

impl Captured {
    fn framed(&self) -> Framed<'_> {
        let ready = Params {
            receiver: self.to,
            phase: Phase::Ready,
            hdgst: self.framing.hdgst,
            ddgst: self.framing.ddgst,
            pda: 0,
            max_capsule_data: 8192,
            max_data: 1 << 20,
        };
        let initialize = Params::initialize(self.to);
        let params = if self.name.starts_with("ic") { initialize } else { ready };
        match peek(&self.bytes, &params) {
            Ok(Peek::Pdu(framed)) => framed,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn data(&self) -> &[u8] {
        let framed = self.framed();
        &self.bytes[framed.data_offset as usize..][..framed.data_len as usize]
    }

    /// The same PDU by our encoder.
    fn again(&self) -> Vec<u8> {
        let (framed, framing, data) = (self.framed(), self.framing, self.data());
        let mut out = [0xee; IC_BYTES];
        let len = data.len() as u32;
        let head = match framed.pdu {
            Pdu::IcReq(p) => {
                let maxr2t = p.maxr2t.get() + 1;
                encode_icreq(&mut out, p.hpda, p.hdgst(), p.ddgst(), maxr2t)
            }
            Pdu::IcResp(p) => {
                encode_icresp(&mut out, p.cpda, p.hdgst(), p.ddgst(), p.maxh2cdata.get())
            }
            Pdu::CapsuleCmd(p) => encode_capsule_cmd(&mut out, framing, &p.sqe, len),
            Pdu::CapsuleResp(p) => encode_capsule_resp(&mut out, framing, &p.cqe),
            Pdu::H2cData(p) => {
                let (cccid, ttag) = (p.cccid.get(), p.ttag.get());
                encode_h2c_data(&mut out, framing, cccid, ttag, p.datao.get(), len, p.last())
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
            Pdu::TermReq(_) => panic!("{}: nothing went wrong in the capture", self.name),
        };
        let mut bytes = [&out[..head], data].concat();
        if framing.ddgst && !data.is_empty() {
            bytes.extend_from_slice(&crc32c(data).to_le_bytes());
        }
        bytes
    }
}

fn one(kernel: &str, name: &str) -> Captured {
    let found = captured(kernel).into_iter().find(|c| c.name == format!("{name}.bin"));
    found.unwrap_or_else(|| panic!("{name} was not captured with {kernel}"))
}

fn command(captured: &Captured) -> Sqe {
    match captured.framed().pdu {
        Pdu::CapsuleCmd(pdu) => pdu.sqe,
        other => panic!("{}: {other:?}", captured.name),
    }
}

fn response(name: &str) -> Cqe {
    match one("linux-6.12", name).framed().pdu {
        Pdu::CapsuleResp(pdu) => pdu.cqe,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn every_pdu_is_read_and_written_the_same() {
    for kernel in KERNELS {
        let all = captured(kernel);
        assert!(all.len() > 40, "{kernel} has only {} PDUs", all.len());
        for captured in all {
            assert_eq!(captured.framed().total_len as usize, captured.bytes.len());
            assert_eq!(captured.again(), captured.bytes, "{kernel}/{}", captured.name);
        }
    }
}

#[test]
fn connects() {
    for kernel in KERNELS {
        for (name, qid) in [("connect-admin", 0), ("connect-io", 1)] {
            let captured = one(kernel, name);
            let sqe = command(&captured);
            let connect = Connect::of(&sqe);
            assert_eq!((connect.recfmt, connect.qid), (0, qid));
            assert_eq!(connect.sqe(sqe.cid()), sqe, "{kernel}/{name}");
            let data = ConnectData::ref_from_bytes(captured.data()).unwrap();
            let (subnqn, hostnqn) = (data.subnqn().unwrap(), data.hostnqn().unwrap());
            assert_eq!(data.cntlid.get() == CNTLID_DYNAMIC, qid == 0);
            let again = ConnectData::new(data.hostid, data.cntlid.get(), &subnqn, &hostnqn);
            assert_eq!(again, *data);
        }
    }
    let admin = Connected::from_dword(response("response-to-connect-admin").dw0.get());
    assert!(!admin.authenticate && admin.cntlid != 0);
}

#[test]
fn properties() {
    for kernel in KERNELS {
        let get = |name| PropertyGet::of(&command(&one(kernel, name)));
        let cap = PropertyGet { width: Width::Eight, offset: property::CAP };
        assert_eq!(get("property-get-00"), cap);
        let csts = PropertyGet { width: Width::Four, offset: property::CSTS };
        assert_eq!(get("property-get-1c"), csts);
        let set = PropertySet::of(&command(&one(kernel, "property-set-14")));
        assert_eq!((set.width, set.offset), (Width::Four, property::CC));
        let cc = Cc(set.value as u32);
        // Linux writes CC twice: first everything but EN, with all I/O command sets selected.
        assert!(!cc.enabled());
        assert_eq!((cc.iosqes(), cc.iocqes(), cc.mps(), cc.css()), (6, 4, 0, 6));
    }
    let cap = Cap::from_bits(value(&response("response-to-property-get-00")));
    let css = property::css::NVM | property::css::IO_COMMAND_SETS;
    assert_eq!(cap, Cap { mqes: 1023, to: 15, css, ..Cap::default() });
    let vs = value(&response("response-to-property-get-08"));
    assert_eq!(vs, u64::from(property::version(1, 3, 0)));
}

#[test]
fn admin_commands() {
    for kernel in KERNELS {
        let identify = |name| Identify::of(&command(&one(kernel, name)));
        assert_eq!(identify("identify-cns01").cns, cns::CONTROLLER);
        assert_eq!(identify("identify-cns03").cns, cns::NAMESPACE_DESCRIPTORS);
        assert_eq!(identify("identify-cns06").cns, cns::CSI_CONTROLLER);
        for (name, lid) in [
            ("get-log-70", lid::DISCOVERY),
            ("get-log-02", lid::SMART),
            ("get-log-0c", lid::ANA),
            ("get-log-05", lid::COMMAND_EFFECTS),
        ] {
            let sqe = command(&one(kernel, name));
            let log = GetLogPage::of(&sqe);
            assert_eq!((log.lid, log.bytes()), (lid, u64::from(sqe.dptr.len())), "{name}");
        }
        let set = SetFeatures::of(&command(&one(kernel, "set-features-07")));
        assert_eq!((set.fid, set.save), (fid::QUEUES, false));
        assert!(Queues::from_dword(set.value).submission >= 1);
        let keep_alive = command(&one(kernel, "keep-alive"));
        assert_eq!(keep_alive.opcode, opcode::admin::KEEP_ALIVE);
    }
    // The event request that was left when the target went away.
    let left = response("response-to-async-event-request").status();
    assert_eq!(left, Status::INTERNAL_ERROR.dnr());
}

#[test]
fn io_commands() {
    for kernel in KERNELS {
        let read = command(&one(kernel, "read"));
        assert_eq!((read.opcode, read.blocks()), (opcode::nvm::READ, 8));
        assert_eq!((read.dptr.kind(), read.dptr.len()), (SglKind::Transport, 4096));
        let zeroes = command(&one(kernel, "write-zeroes"));
        assert_eq!((zeroes.opcode, zeroes.slba()), (opcode::nvm::WRITE_ZEROES, 0x40));
        let compare = one(kernel, "compare-in-capsule");
        assert_eq!(command(&compare).opcode, opcode::nvm::COMPARE);
        assert_eq!(command(&compare).dptr, Sgl::in_capsule(0, 512));
        assert_eq!(compare.data().len(), 512);
        let deallocate = one(kernel, "dataset-management-in-capsule");
        let view = dsm::DatasetManagement::of(&command(&deallocate));
        assert!(view.deallocate);
        assert_eq!(view.bytes(), deallocate.data().len());
        let ranges = <[dsm::Range]>::ref_from_bytes(deallocate.data()).unwrap();
        assert!(ranges.iter().all(|range| range.blocks.get() > 0));
    }
}

#[test]
fn structures_of_the_linux_target() {
    let data = |name: &str| one("linux-6.12", &format!("c2h-data-for-{name}")).data().to_vec();
    let bytes = data("identify-cns01");
    let controller = IdentifyController::ref_from_bytes(&bytes).unwrap();
    assert_eq!(ascii(&controller.mn), "Linux");
    assert_eq!(controller.cntrltype, bits::cntrltype::DISCOVERY);
    assert_eq!(controller.ver.get(), property::version(1, 3, 0));
    assert_eq!(controller.oaes.get(), aen::config::DISCOVERY);
    assert!(controller.subnqn.starts_with(b"nqn.2014-08.org.nvmexpress.discovery\0"));

    let bytes = data("identify-cns00");
    let namespace = IdentifyNamespace::ref_from_bytes(&bytes).unwrap();
    assert_eq!(namespace.nsze.get(), 0x1_0000);
    assert_eq!(namespace.anagrpid.get(), 1);
    assert_eq!(namespace.format().map(|format| format.lbads), Some(9));

    let descriptors: Vec<_> = NsDescriptors::new(&data("identify-cns03")).collect();
    assert!(matches!(descriptors[..], [NsDescriptor::Uuid(_), NsDescriptor::Csi(0)]));

    let bytes = data("get-log-0c");
    let groups: Vec<_> = AnaGroups::new(&bytes).unwrap().collect();
    let [(group, nsids)] = groups[..] else { panic!("{groups:?}") };
    assert_eq!(AnaState::from_byte(group.state), Some(AnaState::Optimized));
    assert_eq!((group.group.get(), nsids.len(), nsids[0].get()), (1, 1, 1));

    let bytes = data("get-log-05");
    let effects = CommandEffects::ref_from_bytes(&bytes).unwrap();
    assert_eq!(effects.io[usize::from(opcode::nvm::WRITE)].get() & 3, 3);
    assert_eq!(effects.admin[usize::from(opcode::admin::KEEP_ALIVE)].get() & 1, 1);
    let error = Log::parse(&data("get-log-70-header")).unwrap_err();
    assert_eq!(error, LogError::Incomplete { records: 2 });
    let bytes = data("get-log-70");
    let log = Log::parse(&bytes).unwrap();
    let names: Vec<_> = log.entries().iter().map(|one| one.record().unwrap().subnqn).collect();
    assert_eq!(names.len(), 2);
    assert!(names.iter().any(|name| name.as_str() == "nqn.2026-01.org.example:captured"));
}
