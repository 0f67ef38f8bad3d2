//! The block devices of the process, by name.

use crate::config::{BdevConfig, BdevKind, ErrorRule};
use bdev::{Bdev, Op};
use bdev_mem::{Delay, DelaysNs, ErrorInjector, Meter, Null, OpSet, Ram, Rule, Times};
use bdev_uring::{Fault, UringBdev};
use drives::{Access, Consent, Drive, DriveBdev, DrivePlace, Drives, Wanted};
use nvme_spec::Status;
use nvmf_host::{Host, RemoteBdev};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One block device and who uses it.
struct Entry {
    bdev: Arc<dyn Bdev>,
    /// The same, counted: for whoever does not count by itself what it does.
    meter: Arc<Meter>,
    special: Special,
    config: BdevConfig,
    user: Option<String>,
}

/// What is behind a bdev, where more than its contract is asked of it.
#[derive(Default)]
enum Special {
    #[default]
    Nothing,
    File(Arc<UringBdev>),
    Drive(Arc<DriveBdev>),
}

/// On what terms the drive of an NVMe bdev is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Terms {
    /// Those of its configuration.
    Configured,
    /// It was ours before: the drive has this serial number.
    Known(String),
}

/// Every block device, by name.
pub struct Bdevs {
    drives: Drives,
    by_name: BTreeMap<String, Entry>,
    reactors: usize,
}

impl Bdevs {
    /// None yet; they will be opened on as many reactors.
    pub fn new(reactors: usize) -> Bdevs {
        Bdevs { drives: Drives::default(), by_name: BTreeMap::new(), reactors }
    }

    /// Opens what `config` describes.
    ///
    /// # Errors
    /// A sentence: the name is taken, the layer's base is missing or in use, or what the device
    /// itself says.
    pub fn add(&mut self, config: &BdevConfig) -> Result<(), String> {
        self.add_on(config, &Terms::Configured)
    }

    /// As [`Bdevs::add`], with a drive taken on `terms`.
    ///
    /// # Errors
    /// A sentence, likewise.
    pub(crate) fn add_on(&mut self, config: &BdevConfig, terms: &Terms) -> Result<(), String> {
        let name = &config.name;
        if self.by_name.contains_key(name) {
            return Err(format!("There is a bdev called \"{name}\" already."));
        }
        let mut special = Special::Nothing;
        let bdev = self
            .make(config, terms, &mut special)
            .map_err(|why| format!("bdev \"{name}\": {why}"))?;
        if let BdevKind::Delay { base, .. } | BdevKind::Error { base, .. } = &config.kind {
            self.claim(base, &format!("bdev \"{name}\""))?;
        }
        let meter = Arc::new(Meter::new(bdev.clone(), self.reactors));
        let entry = Entry { bdev, meter, special, config: config.clone(), user: None };
        self.by_name.insert(name.clone(), entry);
        Ok(())
    }

    fn make(
        &mut self,
        config: &BdevConfig,
        terms: &Terms,
        special: &mut Special,
    ) -> Result<Arc<dyn Bdev>, String> {
        let sentence = |error: bdev::OpenError| error.0;
        Ok(match &config.kind {
            BdevKind::Ram { size, block } => {
                let ram = Ram::new(size.0, *block).map_err(sentence)?;
                tracing::info!(bdev = config.name, pages = %ram.backing(), "ram");
                Arc::new(ram)
            }
            BdevKind::Null { size, block } => {
                Arc::new(Null::new(size.0, *block).map_err(sentence)?)
            }
            BdevKind::File { path, size, block } => {
                let opened = Arc::new(open_file(path, size.map(|s| s.0), *block)?);
                if let Some(why) = opened.buffered() {
                    tracing::warn!(bdev = config.name, why, "I/O goes through the page cache");
                }
                *special = Special::File(opened.clone());
                opened
            }
            BdevKind::Nvme { drive, force, unsafe_no_iommu } => {
                let opened = self.drives.open(&wanted(*drive, *force, *unsafe_no_iommu, terms))?;
                let opened = Arc::new(opened);
                *special = Special::Drive(opened.clone());
                opened
            }
            BdevKind::Remote { .. } => remote(&config.kind)?,
            BdevKind::Delay { base, read_us, write_us } => {
                let other = write_us.saturating_mul(1000);
                let read = read_us.saturating_mul(1000);
                Arc::new(Delay::new(self.get(base)?, DelaysNs { read, ..DelaysNs::all(other) }))
            }
            BdevKind::Error { base, rules } => {
                let layer = ErrorInjector::new(self.get(base)?);
                for rule in rules {
                    layer.add(parse_rule(rule)?).map_err(sentence)?;
                }
                Arc::new(layer)
            }
        })
    }

