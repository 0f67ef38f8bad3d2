//! The conditions that figures hold for.

use serde::Serialize;

/// The machine and its settings.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// Processor, and how many the machine has.
    pub cpu: String,
    /// Congestion control of the measured sockets.
    pub congestion: String,
    /// The kernel's own default.
    pub congestion_default: String,
    /// What the 512 MiB lie on.
    pub pages: String,
    /// Load average of the last minute when the run began: others on the machine.
    pub load_average: String,
    /// Scheduling class of the measured processes.
    pub scheduling: String,
    /// Seconds since the epoch when the run began.
    pub began_unix_s: u64,
}

impl Machine {
    /// Reads what the kernel tells; `unknown` where it does not.
    #[must_use]
    pub fn read(congestion: &str, realtime: bool) -> Self {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown", |(_, name)| name);
        let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            kernel: line_of("/proc/sys/kernel/osrelease"),
            cpu: format!("{cpus} x {model}"),
            congestion: congestion.to_owned(),
            congestion_default: line_of("/proc/sys/net/ipv4/tcp_congestion_control"),
            pages: "unknown".into(),
            load_average: line_of("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            scheduling: if realtime { "SCHED_RR" } else { "SCHED_OTHER" }.into(),
            began_unix_s: now.map_or(0, |since| since.as_secs()),
        }
    }
}

fn line_of(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "kernel {}, {}", self.kernel, self.cpu)?;
        writeln!(
            f,
            "congestion control {} (the kernel's default is {}), {}, load average {} at the start",
            self.congestion, self.congestion_default, self.scheduling, self.load_average
        )?;
        write!(f, "512 MiB on {}", self.pages)
    }
}
