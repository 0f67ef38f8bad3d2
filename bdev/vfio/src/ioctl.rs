//! The kernel's calls: VFIO, iommufd, and the admin command of the kernel's NVMe driver. Layouts
//! are those of `linux/vfio.h`, `linux/iommufd.h` and `linux/nvme_ioctl.h`.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

const fn io_nr(number: libc::c_ulong) -> libc::c_ulong {
    (b';' as libc::c_ulong) << 8 | number
}

/// A structure that the kernel reads and writes within the call.
///
/// # Safety
/// `#[repr(C)]` with the layout that the call with this structure has; every pointer in it stays
/// valid for as long as the kernel uses it.
unsafe trait Argument {
    const CALL: libc::c_ulong;
}

macro_rules! arguments {
    ($($(#[$doc:meta])* $name:ident[$size:literal] = $call:expr, { $($field:ident: $ty:ty,)* })*) => {$(
        $(#[$doc])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default)]
        pub(crate) struct $name {
            $(pub(crate) $field: $ty,)*
        }

        const _: () = assert!(size_of::<$name>() == $size);

        // SAFETY: the layout is asserted; addresses in it are those of mappings that outlive it.
        unsafe impl Argument for $name {
            const CALL: libc::c_ulong = $call;
        }
    )*};
}

arguments! {
    /// `VFIO_GROUP_GET_STATUS`; flag 1: viable.
    GroupStatus[8] = io_nr(103), { argsz: u32, flags: u32, }
    /// `VFIO_DEVICE_GET_INFO`; flag 1: can be reset.
    DeviceInfo[16] = io_nr(107), { argsz: u32, flags: u32, regions: u32, irqs: u32, }
    /// `VFIO_DEVICE_GET_REGION_INFO`; flag 4: can be mapped.
    RegionInfo[32] = io_nr(108),
        { argsz: u32, flags: u32, index: u32, cap_offset: u32, size: u64, offset: u64, }
    /// `VFIO_DEVICE_GET_IRQ_INFO`.
    IrqInfo[16] = io_nr(109), { argsz: u32, flags: u32, index: u32, count: u32, }
    /// `VFIO_IOMMU_MAP_DMA`; flags 1: the device reads, 2: it writes.
    MapDma[32] = io_nr(113), { argsz: u32, flags: u32, address: u64, iova: u64, size: u64, }
    /// `VFIO_IOMMU_UNMAP_DMA`.
    UnmapDma[24] = io_nr(114), { argsz: u32, flags: u32, iova: u64, size: u64, }
    /// `VFIO_DEVICE_BIND_IOMMUFD`.
    BindIommufd[16] = io_nr(118), { argsz: u32, flags: u32, iommufd: i32, out_devid: u32, }
    /// `VFIO_DEVICE_ATTACH_IOMMUFD_PT`.
    Attach[12] = io_nr(119), { argsz: u32, flags: u32, pt_id: u32, }
    /// `IOMMU_IOAS_ALLOC`.
    IoasAlloc[12] = io_nr(129), { size: u32, flags: u32, out_ioas_id: u32, }
    /// `IOMMU_IOAS_MAP`; flags 1: at the address given, 2: the device writes, 4: it reads.
    IoasMap[40] = io_nr(133),
        { size: u32, flags: u32, ioas_id: u32, rsvd: u32, address: u64, length: u64, iova: u64, }
    /// `IOMMU_IOAS_UNMAP`.
    IoasUnmap[24] = io_nr(134), { size: u32, ioas_id: u32, iova: u64, length: u64, }
    /// `NVME_IOCTL_ADMIN_CMD`.
    AdminCommand[72] = 0xc048_4e41, {
        opcode: u8, flags: u8, rsvd1: u16, nsid: u32, cdw2: u32, cdw3: u32, metadata: u64,
        address: u64, metadata_len: u32, data_len: u32, cdw10: u32, cdw11: u32, cdw12: u32,
        cdw13: u32, cdw14: u32, cdw15: u32, timeout_ms: u32, result: u32,
    }
}

/// `VFIO_DEVICE_SET_IRQS` with descriptors: flags, then as many as `count` says.
#[repr(C)]
struct SetIrqs {
    argsz: u32,
    flags: u32,
    index: u32,
    start: u32,
    count: u32,
    fds: [RawFd; MOST_VECTORS],
}

/// Vectors that are asked for at most: one a reactor and one.
pub(crate) const MOST_VECTORS: usize = bdev::limits::REACTORS + 1;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes the call that belongs to `argument`.
#[allow(private_bounds)]
pub(crate) fn call<T: Argument>(file: &File, argument: &mut T) -> io::Result<()> {
    // SAFETY: the layout is that of the call (Argument), and the structure lives across it.
    check(unsafe { libc::ioctl(file.as_raw_fd(), T::CALL as _, std::ptr::from_mut(argument)) })?;
    Ok(())
}

/// A call with a number.
fn call_with(file: &File, number: libc::c_ulong, value: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: these calls take a number and touch no memory.
    check(unsafe { libc::ioctl(file.as_raw_fd(), io_nr(number) as _, value) })
}

/// Type 1, version 2, of the IOMMU interface.
const TYPE1_V2: libc::c_ulong = 3;

/// Whether a container is of the version that is known, and knows the IOMMU interface.
pub(crate) fn is_known_container(container: &File) -> io::Result<bool> {
    Ok(call_with(container, 100, 0)? == 0 && call_with(container, 101, TYPE1_V2)? == 1)
}

/// Puts a group into a container.
pub(crate) fn set_container(group: &File, container: &File) -> io::Result<()> {
    let fd: RawFd = container.as_raw_fd();
    // SAFETY: the kernel reads one int at the address within the call.
    check(unsafe { libc::ioctl(group.as_raw_fd(), io_nr(104) as _, std::ptr::from_ref(&fd)) })?;
    Ok(())
}

/// Turns the container's IOMMU on.
pub(crate) fn set_iommu(container: &File) -> io::Result<()> {
    call_with(container, 102, TYPE1_V2).map(drop)
}

/// The function called `name` of a group.
pub(crate) fn group_device(group: &File, name: &std::ffi::CStr) -> io::Result<File> {
    // SAFETY: the kernel reads the text, which ends in 0, within the call.
    let fd = check(unsafe { libc::ioctl(group.as_raw_fd(), io_nr(106) as _, name.as_ptr()) })?;
    // SAFETY: a descriptor that the kernel has just made for us.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// Resets a function.
pub(crate) fn reset(device: &File) -> io::Result<()> {
    call_with(device, 111, 0).map(drop)
}

/// Index of MSI-X among the interrupts of a function.
pub(crate) const MSIX_IRQ: u32 = 2;
/// Index of the one that says that the kernel wants the function back.
pub(crate) const REQUEST_IRQ: u32 = 4;

/// Lets vectors 0.. of the interrupts `index` signal `fds`.
pub(crate) fn set_vectors(device: &File, index: u32, fds: &[RawFd]) -> io::Result<()> {
    assert!(fds.len() <= MOST_VECTORS);
    const DATA_EVENTFD: u32 = 1 << 2;
    const ACTION_TRIGGER: u32 = 1 << 5;
    let argsz = 20 + 4 * fds.len() as u32;
    let (flags, count) = (DATA_EVENTFD | ACTION_TRIGGER, fds.len() as u32);
    let mut set = SetIrqs { argsz, flags, index, start: 0, count, fds: [-1; MOST_VECTORS] };
    set.fds[..fds.len()].copy_from_slice(fds);
    // SAFETY: the kernel reads `argsz` bytes, which the structure has, within the call.
    check(unsafe { libc::ioctl(device.as_raw_fd(), io_nr(110) as _, std::ptr::from_ref(&set)) })?;
    Ok(())
}

/// Reads `data.len()` bytes of a log page from a drive that the kernel's own driver has, through the
/// file of its controller.
///
/// # Errors
/// What the kernel or the drive says.
pub fn get_log(controller: &File, lid: u8, data: &mut [u8]) -> io::Result<()> {
    let dwords = data.len() as u32 / 4 - 1;
    let mut command = AdminCommand {
        opcode: 0x02,
        nsid: u32::MAX,
        address: data.as_mut_ptr() as u64,
        data_len: data.len() as u32,
        cdw10: dwords << 16 | u32::from(lid),
        ..AdminCommand::default()
    };
    call(controller, &mut command)
}
