//! What a drive says of its health.

use crate::drive::Drive;
use crate::smart::in_words;
use bdev_nvme::{NamespaceIdentity, Request};
use nvme_spec::Shown;
use nvme_spec::identify::ascii;
use nvme_spec::log::{ErrorEntry, FirmwareSlots, SmartLog};
use nvme_spec::{Sqe, Status};
use webui_model::{BlockFormat, DriveError, DriveHealth, FirmwareSlot};
use zerocopy::FromBytes;

/// Entries of the error log that are asked for, where the drive keeps as many.
const ERRORS: usize = 16;

impl Drive {
    /// Its logs, read now, and the formats of namespace `nsid`. Waits for the drive.
    ///
    /// # Errors
    /// A sentence's end: it does not answer, or refuses to give its health log.
    pub fn tell_health(&self, nsid: u32) -> Result<DriveHealth, String> {
        let smart = self.ask(Request::smart_log()).map_err(|error| error.to_string())?;
        let smart = SmartLog::read_from_bytes(&smart).map_err(|_| "its health log is too short")?;
        let entries = self.controller.identity().map_or(1, |told| usize::from(told.error_entries));
        // Drives of before these logs refuse them.
        let errors = self.ask(Request::error_log(entries.min(ERRORS))).unwrap_or_default();
        let slots = self.ask(Request::firmware_log()).unwrap_or_default();
        let namespaces = self.controller.namespaces();
        let namespace = namespaces.iter().find(|namespace| namespace.nsid == nsid);
        Ok(DriveHealth {
            firmware: FirmwareSlots::read_from_bytes(&slots).map_or_else(|_| Vec::new(), firmware),
            formats: namespace.map(formats).unwrap_or_default(),
            errors: errors
                .chunks_exact(size_of::<ErrorEntry>())
                .filter_map(|entry| error(&ErrorEntry::read_from_bytes(entry).ok()?))
                .collect(),
            ..of_log(&smart)
        })
    }
}

fn of_log(log: &SmartLog) -> DriveHealth {
    let number = |count: u128| u64::try_from(count).unwrap_or(u64::MAX);
    let bytes = |units: u128| number(units.saturating_mul(512_000));
    DriveHealth {
        summary: in_words(log),
        spare_percent: log.available_spare,
        spare_threshold_percent: log.spare_threshold,
        used_percent: log.percentage_used,
        celsius: celsius(log),
        read_bytes: bytes(log.data_units_read.get()),
        written_bytes: bytes(log.data_units_written.get()),
        power_on_hours: number(log.power_on_hours.get()),
        power_cycles: number(log.power_cycles.get()),
        unsafe_shutdowns: number(log.unsafe_shutdowns.get()),
        media_errors: number(log.media_errors.get()),
        firmware: Vec::new(),
        formats: Vec::new(),
        errors: Vec::new(),
    }
}

fn firmware(log: FirmwareSlots) -> Vec<FirmwareSlot> {
    let slots = log.revisions.iter().zip(1u8..);
    let slots = slots.map(|(revision, slot)| FirmwareSlot {
        slot,
        revision: Shown(ascii(revision).trim()).to_string(),
        active: log.afi & 7 == slot,
    });
    slots.filter(|slot| !slot.revision.is_empty()).collect()
}

fn formats(namespace: &NamespaceIdentity) -> Vec<BlockFormat> {
    let known = namespace.formats.iter().filter(|format| format.block_bytes > 0);
    let shown = |format: &bdev_nvme::Format| BlockFormat {
        block_bytes: format.block_bytes,
        metadata_bytes: format.metadata_bytes,
        rank: format.rank,
        in_use: namespace.format == Some(*format),
    };
    known.map(shown).collect()
}

fn error(entry: &ErrorEntry) -> Option<DriveError> {
    let number = entry.error_count.get();
    let (queue, nsid) = (entry.sqid.get(), entry.nsid.get());
    let status = Status::from_bits(entry.status.get() >> 1);
    (number > 0).then(|| DriveError {
        number,
        queue: (queue != u16::MAX).then_some(queue),
        status: status.to_string(),
        namespace: (nsid != 0 && nsid != Sqe::NSID_ALL).then_some(nsid),
        block: entry.lba.get(),
    })
}

fn celsius(log: &SmartLog) -> i32 {
    i32::from(log.temperature.get()) - 273
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_read() {
        let mut log = SmartLog { available_spare: 98, spare_threshold: 10, ..SmartLog::default() };
        log.temperature = 300.into();
        log.data_units_written = 3.into();
        log.data_units_read = u128::MAX.into();
        log.power_cycles = 9.into();
        let told = of_log(&log);
        assert_eq!((told.spare_percent, told.celsius, told.power_cycles), (98, 27, 9));
        assert_eq!((told.written_bytes, told.read_bytes), (1_536_000, u64::MAX));

        let mut slots = FirmwareSlots { afi: 0x12, ..FirmwareSlots::default() };
        slots.revisions[0] = *b"1.0     ";
        slots.revisions[1] = *b"2.0\0\0\0\0\0";
        let told = firmware(slots);
        let seen: Vec<_> = told.iter().map(|s| (s.slot, s.revision.as_str(), s.active)).collect();
        assert_eq!(seen, [(1, "1.0", false), (2, "2.0", true)]);
    }

    #[test]
    fn unused_entries_of_the_error_log_are_left_out() {
        assert_eq!(error(&ErrorEntry::default()), None);
        let mut entry = ErrorEntry { error_count: 5.into(), ..ErrorEntry::default() };
        (entry.sqid, entry.nsid, entry.lba) = (3.into(), 1.into(), 77.into());
        // Unrecovered Read Error, behind the phase tag.
        entry.status = ((2u16 << 8 | 0x81) << 1).into();
        let told = error(&entry).unwrap();
        assert_eq!(
            (told.number, told.queue, told.namespace, told.block),
            (5, Some(3), Some(1), 77)
        );
        assert!(told.status.contains("Unrecovered Read Error"), "{}", told.status);
        (entry.sqid, entry.nsid) = (u16::MAX.into(), u32::MAX.into());
        let told = error(&entry).unwrap();
        assert_eq!((told.queue, told.namespace), (None, None));
    }
}
