# Volumes of a pool, as a host sees them: resized while mounted, snapshots and clones beside their
# origin, space that comes back, limits, a full pool, and restarts.
at="-t tcp -a $ADDRESS -s $PORT"
modprobe xfs

# asks NAME WORDS...: the command line of the appliance does it.
asks() {
    name=$1
    shift
    if call "$@"; then ok "$name"; else fail "$name" "$reply"; fi
}

# attach NAME WHAT: connects to the subsystem of a volume or snapshot; its device is in $disk.
attach() {
    call nqn "$2" || { fail "$1" "$reply"; return 1; }
    nqn=$reply
    check "$1" nvme connect $at -n "$nqn" --reconnect-delay=1 --keep-alive-tmo=5 --ctrl-loss-tmo=300
    disk=$(device_of "$nqn" 1)
}

sums() { (cd "$1" && find . -type f | sort | xargs sha256sum); }
same() { # same NAME FOLDER SUMS
    sums "$2" >/tmp/now
    if cmp -s /tmp/now "$3"; then ok "$1"; else fail "$1" "$(diff /tmp/now "$3" | head -n 3)"; fi
}

asks create cli volume create tank/data 320MiB --host "$HOSTNQN"
attach connect tank/data
data=$disk
check mkfs mkfs.xfs -q "$data"
mkdir -p /mnt/data /mnt/past /mnt/copy
check mount mount -t xfs "$data" /mnt/data
cp -r /lib/modules /usr/sbin /mnt/data/
sync
sums /mnt/data >/tmp/first

# Resized while mounted.
asks resize cli volume resize tank/data 448MiB
larger() { [ "$(blockdev --getsize64 "$data")" = $((448 << 20)) ]; }
if until_true 20 larger; then ok resize-seen; else fail resize-seen "$(blockdev --getsize64 "$data")"; fi
check growfs xfs_growfs /mnt/data
blocks=$(df -k /mnt/data | awk 'NR == 2 { print $2 }')
# Without its log, which is 64 MiB: it had 256 MiB before.
check growfs-larger test "$blocks" -gt $((340 << 10))
same tree-after-resize /mnt/data /tmp/first

# A snapshot, mounted read only beside its origin, which goes on. Its log is not replayed there:
# everything is in its place before.
check settle umount /mnt/data
check settled mount -t xfs "$data" /mnt/data
asks snapshot cli snapshot create tank/data@one
dd if=/dev/urandom of=/mnt/data/later bs=1M count=8 conv=fsync 2>/dev/null
rm -r /mnt/data/sbin
sync
asks snapshot-export cli snapshot export tank/data@one --host "$HOSTNQN"
attach snapshot-connect tank/data@one
past=$disk
check snapshot-read-only test "$(blockdev --getro "$past")" = 1
check snapshot-mount mount -t xfs -o ro,norecovery,nouuid "$past" /mnt/past
same snapshot-tree /mnt/past /tmp/first
refuse snapshot-write "read-only\|permitted\|protected\|readonly" dd if=/dev/zero of="$past" bs=4096 count=1 oflag=direct

# A clone, written without touching its origin.
sums /mnt/data >/tmp/second
asks clone cli snapshot clone tank/data@one copy --host "$HOSTNQN"
attach clone-connect tank/copy
copy=$disk
check clone-mount mount -t xfs -o nouuid "$copy" /mnt/copy
same clone-tree /mnt/copy /tmp/first
dd if=/dev/urandom of=/mnt/copy/own bs=1M count=8 conv=fsync 2>/dev/null
rm -r /mnt/copy/modules
sync
echo 3 >/proc/sys/vm/drop_caches
same clone-apart /mnt/data /tmp/second
same snapshot-apart /mnt/past /tmp/first
check clone-umount umount /mnt/copy
check clone-repair xfs_repair -n "$copy"
check snapshot-umount umount /mnt/past

