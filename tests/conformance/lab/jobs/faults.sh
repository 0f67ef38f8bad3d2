# Media errors reach the application as such, and nothing else breaks. In $FAULTY's namespace 1
# reads of blocks 100 to 107 meet an unrecovered read error, writes of block 200 an internal error.
at="-t tcp -a $ADDRESS -s $PORT"
check connect nvme connect $at -n "$FAULTY"
check connect-main nvme connect $at -n "$MAIN"
disk=$(device_of "$FAULTY" 1)
other=$(device_of "$MAIN" 1)
controller=$(controller_of "$FAULTY")
check block-device test -b "$disk" -a -b "$other"

# fails NAME PATTERN fio-ARGUMENTS...: fio must fail, and say PATTERN.
fails() {
    name=$1
    pattern=$2
    shift 2
    if timeout 120 fio --name="$name" "$@" >"/out/$name" 2>&1; then
        fail "$name" "fio saw no error"
    elif grep -q "$pattern" "/out/$name"; then
        ok "$name"
    else
        fail "$name" "no '$pattern' in: $(grep -i 'error\|fio:' "/out/$name" | head -3)"
    fi
}

# The page cache turns every failed read into EIO. Unread, the kernel's own direct I/O calls a
# medium error ENODATA ("No data available"), any other EIO.
fails buffered-read-eio "Input/output error" --filename="$disk" --rw=read --bs=4k --size=1M
fails direct-read-medium "No data available\|Input/output error" --filename="$disk" --direct=1 \
    --rw=read --bs=4k --size=1M
fails write-eio "Input/output error" --filename="$disk" --direct=1 --rw=write --bs=4k \
    --offset=768k --size=128k
check below-reads dd if="$disk" of=/dev/null bs=4096 count=100 iflag=direct
check above-reads dd if="$disk" of=/dev/null bs=4096 skip=108 count=92 iflag=direct
check around-writes dd if=/dev/zero of="$disk" bs=4096 seek=201 count=50 oflag=direct
check other-namespace fio --name=other --filename="$other" --direct=1 --rw=randrw --bs=4k \
    --size=4M --ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1
nvme error-log "$controller" -e 64 -o json >/tmp/errors
send error-log /tmp/errors
nvme smart-log "$controller" -o json >/tmp/smart
send smart-log /tmp/smart
check still-live test "$(cat /sys/class/nvme/"${controller##*/}"/state)" = live
check disconnect nvme disconnect-all
