//! What an operator does on the command line, for the tests of pools.

use conformance::appliance::Appliance;
use serde_json::Value;
use std::fs::File;

/// A device for a pool: an empty file of `mib` MiB in the appliance's folder. Fails the test where
/// it cannot be made.
pub fn device(appliance: &Appliance, name: &str, mib: u64) -> String {
    let path = appliance.folder().join(name);
    File::create(&path).and_then(|file| file.set_len(mib << 20)).expect("a sparse file");
    path.display().to_string()
}

/// What a command prints for programs.
pub fn json(appliance: &Appliance, words: &[&str]) -> Result<Value, String> {
    let text = appliance.operate(&[words, &["--json"]].concat())?;
    serde_json::from_str(&text).map_err(|error| format!("no JSON: {error}: {text}"))
}

/// The subsystem of `POOL/VOLUME` or `POOL/VOLUME@SNAPSHOT`.
pub fn nqn(appliance: &Appliance, what: &str) -> Result<String, String> {
    let kind = if what.contains('@') { "snapshot" } else { "volume" };
    let shown = json(appliance, &[kind, "show", what])?;
    let nqn = shown["export"]["subsystem"].as_str();
    nqn.map(str::to_owned).ok_or_else(|| format!("{what} is not exported: {shown}"))
}

/// What has been read of a volume at one moment, by the appliance's own count.
pub struct Reads {
    uptime_ms: u64,
    /// Commands.
    pub commands: u64,
    /// Those that a limit held back.
    pub held_back: u64,
    bytes: u64,
}

impl Reads {
    /// The count now.
    pub fn now(appliance: &Appliance, volume: &str) -> Result<Self, String> {
        let all = json(appliance, &["top", "--count", "1"])?;
        let volumes = all["volumes"].as_array().ok_or("no volumes are counted")?;
        let io = volumes.iter().find(|one| one["volume"] == volume).map(|one| &one["io"]);
        let io = io.ok_or_else(|| format!("nothing is counted of {volume}"))?;
        let number = |value: &Value| value.as_u64().ok_or_else(|| format!("no number: {value}"));
        Ok(Self {
            uptime_ms: number(&all["uptime_ms"])?,
            commands: number(&io["reads"])?,
            held_back: number(&io["throttled"])?,
            bytes: number(&io["read_bytes"])?,
        })
    }

    /// Commands and bytes a second from here to `later`.
    pub fn rates(&self, later: &Self) -> (f64, f64) {
        let seconds = later.uptime_ms.saturating_sub(self.uptime_ms) as f64 / 1000.0;
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / seconds;
        (rate(self.commands, later.commands), rate(self.bytes, later.bytes))
    }
}
