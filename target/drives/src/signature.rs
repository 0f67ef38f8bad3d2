//! What other systems write on a disk, so that nothing of theirs is overwritten.

/// Reads `bytes.len()` bytes at an offset; `false` when they cannot be read.
pub(crate) type Read<'a> = dyn FnMut(u64, &mut [u8]) -> bool + 'a;

/// A mark: at which offset, which bytes, and whose.
type Mark = (u64, &'static [u8], &'static str);

/// What our own mark stands for.
pub(crate) const OURS: &str = "a Forebay pool";

/// Marks at fixed places from the start.
const MARKS: [Mark; 21] = [
    (0, b"FOREBAY", OURS),
    (0, b"LUKS\xba\xbe", "LUKS encryption"),
    (0, b"XFSB", "an XFS file system"),
    (0, b"bluestore block device", "a Ceph OSD"),
    (0, b"\xfc\x4e\x2b\xa9", "an md array"),
    (3, b"NTFS    ", "an NTFS file system"),
    (54, b"FAT", "a FAT file system"),
    (82, b"FAT32", "a FAT file system"),
    (512, b"EFI PART", "a partition table (GPT)"),
    (1024, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    (4086, b"SWAPSPACE2", "swap space"),
    (4086, b"SWAP-SPACE", "swap space"),
    (4096, b"EFI PART", "a partition table (GPT)"),
    (4096, b"\xfc\x4e\x2b\xa9", "an md array"),
    (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "bcache"),
    (0x8001, b"CD001", "an ISO 9660 file system"),
    (0x10000, b"ReIsEr", "a ReiserFS file system"),
    (0x10034, b"ReIsEr", "a ReiserFS file system"),
    (0x10040, b"_BHRfS_M", "a btrfs file system"),
    (0x1018, b"OCFSV2", "an OCFS2 file system"),
];

/// Whose mark is on a disk of `bytes` bytes, if anybody's is.
pub(crate) fn signature(bytes: u64, read: &mut Read<'_>) -> Option<&'static str> {
    MARKS
        .iter()
        .find(|(at, mark, _)| has(read, *at, mark))
        .map(|(_, _, whose)| *whose)
        .or_else(|| lvm(read))
        .or_else(|| zfs(read))
        .or_else(|| md_at_the_end(bytes, read))
        .or_else(|| mbr(read))
}

fn has(read: &mut Read<'_>, at: u64, mark: &[u8]) -> bool {
    let mut found = [0; 32];
    let found = &mut found[..mark.len()];
    read(at, found) && found == mark
}

/// A label in one of the first four sectors.
fn lvm(read: &mut Read<'_>) -> Option<&'static str> {
    let is_there = (0..4).any(|sector| has(read, sector * 512, b"LABELONE"));
    is_there.then_some("an LVM physical volume")
}

/// An uberblock in the first label, of either byte order.
fn zfs(read: &mut Read<'_>) -> Option<&'static str> {
    let (first, step) = (128 << 10, 1 << 10);
    let mut is_there = |at: u64| {
        has(read, at, &0x00ba_b10c_u64.to_le_bytes())
            || has(read, at, &0x00ba_b10c_u64.to_be_bytes())
    };
    (0..128).any(|slot| is_there(first + slot * step)).then_some("a ZFS pool")
}

/// Superblocks of versions 0.90 and 1.0.
fn md_at_the_end(bytes: u64, read: &mut Read<'_>) -> Option<&'static str> {
    let old = (bytes & !0xffff).checked_sub(0x1_0000);
    let new = (bytes & !0xfff).checked_sub(0x2000);
    let is_there = [old, new].into_iter().flatten().any(|at| has(read, at, b"\xfc\x4e\x2b\xa9"));
    is_there.then_some("an md array")
}

/// A boot record with at least one partition.
fn mbr(read: &mut Read<'_>) -> Option<&'static str> {
    let mut sector = [0; 512];
    if !read(0, &mut sector) || sector[510..] != [0x55, 0xaa] {
        return None;
    }
    let kinds = (0..4).map(|entry| sector[446 + entry * 16 + 4]);
    kinds.into_iter().any(|kind| kind != 0).then_some("a partition table (MBR)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(disk: &[u8]) -> Option<&'static str> {
        signature(disk.len() as u64, &mut |at, into| {
            let Some(from) = disk.get(at as usize..at as usize + into.len()) else { return false };
            into.copy_from_slice(from);
            true
        })
    }

    #[test]
    fn each_mark_is_seen_and_an_empty_disk_has_none() {
        let empty = vec![0; 1 << 20];
        assert_eq!(whose(&empty), None);
        assert_eq!(whose(&[0; 100]), None);
        for (at, mark, expected) in MARKS {
            let mut disk = empty.clone();
            disk[at as usize..at as usize + mark.len()].copy_from_slice(mark);
            assert_eq!(whose(&disk), Some(expected));
        }
        for (at, mark, expected) in [
            (1024, &b"LABELONE"[..], "an LVM physical volume"),
            ((128 << 10) + 7 * 1024, &0x00ba_b10c_u64.to_be_bytes(), "a ZFS pool"),
            ((1 << 20) - 0x1_0000, b"\xfc\x4e\x2b\xa9", "an md array"),
            ((1 << 20) - 0x2000, b"\xfc\x4e\x2b\xa9", "an md array"),
        ] {
            let mut disk = empty.clone();
            disk[at..at + mark.len()].copy_from_slice(mark);
            assert_eq!(whose(&disk), Some(expected));
        }
        let mut disk = empty;
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        assert_eq!(whose(&disk), None, "a boot record without partitions");
        disk[446 + 16 + 4] = 0x83;
        assert_eq!(whose(&disk), Some("a partition table (MBR)"));
    }
}
