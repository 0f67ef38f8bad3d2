# The appliance itself, in a guest with emulated drives behind an emulated IOMMU. Another guest is
# its host (local-host.sh).
modprobe nvme
modprobe vfio_iommu_type1
modprobe vfio-pci
modprobe ext4
echo 80 >/proc/sys/vm/nr_hugepages
export FOREBAY_DATA_DIR=/data HOME=/root
mkdir -p /data

all_there() {
    for one in ONE TWO RAW USED; do [ -b "$(disk $one)" ] || return 1; done
    [ -n "$(pci ODD)" ]
}
judge kernel-has-them until_true 60 all_there
ONE=$(pci ONE) TWO=$(pci TWO) RAW=$(pci RAW) USED=$(pci USED) ODD=$(pci ODD)
mkfs.ext4 -q "$(disk USED)" >/dev/null 2>&1
mount "$(disk USED)" /mnt

check drives forebay device drives
saw drives-model drives "$ONE +nvme .*QEMU NVMe Ctrl +ONE .*good, 0% used, [0-9]+ C +nothing known"
saw drives-content drives "$USED .*is mounted at /mnt"
refuse bind-mounted 'is mounted at /mnt, .*say --force' forebay device bind "$USED"
umount /mnt
refuse bind-marked 'holds an ext2, ext3 or ext4 file system; say --force' forebay device bind "$USED"
refuse bind-absent 'There is no PCI function' forebay device bind 0000:00:1e.7
check bind forebay device bind "$ONE"
forebay device drives >/out/bound 2>&1
saw bind-shown bound "$ONE +vfio-pci"

cat >/forebay.toml <<END
data_dir = "/data"
[reactors]
memory = "64MiB"
[[listener]]
address = "0.0.0.0:4420"
END
serve() {
    forebay serve --config /forebay.toml >>/out/stdout 2>>/out/log &
    SERVE=$!
    until_true 60 forebay status
}
judge serve serve
refuse pool-of-used 'holds an ext2, ext3 or ext4 file system' \
    forebay pool create tank "pci:$ONE" "pci:$USED" --yes
forebay device drives >/out/drives-after 2>&1
saw used-stays drives-after "$USED +nvme "
check pool forebay pool create tank "pci:$ONE" "pci:$TWO" --yes
check volume forebay volume create tank/vol 32MiB --allow-any-host
check attach forebay device attach "pci:$RAW" --name raw
check subsystem forebay subsystem create "$MAIN" --allow-any-host
check export-whole forebay namespace add "$MAIN" --device raw
check devices forebay device list
saw devices-listed devices "nvme +pci:$TWO .*tank"
health() { forebay device show raw | grep -q 'health .*good'; }
judge health-read until_true 60 health
check show forebay device show raw
saw show-serial show 'serial +RAW'
saw show-driver show 'driver +vfio-pci'
check health forebay device health raw
saw health-temperature health 'temperature +[2-9][0-9] C'
saw health-format health 'format +blocks of 512 bytes, 0 of metadata, rank [0-3], in use'
note "$(tr -s ' ' </out/show | tr '\n' ';')"
call tell served

# Blocks with metadata, as drives out of other appliances have them.
refuse format-attached 'is attached as raw: detach it first' \
    forebay device format "$RAW" --force --yes
refuse format-used 'holds an ext2, ext3 or ext4 file system; say --force' \
    forebay device format "$USED" --yes
refuse sanitize-unknown 'no Sanitize at all' \
    forebay device sanitize "$ODD" --action block-erase --yes
refuse odd-attach 'format it to 512 or 4096 bytes without metadata' \
    forebay device attach "pci:$ODD" --name odd
refuse odd-format-odd 'block_bytes is 1024' forebay device format "$ODD" --block 1024 --yes
check odd-format forebay device format "$ODD" --block 4096 --wait --yes
odd_is_back() { [ -b "$(disk ODD)" ]; }
judge odd-is-back until_true 30 odd_is_back
block_bytes() { cat "/sys/block/$(basename "$(disk ODD)")/queue/logical_block_size"; }
judge odd-blocks test "$(block_bytes)" = 4096
check odd-attached forebay device attach "pci:$ODD" --name odd
forebay device show odd >/out/odd 2>&1
saw odd-shown odd 'block +4096 bytes'
check drives-by-api forebay device drives --api http://127.0.0.1:4480 --token-file /data/admin.token
saw drives-attached drives-by-api "$ODD +vfio-pci .*QEMU NVMe Ctrl +ODD .*good, .*attached as odd"
check jobs forebay jobs
saw jobs-format jobs "format +drive $ODD +100%.*done: the drive has done it"

call await verified
status_of() { forebay device list | grep -qE "pci:$1 .*$2"; }
back() { echo 1 >/sys/bus/pci/rescan; }

call await raw-load
judge raw-out timeout 60 sh -c "echo 1 >/sys/bus/pci/devices/$RAW/remove"
judge raw-is-failed until_true 20 status_of "$RAW" 'taken out of the machine'
# Devices are asked for, alerts are raised by a look each second.
alerted() { forebay alerts | grep -q 'drive of device raw failed'; }
judge raw-alert until_true 20 alerted
back
judge raw-is-back until_true 60 status_of "$RAW" 'ok'
call tell raw-back

pool_ok() { forebay pool show tank | grep -qE '^status +ok'; }
call await pool-load
# Out of its slot: the machine asks the kernel, and the kernel asks us.
judge member-out call unplug TWO
judge member-is-failed until_true 30 status_of "$TWO" 'taken out of the machine'
# Its metadata is written as the host writes on.
pool_is_not() { ! pool_ok; }
until_true 20 pool_is_not || note "the pool has not failed"
plug() { call plug TWO || { echo "$reply"; return 1; }; }
judge member-in until_true 60 plug
judge member-is-back until_true 60 status_of "$TWO" 'ok'
judge pool-is-back until_true 60 pool_ok
forebay pool show tank >/out/pool-after 2>&1
note "$(tr -s ' ' </out/pool-after | tr '\n' ';' | cut -c1-600)"
call tell member-back

call await over
check still-serving kill -0 "$SERVE"
kill -TERM "$SERVE"
ended() { ! kill -0 "$SERVE" 2>/dev/null; }
judge ends until_true 60 ended
grep -hE 'panicked|could not be flushed' /out/log /out/stdout >/tmp/complaints
check forebay-is-calm test ! -s /tmp/complaints
forebay device drives >/out/at-the-end 2>&1
saw stays-bound at-the-end "$RAW +vfio-pci"
check unbind forebay device unbind "$RAW"
raw_is_back() { [ -b "$(disk RAW)" ]; }
judge kernel-has-it-back until_true 30 raw_is_back
dmesg | grep -iE 'dmar:.*fault|bug:|warning:|call trace' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
[ -s /tmp/splat ] && note "$(head -3 /tmp/splat | tr '\n' ' ')"
note "$(grep -E 'WARN|ERROR' /out/log | tail -n 12 | cut -c1-200 | tr '\n' ';')"
