# A host and the kernel's own target in one guest; between them, on the machine, the recorder that
# $ADDRESS:$PORT leads to. Walks through what a host sends.
SUBSYSTEM=nqn.2026-01.org.example:captured
modprobe nvmet
modprobe nvmet-tcp
modprobe null_blk nr_devices=0
null=/sys/kernel/config/nullb/nullb0
mkdir "$null"
echo 1 >"$null/memory_backed"
echo 512 >"$null/blocksize"
echo 32 >"$null/size"
echo 1 >"$null/discard"
echo 1 >"$null/power"
target=/sys/kernel/config/nvmet
mkdir "$target/subsystems/$SUBSYSTEM"
echo 1 >"$target/subsystems/$SUBSYSTEM/attr_allow_any_host"
mkdir "$target/subsystems/$SUBSYSTEM/namespaces/1"
echo /dev/nullb0 >"$target/subsystems/$SUBSYSTEM/namespaces/1/device_path"
echo 1 >"$target/subsystems/$SUBSYSTEM/namespaces/1/enable"
mkdir "$target/ports/1"
echo tcp >"$target/ports/1/addr_trtype"
echo ipv4 >"$target/ports/1/addr_adrfam"
echo 10.0.2.15 >"$target/ports/1/addr_traddr"
echo 1024 >"$target/ports/1/param_inline_data_size"
echo 4420 >"$target/ports/1/addr_trsvcid"
ln -s "$target/subsystems/$SUBSYSTEM" "$target/ports/1/subsystems/$SUBSYSTEM"

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
