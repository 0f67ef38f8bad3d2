# What an administrator types, and what the host sees change.
# $MAIN has namespaces 1 (4 KiB blocks) and 2 (512 B blocks) and room for a third; $CLOSED is for
# another host.
at="-t tcp -a $ADDRESS -s $PORT"
timed="--reconnect-delay=1 --keep-alive-tmo=5"

json() { # json NAME COMMAND...: the command's JSON, sent to be compared
    name=$1
    shift
    check "$name" "$@" -o json && send "$name" "/out/$name"
}

check discover nvme discover $at
send discover.txt /out/discover
json discover-json nvme discover $at

check connect nvme connect $at -n "$MAIN" $timed --nr-io-queues=2
disk=$(device_of "$MAIN" 1)
small=$(device_of "$MAIN" 2)
controller=$(controller_of "$MAIN")
check block-devices test -b "$disk" -a -b "$small"
check block-size-4096 test "$(blockdev --getss "$disk")" = 4096
check block-size-512 test "$(blockdev --getss "$small")" = 512
json list nvme list
json list-subsys nvme list-subsys
json id-ctrl nvme id-ctrl "$controller"
json id-ns-1 nvme id-ns "$disk"
json id-ns-2 nvme id-ns "$small"
json smart-log nvme smart-log "$controller"
json error-log nvme error-log "$controller" -e 4
json ns-descs-1 nvme ns-descs "$disk"
json ns-descs-2 nvme ns-descs "$small"
json changed-ns-list nvme changed-ns-list-log "$controller"
json ana-log nvme ana-log "$controller"
json effects-log nvme effects-log "$controller" --csi=0
json fw-log nvme fw-log "$controller"
json list-ns nvme list-ns "$controller"
# Text: this nvme-cli aborts when it is to print this log as JSON.
check supported-log-pages nvme supported-log-pages "$controller"
check get-property nvme get-property "$controller" --offset=0x1c
check get-features nvme get-feature "$controller" -f 7 -H
refuse invalid-opcode "Invalid Command Opcode" nvme admin-passthru "$controller" --opcode=0x01

check state test "$(cat /sys/class/nvme/"${controller##*/}"/state)" = live

# Zeroes.
patterns
readback blkdiscard-4096 "$disk" /sbin/blkdiscard -o 0 -l 1048576
readback blkdiscard-512 "$small" /sbin/blkdiscard -o 0 -l 1048576
readback write-zeroes-4096 "$disk" /sbin/blkdiscard -z -o 0 -l 1048576
readback write-zeroes-512 "$small" /sbin/blkdiscard -z -o 0 -l 1048576
check discard-offered test "$(cat /sys/block/"${disk##*/}"/queue/discard_max_bytes)" -gt 0
check write-zeroes-offered \
    test "$(cat /sys/block/"${disk##*/}"/queue/write_zeroes_max_bytes)" -gt 0
check flush nvme flush "$disk" -n 1
dd if=/tmp/pattern of="$small" bs=512 count=8 oflag=direct 2>/dev/null
check compare-equal nvme compare "$small" -n 2 -s 0 -c 7 -z 4096 -d /tmp/pattern
refuse compare-different "Compare Failure" nvme compare "$small" -n 2 -s 1 -c 7 -z 4096 -d /tmp/pattern
dd if=/tmp/pattern of="$disk" bs=65536 count=16 oflag=direct 2>/dev/null
check copy nvme copy "$disk" -n 1 --sdlba=512 --slbs=0 --blocks=255
dd if="$disk" of=/tmp/seen bs=4096 skip=512 count=256 iflag=direct 2>/dev/null
check copied cmp /tmp/pattern /tmp/seen
check verify nvme verify "$small" -n 2 -s 0 -c 7
refuse beyond-the-end "LBA Out of Range" nvme read "$small" -n 2 -s 9999999 -c 0 -z 512 -d /tmp/beyond

# A namespace comes and goes; the host learns of it by an event alone.
if call namespace-add; then ok namespace-add; else fail namespace-add "$reply"; fi
check hot-add-seen test -b "$(device_of "$MAIN" 3)"
hot=$(device_of "$MAIN" 3)
check hot-add-usable dd if=/tmp/pattern of="$hot" bs=65536 count=1 oflag=direct
if call namespace-remove; then ok namespace-remove; else fail namespace-remove "$reply"; fi
gone() { [ ! -e "$hot" ]; }
if until_true 30 gone; then ok hot-remove-seen; else fail hot-remove-seen "$hot is still there"; fi
check others-unharmed dd if="$disk" of=/dev/null bs=65536 count=1 iflag=direct
check disconnect nvme disconnect -n "$MAIN"

# A host that is not on the list: Connect Invalid Host (SCT 1h, SC 84h) makes the kernel say this.
refuse closed-refused "is not allowed, hostnqn" nvme connect $at -n "$CLOSED"
refuse unknown-refused "Connect Invalid Data Parameter, subsysnqn" nvme connect $at -n "$MAIN-no"

# Discovery names the address that the appliance listens on: the machine's loopback. A relay in the
# guest makes that address lead there.
nc -ll -p "$PORT" -e nc "$ADDRESS" "$PORT" </dev/null >/dev/null 2>&1 &
relay=$!
listening() { cat /proc/net/tcp /proc/net/tcp6 | grep -qi ":$(printf %04X "$PORT") 0*:0000 0A"; }
until_true 20 listening
check connect-all nvme connect-all -t tcp -a 127.0.0.1 -s "$PORT"
check connect-all-device test -b "$(device_of "$MAIN" 1)"
check connect-all-not-closed test -z "$(controller_of "$CLOSED")"
check disconnect-all nvme disconnect-all
kill $relay

# A persistent discovery controller tells of changes.
cat >/tmp/event <<'SCRIPT'
#!/bin/sh
[ -n "$NVME_AEN" ] && echo "$NVME_AEN" >>/tmp/events
SCRIPT
chmod 755 /tmp/event
: >/tmp/events
uevent /tmp/event &
watcher=$!
# It listens once it has its address among netlink's, for the kernel's events (15).
watching() { awk -v pid=$watcher '$2 == 15 && $3 == pid { seen = 1 } END { exit !seen }' /proc/net/netlink; }
until_true 20 watching
check persistent-discovery nvme discover $at --persistent --keep-alive-tmo=30
if call subsystem-change; then ok subsystem-change; else fail subsystem-change "$reply"; fi
changed() { grep -qi 0x70f002 /tmp/events; }
if until_true 30 changed; then ok discovery-event; else
    fail discovery-event "events seen: $(cat /tmp/events)"
fi
check rediscover nvme discover $at
send rediscover.txt /out/rediscover
kill $watcher
nvme disconnect-all
dmesg | grep -iE 'bug:|warning:|call trace|oops' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
