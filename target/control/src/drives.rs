//! NVMe drives that we drive ourselves: each is taken from the kernel once, however many of its
//! namespaces are used, and shut down when nobody uses it.

mod erasure;
mod health;
mod seen;

pub(crate) use erasure::{Erase, Progress};
pub use seen::drives_of;

use crate::config::DrivePlace;
use bdev::{Bdev, Channel, Geometry, OpenCx, OpenError};
use bdev_nvme::{
    Answer, Controller, Failure, Hardware, Health, NvmeBdev, Options, Request, RequestError, Ticket,
};
use erasure::Erasure;
use health::in_words;
use nvme_spec::log::SmartLog;
use reactor::thread;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use vfio::{Access, Consent, Host, PciAddress, UioFunction, VfioFunction};
use webui_model::NvmeDrive;
use zerocopy::FromBytes;

/// What a drive gets to come up, longer than controllers say that they take, and to shut down.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often the health log is read, in ns.
const HEALTH_NS: u64 = 30_000_000_000;

/// Vectors that are asked for: one a reactor, and one for the admin queue.
const VECTORS: u16 = bdev::limits::REACTORS as u16 + 1;

/// Which namespace is wanted, and on what terms.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub place: DrivePlace,
    pub access: Access,
    pub consent: Consent,
    /// The serial number that the drive has to have.
    pub serial: Option<String>,
}

/// The drives that are open, by address.
#[derive(Default)]
pub(crate) struct Drives {
    host: Host,
    open: BTreeMap<PciAddress, Weak<Drive>>,
    /// Drives that are being formatted or sanitized.
    erasures: Vec<Erasure>,
    erasures_begun: u64,
}

/// One drive that is taken.
pub(crate) struct Drive {
    address: PciAddress,
    access: Access,
    numa_node: Option<u32>,
    /// What VFIO gave, which can come back after it was taken out.
    function: Option<Arc<VfioFunction>>,
    controller: Controller,
    log: Mutex<HealthLog>,
    /// How often it came back.
    returns: AtomicU64,
    /// Why it did not come back when it was last tried.
    absence: Mutex<Option<String>>,
}

/// The health log that was read last, and when the next is due.
#[derive(Default)]
struct HealthLog {
    due_ns: u64,
    asked: Option<Ticket>,
    log: Option<SmartLog>,
}

/// A namespace of a drive; the drive is kept as long as this is.
pub(crate) struct DriveBdev {
    bdev: NvmeBdev,
    drive: Arc<Drive>,
}

impl Bdev for DriveBdev {
    fn geometry(&self) -> Geometry {
        self.bdev.geometry()
    }

    fn power_session(&self) -> u64 {
        self.drive.power_cycles()
    }

    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        self.bdev.open(cx)
    }
}

impl DriveBdev {
    /// The drive that it is a namespace of.
    pub(crate) fn drive(&self) -> &Arc<Drive> {
        &self.drive
    }
}

impl Drives {
    /// The drives of a machine made of files, for tests.
    #[cfg(test)]
    pub(crate) fn of(host: Host) -> Drives {
        Drives { host, ..Drives::default() }
    }

    /// Opens a namespace, and takes its drive from the kernel first if it is not open.
    ///
    /// # Errors
    /// A sentence: what is in the way of taking it, or what is wrong with the drive. It is back
    /// with the driver that had it.
    pub(crate) fn open(&mut self, wanted: &Wanted) -> Result<DriveBdev, String> {
        self.open_namespace(wanted).map_err(|why| format!("{why}."))
    }

    fn open_namespace(&mut self, wanted: &Wanted) -> Result<DriveBdev, String> {
        let address = wanted.place.address;
        let accept = |drive: &Drive| {
            drive.check(wanted)?;
            drive.controller.bdev(wanted.place.nsid).map_err(|error| error.0)
        };
        let (drive, bdev) = match self.open.get(&address).and_then(Weak::upgrade) {
            Some(drive) => {
                let bdev = accept(&drive)?;
                (drive, bdev)
            }
            None => {
                self.refuse_while_erased(address)
                    .map_err(|why| format!("drive {address}: {why}"))?;
                let (drive, bdev) = self.take(wanted, |drive| {
                    drive.refuse_while_sanitized()?;
                    accept(drive)
                })?;
                (Arc::new(drive), bdev)
            }
        };
        self.open.retain(|_, drive| drive.strong_count() > 0);
        self.open.insert(address, Arc::downgrade(&drive));
        Ok(DriveBdev { bdev, drive })
    }

