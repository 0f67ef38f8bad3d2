# A host and the kernel's own target in one guest; between them, on the machine, the recorder that
# $ADDRESS:$PORT leads to. Walks through what a host sends.
SUBSYSTEM=nqn.2026-01.org.example:captured
. /nvmet.sh
nvmet_port 10.0.2.15 4420
nvmet_subsystem "$SUBSYSTEM"
nvmet_namespace "$SUBSYSTEM" 1 512 32

at="-t tcp -a $ADDRESS -s $PORT"
check discover nvme discover $at
for digests in "" --hdr-digest --data-digest "--hdr-digest --data-digest"; do
    tag=$(echo "$digests" | tr -d ' -')
    check "connect$tag" nvme connect $at -n "$SUBSYSTEM" --nr-io-queues=1 --keep-alive-tmo=5 $digests
    disk=$(device_of "$SUBSYSTEM" 1)
    controller=$(controller_of "$SUBSYSTEM")
    nvme id-ctrl "$controller" >/dev/null
    nvme id-ns "$disk" >/dev/null
    nvme ns-descs "$disk" >/dev/null
    nvme smart-log "$controller" >/dev/null
    nvme error-log "$controller" >/dev/null
    nvme ana-log "$controller" >/dev/null
    nvme changed-ns-list-log "$controller" >/dev/null
    nvme get-feature "$controller" -f 0x0b >/dev/null
    nvme get-feature "$controller" -f 0x0f >/dev/null
    dd if=/dev/urandom of=/tmp/pattern bs=4096 count=16 2>/dev/null
    check "write$tag" dd if=/tmp/pattern of="$disk" bs=512 count=1 oflag=direct
    check "large-write$tag" dd if=/tmp/pattern of="$disk" bs=2048 count=1 oflag=direct seek=1
    check "read$tag" dd if="$disk" of=/tmp/read bs=512 count=1 iflag=direct
    nvme flush "$disk" -n 1 >/dev/null
    nvme write-zeroes "$disk" -n 1 -s 64 -c 7 >/dev/null
    nvme compare "$disk" -s 0 -c 0 -z 512 -d /tmp/pattern >/dev/null 2>&1
    nvme dsm "$disk" -n 1 -d -s 128 -b 8 >/dev/null
    sleep 4
    check "disconnect$tag" nvme disconnect -n "$SUBSYSTEM"
done
