//! The block devices of the process, by name.

use crate::published::Published;
use crate::unit::pulse::Sample;
use bdev::{Bdev, Op};
use bdev_mem::{Delay, DelaysNs, ErrorInjector, Meter, Null, OpSet, Ram, Rule, Times};
use bdev_uring::{Fault, UringBdev};
use drives::{Access, Consent, Drive, DriveBdev, DrivePlace, Drives};
use nvme_spec::Status;
use nvmf_host::{Host, RemoteBdev};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use wanted::{Device, DeviceSpec, ErrorRule, RemoteNamespace};

/// One block device.
pub(crate) struct Entry {
    pub bdev: Arc<dyn Bdev>,
    /// The same, counted: for whoever does not count by itself what it does.
    pub meter: Arc<Meter>,
    special: Special,
    pub device: Device,
}

/// One block device and who uses it.
#[derive(Clone)]
pub(crate) struct Slot {
    pub entry: Arc<Entry>,
    pub user: Option<String>,
}

/// Block devices by name.
pub(crate) type Table = BTreeMap<String, Slot>;

/// What is behind a bdev, where more than its contract is asked of it.
#[derive(Default)]
enum Special {
    #[default]
    Nothing,
    File(Arc<UringBdev>),
    Drive(Arc<DriveBdev>),
}

/// Every block device, by name. Opening and closing one may wait for it, without a lock.
pub struct Bdevs {
    drives: Drives,
    table: Published<Table>,
    reactors: usize,
}

impl Entry {
    /// The NVMe drive that it is a namespace of, if it is one.
    pub(crate) fn drive(&self) -> Option<&Arc<Drive>> {
        match &self.special {
            Special::Drive(bdev) => Some(bdev.drive()),
            _ => None,
        }
    }

    fn file(&self) -> Option<&Arc<UringBdev>> {
        match &self.special {
            Special::File(file) => Some(file),
            _ => None,
        }
    }

    /// What is wrong with a file or device of the kernel, if anything.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.file()?.fault()
    }

    /// What was counted at it, by whoever does not count by itself.
    pub(crate) fn sample(&self) -> Sample {
        let mut sample = Sample::default();
        for meters in self.meter.reactors() {
            sample.under_way += meters.under_way.get();
            let ended = [&meters.reads, &meters.writes, &meters.others, &meters.errors];
            sample.ended += ended.iter().map(|counter| counter.get()).sum::<u64>();
        }
        sample
    }
}

impl Bdevs {
    /// None yet; they will be opened on as many reactors.
    pub fn new(reactors: usize) -> Bdevs {
        Bdevs { drives: Drives::default(), table: Published::default(), reactors }
    }

    /// Opens a device.
    ///
    /// # Errors
    /// A sentence: the name is taken, the layer's base is missing or in use, or what the device
    /// itself says.
    pub fn add(&self, device: &Device) -> Result<(), String> {
        let name = &device.name;
        let exists = || format!("There is a bdev called \"{name}\" already.");
        if self.table.get().contains_key(name) {
            return Err(exists());
        }
        let mut special = Special::Nothing;
        let bdev =
            self.make(device, &mut special).map_err(|why| format!("bdev \"{name}\": {why}"))?;
        let base = device.spec.base();
        if let Some(base) = base {
            self.claim(base, &format!("bdev \"{name}\""))?;
        }
        let meter = Arc::new(Meter::new(bdev.clone(), self.reactors));
        let entry = Arc::new(Entry { bdev, meter, special, device: device.clone() });
        let added = self.table.change(|table| {
            let is_new = !table.contains_key(name);
            if is_new {
                table.insert(name.clone(), Slot { entry, user: None });
            }
            is_new
        });
        if !added {
            base.iter().for_each(|base| self.release(base));
            return Err(exists());
        }
        Ok(())
    }

