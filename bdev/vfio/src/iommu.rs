//! What gives a function memory to reach: a VFIO container, or an address space of iommufd.

use crate::ioctl::{
    Attach, BindIommufd, GroupStatus, IoasAlloc, IoasMap, IoasUnmap, MapDma, UnmapDma, call,
    group_device, is_known_container, set_container, set_iommu,
};
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Where bus addresses begin where we choose them: above the window of interrupts, and above
/// everything that firmware reserves.
const FIRST_IOVA: u64 = 4 << 30;

/// Where they end: 39 bits are what the smallest IOMMUs have.
const LAST_IOVA: u64 = 1 << 39;

/// Where in a function's address space memory lies. It outlives the function's absence: one that
/// comes back finds everything where it was.
pub(crate) struct Layout {
    /// Free addresses where we choose them: (first, length), in order.
    free: Vec<(u64, u64)>,
    mapped: Vec<Mapped>,
}

struct Mapped {
    address: u64,
    bytes: u64,
    iova: u64,
}

/// The memory that one function can reach, while it is open.
pub(crate) enum AddressSpace {
    /// A container with one group in it; the group stays open as long.
    Container { container: File, _group: File },
    /// An I/O address space of iommufd.
    Iommufd { iommufd: File, ioas: u32 },
}

fn open(path: &Path) -> Result<File, String> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.map_err(|error| format!("{}: {error}", path.display()))
}

fn size_of_argument<T>() -> u32 {
    size_of::<T>() as u32
}

/// Opens a function through its group: `dev` is `/dev`, `name` its address.
pub(crate) fn through_group(
    dev: &Path,
    group: u32,
    name: &str,
    neighbours: &str,
) -> Result<(AddressSpace, File), String> {
    let container = open(&dev.join("vfio/vfio"))?;
    match is_known_container(&container) {
        Ok(true) => {}
        Ok(false) => return Err("this kernel's VFIO is of a version that is not known".to_owned()),
        Err(error) => return Err(format!("asking VFIO for its version: {error}")),
    }
    let file = open(&dev.join(format!("vfio/{group}")))?;
    let mut status = GroupStatus { argsz: size_of_argument::<GroupStatus>(), flags: 0 };
    call(&file, &mut status).map_err(|error| format!("IOMMU group {group}: {error}"))?;
    if status.flags & 1 == 0 {
        return Err(format!(
            "IOMMU group {group} has other functions that kernel drivers use, and VFIO takes a group \
             as a whole: {neighbours}"
        ));
    }
    let failed = |what: &str, error: io::Error| format!("{what} of IOMMU group {group}: {error}");
    set_container(&file, &container).map_err(|error| failed("the container", error))?;
    set_iommu(&container).map_err(|error| failed("the IOMMU", error))?;
    let name = CString::new(name).expect("addresses have no 0 in them");
    let device = group_device(&file, &name).map_err(|error| failed("the function", error))?;
    Ok((AddressSpace::Container { container, _group: file }, device))
}

/// Opens a function through its own device file, `/dev/vfio/devices/NAME`.
pub(crate) fn through_iommufd(dev: &Path, name: &str) -> Result<(AddressSpace, File), String> {
    let iommufd = open(&dev.join("iommu"))?;
    let device = open(&dev.join("vfio/devices").join(name))?;
    let mut bind = BindIommufd {
        argsz: size_of_argument::<BindIommufd>(),
        iommufd: iommufd.as_raw_fd(),
        ..BindIommufd::default()
    };
    call(&device, &mut bind).map_err(|error| format!("binding {name} to iommufd: {error}"))?;
    let mut alloc = IoasAlloc { size: size_of_argument::<IoasAlloc>(), ..IoasAlloc::default() };
    call(&iommufd, &mut alloc).map_err(|error| format!("an address space of iommufd: {error}"))?;
    let (argsz, ioas) = (size_of_argument::<Attach>(), alloc.out_ioas_id);
    let mut attach = Attach { argsz, flags: 0, pt_id: ioas };
    call(&device, &mut attach).map_err(|error| format!("attaching {name}: {error}"))?;
    Ok((AddressSpace::Iommufd { iommufd, ioas }, device))
}

