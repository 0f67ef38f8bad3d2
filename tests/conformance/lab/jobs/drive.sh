# Our own NVMe driver against emulated drives behind an emulated IOMMU.
modprobe nvme
modprobe vfio_iommu_type1
modprobe vfio-pci
modprobe uio_pci_generic
echo 60 >/proc/sys/vm/nr_hugepages

all_there() { [ -b "$(disk FAST)" ] && [ -b "$(disk SLOW)" ] && [ -b "$(disk USED)" ]; }
judge kernel-has-them until_true 60 all_there
FAST=$(pci FAST) SLOW=$(pci SLOW) USED=$(pci USED)

check list-before /drive list
note "$(head -1 /out/list-before)"
refuse bind-other 'no NVMe controller' /drive bind 0000:00:00.0

mkfs.ext4 -q "$(disk USED)" >/dev/null 2>&1
refuse used-marked 'ext2, ext3 or ext4' /drive bind "$USED"
modprobe ext4
mount "$(disk USED)" /mnt
refuse used-mounted 'is mounted at /mnt' /drive bind "$USED"
check used-stays test "$(pci USED)" = "$USED"
umount /mnt

reads() { # reads DEPTH: what the kernel's own driver reaches
    timeout 60 fio --name=r --filename="$(disk FAST)" --rw=randread --bs=4k --size=16m --direct=1 \
        --ioengine=io_uring --iodepth="$1" --time_based --runtime=3 --output-format=terse \
        --terse-version=3 2>/dev/null | cut -d';' -f8
}
if [ "$LOAD" = long ]; then KERNEL1=$(reads 1) KERNEL32=$(reads 32); fi

check bind /drive bind "$FAST"
check bind-slow /drive bind "$SLOW"
judge verify timeout 300 /drive verify "$FAST"
saw verify-identity verify 'serial: "FAST"'
saw verify-hugepages verify 'memory in 2 MiB hugepages'
saw verify-polled verify '^polled: ok'
saw verify-interrupts verify '^interrupts: ok, woken [1-9]'
saw verify-reset verify '^reset under load: ok'
saw verify-zeroes verify '^zeroes: ok'
saw verify-smart verify '^smart: 3[0-9][0-9] K'
note "$(grep -E '^(opened|vectors|interrupts|reset|counts)' /out/verify | tr '\n' ';')"

ours() { timeout 60 /drive bench "$FAST" "$1" 3 | sed -n 's/^iops //p'; }
[ "$LOAD" = long ] && OURS1=$(ours 1) && OURS32=$(ours 32) && note "IOPS under emulation, ours and the kernel's with io_uring: depth 1 $OURS1 $KERNEL1, depth 32 $OURS32 $KERNEL32"

timeout 200 /drive slow "$SLOW" >/out/slow 2>&1
saw slow-all-ended slow '^all ended'
saw slow-was-reset slow 'resets: [1-9]'
saw slow-works-afterwards slow '^afterwards: Ready'
note "$(grep -E '^(all ended|afterwards)' /out/slow | tr '\n' ';')"

refuse uio-refused-under-vfio 'is not with uio_pci_generic' /drive verify "$FAST" --unsafe-no-iommu
check unbind /drive unbind "$FAST"
fast_is_back() { [ -b "$(disk FAST)" ]; }
until_true 30 fast_is_back
judge kernel-reads-the-same /drive compare "$(disk FAST)"

uio() {
    /drive bind "$FAST" --unsafe-no-iommu && timeout 300 /drive verify "$FAST" --unsafe-no-iommu &&
        /drive unbind "$FAST"
}
judge uio uio
dmesg | grep -iE 'dmar:.*fault|bug:|warning:|call trace' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
[ -s /tmp/splat ] && note "$(head -3 /tmp/splat | tr '\n' ' ')"