    fn make(&self, device: &Device, special: &mut Special) -> Result<Arc<dyn Bdev>, String> {
        let sentence = |error: bdev::OpenError| error.0;
        Ok(match &device.spec {
            DeviceSpec::Memory { bytes, block_bytes } => {
                let ram = Ram::new(*bytes, *block_bytes).map_err(sentence)?;
                tracing::info!(bdev = device.name, pages = %ram.backing(), "ram");
                Arc::new(ram)
            }
            DeviceSpec::Null { bytes, block_bytes } => {
                Arc::new(Null::new(*bytes, *block_bytes).map_err(sentence)?)
            }
            DeviceSpec::File { path, make_bytes, block_bytes } => {
                let block_bytes = block_bytes.unwrap_or_else(|| block_of(path));
                let opened = Arc::new(open_file(path, *make_bytes, block_bytes)?);
                if let Some(why) = opened.buffered() {
                    tracing::warn!(bdev = device.name, why, "I/O goes through the page cache");
                }
                *special = Special::File(opened.clone());
                opened
            }
            DeviceSpec::Drive(drive) => {
                let opened = Arc::new(self.drives.open(&taken_as(drive)?)?);
                *special = Special::Drive(opened.clone());
                opened
            }
            DeviceSpec::Remote(namespace) => remote(namespace)?,
            DeviceSpec::Delay { base, read_us, write_us } => {
                let other = write_us.saturating_mul(1000);
                let read = read_us.saturating_mul(1000);
                Arc::new(Delay::new(self.get(base)?, DelaysNs { read, ..DelaysNs::all(other) }))
            }
            DeviceSpec::Error { base, rules } => {
                let layer = ErrorInjector::new(self.get(base)?);
                for rule in rules {
                    layer.add(parse_rule(rule)?).map_err(sentence)?;
                }
                Arc::new(layer)
            }
        })
    }