impl Layout {
    /// Nothing is mapped. Addresses at which PCI functions answer are left out: a switch may send
    /// what goes there to them, and never to the IOMMU.
    pub(crate) fn new(windows: &[RangeInclusive<u64>]) -> Layout {
        let mut free = vec![(FIRST_IOVA, LAST_IOVA - FIRST_IOVA)];
        for window in windows {
            leave_out(&mut free, window);
        }
        Layout { free, mapped: Vec::new() }
    }

    /// Lets the function reach `bytes` bytes at `address`: where it finds them.
    pub(crate) fn map(
        &mut self,
        space: &AddressSpace,
        address: u64,
        bytes: u64,
    ) -> io::Result<u64> {
        let iova = match space {
            AddressSpace::Container { .. } => {
                let iova = take(&mut self.free, bytes).ok_or(io::ErrorKind::OutOfMemory)?;
                let mapped = space.map(address, bytes, Some(iova));
                mapped.inspect_err(|_| give(&mut self.free, iova, bytes))?
            }
            // It knows which addresses the machine keeps for itself.
            AddressSpace::Iommufd { .. } => space.map(address, bytes, None)?,
        };
        self.mapped.push(Mapped { address, bytes, iova });
        Ok(iova)
    }

    /// Takes back what [`Layout::map`] gave, from the function too where it is there.
    pub(crate) fn unmap(&mut self, space: Option<&AddressSpace>, iova: u64, bytes: u64) {
        let Some(at) = self.mapped.iter().position(|mapped| mapped.iova == iova) else { return };
        // The kernel refuses what was not mapped so; then nothing is lost but address space.
        if space.is_none_or(|space| space.unmap(iova, bytes).is_ok()) {
            self.mapped.swap_remove(at);
            if self.is_ours(iova) {
                give(&mut self.free, iova, bytes);
            }
        }
    }

    /// Whether an address is one of those that we chose.
    fn is_ours(&self, iova: u64) -> bool {
        (FIRST_IOVA..LAST_IOVA).contains(&iova)
            && self.free.iter().all(|(first, length)| iova < *first || iova >= first + length)
    }

    /// Lets a function that has come back reach what it reached before, where it was.
    pub(crate) fn map_again(&self, space: &AddressSpace) -> io::Result<()> {
        self.mapped.iter().try_for_each(|mapped| {
            space.map(mapped.address, mapped.bytes, Some(mapped.iova)).map(drop)
        })
    }
}

impl AddressSpace {
    /// Maps at `iova`, or where the kernel likes it.
    fn map(&self, address: u64, bytes: u64, iova: Option<u64>) -> io::Result<u64> {
        match self {
            AddressSpace::Container { container, .. } => {
                let iova = iova.expect("a container has no addresses of its own");
                let (argsz, size) = (size_of_argument::<MapDma>(), bytes);
                call(container, &mut MapDma { argsz, flags: 3, address, iova, size })?;
                Ok(iova)
            }
            AddressSpace::Iommufd { iommufd, ioas } => {
                let mut map = IoasMap {
                    size: size_of_argument::<IoasMap>(),
                    flags: 2 | 4 | u32::from(iova.is_some()),
                    ioas_id: *ioas,
                    address,
                    length: bytes,
                    iova: iova.unwrap_or(0),
                    ..IoasMap::default()
                };
                call(iommufd, &mut map)?;
                Ok(map.iova)
            }
        }
    }

    fn unmap(&self, iova: u64, bytes: u64) -> io::Result<()> {
        match self {
            AddressSpace::Container { container, .. } => {
                let (argsz, size) = (size_of_argument::<UnmapDma>(), bytes);
                call(container, &mut UnmapDma { argsz, flags: 0, iova, size })
            }
            AddressSpace::Iommufd { iommufd, ioas } => {
                let (size, ioas_id) = (size_of_argument::<IoasUnmap>(), *ioas);
                call(iommufd, &mut IoasUnmap { size, ioas_id, iova, length: bytes })
            }
        }
    }
}

