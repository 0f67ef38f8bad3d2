//! Drives that are driven here: each is taken from the kernel once, however many of its namespaces
//! are used, and shut down when nobody uses it.

use crate::drive::{Drive, DriveBdev, Wanted};
use crate::erasure::Erasure;
use crate::host::Host;
use bdev_nvme::{Failure, Health};
use reactor::thread;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use vfio::PciAddress;

/// The drives that are open, by address. Taking one, giving it back and taking it again wait for the
/// drive, without a lock: whoever calls sees to it that one thread at a time does so with a drive.
#[derive(Default)]
pub struct Drives {
    pub(crate) host: Host,
    open: Mutex<BTreeMap<PciAddress, Weak<Drive>>>,
    /// Drives that are being formatted or sanitized.
    pub(crate) erasures: Mutex<Vec<Erasure>>,
    /// Those that have ended, and are given back.
    pub(crate) ending: Mutex<Vec<PciAddress>>,
    pub(crate) erasures_begun: AtomicU64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drives {
    /// The drives of a machine made of files, for tests.
    #[cfg(test)]
    pub fn of(host: Host) -> Drives {
        Drives { host, ..Drives::default() }
    }

    /// Opens a namespace, and takes its drive from the kernel first if it is not open.
    ///
    /// # Errors
    /// A sentence: what is in the way of taking it, or what is wrong with the drive. It is back
    /// with the driver that had it.
    pub fn open(&self, wanted: &Wanted) -> Result<DriveBdev, String> {
        self.open_namespace(wanted).map_err(|why| format!("{why}."))
    }

    fn open_namespace(&self, wanted: &Wanted) -> Result<DriveBdev, String> {
        let address = wanted.place.address;
        let accept = |drive: &Drive| {
            drive.check(wanted)?;
            drive.controller.bdev(wanted.place.nsid).map_err(|error| error.0)
        };
        let (drive, bdev) = match self.drive(address) {
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
        let mut open = lock(&self.open);
        open.retain(|_, drive| drive.strong_count() > 0);
        open.insert(address, Arc::downgrade(&drive));
        drop(open);
        Ok(DriveBdev { bdev, drive })
    }

    /// The drive that is open at `address`.
    pub(crate) fn drive(&self, address: PciAddress) -> Option<Arc<Drive>> {
        lock(&self.open).get(&address).and_then(Weak::upgrade)
    }

    /// Those that are open.
    pub(crate) fn all(&self) -> Vec<Arc<Drive>> {
        lock(&self.open).values().filter_map(Weak::upgrade).collect()
    }

    /// Takes a drive from whoever has it, if `accept` takes it as it is.
    pub(crate) fn take<R>(
        &self,
        wanted: &Wanted,
        accept: impl FnOnce(&Drive) -> Result<R, String>,
    ) -> Result<(Drive, R), String> {
        let (address, access) = (wanted.place.address, wanted.access);
        let before = self.host.drive(address)?;
        self.host.bind(address, access, wanted.consent).map_err(|error| error.to_string())?;
        let taken = Drive::start(&self.host, address, access, before.numa_node);
        let taken = taken.and_then(|drive| accept(&drive).map(|accepted| (drive, accepted)));
        taken.inspect_err(|_| {
            if before.driver.as_deref() == Some("nvme") {
                self.give_back(address);
            }
        })
    }

    /// Gives a drive to the kernel's driver.
    pub(crate) fn give_back(&self, address: PciAddress) {
        if let Err(error) = self.host.unbind(address) {
            tracing::error!(%address, %error, "a drive cannot be given back");
        }
    }

    /// Looks after every drive that is open: nobody else does while no channel of it is. Returns
    /// those that were taken out.
    pub fn look_after(&self) -> Vec<PciAddress> {
        let mut gone = Vec::new();
        for drive in self.all() {
            drive.look_after(thread::clock_ns());
            if let Health::Dead(Failure::Gone | Failure::Removed) = drive.health() {
                gone.push(drive.address);
            }
        }
        gone
    }

    /// Takes a drive again that was taken out, if it is there again: it goes on then.
    pub fn regain(&self, address: PciAddress) {
        let Some(drive) = self.drive(address) else { return };
        if let Health::Dead(Failure::Gone | Failure::Removed) = drive.health()
            && let Ok(seen) = self.host.drive(address)
        {
            drive.note_absence(drive.regain(&self.host, seen.serial.as_deref()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::Consent;
    use crate::erasure::Erase;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};
    use vfio::Access;

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
        let drives = Drives::of(machine(root));
        let refused = |expected: &str, wanted: &Wanted| {
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
        let drives = Drives::of(machine(root));
        let address = wanted().place.address;
        let what = Erase::Sanitize(nvme_spec::maintenance::Sanitize::BlockErase);
        let refused = |expected: &str, force: bool| {
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
