# Our initiator over soft-RoCE, against both targets of rdma-peers.sh.
modprobe rdma_rxe
modprobe rdma_ucm
modprobe ib_uverbs
export HOME=/root
ip addr add 192.168.77.2/24 dev eth1
ip link set eth1 up
ours=192.168.77.1:4420
kernel=192.168.77.1:4422
over="--transport rdma"
call await served
refuse off-says-why 'RDMA is off: this machine has no RDMA device' forebay discover $ours $over
check host-soft-roce rdma link add rxe0 type rxe netdev eth1
# The device is active before the way to the other guest is found: what it asks meanwhile is lost.
ready() { rdma link show rxe0/1 | grep -q 'state ACTIVE' && forebay discover $ours; }
judge host-ready until_true 30 ready
# All queue pairs, and what else our initiator has of the device: the kernel's keeps a few things.
held() {
    rdma resource show qp | wc -l
    for kind in pd cq mr srq; do rdma resource show $kind | grep -c forebay; done
}
same() { held >/out/held-now; [ "$(held)" = "$(cat /out/held)" ]; }
held >/out/held

# all NAME ADDRESS NQN: everything that the initiator does.
all() {
    check "$1-discover" forebay discover "$2" $over
    saw "$1-discovers" "$1-discover" "rdma +192.168.77.1 .*$3"
    check "$1-identify" forebay identify "$2" $over --nqn "$3"
    io="$2 $over --nqn $3"
    check "$1-512" forebay io write $io --nsid 2 --size 512 --depth 32 --length 256KiB --seed 1
    check "$1-512-verify" forebay io verify $io --nsid 2 --size 512 --depth 32 --length 256KiB --seed 1
    check "$1-qd128" forebay io write $io --size 4KiB --depth 128 --length 4MiB --seed 2
    check "$1-qd128-verify" forebay io verify $io --size 4KiB --depth 128 --length 4MiB --seed 2
    check "$1-odd" forebay io write $io --size 20KiB --depth 16 --length 5MiB --offset 8MiB --seed 3
    check "$1-odd-verify" forebay io verify $io --size 20KiB --depth 16 --length 5MiB --offset 8MiB --seed 3
    check "$1-1m" forebay io write $io --size 1MiB --depth 16 --length 32MiB --offset 16MiB --seed 4
    check "$1-1m-verify" forebay io verify $io --size 1MiB --depth 16 --length 32MiB --offset 16MiB --seed 4
    refuse "$1-nothing-else" 'is wrong' forebay io verify $io --size 4KiB --depth 8 --length 1MiB --seed 9
    failed=0
    i=0
    while [ $i -lt "$CYCLES" ]; do
        forebay io read $io --size 4KiB --depth 8 --length 32KiB >/out/cycle 2>&1 || failed=$((failed + 1))
        i=$((i + 1))
    done
    check "$1-cycles" test $failed = 0
    judge "$1-all-back" until_true 30 same
    note "$1: $(cat "/out/$1-qd128" "/out/$1-1m" "/out/$1-1m-verify" | tr '\n' ';')"
}
all ours $ours "$MAIN"
all kernel $kernel "$KERNEL"
# What went over RDMA is there over TCP.
check over-tcp forebay io verify $ours --nqn "$MAIN" --size 1MiB --depth 8 --length 32MiB --offset 16MiB --seed 4

refuse nobody-listens 'nothing there takes connections over RDMA' forebay discover 192.168.77.1:4499 $over
refuse no-subsystem 'there is no subsystem' forebay identify $ours $over --nqn "$MAIN-none"
refuse no-way 'over RDMA' forebay discover 192.168.99.1:4420 $over
call tell done

# No receive for the answer: the target's SEND fails, and it serves the others.
call await mute
mute-host $ours 40 >/out/mute 2>&1 &
mute=$!
check mute-others forebay io verify $ours $over --nqn "$MAIN" --size 4KiB --depth 32 --length 4MiB --seed 2
if wait $mute; then ok mute-ends; else fail mute-ends "$(cat /out/mute)"; fi
note "mute $(cat /out/mute)"
call tell muted
call await mute-weighed

# The cable is out in mid-transfer: our initiator, and a stock host with each target.
modprobe nvme-rdma
at="-t rdma -a 192.168.77.1 --keep-alive-tmo=4 --reconnect-delay=1 --ctrl-loss-tmo=300 --queue-size=32"
check stock-ours nvme connect $at -s 4420 -n "$MAIN"
check stock-kernel nvme connect $at -s 4422 -n "$KERNEL"
stock_ours=$(device_of "$MAIN" 2)
stock_kernel=$(device_of "$KERNEL" 2)
# stock NAME DISK: fio, which reads back what it wrote.
stock() {
    [ -b "$2" ] || { echo "no block device"; return 1; }
    timeout 200 fio --name="$1" --filename="$2" --ioengine=libaio --direct=1 --randrepeat=1 \
        --verify=crc32c --verify_fatal=1 --verify_dump=0 --bs=16k --rw=randwrite --iodepth=8 --size=5m
}
own() { timeout 200 forebay io "$1" $ours $over --nqn "$MAIN" --size 16KiB --depth 8 --length 12MiB --seed $seed; }
# Our initiator has both its queues, beside those of the stock host.
connected() { [ "$(rdma resource show qp | wc -l)" -ge $((stock_queues + 2)) ]; }
stock_queues=$(rdma resource show qp | wc -l)
# outage NAME: loads by all three, and `pause` once they flow.
outage() {
    own write >"/out/$1-own-ours" 2>&1 & a=$!
    stock "$1" "$stock_ours" >"/out/$1-stock-ours" 2>&1 & c=$!
    stock "$1" "$stock_kernel" >"/out/$1-stock-kernel" 2>&1 & d=$!
    judge "$1-connected" until_true 30 connected
    moved 30 $c
    if call cable out; then ok "$1-out"; else fail "$1-out" "$reply"; fi
    pause
    if call cable in; then ok "$1-in"; else fail "$1-in" "$reply"; fi
    began=$(uptime_seconds)
    for pair in own-ours:$a stock-ours:$c stock-kernel:$d; do
        if wait "${pair#*:}"; then ok "$1-${pair%:*}"; else
            fail "$1-${pair%:*}" "$(tail -n 4 "/out/$1-${pair%:*}" | cut -c1-300)"
        fi
    done
    note "$1: all over $(($(uptime_seconds) - began)) s after the cable was in"
    judge "$1-own-ours-verify" own verify
}
# Shorter than anybody's patience; then until both targets have given every queue pair up.
pause() { sleep 1; }
seed=21
outage blink
pause() { call tell cable-out; call await given-up; }
seed=22
outage cable
nvme list-subsys >/out/subsystems 2>&1
saw stock-live subsystems 'rdma .*live'
check stock-gone-ours nvme disconnect -n "$MAIN"
check stock-gone-kernel nvme disconnect -n "$KERNEL"
call tell links
judge host-all-back until_true 30 same
note "$(rdma resource show | tr '\n' ' ')"
dmesg | grep -iE 'bug:|call trace' >/tmp/splat
check host-is-calm test ! -s /tmp/splat
