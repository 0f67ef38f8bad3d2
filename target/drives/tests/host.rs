//! Drives, what is on them, and giving them away, on a machine made of files in a folder.

use drives::{Access, BindError, Consent, Finding, Host, PciAddress};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use vfio::VfioFunction;

const DRIVE: &str = "0000:01:00.0";

/// A machine with one NVMe drive, a network card, and a kernel that binds drivers.
struct Machine {
    root: TempDir,
    writes: Arc<Mutex<Vec<String>>>,
    /// The kernel's probing fails.
    is_broken: Arc<Mutex<bool>>,
}

fn put(path: PathBuf, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn link(target: &Path, from: PathBuf) {
    fs::create_dir_all(from.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&from);
    symlink(target, from).unwrap();
}

impl Machine {
    fn new() -> Machine {
        let root = TempDir::new().unwrap();
        let machine =
            Machine { root, writes: Arc::default(), is_broken: Arc::new(Mutex::new(false)) };
        let drive = machine.at(&format!("sys/bus/pci/devices/{DRIVE}"));
        for (name, text) in [
            ("class", "0x010802\n"),
            ("vendor", "0x144d\n"),
            ("device", "0xa808\n"),
            ("numa_node", "1\n"),
        ] {
            put(drive.join(name), text);
        }
        for driver in ["nvme", "vfio-pci"] {
            fs::create_dir_all(machine.at(&format!("sys/bus/pci/drivers/{driver}"))).unwrap();
        }
        link(&machine.at("sys/kernel/iommu_groups/7"), drive.join("iommu_group"));
        fs::create_dir_all(machine.at(&format!("sys/kernel/iommu_groups/7/devices/{DRIVE}")))
            .unwrap();
        put(machine.at("sys/bus/pci/devices/0000:02:00.0/class"), "0x020000\n");
        put(machine.at("proc/self/mountinfo"), "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n");
        put(machine.at("proc/swaps"), "Filename Type Size Used Priority\n");
        machine.with_nvme();
        machine.with_block("nvme0n1", "259:0");
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// As it is while the kernel's driver has the drive.
    fn with_nvme(&self) {
        let drive = self.at(&format!("sys/bus/pci/devices/{DRIVE}"));
        link(&self.at("sys/bus/pci/drivers/nvme"), drive.join("driver"));
        for (name, text) in
            [("model", "Fast Drive  \n"), ("serial", "S123\n"), ("firmware_rev", "1.0\n")]
        {
            put(drive.join("nvme/nvme0").join(name), text);
        }
    }

    fn with_block(&self, name: &str, number: &str) {
        let folder = self.at(&format!("sys/block/{name}"));
        put(folder.join("dev"), format!("{number}\n"));
        put(folder.join("size"), "2048\n");
        fs::create_dir_all(folder.join("holders")).unwrap();
        let owner = self.at(&format!("sys/bus/pci/devices/{DRIVE}/nvme/nvme0"));
        link(&owner, folder.join("device"));
        put(self.at(&format!("dev/{name}")), vec![0; 1 << 20]);
    }

    fn with_partition(&self, block: &str, name: &str, number: &str) {
        let folder = self.at(&format!("sys/block/{block}/{name}"));
        put(folder.join("partition"), "1\n");
        put(folder.join("dev"), format!("{number}\n"));
        put(folder.join("size"), "1024\n");
        put(self.at(&format!("dev/{name}")), vec![0; 1 << 19]);
    }

    /// The machine as a program sees it, with the part of the kernel that binds drivers.
    fn host(&self) -> Host {
        let root = self.root.path().to_owned();
        let (writes, is_broken) = (self.writes.clone(), self.is_broken.clone());
        Host::fake(
            root.clone(),
            Box::new(move |path, text| {
                let short = path.strip_prefix(&root).unwrap().display().to_string();
                writes.lock().unwrap().push(format!("{short} <- {}", text.trim()));
                let drive = root.join(format!("sys/bus/pci/devices/{DRIVE}"));
                let name = path.file_name().unwrap().to_str().unwrap();
                match name {
                    "driver_override" => fs::write(path, text)?,
                    "unbind" => {
                        fs::remove_file(drive.join("driver"))?;
                        let _ = fs::remove_dir_all(drive.join("nvme"));
                    }
                    "drivers_probe" => {
                        let wanted = fs::read_to_string(drive.join("driver_override"));
                        let wanted = wanted.unwrap_or_default().trim().to_owned();
                        let driver = if wanted.is_empty() { "nvme".to_owned() } else { wanted };
                        if !(driver == "vfio-pci" && *is_broken.lock().unwrap()) {
                            let target = root.join(format!("sys/bus/pci/drivers/{driver}"));
                            symlink(target, drive.join("driver"))?;
                        }
                    }
                    _ => panic!("a write to {short}"),
                }
                Ok(())
            }),
        )
    }

    fn findings(&self) -> Vec<Finding> {
        let host = self.host();
        host.contents(&host.drive(address()).unwrap())
    }
}

fn address() -> PciAddress {
    DRIVE.parse().unwrap()
}

#[test]
fn drives_are_listed_with_what_the_kernel_knows() {
    let machine = Machine::new();
    let drives = machine.host().drives().unwrap();
    assert_eq!(drives.len(), 1, "the network card is none");
    let drive = &drives[0];
    assert_eq!((drive.vendor, drive.device), (0x144d, 0xa808));
    assert_eq!((drive.numa_node, drive.iommu_group), (Some(1), Some(7)));
    assert_eq!(drive.driver.as_deref(), Some("nvme"));
    assert_eq!(drive.model.as_deref(), Some("Fast Drive"));
    assert_eq!((drive.serial.as_deref(), drive.firmware.as_deref()), (Some("S123"), Some("1.0")));
    assert_eq!(machine.findings(), []);
    let card = machine.host().drive("0000:02:00.0".parse().unwrap()).unwrap_err();
    assert!(card.contains("no NVMe controller"), "{card}");
    let nothing = machine.host().drive("0000:09:00.0".parse().unwrap()).unwrap_err();
    assert!(nothing.contains("there is no PCI function"), "{nothing}");
}

#[test]
fn an_empty_drive_is_bound_and_given_back() {
    let machine = Machine::new();
    let host = machine.host();
    host.bind(address(), Access::Vfio, Consent::Empty).unwrap();
    let folder = format!("sys/bus/pci/devices/{DRIVE}");
    assert_eq!(
        *machine.writes.lock().unwrap(),
        [
            format!("{folder}/driver_override <- vfio-pci"),
            format!("{folder}/driver/unbind <- {DRIVE}"),
            format!("sys/bus/pci/drivers_probe <- {DRIVE}"),
        ]
    );
    assert_eq!(host.drive(address()).unwrap().driver.as_deref(), Some("vfio-pci"));
    machine.writes.lock().unwrap().clear();
    host.bind(address(), Access::Vfio, Consent::Empty).unwrap();
    assert!(machine.writes.lock().unwrap().is_empty(), "it is there already");
    host.unbind(address()).unwrap();
    assert_eq!(host.drive(address()).unwrap().driver.as_deref(), Some("nvme"));
    machine.writes.lock().unwrap().clear();
    host.unbind(address()).unwrap();
    assert!(machine.writes.lock().unwrap().is_empty());
}

#[test]
fn a_drive_that_the_new_driver_does_not_take_goes_back() {
    let machine = Machine::new();
    *machine.is_broken.lock().unwrap() = true;
    let host = machine.host();
    let error = host.bind(address(), Access::Vfio, Consent::Empty).unwrap_err();
    assert!(matches!(&error, BindError::Refused(why) if why.contains("did not take")), "{error}");
    assert_eq!(host.drive(address()).unwrap().driver.as_deref(), Some("nvme"));
}

#[test]
fn whatever_is_on_a_drive_keeps_it_where_it_is() {
    type Change = fn(&Machine);
    let cases: [(Change, &str); 7] = [
        (
            |machine| {
                machine.with_partition("nvme0n1", "nvme0n1p1", "259:1");
                put(machine.at("proc/self/mountinfo"), "36 35 259:1 / /srv rw - ext4 /dev/x rw\n");
            },
            "nvme0n1p1 is mounted at /srv",
        ),
        (
            |machine| {
                put(machine.at("proc/self/mountinfo"), "3 2 259:0 / /a\\040b rw - xfs x rw\n")
            },
            "nvme0n1 is mounted at /a b",
        ),
        (
            |machine| put(machine.at("proc/swaps"), "Filename\n/dev/nvme0n1 partition 1 0 -2\n"),
            "nvme0n1 is swapped to",
        ),
        (
            |machine| {
                fs::create_dir(machine.at("sys/block/nvme0n1/holders/dm-3")).unwrap();
                put(machine.at("sys/block/dm-3/dm/name"), "vg0-data\n");
            },
            "nvme0n1 is part of dm-3 (vg0-data)",
        ),
        (
            |machine| machine.with_partition("nvme0n1", "nvme0n1p1", "259:1"),
            "nvme0n1 has a partition",
        ),
        (
            |machine| {
                let mut disk = vec![0; 1 << 20];
                disk[512..520].copy_from_slice(b"LABELONE");
                put(machine.at("dev/nvme0n1"), disk);
            },
            "nvme0n1 holds an LVM physical volume",
        ),
        (|machine| fs::remove_file(machine.at("dev/nvme0n1")).unwrap(), "nvme0n1 cannot be read"),
    ];
    for (change, expected) in cases {
        let machine = Machine::new();
        change(&machine);
        let host = machine.host();
        let error = host.bind(address(), Access::Vfio, Consent::Empty).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(matches!(error, BindError::InUse(_)));
        assert!(machine.writes.lock().unwrap().is_empty(), "nothing was touched");
        host.bind(address(), Access::Vfio, Consent::Anything).unwrap();
    }
}

#[test]
fn a_namespace_of_a_shared_subsystem_is_looked_at_too() {
    let machine = Machine::new();
    let subsystem = machine.at("sys/class/nvme-subsystem/nvme-subsys0");
    let controller = machine.at(&format!("sys/bus/pci/devices/{DRIVE}/nvme/nvme0"));
    link(&controller, subsystem.join("nvme0"));
    link(&subsystem, machine.at("sys/block/nvme0n1/device"));
    // What stands for one path is hidden, and has no device file.
    machine.with_block("nvme0c0n1", "0:0");
    put(machine.at("sys/block/nvme0c0n1/hidden"), "1\n");
    fs::remove_file(machine.at("dev/nvme0c0n1")).unwrap();
    put(machine.at("proc/self/mountinfo"), "3 2 259:0 / /mnt rw - xfs x rw\n");
    let findings = machine.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].to_string(), "nvme0n1 is mounted at /mnt");
    assert!(findings[0].is_in_use());
}

