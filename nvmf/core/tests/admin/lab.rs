//! A registry to test on, and a host that sends it commands.

use bdev::{Bdev, Channel, Geometry, OpenCx, OpenError};
use nvme_spec::feature::{GetFeatures, Select, SetFeatures};
use nvme_spec::identify::Identify;
use nvme_spec::log::GetLogPage;
use nvme_spec::opcode::admin;
use nvme_spec::property::{self, Cc};
use nvme_spec::{Fabric, Sgl, Sqe, Status};
use nvmf::admin::{AdminOutcome, Transfer, execute, transfer};
use nvmf::controller::{Association, Controller, PropertyEffect};
use nvmf::namespace::{Namespace, NamespaceConfig};
use nvmf::registry::{Registry, RegistryConfig};
use nvmf::subsystem::{ConnectRefusal, Hosts, Subsystem, SubsystemConfig};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

pub const NQN: &str = "nqn.2026-01.example:storage";
pub const HOST: &str = "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001";
pub const REACTORS: usize = 3;
/// When the registry came up.
pub const START_NS: u64 = 1_000_000_000;
pub const SECOND_NS: u64 = 1_000_000_000;
pub const HOUR_NS: u64 = 3600 * SECOND_NS;

/// A bdev that has a size and nothing else: admin commands never open it.
pub struct Sized(pub Mutex<Geometry>);

impl Sized {
    pub fn new(geometry: Geometry) -> Arc<Sized> {
        Arc::new(Sized(Mutex::new(geometry)))
    }
}

impl Bdev for Sized {
    fn geometry(&self) -> Geometry {
        self.0.lock().unwrap().clone()
    }

    fn open(&self, _cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        Err(OpenError("this bdev has no blocks".into()))
    }
}

pub fn subsystem_config(nqn: &str, cntlids: RangeInclusive<u16>) -> SubsystemConfig {
    SubsystemConfig {
        nqn: nqn.into(),
        serial: "FB0001".into(),
        model: "Forebay".into(),
        firmware: "0.1.0".into(),
        hosts: Hosts::Any,
        cntlids,
    }
}

pub fn association(host: &str) -> Association {
    Association {
        host_nqn: host.into(),
        host_id: [0x11; 16],
        kato_ms: 5000,
        in_capsule_bytes: 8192,
        fabric: Fabric::Tcp,
        local: "192.0.2.1:4420".parse().unwrap(),
        peer: "192.0.2.9:50000".parse().unwrap(),
        reactor: 0,
    }
}

pub fn new_registry() -> Registry {
    let discovery = subsystem_config("nqn.2026-01.example:discovery", 1..=100);
    Registry::new(RegistryConfig { reactors: REACTORS, discovery, now_ns: START_NS }).unwrap()
}

/// A registry with one subsystem, two namespaces (1: 512 B, 3: 4 KiB, read only) and one
/// controller that is enabled.
pub struct Lab {
    pub registry: Registry,
    pub subsystem: Arc<Subsystem>,
    pub ctrl: Arc<Controller>,
    pub small: Arc<Sized>,
}

impl Lab {
    pub fn new() -> Lab {
        let registry = new_registry();
        let subsystem = registry.add_subsystem(subsystem_config(NQN, 1..=100), START_NS).unwrap();
        let small = Sized::new(Geometry {
            optimal_blocks: 8,
            atomic_blocks: 8,
            volatile_cache: true,
            deallocates: true,
            ..Geometry::plain(512, 2048)
        });
        let large = Sized::new(Geometry { read_only: true, ..Geometry::plain(4096, 1 << 33) });
        add(&registry, 1, small.clone());
        add(&registry, 3, large);
        let ctrl = enabled(&subsystem);
        Lab { registry, subsystem, ctrl, small }
    }

    pub fn send(&self, sqe: &Sqe) -> Answer {
        send(&self.ctrl, sqe, &[])
    }
}

/// Adds a namespace and opens its channel on every reactor.
pub fn add(registry: &Registry, nsid: u32, bdev: Arc<Sized>) -> Arc<Namespace> {
    let config = NamespaceConfig { nsid, uuid: None, nguid: None, eui64: None, bdev };
    let namespace = registry.add_namespace(NQN, config).unwrap();
    for reactor in 0..REACTORS {
        namespace.set_channel(reactor, Some(bdev::Addr::channel(nsid)));
    }
    namespace
}

pub fn connected(subsystem: &Arc<Subsystem>) -> Arc<Controller> {
    connected_as(subsystem, association(HOST)).unwrap()
}