    /// Takes a drive from whoever has it, if `accept` takes it as it is.
    fn take<R>(
        &self,
        wanted: &Wanted,
        accept: impl FnOnce(&Drive) -> Result<R, String>,
    ) -> Result<(Drive, R), String> {
        let (address, access) = (wanted.place.address, wanted.access);
        let before = self.host.drive(address)?;
        self.host.bind(address, access, wanted.consent).map_err(|error| error.to_string())?;
        let taken = self.start(address, access, before.numa_node);
        let taken = taken.and_then(|drive| accept(&drive).map(|accepted| (drive, accepted)));
        taken.inspect_err(|_| {
            if before.driver.as_deref() == Some("nvme") {
                self.give_back(address);
            }
        })
    }

    /// Gives a drive to the kernel's driver.
    fn give_back(&self, address: PciAddress) {
        if let Err(error) = self.host.unbind(address) {
            tracing::error!(%address, %error, "a drive cannot be given back");
        }
    }

    /// Brings the controller up.
    fn start(
        &self,
        address: PciAddress,
        access: Access,
        numa_node: Option<u32>,
    ) -> Result<Drive, String> {
        let (hardware, function): (Arc<dyn Hardware>, _) = match access {
            Access::Vfio => {
                let function = Arc::new(VfioFunction::open(&self.host, address, VECTORS)?);
                (function.clone(), Some(function))
            }
            Access::UnsafeNoIommu => {
                tracing::warn!(%address, "no IOMMU keeps this drive from memory that is not its own");
                (Arc::new(UioFunction::open(&self.host, address)?), None)
            }
        };
        let controller = Controller::new(hardware, Options::default()).map_err(|error| error.0)?;
        let (log, absence, returns) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let drive =
            Drive { address, access, numa_node, function, controller, log, returns, absence };
        drive.wait(|health| *health != Health::Starting);
        match drive.controller.health() {
            Health::Ready => {
                // How often it was switched on has to be known before it is used.
                drive.look_after(thread::clock_ns());
                let until = Instant::now() + PATIENCE;
                while drive.is_asked() && Instant::now() < until {
                    drive.look_after(thread::clock_ns());
                    std::thread::sleep(Duration::from_millis(1));
                }
                Ok(drive)
            }
            Health::Dead(why) => Err(format!("drive {address} cannot be used: {why}")),
            _ => Err(format!("drive {address} does not become ready")),
        }
    }

    /// Looks after every drive that is open: nobody else does while no channel of it is. One that
    /// was taken out and is there again goes on.
    pub(crate) fn look_after(&self) {
        for drive in self.open.values().filter_map(Weak::upgrade) {
            drive.look_after(thread::clock_ns());
            if let Health::Dead(Failure::Gone | Failure::Removed) = drive.health()
                && let Ok(seen) = self.host.drive(drive.address)
            {
                drive.note_absence(self.regain(&drive, seen.serial.as_deref()));
            }
        }
    }

