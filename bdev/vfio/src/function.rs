//! A function that VFIO gave us, as the NVMe driver needs it.

use crate::PciAddress;
use crate::config::{Config, MsixTable};
use crate::host::Host;
use crate::ioctl::{
    DeviceInfo, IrqInfo, MOST_VECTORS, RegionInfo, call, drain, eventfd, reset, set_vectors,
};
use crate::iommu::{AddressSpace, through_group, through_iommufd};
use crate::window::Window;
use bdev::dma::Region;
use bdev_nvme::{BUS_PAGE_BYTES, Hardware};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Index of configuration space among the regions of a function.
const CONFIG_REGION: u32 = 7;
/// Index of MSI-X among its interrupts.
const MSIX_IRQ: u32 = 2;

/// An NVMe controller behind VFIO. The drive is reset when this is dropped.
pub struct VfioFunction {
    // Dropped in this order: nothing is mapped any more when the device is closed.
    registers: Window,
    interrupts: Option<Interrupts>,
    config: Config,
    can_reset: bool,
    space: AddressSpace,
    device: File,
    way: &'static str,
}

/// MSI-X: a mask in the table for each vector, a descriptor behind it.
struct Interrupts {
    /// The BAR with the table, where it is not the first.
    table: Option<Window>,
    offset: usize,
    fds: Vec<OwnedFd>,
}

fn region(device: &File, index: u32) -> io::Result<RegionInfo> {
    let argsz = size_of::<RegionInfo>() as u32;
    let mut info = RegionInfo { argsz, index, ..RegionInfo::default() };
    call(device, &mut info).map(|()| info)
}

fn window(device: &File, bar: u32) -> io::Result<Window> {
    let info = region(device, bar)?;
    if info.flags & 4 == 0 || info.size == 0 {
        return Err(io::Error::other(format!("BAR {bar} cannot be mapped")));
    }
    let bytes = usize::try_from(info.size).map_err(io::Error::other)?;
    Window::map(device, info.offset, bytes)
}

impl VfioFunction {
    /// Opens the drive at `address`, which [`Host::bind`] gave to VFIO, with at most `vectors`
    /// interrupt vectors.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(host: &Host, address: PciAddress, vectors: u16) -> Result<VfioFunction, String> {
        let (space, device, way) = open_device(host, address)?;
        let failed = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        let argsz = size_of::<DeviceInfo>() as u32;
        let mut info = DeviceInfo { argsz, ..DeviceInfo::default() };
        call(&device, &mut info).map_err(|error| failed("asking what it is", error))?;
        let at = region(&device, CONFIG_REGION).map_err(|e| failed("configuration space", e))?;
        let copy = device.try_clone().map_err(|e| failed("configuration space", e))?;
        let config = Config::new(copy, at.offset);
        // Registers answer only when memory access is on; the driver asks again for mastering.
        config.admit().map_err(|error| failed("turning it on", error))?;
        let registers = window(&device, 0).map_err(|error| failed("its registers", error))?;
        let table = config.msix().map_err(|error| failed("its interrupts", error))?;
        let interrupts = match table {
            Some(table) => Interrupts::new(&device, &table, vectors, &registers),
            None => Ok(None),
        };
        let interrupts = interrupts.map_err(|error| failed("its interrupts", error))?;
        let can_reset = info.flags & 1 != 0;
        Ok(VfioFunction { registers, interrupts, config, can_reset, space, device, way })
    }

    /// How it was opened: `iommufd` or `group`.
    pub fn way(&self) -> &'static str {
        self.way
    }
}

fn open_device(
    host: &Host,
    address: PciAddress,
) -> Result<(AddressSpace, File, &'static str), String> {
    let drive = host.drive(address)?;
    if drive.driver.as_deref() != Some("vfio-pci") {
        let driver = drive.driver.as_deref().unwrap_or("no driver");
        return Err(format!("{address} is with {driver}: give it to VFIO with device bind first"));
    }
    let Some(group) = drive.iommu_group else {
        return Err(format!("{address} is behind no IOMMU"));
    };
    let dev = host.path("dev");
    let own = crate::host::names(&host.function(address).join("vfio-dev")).unwrap_or_default();
    if let Some(name) = own.first().filter(|_| dev.join("iommu").exists()) {
        return through_iommufd(&dev, name).map(|(space, device)| (space, device, "iommufd"));
    }
    let neighbours = host.neighbours(group, address);
    let list: Vec<String> =
        neighbours.iter().map(|(address, driver)| format!("{address} with {driver}")).collect();
    let (space, device) = through_group(&dev, group, &address.to_string(), &list.join(", "))?;
    Ok((space, device, "group"))
}

