//! A command capsule as it was received: the command, where its data is, and where the host has its
//! memory (NVMe/RDMA Transport Specification, "Capsules" and "Data Transfers").

use bdev::DmaSlice;
use nvme_spec::{Psdt, Sgl, SglKind, Sqe};
use nvmf::transport::InCapsule;
use verbs::limits::SQE_BYTES;
use verbs::{Receive, Remote};
use zerocopy::{FromZeros, IntoBytes};

/// What came.
#[derive(Debug)]
pub(crate) struct Capsule {
    pub sqe: Sqe,
    /// Data that came with it.
    pub in_capsule: InCapsule,
    /// Memory of the host.
    pub remote: Option<Remote>,
}

/// Takes a capsule of `bytes` bytes apart; none if it is too short to hold a command.
pub(crate) fn parse(receive: &Receive, bytes: u32) -> Option<Capsule> {
    let data_bytes = (bytes as usize).checked_sub(SQE_BYTES)?;
    let mut sqe = Sqe::new_zeroed();
    receive.sqe.copy_out(0, sqe.as_mut_bytes());
    let described = matches!(sqe.psdt(), Psdt::Sgl | Psdt::SglMetadataSgl);
    let data = receive.data.sub(0, data_bytes.min(receive.data.len()));
    let in_capsule = match sqe.dptr.kind() {
        SglKind::InCapsule if described => data_in(data, &sqe.dptr),
        _ => InCapsule::None,
    };
    let remote = match sqe.dptr.kind() {
        SglKind::Keyed { invalidate } if described => Some(Remote {
            addr: sqe.dptr.addr(),
            rkey: sqe.dptr.key(),
            bytes: sqe.dptr.keyed_len(),
            invalidate,
        }),
        _ => None,
    };
    Some(Capsule { sqe, in_capsule, remote })
}

/// The part of the capsule's data that the descriptor names; what it names beyond it is missed by
/// whoever needs it.
fn data_in(data: DmaSlice, sgl: &Sgl) -> InCapsule {
    let start = usize::try_from(sgl.addr()).unwrap_or(usize::MAX).min(data.len());
    let bytes = (sgl.len() as usize).min(data.len() - start);
    InCapsule::Data(data.sub(start, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bdev::Memory;
    use proptest::prelude::*;

    fn receive(memory: &Memory) -> Receive {
        Receive { slot: 0, sqe: memory.slice(0, 0, 64), data: memory.slice(0, 4096, 4096) }
    }

    fn write(sgl: Sgl) -> Sqe {
        let mut sqe = Sqe::new(1, 5, 1);
        sqe.flags = Sqe::FLAGS_SGL;
        sqe.dptr = sgl;
        sqe
    }

    fn capsule(sqe: &Sqe, bytes: u32) -> Option<Capsule> {
        let memory = Memory::map(1, 8192).unwrap();
        let receive = receive(&memory);
        receive.sqe.copy_in(0, sqe.as_bytes());
        parse(&receive, bytes)
    }

    fn data_bytes(capsule: &Capsule) -> Option<usize> {
        match capsule.in_capsule {
            InCapsule::Data(slice) => Some(slice.len()),
            _ => None,
        }
    }

    #[test]
    fn descriptors_are_told_apart() {
        let keyed = capsule(&write(Sgl::keyed(0x1234_5678_9abc, 1 << 20, 0xdead_beef, true)), 64);
        let remote = keyed.as_ref().unwrap().remote.unwrap();
        let bytes = 1 << 20;
        let addr = 0x1234_5678_9abc;
        assert_eq!(remote, Remote { addr, rkey: 0xdead_beef, bytes, invalidate: true });
        assert_eq!(data_bytes(&keyed.unwrap()), None);
        let kept = capsule(&write(Sgl::keyed(1, 2, 3, false)), 64).unwrap().remote.unwrap();
        assert!(!kept.invalidate);
        let inline = capsule(&write(Sgl::in_capsule(0, 4096)), 64 + 4096).unwrap();
        assert_eq!((data_bytes(&inline), inline.remote), (Some(4096), None));
        // The transport descriptor is TCP's: it names no memory here.
        assert_eq!(capsule(&write(Sgl::transport(512)), 64).unwrap().remote, None);
    }

    #[test]
    fn what_did_not_come_is_not_there() {
        assert!(capsule(&write(Sgl::in_capsule(0, 512)), 63).is_none());
        let short = capsule(&write(Sgl::in_capsule(0, 4096)), 64 + 512).unwrap();
        assert_eq!(data_bytes(&short), Some(512));
        let beyond = capsule(&write(Sgl::in_capsule(u64::MAX, 4096)), 64 + 512).unwrap();
        assert_eq!(data_bytes(&beyond), Some(0));
        let middle = capsule(&write(Sgl::in_capsule(500, 4096)), 64 + 512).unwrap();
        assert_eq!(data_bytes(&middle), Some(12));
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart(bytes in proptest::collection::vec(any::<u8>(), 64), length in any::<u32>()) {
            let memory = Memory::map(1, 8192).unwrap();
            let receive = receive(&memory);
            receive.sqe.copy_in(0, &bytes);
            let capsule = parse(&receive, length);
            prop_assert_eq!(capsule.is_none(), length < 64);
            if let Some(capsule) = capsule {
                let came = (length as usize - 64).min(4096);
                prop_assert!(data_bytes(&capsule).is_none_or(|bytes| bytes <= came));
                prop_assert!(capsule.remote.is_none() || data_bytes(&capsule).is_none());
            }
        }
    }
}
