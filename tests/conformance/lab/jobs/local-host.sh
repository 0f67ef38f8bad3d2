# A host of the appliance of local-drives.sh.
at="-t tcp -a $ADDRESS -s $PORT"
VOLUME=nqn.2026-01.io.forebay:tank:vol
call await served
check connect-volume nvme connect $at -n "$VOLUME" --ctrl-loss-tmo=60
check connect-raw nvme connect $at -n "$MAIN" --ctrl-loss-tmo=60
vol=$(device_of "$VOLUME" 1)
raw=$(device_of "$MAIN" 1)

# run NAME DISK OPTIONS...: fio.
run() {
    label=$1 disk=$2
    shift 2
    timeout 300 fio --name="$label" --filename="$disk" --ioengine=libaio --direct=1 \
        --randrepeat=1 --output="/out/fio-$label" "$@" 2>&1
}
written="--rw=randwrite --bs=4k-64k --blockalign=4k --iodepth=16 --size=12m --verify=crc32c --verify_fatal=1 --verify_dump=0"
judge verify-volume run volume "$vol" $written --do_verify=1
judge verify-raw run raw "$raw" $written --do_verify=1
call tell verified

# The drive has a bad sector behind what was written.
dmesg -c >/dev/null
if dd if="$raw" of=/dev/null bs=4k skip=$((24 * 256)) count=1 iflag=direct >/out/bad 2>&1; then
    fail bad-sector "it was read"
else ok bad-sector; fi
dmesg >/out/bad-kernel
saw bad-sector-status bad-kernel 'critical medium error'
check good-sector dd if="$raw" of=/dev/null bs=4k skip=$((20 * 256)) count=1 iflag=direct

# load NAME DISK: reads and writes past what is verified, whatever comes of it, until `enough`.
load() {
    run "$1" "$2" --rw=randrw --bs=4k --iodepth=8 --offset=12m --size=8m --time_based \
        --runtime=240 --continue_on_error=all >/out/load-$1 2>&1
}
# On SIGINT fio waits for its own end for ever, now and then, when all of its commands fail.
enough() { killall -KILL fio; wait "$1"; }

dmesg -c >/dev/null
load gone "$raw" &
load=$!
moved 50 $load
call tell raw-load
call await raw-back
enough $load
dmesg >/out/gone-kernel
saw raw-errors gone-kernel 'I/O error|Internal Error|critical'
check raw-still-there test -b "$raw"
judge raw-verified-again run again "$raw" $written --verify_only=1
# It was without power, so the next Flush cannot promise what was written before.
refuse raw-flush-tells 'internal' nvme flush "$raw" --namespace-id=1
check raw-flush nvme flush "$raw" --namespace-id=1
judge raw-written-again run anew "$raw" $written --do_verify=1

dmesg -c >/dev/null
load member "$vol" &
load=$!
moved 50 $load
call tell pool-load
call await member-back
enough $load
dmesg >/out/member-kernel
saw member-errors member-kernel 'I/O error|Internal Error|critical'
vol=$(device_of "$VOLUME" 1)
judge volume-verified-again run vagain "$vol" $written --verify_only=1
judge volume-written-again run vanew "$vol" $written --do_verify=1
check disconnect-volume nvme disconnect -n "$VOLUME"
check disconnect-raw nvme disconnect -n "$MAIN"
dmesg | grep -iE 'bug:|warning:|call trace' >/tmp/splat
check host-is-calm test ! -s /tmp/splat
call tell over
