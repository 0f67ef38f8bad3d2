//! What a host reads from a controller: the discovery log, Identify data and log pages.

use nvme_spec::identify::{
    IdentifyController, IdentifyNamespace, NamespaceList, NsDescriptors, NsDescriptorsMut, ascii,
};
use nvme_spec::log::{AnaGroups, AnaState, ErrorEntry, SmartLog};
use nvmf_wire::discovery::{Entry, Log, LogError, log_bytes, read_log};
use nvmf_wire::nqn::Nqn;
use zerocopy::FromBytes;

/// Parses a discovery log and writes what was understood again.
pub fn discovery_log(bytes: &[u8]) {
    let log = match Log::parse(bytes) {
        Ok(log) => log,
        Err(LogError::Incomplete { records }) => {
            assert!(log_bytes(records).is_none_or(|needed| needed > bytes.len()));
            return;
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let records = bytes.get(8..16).and_then(|field| field.try_into().ok()).map(u64::from_le_bytes);
    assert_eq!(records, Some(log.entries().len() as u64));
    assert!(log_bytes(log.entries().len() as u64).is_some_and(|needed| needed <= bytes.len()));
    let mut understood = Vec::new();
    for entry in log.entries() {
        let Ok(record) = entry.record() else { continue };
        assert!(!record.traddr.contains('\0') && !record.traddr.ends_with(' '));
        let written = record.entry();
        let again = written.record().expect("a record that was read can be written");
        assert_eq!(
            (again.subnqn, again.trtype, again.adrfam, again.subtype),
            (record.subnqn, record.trtype, record.adrfam, record.subtype)
        );
        if record.traddr.bytes().all(|b| (0x20..=0x7e).contains(&b)) {
            assert_eq!(again.traddr, record.traddr);
        }
        understood.push(written);
    }
    check_reading(log.genctr(), &understood, bytes);
}

/// A log read from any offset is the same as the whole from there on.
fn check_reading(genctr: u64, entries: &[Entry], bytes: &[u8]) {
    let mut whole = vec![0xee; log_bytes(entries.len() as u64).expect("it was in memory")];
    assert_eq!(read_log(genctr, entries, 0, &mut whole), whole.len());
    let offset = bytes.last_chunk().map_or(0, |last| u64::from(u16::from_le_bytes(*last)));
    let mut part = [0xee; 1500];
    let n = read_log(genctr, entries, offset, &mut part);
    let expected = whole.get(offset as usize..).unwrap_or_default();
    assert_eq!(n, expected.len().min(part.len()));
    assert_eq!(part[..n], expected[..n]);
    assert!(part[n..].iter().all(|&b| b == 0));
}

/// Reads Identify data and log pages; the first byte says which.
pub fn log_pages(bytes: &[u8]) {
    let Some((&which, page)) = bytes.split_first() else { return };
    match which & 3 {
        0 => ana_log(page),
        1 => descriptors(page),
        2 => namespaces(page),
        _ => structures(page),
    }
}

fn ana_log(page: &[u8]) {
    let Some(groups) = AnaGroups::new(page) else { return };
    let mut bytes = 16;
    for (group, nsids) in groups {
        bytes += 32 + 4 * nsids.len();
        assert_eq!(group.nsid_count.get() as usize, nsids.len());
        let state = AnaState::from_byte(group.state);
        assert!(state.is_none_or(|state| state as u8 == group.state & 0xf));
    }
    assert!(bytes <= page.len());
}

fn descriptors(page: &[u8]) {
    let read: Vec<_> = NsDescriptors::new(page).collect();
    if page.len() <= 4096 {
        let mut bytes = [0xee; 4096];
        let mut list = NsDescriptorsMut::new(&mut bytes);
        read.iter().for_each(|&descriptor| list.push(descriptor));
        assert!(NsDescriptors::new(&bytes).eq(read));
    }
}

fn namespaces(page: &[u8]) {
    let mut list = NamespaceList::default();
    for (slot, bytes) in list.nsids.iter_mut().zip(page.as_chunks::<4>().0) {
        slot.set(u32::from_le_bytes(*bytes));
    }
    let nsids: Vec<u32> = list.iter().collect();
    assert!(nsids.iter().all(|&nsid| nsid != 0));
    let after = nsids.first().copied().unwrap_or(0);
    let above = NamespaceList::above(after, nsids.iter().copied());
    assert!(above.iter().all(|nsid| nsid > after && nsids.contains(&nsid)));
}

fn structures(page: &[u8]) {
    let mut padded = [0; 4096];
    let len = page.len().min(padded.len());
    padded[..len].copy_from_slice(&page[..len]);
    if let Ok(controller) = IdentifyController::ref_from_bytes(&padded) {
        let _ = (ascii(&controller.sn), ascii(&controller.mn), ascii(&controller.fr));
        let _ = Nqn::from_field(&controller.subnqn);
    }
    if let Ok(namespace) = IdentifyNamespace::ref_from_bytes(&padded)
        && let Some(format) = namespace.format()
    {
        assert!(1u64.checked_shl(format.lbads.into()).is_some_and(|bytes| bytes >= 512));
    }
    if let Ok((entry, _)) = ErrorEntry::ref_from_prefix(&padded) {
        let mut again = *entry;
        again.set_status(entry.status());
        assert_eq!(again.status(), entry.status());
        let units = SmartLog::data_units(entry.lba.get());
        assert!(units * 512_000 >= u128::from(entry.lba.get()));
    }
}
