//! What a guest reported, and the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One thing that a job checked.
pub struct Check {
    /// Short name, unique within the job.
    pub name: String,
    /// `None` where it held; else what was seen instead.
    pub failure: Option<String>,
    /// When a guest reported it, since the guest was started; `None` for a check made on this side.
    pub at: Option<Duration>,
}

impl Check {
    /// From `NAME ok|fail DETAIL`; anything else is a failure of that name.
    pub fn parse(text: &str) -> Self {
        let mut words = text.splitn(3, ' ');
        let name = words.next().unwrap_or("").to_owned();
        let verdict = words.next().unwrap_or("");
        let detail = words.next().unwrap_or("").to_owned();
        let failure = (verdict != "ok").then_some(detail);
        Self { name, failure, at: None }
    }

    /// A check that failed.
    pub fn failed(name: &str, why: &str) -> Self {
        Self { name: name.to_owned(), failure: Some(why.to_owned()), at: None }
    }

    /// The seconds of `at`, for a column of six characters.
    fn seconds(&self) -> String {
        self.at.map_or_else(String::new, |at| format!("{:.1}", at.as_secs_f64()))
    }
}

/// All that came out of one guest.
#[derive(Default)]
pub struct Outcome {
    /// In the order of the job.
    pub checks: Vec<Check>,
    /// Files that the job sent, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Whether the job came to its end.
    pub ended: bool,
    /// The last lines of the guest's console.
    pub serial_tail: String,
}

impl Outcome {
    /// Adds the verdict of a check made on this side.
    pub fn add(&mut self, name: &str, result: Result<(), String>) {
        self.checks.push(Check { name: name.to_owned(), failure: result.err(), at: None });
    }

    /// A file that the job sent, as text.
    ///
    /// # Errors
    /// When the job did not send it.
    pub fn text(&self, name: &str) -> Result<String, String> {
        let bytes = self.files.get(name).ok_or_else(|| format!("the job sent no {name}"))?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Everything wrong with an outcome, given the names of the checks that must have run.
pub fn faults(outcome: &Outcome, expected: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for check in &outcome.checks {
        if let Some(why) = &check.failure {
            faults.push(format!("{}: {why}", check.name));
        }
        if !seen.insert(check.name.as_str()) {
            faults.push(format!("{}: reported twice", check.name));
        }
    }
    let expected: BTreeSet<&str> = expected.iter().copied().collect();
    faults.extend(expected.difference(&seen).map(|name| format!("{name}: did not run")));
    faults.extend(seen.difference(&expected).map(|name| format!("{name}: not in the test's list")));
    if !outcome.ended {
        faults.push("the guest did not come to the end of its job".into());
    }
    faults
}

/// Prints every check with the second of its report, and fails the test if any failed, is missing,
/// or is unknown.
///
/// # Panics
/// When anything is wrong, with the end of the guest's console.
pub fn judge(outcome: &Outcome, expected: &[&str]) {
    for check in &outcome.checks {
        match &check.failure {
            None => println!("{:>6}  ok    {}", check.seconds(), check.name),
            Some(why) => println!("{:>6}  FAIL  {}: {why}", check.seconds(), check.name),
        }
    }
    let faults = faults(outcome, expected);
    if !faults.is_empty() {
        println!("--- end of the guest's console\n{}", outcome.serial_tail);
        panic!("{} of {} checks:\n{}", faults.len(), expected.len(), faults.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(checks: &[&str], ended: bool) -> Outcome {
        let checks = checks.iter().map(|text| Check::parse(text)).collect();
        Outcome { checks, ended, ..Outcome::default() }
    }

    #[test]
    fn only_a_complete_and_clean_outcome_passes() {
        let names = ["connect", "list"];
        assert!(faults(&outcome(&["connect ok", "list ok 3 devices"], true), &names).is_empty());
        let bad = [
            outcome(&["connect ok", "list fail no devices"], true),
            outcome(&["connect ok"], true),
            outcome(&["connect ok", "list ok", "more ok"], true),
            outcome(&["connect ok", "list ok", "list ok"], true),
            outcome(&["connect ok", "list ok"], false),
            outcome(&["connect ok", "list"], true),
        ];
        for outcome in &bad {
            assert_eq!(faults(outcome, &names).len(), 1);
        }
    }
}
