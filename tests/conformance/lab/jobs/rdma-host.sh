# A stock host of rdma-target.sh over soft-RoCE.
modprobe rdma_rxe
modprobe nvme-rdma
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
    judge "$1-1m-qd16" run d1m "$disk" --bs=1m --rw=randwrite --iodepth=16 --size=32m
}

live() { grep -q live /sys/class/nvme/nvme*/state && ! grep -qv live /sys/class/nvme/nvme*/state; }
connect() { nvme connect -t rdma $at -n "$MAIN" --queue-size=128 --keep-alive-tmo=4 --reconnect-delay=1 --ctrl-loss-tmo=120; }

judge connect-1024 connect
judge round-1024 until_true 30 live
round mtu-1024
check disconnect-1024 nvme disconnect -n "$MAIN"
call tell mtu
call await mtu-set
ip link set eth1 mtu 4300
judge connect-4096 connect
round mtu-4096

# Disconnected in mid-transfer, by the host's own choice.
disk=$(device_of "$MAIN" 1)
run gone "$disk" --bs=64k --rw=write --iodepth=32 --size=64m --do_verify=0 --time_based --runtime=30 >/out/gone 2>&1 &
sleep 3
check disconnect-under-load nvme disconnect -n "$MAIN"
wait $!
judge reconnect connect
disk=$(device_of "$MAIN" 1)
judge after-disconnect run after "$disk" --bs=64k --rw=randwrite --iodepth=16 --size=8m

# Two paths, one of each fabric, used at the same time; one is taken away under load.
check second-path nvme connect -t tcp $at -n "$MAIN" --keep-alive-tmo=4 --reconnect-delay=1
nvme list-subsys >/out/paths 2>&1
saw paths-rdma paths 'rdma .*live'
saw paths-tcp paths 'tcp .*live'
for one in /sys/class/nvme-subsystem/*; do echo round-robin >"$one/iopolicy"; done
disk=$(device_of "$MAIN" 1)
judge two-paths run two "$disk" --bs=4k-128k --bsrange=4k-128k --blockalign=4k --rw=randwrite --iodepth=32 --size=16m
over_rdma=$(for one in /sys/class/nvme/nvme*; do [ "$(cat "$one/transport")" = rdma ] && echo "/dev/${one##*/}"; done)
run one "$disk" --bs=16k --rw=randwrite --iodepth=16 --size=8m --loops=4 >/out/one 2>&1 &
one=$!
sleep 2
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