# Discard gives space back: to the pool, and to the file below it.
asks raw-create cli volume create tank/raw 64MiB --host "$HOSTNQN"
attach raw-connect tank/raw
raw=$disk
call used
before=$reply
check raw-fill dd if=/dev/urandom of="$raw" bs=1M count=32 oflag=direct
call used
filled=$reply
call taken
taken=$reply
check raw-takes-space test "$filled" -ge $((before + (32 << 20)))
check raw-discard blkdiscard "$raw"
given_back() { call used && [ "$reply" -le $((filled - (32 << 20))) ]; }
if until_true 30 given_back; then ok discard-gives-back; else fail discard-gives-back "$before $filled $reply"; fi
smaller() { call taken && [ "$reply" -le $((taken - (30 << 20))) ]; }
if until_true 30 smaller; then ok file-gets-smaller; else fail file-gets-smaller "$taken $reply"; fi
check raw-zeros sh -c "head -c 33554432 $raw | cmp -n 33554432 - /dev/zero"

# Limits hold, and change while it runs: by fio's figures, and by the appliance's own count. They are
# low and the queue is deep, so that a guest that gets no processor for a while is not what limits.
check limit-fill dd if=/dev/zero of="$raw" bs=1M count=64 oflag=direct
reads() { # reads BS SECONDS: prints how many a second fio came to
    fio --name=reads --filename="$raw" --rw=randread --bs="$1" --iodepth=16 --ioengine=libaio --direct=1 \
        --time_based --ramp_time=2 --runtime="$2" --minimal 2>/dev/null | cut -d';' -f8
}
# within NAME RATE LIMIT: within a tenth.
within() {
    rate=${2%.*}
    if [ "${rate:-0}" -ge $(($3 * 9 / 10)) ] && [ "${rate:-0}" -le $(($3 * 11 / 10)) ]; then ok "$1"; else
        fail "$1" "$2 a second, not $3"
    fi
}
# limited WHAT BS LIMIT: 30 reads a second by fio, and the limit by the appliance's count, taken once
# fio has begun.
limited() {
    call count || fail "$1-counted" "$reply"
    reads "$2" "$(pick 12 7)" >/tmp/rate &
    until_true 60 call begun
    call count || fail "$1-counted" "$reply"
    # What is measured is a rate: time passes.
    sleep "$(pick 5 3)"
    asks "$1-counted" counted "$1" "$3"
    wait
    within "$1-holds" "$(cat /tmp/rate)" 30
}
asks limit-iops cli volume limits tank/raw --iops 30
limited iops 4k 30
asks limit-bandwidth cli volume limits tank/raw --iops none --bandwidth 960KiB
limited bandwidth 32k 983040
asks limit-none cli volume limits tank/raw --bandwidth none
call count || note "$reply"
reads 4k 1 >/tmp/rate
asks limit-gone free

# A full pool fails what needs space, and nothing else, and heals.
asks big-create cli volume create tank/big 2GiB --host "$HOSTNQN"
attach big-connect tank/big
big=$disk
refuse full-is-said "No space left" dd if=/dev/zero of="$big" bs=1M count=256 oflag=direct
# Alerts are raised by a look each second.
judge full-alert until_true 10 call alert
check full-read dd if="$big" of=/dev/null bs=1M count=8 iflag=direct
check full-overwrite dd if=/dev/urandom of="$big" bs=1M count=4 oflag=direct conv=notrunc
check full-elsewhere dd if=/dev/urandom of="$raw" bs=1M count=8 oflag=direct conv=notrunc
asks add-device cli pool add-device tank "$MORE"
check full-heals dd if=/dev/zero of="$big" bs=1M seek=1900 count=16 oflag=direct
asks big-unexport cli volume unexport tank/big --yes
asks big-delete cli volume delete tank/big --yes

# Killed and started again, with the file system mounted.
if call kill && call restart; then ok restart; else fail restart "$reply"; fi
echo 3 >/proc/sys/vm/drop_caches
same restart-tree /mnt/data /tmp/second

check umount umount /mnt/data
check repair xfs_repair -n "$data"
check disconnect nvme disconnect-all
dmesg | grep -iE 'xfs.*corrupt|bug:|call trace' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