    /// The block device `name`.
    ///
    /// # Errors
    /// A sentence, when there is none.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Bdev>, String> {
        let entry = self.by_name.get(name);
        entry.map(|e| e.bdev.clone()).ok_or_else(|| format!("There is no bdev called \"{name}\"."))
    }

    /// Gives the block device to one user.
    ///
    /// # Errors
    /// A sentence, when there is none or it has a user.
    pub fn claim(&mut self, name: &str, user: &str) -> Result<Arc<dyn Bdev>, String> {
        let entry = self
            .by_name
            .get_mut(name)
            .ok_or_else(|| format!("There is no bdev called \"{name}\"."))?;
        if let Some(other) = &entry.user {
            return Err(format!("bdev \"{name}\" is in use by {other}."));
        }
        entry.user = Some(user.into());
        Ok(entry.bdev.clone())
    }

    /// Takes the block device back from its user.
    pub fn release(&mut self, name: &str) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.user = None;
        }
    }

    /// The block device `name` behind a layer that counts what is done through it.
    pub fn meter(&self, name: &str) -> Option<&Arc<Meter>> {
        self.by_name.get(name).map(|entry| &entry.meter)
    }

    /// The name of a block device.
    pub fn name_of(&self, bdev: &Arc<dyn Bdev>) -> Option<&str> {
        let found = self.by_name.iter().find(|(_, entry)| Arc::ptr_eq(&entry.bdev, bdev));
        found.map(|(name, _)| name.as_str())
    }

    /// Closes a block device that nobody uses.
    ///
    /// # Errors
    /// A sentence, when there is none or it has a user.
    pub fn remove(&mut self, name: &str) -> Result<(), String> {
        self.claim(name, "its removal")?;
        let entry = self.by_name.remove(name).expect("just claimed");
        if let BdevKind::Delay { base, .. } | BdevKind::Error { base, .. } = &entry.config.kind {
            self.release(base);
        }
        Ok(())
    }

    /// Looks at the size of a file or device again.
    ///
    /// # Errors
    /// A sentence, when there is none or its size cannot change or be told.
    pub fn rescan(&self, name: &str) -> Result<u64, String> {
        self.get(name)?;
        match self.by_name.get(name).map(|entry| &entry.special) {
            Some(Special::File(file)) => file.rescan().map_err(|error| error.0),
            // The driver looks by itself when the drive says that a namespace has changed.
            Some(Special::Drive(drive)) => Ok(drive.geometry().bytes()),
            _ => Err(format!("The size of bdev \"{name}\" cannot change.")),
        }
    }

    /// The NVMe drive that a block device is a namespace of, if it is one.
    pub(crate) fn drive(&self, name: &str) -> Option<&Arc<Drive>> {
        match &self.by_name.get(name)?.special {
            Special::Drive(bdev) => Some(bdev.drive()),
            _ => None,
        }
    }

    /// Devices whose NVMe drive does nothing any more, and why.
    pub(crate) fn failed_drives(&self) -> impl Iterator<Item = (&str, String)> {
        self.by_name.iter().filter_map(|(name, entry)| match &entry.special {
            Special::Drive(bdev) => Some((name.as_str(), bdev.drive().failure()?)),
            _ => None,
        })
    }

    fn file(&self, name: &str) -> Option<&Arc<UringBdev>> {
        match &self.by_name.get(name)?.special {
            Special::File(file) => Some(file),
            _ => None,
        }
    }

    /// What is wrong with a file or device of the kernel, if anything.
    pub(crate) fn fault(&self, name: &str) -> Option<Fault> {
        self.file(name)?.fault()
    }

    /// Whether the kernel lost writes to a file or device; from now on that is past.
    pub(crate) fn forget_lost(&self, name: &str) -> bool {
        self.file(name).is_some_and(|file| file.forget_lost())
    }

    /// Bytes that are left in the file system that a file is on.
    pub(crate) fn left_bytes(&self, name: &str) -> Option<u64> {
        self.file(name)?.left_bytes()
    }

    /// Looks after the NVMe drives, which nobody else does while they are idle.
    pub(crate) fn look_after_drives(&self) {
        self.drives.look_after();
    }

    /// The NVMe drives of the machine.
    pub(crate) fn drives(&mut self) -> &mut Drives {
        &mut self.drives
    }

    /// Who uses a block device.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.by_name.get(name)?.user.as_deref()
    }

    /// What a block device was opened as.
    pub fn config(&self, name: &str) -> Option<&BdevConfig> {
        Some(&self.by_name.get(name)?.config)
    }

    /// Whether nothing can be learned by looking at its size again.
    pub fn has_fixed_size(&self, name: &str) -> bool {
        self.by_name.get(name).is_none_or(|entry| matches!(entry.special, Special::Nothing))
    }

    /// Files and devices of the kernel: name and path.
    pub fn paths(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.by_name.iter().filter_map(|(name, entry)| match &entry.config.kind {
            BdevKind::File { path, .. } => Some((name.as_str(), path.as_path())),
            _ => None,
        })
    }

    /// Namespaces of NVMe drives: name and place.
    pub(crate) fn places(&self) -> impl Iterator<Item = (&str, DrivePlace)> {
        self.by_name.iter().filter_map(|(name, entry)| match &entry.config.kind {
            BdevKind::Nvme { drive, .. } => Some((name.as_str(), *drive)),
            _ => None,
        })
    }

    /// Each with its name and its user.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<dyn Bdev>, Option<&str>)> {
        self.by_name.iter().map(|(name, e)| (name.as_str(), &e.bdev, e.user.as_deref()))
    }
}