    /// Takes a drive that is there again, if it is the one that it was as far as the kernel can
    /// tell; the driver looks too.
    fn regain(&self, drive: &Drive, serial: Option<&str>) -> Result<(), String> {
        let Some(function) = &drive.function else {
            return Err("without an IOMMU it is not taken again".to_owned());
        };
        let (_, own) = drive.names();
        if let Some(serial) = serial.filter(|serial| *serial != own) {
            return Err(format!(
                "another drive is there: its serial number is {serial}, not {own}"
            ));
        }
        let bound = self.host.bind(drive.address, drive.access, Consent::Known);
        bound.map_err(|error| error.to_string())?;
        function.reopen(&self.host, drive.address)?;
        drive.controller.reset(thread::clock_ns());
        drive.returns.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl Drive {
    /// Whether it is what is wanted.
    fn check(&self, wanted: &Wanted) -> Result<(), String> {
        let Drive { address, access, .. } = self;
        if *access != wanted.access {
            return Err(format!("drive {address} is in use through {} already", access.driver()));
        }
        let serial = self.controller.identity().map(|identity| identity.serial).unwrap_or_default();
        match &wanted.serial {
            Some(expected) if *expected != serial => Err(format!(
                "another drive is at {address}: its serial number is {serial}, not {expected}"
            )),
            _ => Ok(()),
        }
    }

    /// Polls until the controller is as `ended` says, for as long as [`PATIENCE`].
    fn wait(&self, ended: impl Fn(&Health) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !ended(&self.controller.health()) && Instant::now() < until {
            self.controller.poll(thread::clock_ns());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The answer to an admin command; waits for it, for as long as [`PATIENCE`].
    fn ask(&self, request: Request) -> Answer {
        let ticket = self.controller.ask(request);
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            self.controller.poll(thread::clock_ns());
            if let Some(answer) = self.controller.answer(ticket) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(RequestError::NotDone("the drive does not answer".to_owned()))
    }

    fn look_after(&self, now_ns: u64) {
        self.controller.poll(now_ns);
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = log.asked.and_then(|ticket| self.controller.answer(ticket)) {
            log.asked = None;
            match answer {
                Ok(data) => log.log = SmartLog::read_from_bytes(&data).ok(),
                Err(why) => tracing::warn!(address = %self.address, %why, "no health log"),
            }
        }
        if log.asked.is_none() && now_ns >= log.due_ns && self.health() == Health::Ready {
            log.asked = Some(self.controller.ask(Request::smart_log()));
            log.due_ns = now_ns.saturating_add(HEALTH_NS);
            self.controller.poll(now_ns);
        }
    }

    /// Whether an answer with the health log is still to come.
    fn is_asked(&self) -> bool {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).asked.is_some()
    }

    /// How often it was switched on, as the health log says; 0 without one.
    fn power_cycles(&self) -> u64 {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.log.as_ref().map_or(0, |log| log.power_cycles.get() as u64)
    }

    /// Notes how taking it again ended; says so once.
    fn note_absence(&self, ended: Result<(), String>) {
        let mut absence = self.absence.lock().unwrap_or_else(PoisonError::into_inner);
        match &ended {
            Ok(()) => tracing::info!(address = %self.address, "the drive is there again"),
            Err(why) if absence.as_ref() != Some(why) => {
                tracing::warn!(address = %self.address, why, "the drive cannot be taken again");
            }
            Err(_) => {}
        }
        *absence = ended.err();
    }

    /// How often it was taken out and came back.
    pub(crate) fn returns(&self) -> u64 {
        self.returns.load(Ordering::Relaxed)
    }

    /// Why it does nothing, if that is so.
    pub(crate) fn failure(&self) -> Option<String> {
        let Health::Dead(why) = self.health() else { return None };
        let absence = self.absence.lock().unwrap_or_else(PoisonError::into_inner);
        Some(match &*absence {
            Some(more) => format!("{why}, and {more}"),
            None => why.to_string(),
        })
    }

    /// Where its controller is in its life.
    pub(crate) fn health(&self) -> Health {
        self.controller.health()
    }

    /// Model and serial number.
    pub(crate) fn names(&self) -> (String, String) {
        let identity = self.controller.identity();
        identity.map(|identity| (identity.model, identity.serial)).unwrap_or_default()
    }

    /// What there is to say of it.
    pub(crate) fn describe(&self) -> NvmeDrive {
        let counts = self.controller.counts();
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        NvmeDrive {
            driver: self.access.driver().to_owned(),
            numa_node: self.numa_node,
            firmware: self.controller.identity().map(|i| i.firmware).unwrap_or_default(),
            health: log.log.as_ref().map(in_words),
            resets: counts.resets,
            timeouts: counts.timeouts,
            errors: counts.errors,
        }
    }
}

impl Drop for Drive {
    fn drop(&mut self) {
        self.controller.shut_down(thread::clock_ns());
        self.wait(|health| matches!(health, Health::Dead(_)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    const DRIVE: &str = "sys/bus/pci/devices/0000:03:00.0";

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A machine of files with one drive, whose kernel gives it to the driver that is asked for.
    fn machine(root: &Path) -> Host {
        put(root.join(DRIVE).join("class"), "0x010802");
        put(root.join("sys/block/nvme0n1/dev"), "259:0");
        put(root.join("sys/block/nvme0n1/size"), "8");
        put(root.join("dev/nvme0n1"), "");
        fs::create_dir_all(root.join(DRIVE).join("nvme/nvme0")).unwrap();
        symlink(root.join(DRIVE).join("nvme/nvme0"), root.join("sys/block/nvme0n1/device"))
            .unwrap();
        fs::create_dir_all(root.join("sys/bus/pci/drivers/nvme")).unwrap();
        symlink(root.join("sys/bus/pci/drivers/nvme"), root.join(DRIVE).join("driver")).unwrap();
        let (own, root) = (root.to_owned(), root.to_owned());
        let kernel = move |path: &Path, text: &str| {
            let drive = root.join(DRIVE);
            match path.file_name().and_then(|name| name.to_str()) {
                Some("unbind") => fs::remove_file(drive.join("driver")),
                Some("drivers_probe") => {
                    let wanted = fs::read_to_string(drive.join("driver_override"))?;
                    let wanted = if wanted.trim().is_empty() { "nvme" } else { wanted.trim() };
                    symlink(root.join("sys/bus/pci/drivers").join(wanted), drive.join("driver"))
                }
                _ => fs::write(path, text),
            }
        };
        Host::fake(own, Box::new(kernel))
    }

    fn wanted() -> Wanted {
        let place = "pci:0000:03:00.0".parse().unwrap();
        Wanted { place, access: Access::Vfio, consent: Consent::Empty, serial: None }
    }

    #[test]
    fn what_is_in_the_way_is_said_and_the_drive_stays() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut drives = Drives::of(machine(root));
        let mut refused = |expected: &str, wanted: &Wanted| {
            let Err(why) = drives.open(wanted) else { panic!("taken: {expected}") };
            assert!(why.contains(expected) && why.ends_with('.'), "{why}");
            let driver = fs::read_link(root.join(DRIVE).join("driver")).unwrap();
            assert_eq!(driver.file_name().unwrap(), "nvme", "{expected}");
        };
        let other = Wanted { place: "pci:0000:04:00.0".parse().unwrap(), ..wanted() };
        refused("there is no PCI function 0000:04:00.0", &other);
        refused("behind no IOMMU", &wanted());
        symlink(root.join("sys/kernel/iommu_groups/7"), root.join(DRIVE).join("iommu_group"))
            .unwrap();
        refused("load it with modprobe vfio-pci", &wanted());
        fs::create_dir_all(root.join("sys/bus/pci/drivers/vfio-pci")).unwrap();
        put(root.join("proc/self/mountinfo"), "3 2 259:0 / /srv rw - xfs x rw\n");
        refused("nvme0n1 is mounted at /srv; say --force to take it", &wanted());
        let known = Wanted { consent: Consent::Known, ..wanted() };
        refused("nvme0n1 is mounted at /srv", &known);
        // It is taken here, and given back when it cannot be opened.
        let forced = Wanted { consent: Consent::Anything, ..wanted() };
        refused("dev/vfio/vfio", &forced);
    }

    #[test]
    fn a_drive_that_cannot_be_taken_is_not_erased() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let mut drives = Drives::of(machine(root));
        let address = wanted().place.address;
        let what = Erase::Sanitize(nvme_spec::maintenance::Sanitize::BlockErase);
        let mut refused = |expected: &str, force: bool| {
            let why = drives.erase(address, &what, force).unwrap_err();
            assert!(why.contains(expected) && why.ends_with('.'), "{why}");
            assert!(why.starts_with("Drive 0000:03:00.0: "), "{why}");
            assert_eq!(drives.look_at_erasures(), []);
        };
        refused("behind no IOMMU", false);
        put(root.join("proc/self/mountinfo"), "3 2 259:0 / /srv rw - xfs x rw\n");
        refused("nvme0n1 is mounted at /srv", true);
        put(root.join("proc/self/mountinfo"), "");
        fs::remove_file(root.join("dev/nvme0n1")).unwrap();
        refused("nvme0n1 cannot be read", false);
        refused("behind no IOMMU", true);
    }
}
