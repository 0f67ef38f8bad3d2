//! The health log of a drive, for people.

use nvme_spec::log::{SmartLog, critical_warning};

/// A health log in a few words (Base Specification, "SMART / Health Information").
pub(crate) fn in_words(log: &SmartLog) -> String {
    let warnings = [
        (critical_warning::SPARE, "spare is low"),
        (critical_warning::TEMPERATURE, "too hot or too cold"),
        (critical_warning::DEGRADED, "degraded"),
        (critical_warning::READ_ONLY, "read only"),
        (critical_warning::BACKUP_FAILED, "backup of its memory failed"),
    ];
    let said = warnings.iter().filter(|(bit, _)| log.critical_warning & bit != 0);
    let said: Vec<&str> = said.map(|(_, what)| *what).collect();
    let state = if said.is_empty() { "good".to_owned() } else { said.join(", ") };
    let celsius = i32::from(log.temperature.get()) - 273;
    format!("{state}, {}% used, {celsius} C", log.percentage_used)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_said_in_words() {
        let mut log = SmartLog { percentage_used: 3, ..SmartLog::default() };
        log.temperature = 311.into();
        assert_eq!(in_words(&log), "good, 3% used, 38 C");
        log.critical_warning = critical_warning::SPARE | critical_warning::READ_ONLY;
        assert_eq!(in_words(&log), "spare is low, read only, 3% used, 38 C");
    }
}