/// What a drive is taken as.
fn wanted(place: DrivePlace, force: bool, unsafe_no_iommu: bool, terms: &Terms) -> Wanted {
    let access = if unsafe_no_iommu { Access::UnsafeNoIommu } else { Access::Vfio };
    let (consent, serial) = match terms {
        Terms::Configured if force => (Consent::Anything, None),
        Terms::Configured => (Consent::Empty, None),
        Terms::Known(serial) => (Consent::Known, Some(serial.clone())),
    };
    Wanted { place, access, consent, serial }
}

/// Opens a file or device; makes the file first when it is missing and a size is given.
fn open_file(path: &Path, bytes: Option<u64>, block_bytes: u32) -> Result<UringBdev, String> {
    let options = bdev_uring::Options { block_bytes, ..Default::default() };
    let result = match (path.exists(), bytes) {
        (false, Some(bytes)) => UringBdev::create(path, bytes, block_bytes),
        (false, None) => {
            return Err(format!(
                "{} does not exist: give a size to have it made, or the path of a file or block \
                 device.",
                path.display()
            ));
        }
        (true, _) => UringBdev::open(path, options),
    };
    let opened = result.map_err(|error| error.0)?;
    match bytes {
        Some(bytes) if path.is_file() && opened.geometry().bytes() != bytes => Err(format!(
            "{} is {} bytes long, not {bytes} as the configuration says: leave the size out, or \
             give the file's.",
            path.display(),
            opened.geometry().bytes()
        )),
        _ => Ok(opened),
    }
}

fn remote(kind: &BdevKind) -> Result<Arc<dyn Bdev>, String> {
    let BdevKind::Remote { address, transport, subsystem, nsid, host, header_digest, data_digest } =
        kind
    else {
        unreachable!("called for a remote bdev");
    };
    let nqn = |text: &str| nvmf_wire::Nqn::new(text).map_err(|error| error.to_string());
    let mut as_host = Host::local();
    if let Some(name) = host {
        as_host.nqn = nqn(name)?;
    }
    let mut options = nvmf_host::Options::new(*address, nqn(subsystem)?, as_host);
    options.transport =
        nvmf_host::Transport::over(*transport).map_err(|error| error.to_string())?;
    options.header_digest = *header_digest;
    options.data_digest = *data_digest;
    options.queues = bdev::limits::REACTORS as u16;
    let bdev = RemoteBdev::connect(options, *nsid).map_err(|error| error.to_string())?;
    Ok(Arc::new(bdev))
}

fn parse_rule(rule: &ErrorRule) -> Result<Rule, String> {
    let mut ops = OpSet::NONE;
    for name in &rule.ops {
        ops = ops.and(match name.as_str() {
            "read" => Op::Read,
            "write" => Op::Write,
            "write-zeroes" => Op::WriteZeroes,
            "deallocate" => Op::Deallocate,
            "flush" => Op::Flush,
            _ => {
                return Err(format!(
                    "\"{name}\" is no operation: use read, write, write-zeroes, deallocate or \
                     flush."
                ));
            }
        });
    }
    let [sct, sc] = rule.status;
    let status = Status::new(sct, sc);
    if sct > 7 || status.is_success() {
        return Err(format!("[{sct}, {sc}] is no error: give a status code type and a code."));
    }
    let lbas = rule.lba..rule.lba.saturating_add(rule.blocks);
    let times = rule.count.map_or(Times::Always, Times::First);
    Ok(Rule { ops, lbas, status, times })
}