pub fn connected_as(
    subsystem: &Arc<Subsystem>,
    association: Association,
) -> Result<Arc<Controller>, ConnectRefusal> {
    subsystem.connect(association, START_NS)
}

pub fn enable(ctrl: &Controller) {
    let cc = u64::from(Cc::ENABLE.0);
    let effect = ctrl.property_set(property::CC, false, cc, START_NS);
    assert_eq!(effect, Ok(PropertyEffect::Enabled));
}

pub fn enabled(subsystem: &Arc<Subsystem>) -> Arc<Controller> {
    let ctrl = connected(subsystem);
    enable(&ctrl);
    ctrl
}

/// How a command ended.
#[derive(Debug)]
pub struct Answer {
    pub status: Status,
    pub dw0: u32,
    pub data: Vec<u8>,
}

impl Answer {
    pub fn ok(self) -> Answer {
        assert_eq!(self.status, Status::SUCCESS);
        self
    }
}

/// Sends a command whose SGL is as long as its data.
pub fn send(ctrl: &Controller, sqe: &Sqe, data: &[u8]) -> Answer {
    send_at(ctrl, sqe, data, START_NS)
}

pub fn send_at(ctrl: &Controller, sqe: &Sqe, data: &[u8], now_ns: u64) -> Answer {
    let mut sqe = *sqe;
    sqe.flags |= Sqe::FLAGS_SGL;
    let bytes = match sqe.opcode {
        admin::IDENTIFY => 4096,
        admin::GET_LOG_PAGE => GetLogPage::of(&sqe).bytes().min(u64::from(u32::MAX)) as u32,
        _ => data.len() as u32,
    };
    if sqe.dptr == Sgl::default() {
        sqe.dptr = Sgl::transport(bytes);
    }
    send_raw(ctrl, &sqe, data, now_ns)
}

/// Sends a command as it is, the way a queue pair does.
pub fn send_raw(ctrl: &Controller, sqe: &Sqe, data: &[u8], now_ns: u64) -> Answer {
    let failed = |status| Answer { status, dw0: 0, data: Vec::new() };
    let (mut out, data_in) = match transfer(ctrl, sqe) {
        Err(status) => return failed(status),
        Ok(Transfer::None) => (Vec::new(), Vec::new()),
        Ok(Transfer::ToHost(bytes)) => (vec![0xaa; bytes as usize], Vec::new()),
        Ok(Transfer::FromHost(bytes)) => {
            let mut data = data.to_vec();
            data.resize(bytes as usize, 0);
            (Vec::new(), data)
        }
    };
    match execute(ctrl, sqe, &data_in, &mut out, now_ns) {
        AdminOutcome::Done { status, dw0, data_bytes, .. } => {
            assert!(data_bytes as usize <= out.len());
            out.truncate(data_bytes as usize);
            Answer { status, dw0, data: out }
        }
        AdminOutcome::HoldEvent | AdminOutcome::Abort { .. } => failed(Status::SUCCESS),
    }
}

pub fn identify(nsid: u32, cns: u8) -> Sqe {
    identify_with(nsid, Identify { cns, cntid: 0, cns_specific: 0, csi: 0, uuid_index: 0 })
}

pub fn identify_with(nsid: u32, fields: Identify) -> Sqe {
    let mut sqe = Sqe::new(admin::IDENTIFY, 1, nsid);
    fields.put(&mut sqe);
    sqe
}

/// Get Log Page of `bytes` bytes, which clears the event.
pub fn log_page(lid: u8, bytes: u32) -> Sqe {
    log_page_with(GetLogPage { lid, numd: bytes / 4 - 1, ..Default::default() })
}

pub fn log_page_with(fields: GetLogPage) -> Sqe {
    let mut sqe = Sqe::new(admin::GET_LOG_PAGE, 1, Sqe::NSID_ALL);
    fields.put(&mut sqe);
    sqe
}

pub fn set_feature(fid: u8, value: u32) -> Sqe {
    let mut sqe = Sqe::new(admin::SET_FEATURES, 1, 0);
    SetFeatures { fid, save: false, value }.put(&mut sqe);
    sqe
}

pub fn get_feature(fid: u8, select: Select, value: u32) -> Sqe {
    let mut sqe = Sqe::new(admin::GET_FEATURES, 1, 0);
    let select = match select {
        Select::Current => 0,
        Select::Default => 1,
        Select::Saved => 2,
        Select::Capabilities => 3,
        Select::Reserved => 7,
    };
    sqe.cdw10 = (u32::from(fid) | select << 8).into();
    sqe.cdw11 = value.into();
    assert_eq!(GetFeatures::of(&sqe).fid, fid);
    sqe
}
