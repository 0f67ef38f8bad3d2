# Connects and disconnects $CYCLES times, with some I/O; the harness weighs the target between.
at="-t tcp -a $ADDRESS -s $PORT"
failed=0
cycle() {
    nvme connect $at -n "$MAIN" >/dev/null 2>&1 || return 1
    disk=$(device_of "$MAIN" 1)
    dd if="$disk" of=/dev/null bs=4096 count=4 iflag=direct 2>/dev/null || return 1
    nvme disconnect -n "$MAIN" >/dev/null 2>&1
}
i=0
while [ $i -lt "$WARM" ]; do
    cycle || failed=$((failed + 1))
    i=$((i + 1))
done
call weigh before || fail weigh-before "$reply"
while [ $i -lt $((WARM + CYCLES)) ]; do
    cycle || failed=$((failed + 1))
    i=$((i + 1))
done
check every-cycle test $failed = 0
call weigh after || fail weigh-after "$reply"
