//! A function that VFIO gave us, as the NVMe driver needs it.

use crate::config::{Config, MsixTable};
use crate::ioctl::{
    DeviceInfo, IrqInfo, MOST_VECTORS, MSIX_IRQ, REQUEST_IRQ, RegionInfo, call, reset, set_vectors,
};
use crate::iommu::{AddressSpace, Layout, pci_windows, through_group, through_iommufd};
use crate::sysfs::names;
use crate::window::Window;
use crate::{Access, PciAddress, Sysfs};
use bdev::dma::Region;
use bdev::sleep::Signal;
use bdev_nvme::{BUS_PAGE_BYTES, Hardware};
use std::fs::File;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Index of configuration space among the regions of a function.
const CONFIG_REGION: u32 = 7;

/// An NVMe controller behind VFIO. The drive is reset when this is dropped.
///
/// A machine can take it back ([`Hardware::is_wanted_back`]), and it can come again
/// ([`VfioFunction::reopen`]): the memory that it was given is then where it was.
pub struct VfioFunction {
    // Dropped in this order: nothing is mapped any more when the device is closed.
    registers: Window,
    interrupts: Option<Interrupts>,
    /// Not needed for a doorbell.
    held: Mutex<Held>,
    /// Becomes readable when the kernel wants the function back.
    request: Signal,
    way: &'static str,
}

/// What a function is reached by besides its registers.
struct Held {
    layout: Layout,
    /// `None` after it was let go.
    open: Option<Open>,
}

/// An open function.
struct Open {
    config: Config,
    can_reset: bool,
    space: AddressSpace,
    device: File,
}

/// MSI-X: a mask in the table for each vector, a descriptor behind it.
struct Interrupts {
    /// The BAR with the table, where it is not the first.
    table: Option<Window>,
    bar: u8,
    offset: usize,
    signals: Vec<Signal>,
}

fn region(device: &File, index: u32) -> io::Result<RegionInfo> {
    let argsz = size_of::<RegionInfo>() as u32;
    let mut info = RegionInfo { argsz, index, ..RegionInfo::default() };
    call(device, &mut info).map(|()| info)
}

/// Offset and length of a BAR that can be mapped.
fn bar_of(device: &File, bar: u32) -> io::Result<(u64, usize)> {
    let info = region(device, bar)?;
    if info.flags & 4 == 0 || info.size == 0 {
        return Err(io::Error::other(format!("BAR {bar} cannot be mapped")));
    }
    Ok((info.offset, usize::try_from(info.size).map_err(io::Error::other)?))
}

fn window(device: &File, bar: u32) -> io::Result<Window> {
    let (offset, bytes) = bar_of(device, bar)?;
    Window::map(device, offset, bytes)
}

impl VfioFunction {
    /// Opens the function at `address`, which VFIO has, with at most `vectors`
    /// interrupt vectors.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(sysfs: &Sysfs, address: PciAddress, vectors: u16) -> Result<VfioFunction, String> {
        let (open, way) = Open::new(sysfs, address)?;
        let failed = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        let registers = window(&open.device, 0).map_err(|error| failed("its registers", error))?;
        let table = open.config.msix().map_err(|error| failed("its interrupts", error))?;
        let interrupts = match table {
            Some(table) => Interrupts::new(&open.device, &table, vectors, &registers),
            None => Ok(None),
        };
        let interrupts = interrupts.map_err(|error| failed("its interrupts", error))?;
        let request = Signal::new().map_err(|error| failed("its interrupts", error))?;
        open.listen(&request);
        let iomem = std::fs::read_to_string(sysfs.path("proc/iomem")).unwrap_or_default();
        let windows = pci_windows(&iomem);
        let held = Mutex::new(Held { layout: Layout::new(&windows), open: Some(open) });
        Ok(VfioFunction { registers, interrupts, held, request, way })
    }

    /// How it was opened: `iommufd` or `group`.
    pub fn way(&self) -> &'static str {
        self.way
    }

    /// Opens it again after it was let go, with the memory that it was given where it was.
    ///
    /// # Errors
    /// A sentence: it is not there, or not with VFIO, or is not the function that it was.
    pub fn reopen(&self, sysfs: &Sysfs, address: PciAddress) -> Result<(), String> {
        let mut held = self.held();
        if held.open.is_some() {
            return Ok(());
        }
        let (open, _) = Open::new(sysfs, address)?;
        let failed = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        let (offset, bytes) =
            bar_of(&open.device, 0).map_err(|error| failed("its registers", error))?;
        if bytes != self.registers.bytes() {
            return Err(format!(
                "{address} is another drive: its registers are {bytes} bytes long"
            ));
        }
        held.layout.map_again(&open.space).map_err(|error| failed("its memory", error))?;
        let refilled = self.registers.refill(&open.device, offset).and_then(|()| {
            let Some(interrupts) = &self.interrupts else { return Ok(()) };
            interrupts.come_back(&open.device, &self.registers)
        });
        if let Err(error) = refilled {
            // Nothing of a function that is closed again stays behind.
            self.blank();
            return Err(failed("its registers", error));
        }
        self.request.clear();
        open.listen(&self.request);
        held.open = Some(open);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes registers and vectors from every thread that may still use them.
    fn blank(&self) {
        let table = self.interrupts.as_ref().and_then(|interrupts| interrupts.table.as_ref());
        for window in std::iter::once(&self.registers).chain(table) {
            window.blank().expect("there is memory for a few pages");
        }
    }
}