/// The addresses at which PCI functions answer, or may later, as `/proc/iomem` names them. Without
/// privileges it shows no addresses.
pub(crate) fn pci_windows(iomem: &str) -> Vec<RangeInclusive<u64>> {
    let window = |line: &str| {
        let (range, name) = line.split_once(" : ")?;
        let (first, last) = range.trim().split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        name.starts_with("PCI ").then_some(hex(first)?..=hex(last)?)
    };
    iomem.lines().filter_map(window).collect()
}

/// Takes a window out of the free pieces.
fn leave_out(free: &mut Vec<(u64, u64)>, window: &RangeInclusive<u64>) {
    let (begin, end) = (*window.start(), window.end().saturating_add(1));
    let parts = |&(first, length): &(u64, u64)| {
        let before = (first, begin.min(first + length).saturating_sub(first));
        let after_first = end.max(first);
        let after = (after_first, (first + length).saturating_sub(after_first));
        [before, after]
    };
    *free = free.iter().flat_map(parts).filter(|(_, length)| *length > 0).collect();
}

/// Takes `bytes` from the first piece that is as long.
fn take(free: &mut Vec<(u64, u64)>, bytes: u64) -> Option<u64> {
    let at = free.iter().position(|(_, length)| *length >= bytes)?;
    let (first, length) = free[at];
    match length - bytes {
        0 => drop(free.remove(at)),
        rest => free[at] = (first + bytes, rest),
    }
    Some(first)
}

/// Gives a piece back, and joins it with its neighbours.
fn give(free: &mut Vec<(u64, u64)>, first: u64, bytes: u64) {
    let at = free.partition_point(|(other, _)| *other < first);
    free.insert(at, (first, bytes));
    if at + 1 < free.len() && first + bytes == free[at + 1].0 {
        free[at].1 += free.remove(at + 1).1;
    }
    if at > 0 && free[at - 1].0 + free[at - 1].1 == first {
        free[at - 1].1 += free.remove(at).1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_of_functions_are_left_out() {
        let iomem = "00001000-0009fbff : System RAM\n80000000-febfffff : PCI Bus 0000:00\n  \
                     fe000000-fe003fff : 0000:00:03.0\n100000000-1ffffffff : PCI Bus 0000:00\n\
                     4000000000-47ffffffff : PCI Bus 0000:00\nx-y : PCI nothing\n";
        let windows = pci_windows(iomem);
        assert_eq!(windows.len(), 3);
        let layout = Layout::new(&windows);
        let (low, high) = (0x2_0000_0000, 0x48_0000_0000);
        assert_eq!(layout.free, [(low, 0x40_0000_0000 - low), (high, LAST_IOVA - high)]);
        assert_eq!(Layout::new(&[0..=u64::MAX]).free, []);
    }

    proptest! {
        #[test]
        fn addresses_are_given_once_and_come_back(
            ops in prop::collection::vec((any::<bool>(), 1..9u64, any::<prop::sample::Index>()), 1..200),
        ) {
            let all = vec![(100, 40)];
            let mut free = all.clone();
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (is_take, bytes, index) in ops {
                if is_take {
                    if let Some(first) = take(&mut free, bytes) {
                        let apart = |(at, len): &(u64, u64)| first + bytes <= *at || at + len <= first;
                        prop_assert!(first >= 100 && first + bytes <= 140 && held.iter().all(apart));
                        held.push((first, bytes));
                    }
                } else if !held.is_empty() {
                    let (first, bytes) = held.swap_remove(index.index(held.len()));
                    give(&mut free, first, bytes);
                }
                let sum = |list: &[(u64, u64)]| list.iter().map(|(_, len)| len).sum::<u64>();
                prop_assert_eq!(sum(&free) + sum(&held), 40);
            }
            for (first, bytes) in held {
                give(&mut free, first, bytes);
            }
            prop_assert_eq!(free, all);
        }
    }
}
