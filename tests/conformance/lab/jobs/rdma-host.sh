# A stock host of rdma-target.sh over soft-RoCE.
modprobe rdma_rxe
modprobe nvme-rdma
modprobe ext4
ip addr add 192.168.77.2/24 dev eth1
ip link set eth1 up
at="-a 192.168.77.1 -s 4420"
call await served
check host-soft-roce rdma link add rxe0 type rxe netdev eth1
ready() { rdma link show rxe0/1 | grep -q 'state ACTIVE'; }
judge host-ready until_true 30 ready

check discover nvme discover -t rdma $at
saw discover-rdma discover 'trtype: +rdma'
saw discover-tcp discover 'trtype: +tcp'

# run NAME DISK OPTIONS...: fio.
run() {
    label=$1 disk=$2
    shift 2
    # Without the device fio would make a file of that name.
    [ -b "$disk" ] || { echo "no block device"; return 1; }
    timeout 200 fio --name="$label" --filename="$disk" --ioengine=libaio --direct=1 \
        --randrepeat=1 --verify=crc32c --verify_fatal=1 --verify_dump=0 "$@" 2>&1
}
# round NAME: the sizes and depths that matter, each read back.
round() {
    disk=$(device_of "$MAIN" 1)
    small=$(device_of "$MAIN" 2)
    judge "$1-512" run s512 "$small" --bs=512 --rw=randwrite --iodepth=32 --size=256k
    judge "$1-4k-qd1" run s4k "$disk" --bs=4k --rw=randwrite --iodepth=1 --size=256k
    judge "$1-4k-qd128" run d4k "$disk" --bs=4k --rw=randrw --iodepth=128 --size=4m --verify_backlog=128
    judge "$1-split-qd32" run split "$disk" --bsrange=4k-256k --blockalign=4k --rw=randwrite --iodepth=32 --size=8m
    judge "$1-1m-qd16" run d1m "$disk" --bs=1m --rw=randwrite --iodepth=16 --size="$(pick 32m 18m)"
}

live() { grep -q live /sys/class/nvme/nvme*/state && ! grep -qv live /sys/class/nvme/nvme*/state; }
connect() { nvme connect -t rdma $at -n "${1:-$MAIN}" --queue-size=128 --keep-alive-tmo=4 --reconnect-delay=1 --ctrl-loss-tmo=120; }

judge connect-1024 connect
judge round-1024 until_true 30 live
round mtu-1024
check disconnect-1024 nvme disconnect -n "$MAIN"
call tell mtu
call await mtu-set
ip link set eth1 mtu 4300
judge connect-4096 connect
round mtu-4096

# What hosts do over any transport.
patterns
disk=$(device_of "$MAIN" 1)
small=$(device_of "$MAIN" 2)
controller=$(controller_of "$MAIN")
judge connect-more connect "$MORE"
file=$(device_of "$MORE" 1)
bad=$(device_of "$MORE" 2)
check smart-log nvme smart-log "$controller"
check error-log nvme error-log "$controller" -e 4
check get-property nvme get-property "$controller" --offset=0x1c
check get-features nvme get-feature "$controller" -f 7 -H
refuse invalid-opcode "Invalid Command Opcode" nvme admin-passthru "$controller" --opcode=0x01
readback blkdiscard-4096 "$disk" /sbin/blkdiscard -o 0 -l 1048576
readback blkdiscard-512 "$small" /sbin/blkdiscard -o 0 -l 1048576
readback write-zeroes-4096 "$disk" /sbin/blkdiscard -z -o 0 -l 1048576
readback write-zeroes-512 "$small" /sbin/blkdiscard -z -o 0 -l 1048576
check flush nvme flush "$disk" -n 1
dd if=/tmp/pattern of="$small" bs=512 count=8 oflag=direct 2>/dev/null
check compare-equal nvme compare "$small" -n 2 -s 0 -c 7 -z 4096 -d /tmp/pattern
refuse compare-different "Compare Failure" nvme compare "$small" -n 2 -s 1 -c 7 -z 4096 -d /tmp/pattern
refuse beyond-the-end "LBA Out of Range" nvme read "$small" -n 2 -s 9999999 -c 0 -z 512 -d /tmp/beyond
refuse bad-read 'critical medium error' dd if="$bad" of=/dev/null bs=4096 skip=103 count=1 iflag=direct
check good-read dd if="$bad" of=/dev/null bs=4096 skip=108 count=92 iflag=direct
refuse unknown-refused "Connect Invalid Data Parameter, subsysnqn" nvme connect -t rdma $at -n "$MAIN-no"
call tell add
call await added
check hot-add-seen test -b "$(device_of "$MAIN" 3)"
hot=$(device_of "$MAIN" 3)
check hot-add-usable dd if=/tmp/pattern of="$hot" bs=65536 count=1 oflag=direct
call tell remove
call await removed
hot_is_gone() { [ ! -e "$hot" ]; }
judge hot-remove-seen until_true 30 hot_is_gone