impl Open {
    /// Opens the function, and lets it answer at its addresses.
    fn new(sysfs: &Sysfs, address: PciAddress) -> Result<(Open, &'static str), String> {
        let (space, device, way) = open_device(sysfs, address)?;
        let failed = |what: &str, error: io::Error| format!("{address}: {what}: {error}");
        let argsz = size_of::<DeviceInfo>() as u32;
        let mut info = DeviceInfo { argsz, ..DeviceInfo::default() };
        call(&device, &mut info).map_err(|error| failed("asking what it is", error))?;
        let at = region(&device, CONFIG_REGION).map_err(|e| failed("configuration space", e))?;
        let copy = device.try_clone().map_err(|e| failed("configuration space", e))?;
        let config = Config::new(copy, at.offset);
        // Registers answer only when memory access is on; the driver asks again for mastering.
        config.admit().map_err(|error| failed("turning it on", error))?;
        let can_reset = info.flags & 1 != 0;
        Ok((Open { config, can_reset, space, device }, way))
    }

    /// Lets `request` tell that the kernel wants the function back.
    fn listen(&self, request: &Signal) {
        if let Err(error) = set_vectors(&self.device, REQUEST_IRQ, &[request.fd()]) {
            tracing::warn!(%error, "a drive cannot be taken out while it is in use");
        }
    }
}

fn open_device(
    sysfs: &Sysfs,
    address: PciAddress,
) -> Result<(AddressSpace, File, &'static str), String> {
    let driver = sysfs.driver(address);
    if driver.as_deref() != Some(Access::Vfio.driver()) {
        let driver = driver.as_deref().unwrap_or("no driver");
        return Err(format!("{address} is with {driver}: give it to VFIO with device bind first"));
    }
    let Some(group) = sysfs.iommu_group(address) else {
        return Err(format!("{address} is behind no IOMMU"));
    };
    let dev = sysfs.path("dev");
    let own = names(&sysfs.function(address).join("vfio-dev")).unwrap_or_default();
    if let Some(name) = own.first().filter(|_| dev.join("iommu").exists()) {
        return through_iommufd(&dev, name).map(|(space, device)| (space, device, "iommufd"));
    }
    let neighbours = sysfs.neighbours(group, address);
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
        let signals = (0..count).map(|_| Signal::new()).collect::<io::Result<Vec<Signal>>>()?;
        let raw: Vec<RawFd> = signals.iter().map(Signal::fd).collect();
        set_vectors(device, MSIX_IRQ, &raw)?;
        let interrupts = Interrupts { table: own, bar: table.bar, offset: table.offset, signals };
        (0..count).for_each(|vector| interrupts.mask(registers, vector, true));
        Ok(Some(interrupts))
    }

    /// Goes on with a function that was opened again, all vectors masked.
    fn come_back(&self, device: &File, registers: &Window) -> io::Result<()> {
        if let Some(table) = &self.table {
            let (offset, bytes) = bar_of(device, u32::from(self.bar))?;
            if bytes != table.bytes() {
                return Err(io::Error::other("its interrupts are not where they were"));
            }
            table.refill(device, offset)?;
        }
        let raw: Vec<RawFd> = self.signals.iter().map(Signal::fd).collect();
        set_vectors(device, MSIX_IRQ, &raw)?;
        (0..raw.len() as u16).for_each(|vector| self.mask(registers, vector, true));
        Ok(())
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
        let mut held = self.held();
        let Held { layout, open } = &mut *held;
        let Some(open) = open else { return Err(io::Error::other("it is gone")) };
        let iova = layout.map(&open.space, region.as_ptr() as u64, region.len() as u64)?;
        Ok((0..region.len()).step_by(BUS_PAGE_BYTES).map(|offset| iova + offset as u64).collect())
    }

    fn unmap(&self, pages: &[u64], bytes: usize) {
        let mut held = self.held();
        let Held { layout, open } = &mut *held;
        if let Some(first) = pages.first() {
            layout.unmap(open.as_ref().map(|open| &open.space), *first, bytes as u64);
        }
    }

    fn vectors(&self) -> u16 {
        self.interrupts.as_ref().map_or(0, |interrupts| interrupts.signals.len() as u16)
    }

    fn arm(&self, vector: u16) -> Option<RawFd> {
        let interrupts = self.interrupts.as_ref()?;
        let fd = interrupts.signals.get(usize::from(vector))?.fd();
        interrupts.mask(&self.registers, vector, false);
        Some(fd)
    }

    fn disarm(&self, vector: u16) {
        let Some(interrupts) = &self.interrupts else { return };
        if let Some(signal) = interrupts.signals.get(usize::from(vector)) {
            interrupts.mask(&self.registers, vector, true);
            signal.clear();
        }
    }

    fn admit(&self) -> io::Result<()> {
        match &self.held().open {
            Some(open) => open.config.admit(),
            None => Err(io::Error::other("it is gone")),
        }
    }

    fn isolate(&self) -> bool {
        let held = self.held();
        let Some(open) = &held.open else { return true };
        if !open.config.stop() {
            return false;
        }
        if open.can_reset {
            // Mastering is off, which is enough; the reset ends what the drive still does inside.
            // It turns nothing on, and one that is gone cannot be reset.
            let _ = reset(&open.device);
        }
        open.config.stop()
    }

    fn is_wanted_back(&self) -> bool {
        self.request.clear()
    }

    fn let_go(&self) {
        let mut held = self.held();
        if let Some(open) = held.open.take() {
            self.blank();
            drop(open);
        }
    }
}

impl Drop for VfioFunction {
    fn drop(&mut self) {
        if let Some(open) = &self.held().open {
            open.config.stop();
        }
    }
}