impl Interrupts {
    /// At most `wanted` vectors, all masked.
    fn new(
        device: &File,
        table: &MsixTable,
        wanted: u16,
        registers: &Window,
    ) -> io::Result<Option<Interrupts>> {
        let argsz = size_of::<IrqInfo>() as u32;
        let mut info = IrqInfo { argsz, index: MSIX_IRQ, ..IrqInfo::default() };
        call(device, &mut info)?;
        let most = info.count.min(MOST_VECTORS as u32) as u16;
        let count = wanted.min(table.vectors).min(most);
        let own = match table.bar {
            0 => None,
            // Where the table cannot be reached there are no masks: every completion would
            // interrupt. Polling alone costs less.
            bar => match window(device, u32::from(bar)) {
                Ok(window) => Some(window),
                Err(_) => return Ok(None),
            },
        };
        let bytes = own.as_ref().unwrap_or(registers).bytes();
        if count == 0 || table.offset + usize::from(count) * 16 > bytes {
            return Ok(None);
        }
        let fds = (0..count).map(|_| eventfd()).collect::<io::Result<Vec<OwnedFd>>>()?;
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        set_vectors(device, &raw)?;
        let interrupts = Interrupts { table: own, offset: table.offset, fds };
        (0..count).for_each(|vector| interrupts.mask(registers, vector, true));
        Ok(Some(interrupts))
    }

    /// Masks a vector, or lets it interrupt: at once, if it was due while it was masked.
    fn mask(&self, registers: &Window, vector: u16, masked: bool) {
        let table = self.table.as_ref().unwrap_or(registers);
        table.write32(self.offset + usize::from(vector) * 16 + 12, u32::from(masked));
    }
}

impl Hardware for VfioFunction {
    fn read32(&self, offset: usize) -> u32 {
        self.registers.read32(offset)
    }

    fn read64(&self, offset: usize) -> u64 {
        self.registers.read64(offset)
    }

    fn write32(&self, offset: usize, value: u32) {
        self.registers.write32(offset, value);
    }

    fn write64(&self, offset: usize, value: u64) {
        self.registers.write64(offset, value);
    }

    fn register_bytes(&self) -> usize {
        match &self.interrupts {
            Some(interrupts) if interrupts.table.is_none() => {
                // Doorbells end before the table, should they lie below it.
                let table = interrupts.offset;
                if table > 0x1000 { table } else { self.registers.bytes() }
            }
            _ => self.registers.bytes(),
        }
    }

    fn map(&self, region: &Region) -> io::Result<Vec<u64>> {
        let iova = self.space.map(region.as_ptr() as u64, region.len() as u64)?;
        Ok((0..region.len()).step_by(BUS_PAGE_BYTES).map(|offset| iova + offset as u64).collect())
    }

    fn unmap(&self, pages: &[u64], bytes: usize) {
        // The kernel refuses what was not mapped so; then nothing is lost but address space.
        if let Some(first) = pages.first() {
            let _ = self.space.unmap(*first, bytes as u64);
        }
    }

    fn vectors(&self) -> u16 {
        self.interrupts.as_ref().map_or(0, |interrupts| interrupts.fds.len() as u16)
    }

    fn arm(&self, vector: u16) -> Option<RawFd> {
        let interrupts = self.interrupts.as_ref()?;
        let fd = interrupts.fds.get(usize::from(vector))?.as_raw_fd();
        interrupts.mask(&self.registers, vector, false);
        Some(fd)
    }

    fn disarm(&self, vector: u16) {
        let Some(interrupts) = &self.interrupts else { return };
        if let Some(fd) = interrupts.fds.get(usize::from(vector)) {
            interrupts.mask(&self.registers, vector, true);
            drain(fd);
        }
    }

    fn admit(&self) -> io::Result<()> {
        self.config.admit()
    }

    fn isolate(&self) -> bool {
        if !self.config.stop() {
            return false;
        }
        if self.can_reset {
            // Mastering is off, which is enough; the reset ends what the drive still does inside.
            // It turns nothing on, and one that is gone cannot be reset.
            let _ = reset(&self.device);
        }
        self.config.stop()
    }
}

impl Drop for VfioFunction {
    fn drop(&mut self) {
        self.config.stop();
    }
}
