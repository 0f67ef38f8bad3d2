//! Drives: one, with a file system on it.

use super::State;
use webui_model::*;

const ADDRESS: &str = "0000:03:00.0";

pub fn health() -> DriveHealth {
    let slot = |slot, active| FirmwareSlot { slot, revision: format!("1.{slot}"), active };
    let format =
        |block_bytes, in_use| BlockFormat { block_bytes, metadata_bytes: 0, rank: 1, in_use };
    DriveHealth {
        summary: "good, 3% used, 38 C".into(),
        spare_percent: 100,
        spare_threshold_percent: 10,
        used_percent: 3,
        celsius: 38,
        read_bytes: 1 << 40,
        written_bytes: 1 << 41,
        power_on_hours: 5000,
        power_cycles: 12,
        unsafe_shutdowns: 2,
        media_errors: 1,
        firmware: vec![slot(1, false), slot(2, true)],
        formats: vec![format(512, true), format(4096, false)],
        errors: vec![DriveError {
            number: 7,
            queue: Some(3),
            status: "Unrecovered Read Error".into(),
            namespace: Some(1),
            block: 4711,
        }],
    }
}

impl State {
    pub fn drives(&self) -> Vec<Drive> {
        vec![Drive {
            address: ADDRESS.into(),
            model: Some("MODEL".into()),
            serial: Some("S1".into()),
            firmware: Some("1.0".into()),
            driver: Some("nvme".into()),
            numa_node: Some(1),
            health: Some("good, 3% used, 38 C".into()),
            contents: vec!["nvme0n1 holds an XFS file system".into()],
            devices: Vec::new(),
        }]
    }

    pub fn erase(
        &mut self,
        drive: &DriveAddress,
        kind: JobKind,
        force: bool,
    ) -> Result<Job, Refusal> {
        if drive.as_str() != ADDRESS {
            return Err(Refusal::not_found(format!("There is no drive {drive}.")));
        }
        if !force {
            return Err(Refusal::refused(format!("Drive {drive} is not empty.")));
        }
        let id = self.next();
        let job = Job {
            id,
            kind,
            object: Object::new(ObjectKind::Drive, drive.to_string()),
            done_bytes: 0,
            total_bytes: 1 << 30,
            bytes_per_second: 0,
            seconds_left: None,
            started_at_ms: id,
            ended_at_ms: None,
            status: JobStatus::Running,
            reason: "It is about to start.".into(),
        };
        self.jobs.insert(id, job.clone());
        self.tell(EventKind::Created, ObjectKind::Job, id, "is under way");
        Ok(job)
    }
}