    /// All of them, at this moment.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.get()
    }

    fn entry(&self, name: &str) -> Option<Arc<Entry>> {
        self.table.get().get(name).map(|slot| slot.entry.clone())
    }

    /// The block device `name`.
    ///
    /// # Errors
    /// A sentence, when there is none.
    pub fn get(&self, name: &str) -> Result<Arc<dyn Bdev>, String> {
        let entry = self.entry(name);
        entry.map(|e| e.bdev.clone()).ok_or_else(|| format!("There is no bdev called \"{name}\"."))
    }

    /// Gives the block device to one user.
    ///
    /// # Errors
    /// A sentence, when there is none or it has a user.
    pub fn claim(&self, name: &str, user: &str) -> Result<Arc<dyn Bdev>, String> {
        self.table.change(|table| {
            let slot = table
                .get_mut(name)
                .ok_or_else(|| format!("There is no bdev called \"{name}\"."))?;
            if let Some(other) = &slot.user {
                return Err(format!("bdev \"{name}\" is in use by {other}."));
            }
            slot.user = Some(user.into());
            Ok(slot.entry.bdev.clone())
        })
    }

    /// Takes the block device back from its user.
    pub fn release(&self, name: &str) {
        self.used_by(name, None);
    }

    /// Says who uses a block device that has a user.
    pub(crate) fn used_by(&self, name: &str, user: Option<String>) {
        self.table.change(|table| {
            if let Some(slot) = table.get_mut(name) {
                slot.user = user;
            }
        });
    }

    /// The block device `name` behind a layer that counts what is done through it.
    pub fn meter(&self, name: &str) -> Option<Arc<Meter>> {
        self.entry(name).map(|entry| entry.meter.clone())
    }

    /// The name of a block device.
    pub fn name_of(&self, bdev: &Arc<dyn Bdev>) -> Option<String> {
        let table = self.table.get();
        let found = table.iter().find(|(_, slot)| Arc::ptr_eq(&slot.entry.bdev, bdev));
        found.map(|(name, _)| name.clone())
    }

    /// Closes a block device that nobody uses.
    ///
    /// # Errors
    /// A sentence, when there is none or it has a user.
    pub fn remove(&self, name: &str) -> Result<(), String> {
        self.claim(name, "its removal")?;
        let removed = self.table.change(|table| table.remove(name));
        if let Some(base) = removed.as_ref().and_then(|slot| slot.entry.device.spec.base()) {
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
        match self.entry(name).as_ref().map(|entry| &entry.special) {
            Some(Special::File(file)) => file.rescan().map_err(|error| error.0),
            // The driver looks by itself when the drive says that a namespace has changed.
            Some(Special::Drive(drive)) => Ok(drive.geometry().bytes()),
            _ => Err(format!("The size of bdev \"{name}\" cannot change.")),
        }
    }

    /// The NVMe drive that a block device is a namespace of, if it is one.
    pub(crate) fn drive(&self, name: &str) -> Option<Arc<Drive>> {
        self.entry(name)?.drive().cloned()
    }

    /// What is wrong with a file or device of the kernel, if anything.
    pub(crate) fn fault(&self, name: &str) -> Option<Fault> {
        self.entry(name)?.fault()
    }

    /// Whether the kernel lost writes to a file or device; from now on that is past.
    pub(crate) fn forget_lost(&self, name: &str) -> bool {
        self.entry(name).is_some_and(|entry| entry.file().is_some_and(|file| file.forget_lost()))
    }

    /// Bytes that are left in the file system that a file is on.
    pub(crate) fn left_bytes(&self, name: &str) -> Option<u64> {
        self.entry(name)?.file()?.left_bytes()
    }

    /// The NVMe drives of the machine.
    pub(crate) fn drives(&self) -> &Drives {
        &self.drives
    }

    /// Who uses a block device.
    pub fn user(&self, name: &str) -> Option<String> {
        self.table.get().get(name)?.user.clone()
    }

    /// Whether nothing can be learned by looking at its size again.
    pub fn has_fixed_size(&self, name: &str) -> bool {
        self.entry(name).is_none_or(|entry| matches!(entry.special, Special::Nothing))
    }

    /// Namespaces of NVMe drives: name and place.
    pub(crate) fn places(&self) -> Vec<(String, DrivePlace)> {
        let table = self.table.get();
        let place =
            |(name, slot): (&String, &Slot)| Some((name.clone(), place_of(&slot.entry.device)?));
        table.iter().filter_map(place).collect()
    }
}

/// The drive that a device is on, if it is on one.
pub(crate) fn place_of(device: &Device) -> Option<DrivePlace> {
    match &device.spec {
        DeviceSpec::Drive(drive) => drive.place.parse().ok(),
        _ => None,
    }
}

/// What a drive is taken as: one that was ours before has a serial number.
fn taken_as(drive: &wanted::Drive) -> Result<drives::Wanted, String> {
    let place = drive.place.parse()?;
    let access = if drive.unsafe_no_iommu { Access::UnsafeNoIommu } else { Access::Vfio };
    let consent = match (&drive.serial, drive.force) {
        (Some(_), _) => Consent::Known,
        (None, true) => Consent::Anything,
        (None, false) => Consent::Empty,
    };
    Ok(drives::Wanted { place, access, consent, serial: drive.serial.clone() })
}

/// Blocks of 4096 bytes, unless a device of the kernel has a size that is no multiple of them.
fn block_of(path: &Path) -> u32 {
    let odd = |bytes: u64| !bytes.is_multiple_of(4096);
    let sectors = |name: &str| {
        let text = std::fs::read_to_string(format!("/sys/class/block/{name}/size")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().and_then(|name| name.to_str()).filter(|_| path.starts_with("/dev"));
    match name.and_then(sectors) {
        Some(sectors) if odd(sectors * 512) => 512,
        _ => 4096,
    }
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

fn remote(namespace: &RemoteNamespace) -> Result<Arc<dyn Bdev>, String> {
    let RemoteNamespace { address, transport, subsystem, nsid, host, header_digest, data_digest } =
        namespace;
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