#[test]
fn without_an_iommu_it_takes_a_word() {
    let machine = Machine::new();
    fs::remove_file(machine.at(&format!("sys/bus/pci/devices/{DRIVE}/iommu_group"))).unwrap();
    let host = machine.host();
    let error = host.bind(address(), Access::Vfio, Consent::Anything).unwrap_err();
    assert_eq!(error, BindError::NoIommu(address()));
    assert!(error.to_string().contains("--unsafe-no-iommu"), "{error}");
    let error = host.bind(address(), Access::UnsafeNoIommu, Consent::Empty).unwrap_err();
    assert!(error.to_string().contains("modprobe uio_pci_generic"), "{error}");
    fs::create_dir_all(machine.at("sys/bus/pci/drivers/uio_pci_generic")).unwrap();
    host.bind(address(), Access::UnsafeNoIommu, Consent::Empty).unwrap();
    let now = host.drive(address()).unwrap().driver;
    assert_eq!(now.as_deref(), Some("uio_pci_generic"));
}

#[test]
fn opening_says_what_is_missing() {
    let machine = Machine::new();
    let host = machine.host();
    let why = |host: &Host| VfioFunction::open(host.sysfs(), address(), 1).err().unwrap();
    assert!(why(&host).contains("is with nvme: give it to VFIO"), "{}", why(&host));
    host.bind(address(), Access::Vfio, Consent::Empty).unwrap();
    assert!(why(&host).contains("dev/vfio/vfio"), "{}", why(&host));
    // A file that is no VFIO: the kernel does not know the call.
    put(machine.at("dev/vfio/vfio"), "");
    assert!(why(&host).contains("asking VFIO for its version"), "{}", why(&host));
    // With a device file of its own, iommufd is the way.
    fs::create_dir_all(machine.at(&format!("sys/bus/pci/devices/{DRIVE}/vfio-dev/vfio0"))).unwrap();
    put(machine.at("dev/iommu"), "");
    assert!(why(&host).contains("dev/vfio/devices/vfio0"), "{}", why(&host));
}