# Killed and started again: under fio's verify, then under a file system.
run killed "$file" --bs=16k --rw=randwrite --iodepth=16 --size=24m --verify_backlog=64 >/out/killed 2>&1 &
fio=$!
moved 30 $fio
call tell kill-1
call await back-1
if wait $fio; then ok killed-verifies; else
    fail killed-verifies "$(grep -iE 'err|verify' /out/killed | head -4 | tr '\n' ' ')"
fi
judge live-again until_true 60 live
check ext4-mkfs mkfs.ext4 -q -F "$file"
mkdir -p /mnt/ext4
check ext4-mount mount -t ext4 "$file" /mnt/ext4
cp -r /usr/sbin /init /mnt/ext4/
sync
(cd /mnt/ext4 && find . -type f | sort | xargs sha256sum) >/tmp/sums
dd if=/dev/urandom of=/mnt/ext4/busy bs=65536 count=200 conv=fsync 2>/tmp/busy &
writing=$!
call tell kill-2
call await back-2
if wait $writing; then ok ext4-written; else fail ext4-written "$(tail -n 2 /tmp/busy)"; fi
judge live-once-more until_true 60 live
echo 3 >/proc/sys/vm/drop_caches
check ext4-tree sh -c "cd /mnt/ext4 && sha256sum -c /tmp/sums >/dev/null"
check ext4-umount umount /mnt/ext4
check ext4-fsck fsck.ext4 -f -n "$file"
check disconnect-more nvme disconnect -n "$MORE"

# Disconnected in mid-transfer, by the host's own choice.
disk=$(device_of "$MAIN" 1)
run gone "$disk" --bs=64k --rw=write --iodepth=32 --size=64m --do_verify=0 --time_based --runtime=30 >/out/gone 2>&1 &
moved 30 $!
check disconnect-under-load nvme disconnect -n "$MAIN"
wait $!
judge reconnect connect
disk=$(device_of "$MAIN" 1)
judge after-disconnect run after "$disk" --bs=64k --rw=randwrite --iodepth=16 --size=8m

# Two paths, one of each fabric, used at the same time; one is taken away under load.
check second-path nvme connect -t tcp $at -n "$MAIN" --keep-alive-tmo=4 --reconnect-delay=1
path_lives() { nvme list-subsys | grep -q "$1 .*live"; }
judge paths-rdma until_true 30 path_lives rdma
judge paths-tcp until_true 30 path_lives tcp
# Both say the same of what is there, but for their own numbers, what fits in a capsule and keys.
says() {
    for what in id-ctrl list-ns ana-log fw-log; do nvme $what "$1" -o json; done |
        grep -v -e '"cntlid"' -e '"ioccsz"' -e '"sgls"' | sed "s/${1##*/}//"
}
for one in /sys/class/nvme/nvme*; do says "/dev/${one##*/}" >"/out/says-$(cat "$one/transport")" 2>&1; done
grep -q '"sn"' /out/says-rdma && cmp /out/says-rdma /out/says-tcp >/out/said 2>&1
if [ $? = 0 ]; then ok both-say-the-same; else
    fail both-say-the-same "$(diff /out/says-rdma /out/says-tcp | head -n 6)"
fi
for one in /sys/class/nvme-subsystem/*; do echo round-robin >"$one/iopolicy"; done
disk=$(device_of "$MAIN" 1)
judge two-paths run two "$disk" --bs=4k-128k --bsrange=4k-128k --blockalign=4k --rw=randwrite --iodepth=32 --size=16m
over_rdma=$(for one in /sys/class/nvme/nvme*; do [ "$(cat "$one/transport")" = rdma ] && echo "/dev/${one##*/}"; done)
run one "$disk" --bs=16k --rw=randwrite --iodepth=16 --size=8m --loops=4 >/out/one 2>&1 &
one=$!
moved 30 $one
check one-path-less nvme disconnect -d "$over_rdma"
if wait $one; then ok one-path-verifies; else
    fail one-path-verifies "$(grep -iE 'err|verify' /out/one | head -4 | tr '\n' ' ')"
fi
check disconnect-all nvme disconnect -n "$MAIN"
call tell cycles
call await weighed
began=$(uptime_seconds)

# Nothing is left behind by many connections.
failed=0
i=0
while [ $i -lt "$CYCLES" ]; do
    nvme connect -t rdma $at -n "$MAIN" --queue-size=16 >/dev/null 2>&1 || failed=$((failed + 1))
    nvme disconnect -n "$MAIN" >/dev/null 2>&1 || failed=$((failed + 1))
    i=$((i + 1))
done
note "$failed of $i cycles failed, in $(($(uptime_seconds) - began)) s"
check every-cycle test $failed = 0
dmesg | grep -iE 'bug:|call trace' >/tmp/splat
check host-is-calm test ! -s /tmp/splat
call tell over
