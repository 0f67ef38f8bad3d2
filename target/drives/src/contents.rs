//! What is on a drive, and who uses it.

use crate::host::{Host, PciDrive, text};
use crate::signature::signature;
use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use vfio::sysfs::names;

/// Something on a drive that speaks against taking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A block device of it is mounted.
    Mounted {
        /// The block device.
        block: String,
        /// Where.
        at: String,
    },
    /// A block device of it is swapped to.
    Swap {
        /// The block device.
        block: String,
    },
    /// A block device of it is part of another: LVM, md, dm-crypt, multipath, bcache.
    Held {
        /// The block device.
        block: String,
        /// What it is a part of.
        by: String,
    },
    /// It has partitions.
    Partitioned {
        /// The block device.
        block: String,
        /// How many.
        partitions: usize,
    },
    /// Another system's mark is on it.
    Marked {
        /// The block device.
        block: String,
        /// Whose.
        whose: &'static str,
    },
    /// It could not be read, so it is not known what is on it.
    Unreadable {
        /// The block device.
        block: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Mounted { block, at } => write!(f, "{block} is mounted at {at}"),
            Finding::Swap { block } => write!(f, "{block} is swapped to"),
            Finding::Held { block, by } => write!(f, "{block} is part of {by}"),
            Finding::Partitioned { block, partitions: 1 } => write!(f, "{block} has a partition"),
            Finding::Partitioned { block, partitions } => {
                write!(f, "{block} has {partitions} partitions")
            }
            Finding::Marked { block, whose } => write!(f, "{block} holds {whose}"),
            Finding::Unreadable { block, why } => write!(f, "{block} cannot be read: {why}"),
        }
    }
}

impl Finding {
    /// Whether it is a mark of our own. What it stands for is looked at by whoever uses the drive.
    pub fn is_ours(&self) -> bool {
        matches!(self, Finding::Marked { whose, .. } if *whose == crate::signature::OURS)
    }

    /// Whether it is used at this moment, so that taking it breaks something that runs.
    pub fn is_in_use(&self) -> bool {
        matches!(self, Finding::Mounted { .. } | Finding::Swap { .. } | Finding::Held { .. })
    }
}

impl Host {
    /// What is on a drive, as far as it can be told: the kernel's driver has to have it.
    pub fn contents(&self, drive: &PciDrive) -> Vec<Finding> {
        let Some(controller) = &drive.controller else { return Vec::new() };
        let mounts =
            std::fs::read_to_string(self.sysfs().path("proc/self/mountinfo")).unwrap_or_default();
        let swaps = std::fs::read_to_string(self.sysfs().path("proc/swaps")).unwrap_or_default();
        let mut findings = Vec::new();
        for block in self.blocks(controller) {
            let folder = self.sysfs().path(&format!("sys/block/{block}"));
            let is_partition = |name: &String| folder.join(name).join("partition").exists();
            let parts: Vec<String> =
                names(&folder).unwrap_or_default().into_iter().filter(is_partition).collect();
            self.look_at(&block, &folder, &mounts, &swaps, &mut findings);
            for part in &parts {
                self.look_at(part, &folder.join(part), &mounts, &swaps, &mut findings);
            }
            if !parts.is_empty() {
                findings.push(Finding::Partitioned { block, partitions: parts.len() });
            }
        }
        findings
    }

    fn look_at(
        &self,
        block: &str,
        folder: &Path,
        mounts: &str,
        swaps: &str,
        findings: &mut Vec<Finding>,
    ) {
        let name = || block.to_owned();
        let number = text(&folder.join("dev")).unwrap_or_default();
        for at in mounts.lines().filter_map(|line| mounted(line, &number)) {
            findings.push(Finding::Mounted { block: name(), at });
        }
        let path = format!("/dev/{block}");
        if swaps.lines().any(|line| line.split_whitespace().next() == Some(&path)) {
            findings.push(Finding::Swap { block: name() });
        }
        for by in names(&folder.join("holders")).unwrap_or_default() {
            let dm = text(&self.sysfs().path(&format!("sys/block/{by}/dm/name")));
            let by = dm.map_or(by.clone(), |dm| format!("{by} ({dm})"));
            findings.push(Finding::Held { block: name(), by });
        }
        let sectors = text(&folder.join("size")).and_then(|size| size.parse::<u64>().ok());
        let bytes = sectors.unwrap_or(0) * 512;
        match File::open(self.sysfs().path(&path)) {
            Err(error) => {
                findings.push(Finding::Unreadable { block: name(), why: error.to_string() });
            }
            Ok(file) => {
                let whose = signature(bytes, &mut |at, into| file.read_exact_at(into, at).is_ok());
                findings.extend(whose.map(|whose| Finding::Marked { block: name(), whose }));
            }
        }
    }
}

/// Where a line of mountinfo says that device `number` (major:minor) is mounted.
fn mounted(line: &str, number: &str) -> Option<String> {
    let mut fields = line.split(' ');
    let is_it = fields.nth(2)? == number && !number.is_empty();
    let at = fields.nth(1)?;
    is_it.then(|| at.replace("\\040", " "))
}

#[cfg(test)]
mod tests {
    use super::mounted;

    #[test]
    fn mounts_are_found_by_number() {
        let line = "36 35 259:2 / /srv/my\\040data rw,noatime shared:1 - ext4 /dev/nvme0n1p1 rw";
        assert_eq!(mounted(line, "259:2").as_deref(), Some("/srv/my data"));
        assert_eq!(mounted(line, "259:1"), None);
        assert_eq!(mounted("36 35", ""), None);
    }
}
