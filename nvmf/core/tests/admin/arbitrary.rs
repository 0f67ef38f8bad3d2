//! Arbitrary commands: no panic, and always a status that makes sense.

use crate::lab::*;
use nvme_spec::opcode::admin;
use nvme_spec::{Sgl, Sqe, Status};
use nvmf::admin::{AdminOutcome, Transfer, execute, transfer};
use nvmf::controller::Controller;
use proptest::prelude::*;
use std::sync::Arc;
use zerocopy::{FromBytes, IntoBytes};

/// Commands that get somewhere: a known opcode, small fields more often than large ones, an SGL
/// that is right more often than not.
fn command() -> impl Strategy<Value = Sqe> {
    let opcode = prop_oneof![
        8 => prop::sample::select(vec![0x02u8, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18]),
        1 => any::<u8>(),
    ];
    let dword = || prop_oneof![3 => 0..0x30u32, 1 => any::<u32>(), 1 => any::<u16>().prop_map(|low| u32::from(low & 0x8fff) | 0x003f_0000)];
    let nsid = prop_oneof![Just(0), Just(1), Just(2), Just(3), Just(u32::MAX), any::<u32>()];
    let flags = prop_oneof![9 => Just(Sqe::FLAGS_SGL), 1 => any::<u8>()];
    let dwords = (dword(), dword(), dword(), dword(), dword());
    (opcode, flags, nsid, dwords, any::<[u8; 16]>(), 0..10u8).prop_map(
        |(opcode, flags, nsid, (d10, d11, d12, d13, d14), sgl, wild)| {
            let mut sqe = Sqe::new(opcode, 7, nsid);
            sqe.flags = flags;
            sqe.cdw10 = d10.into();
            sqe.cdw11 = d11.into();
            sqe.cdw12 = (d12 & !u32::from(wild != 1) & !(u32::from(wild != 1) << 1)).into();
            sqe.cdw13 = if wild == 2 { d13.into() } else { 0.into() };
            sqe.cdw14 = if wild == 3 { d14.into() } else { 0.into() };
            sqe.dptr =
                if wild == 0 { Sgl::read_from_bytes(&sgl).unwrap() } else { right_sgl(&sqe) };
            sqe
        },
    )
}

/// The SGL that the fields of the command ask for.
fn right_sgl(sqe: &Sqe) -> Sgl {
    match sqe.opcode {
        admin::IDENTIFY => Sgl::transport(4096),
        admin::GET_LOG_PAGE => {
            let bytes = nvme_spec::log::GetLogPage::of(sqe).bytes();
            Sgl::transport(bytes.min(u64::from(u32::MAX)) as u32)
        }
        admin::GET_FEATURES if sqe.cdw10.get() & 0xff == 0x81 => Sgl::transport(16),
        _ => Sgl::transport(512),
    }
}

/// Sends the command as a queue pair would, and checks what holds for every one.
fn check(ctrl: &Controller, sqe: &Sqe, data: &[u8], held: &mut u8) -> Result<(), TestCaseError> {
    let errors = ctrl.error_count();
    let (mut out, data_in) = match transfer(ctrl, sqe) {
        Err(status) => return check_refusal(ctrl, errors, status),
        Ok(Transfer::None) => (Vec::new(), Vec::new()),
        Ok(Transfer::ToHost(bytes)) => {
            prop_assert!(bytes <= 1 << 20);
            prop_assert_eq!(sqe.dptr.len(), bytes);
            (vec![0xaa; bytes as usize], Vec::new())
        }
        Ok(Transfer::FromHost(bytes)) => {
            prop_assert_eq!(sqe.dptr.len(), bytes);
            let data = data.iter().copied().cycle().take(bytes as usize);
            (Vec::new(), data.collect())
        }
    };
    prop_assert_eq!(ctrl.error_count(), errors, "asking alone is no error");
    match execute(ctrl, sqe, &data_in, &mut out, START_NS) {
        AdminOutcome::Done { status, dw0, dw1, data_bytes } if status.is_success() => {
            prop_assert_eq!(status, Status::SUCCESS);
            prop_assert_eq!(data_bytes as usize, out.len(), "all of it or an error");
            prop_assert_eq!(dw1, 0);
            prop_assert!(
                dw0 == 0 || matches!(sqe.opcode, admin::GET_FEATURES | admin::SET_FEATURES)
            );
            prop_assert_eq!(ctrl.error_count(), errors);
        }
        AdminOutcome::Done { status, dw0, dw1, data_bytes } => {
            prop_assert_eq!((dw0, dw1, data_bytes), (0, 0, 0));
            check_refusal(ctrl, errors, status)?;
        }
        AdminOutcome::HoldEvent => {
            prop_assert_eq!(sqe.opcode, admin::ASYNC_EVENT);
            *held += 1;
            prop_assert!(*held <= nvmf::limits::ASYNC_EVENTS);
        }
        AdminOutcome::Abort { .. } => prop_assert_eq!(sqe.opcode, admin::ABORT),
    }
    Ok(())
}

fn check_refusal(ctrl: &Controller, errors: u64, status: Status) -> Result<(), TestCaseError> {
    prop_assert!(!status.is_success());
    prop_assert_ne!(status.text(), "unknown status");
    prop_assert!(status.is_dnr());
    prop_assert_eq!(status, status.more());
    prop_assert_eq!(ctrl.error_count(), errors + 1, "every refusal is in the log, once");
    Ok(())
}

fn controllers() -> (Lab, Arc<Controller>) {
    let lab = Lab::new();
    let discovery = enabled(lab.registry.discovery());
    (lab, discovery)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn likely_commands_end_well(commands in prop::collection::vec((command(), any::<[u8; 8]>()), 1..40)) {
        let (lab, discovery) = controllers();
        let (mut held, mut held_by_discovery) = (0, 0);
        for (sqe, data) in &commands {
            check(&lab.ctrl, sqe, data, &mut held)?;
            check(&discovery, sqe, data, &mut held_by_discovery)?;
        }
        prop_assert!(lab.ctrl.is_ready());
    }

    #[test]
    fn any_bytes_end_well(commands in prop::collection::vec(prop::array::uniform32(any::<u16>()), 1..40)) {
        let (lab, discovery) = controllers();
        let (mut held, mut held_by_discovery) = (0, 0);
        for bytes in &commands {
            let sqe = Sqe::read_from_bytes(bytes.as_bytes()).unwrap();
            check(&lab.ctrl, &sqe, &[0xff], &mut held)?;
            check(&discovery, &sqe, &[0xff], &mut held_by_discovery)?;
        }
    }

    #[test]
    fn any_property_ends_well(writes in prop::collection::vec((0..0x80u32, any::<bool>(), any::<u64>()), 1..60)) {
        let (lab, _) = controllers();
        for (offset, wide, value) in writes {
            // Properties that exist, more often than chance would have it.
            let offset = if value & 3 == 0 { 0x14 } else { offset };
            let wide = wide && offset != 0x14;
            let _ = lab.ctrl.property_get(offset, wide);
            let answer = lab.ctrl.property_set(offset, wide, value >> 2, START_NS);
            prop_assert_eq!(answer.is_ok(), offset == 0x14 && !wide);
            let csts = lab.ctrl.csts();
            prop_assert!(!(csts.ready() && csts.fatal()));
            prop_assert!(lab.ctrl.cc().enabled() || !csts.ready());
        }
    }
}
