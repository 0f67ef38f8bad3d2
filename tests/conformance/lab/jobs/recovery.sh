# File systems over a target that is killed and started again on the same files. What was synced is
# there, what was being written is written in the end, and the file systems are clean.
at="-t tcp -a $ADDRESS -s $PORT"
check connect nvme connect $at -n "$MAIN" --reconnect-delay=1 --keep-alive-tmo=5 --ctrl-loss-tmo=300
controller=$(controller_of "$MAIN")
state() { cat "/sys/class/nvme/${controller##*/}/state"; }
live() { [ "$(state)" = live ]; }
modprobe ext4
modprobe xfs

# Every kill comes in the middle of this.
writer() { # writer FOLDER
    i=0
    while [ ! -e /tmp/stop ]; do
        i=$((i + 1))
        dd if=/dev/urandom of="$1/busy$((i % 8))" bs=65536 count=4 conv=fsync 2>/dev/null || echo "$i" >>/tmp/writer-errors
    done
}

one() { # one KIND NSID MKFS... : a file system through one kill
    kind=$1
    disk=$(device_of "$MAIN" "$2")
    shift 2
    check "$kind-device" test -b "$disk" || return
    check "$kind-mkfs" "$@" "$disk" || return
    mkdir -p "/mnt/$kind"
    check "$kind-mount" mount -t "$kind" "$disk" "/mnt/$kind" || return
    mkdir "/mnt/$kind/tree"
    cp -r /lib/modules /usr/sbin /init "/mnt/$kind/tree/"
    (cd /mnt/"$kind"/tree && find . -type f | sort | xargs sha256sum) >"/tmp/$kind.sums"
    sync
    rm -f /tmp/stop /tmp/writer-errors
    writer "/mnt/$kind" &
    writing=$!
    moved 20 $writing
    if call kill; then ok "$kind-kill"; else fail "$kind-kill" "$reply"; fi
    not_live() { ! live; }
    if until_true 60 not_live; then ok "$kind-loss-seen"; else fail "$kind-loss-seen" "$(state)"; fi
    if call restart; then ok "$kind-restart"; else fail "$kind-restart" "$reply"; return; fi
    if until_true 90 live; then ok "$kind-reconnect"; else fail "$kind-reconnect" "$(state)"; fi
    moved 20 $writing
    touch /tmp/stop
    wait $writing
    check "$kind-no-write-failed" test ! -e /tmp/writer-errors
    echo 3 >/proc/sys/vm/drop_caches
    check "$kind-tree" sh -c "cd /mnt/$kind/tree && sha256sum -c /tmp/$kind.sums | grep -v ': OK\$' >/tmp/bad; [ ! -s /tmp/bad ]"
    check "$kind-umount" umount "/mnt/$kind"
    case $kind in
    ext4) check ext4-fsck fsck.ext4 -f -n "$disk" ;;
    xfs) check xfs-repair xfs_repair -n "$disk" ;;
    esac
    check "$kind-remount" mount -t "$kind" "$disk" "/mnt/$kind"
    check "$kind-tree-again" sh -c "cd /mnt/$kind/tree && sha256sum -c /tmp/$kind.sums >/dev/null"
    umount "/mnt/$kind"
}

one ext4 1 mkfs.ext4 -q -F
one xfs 2 mkfs.xfs -q -f

# Killed with unsynced data in flight and the file system never unmounted by then: the journal.
mount -t ext4 "$(device_of "$MAIN" 1)" /mnt/ext4
rm -f /tmp/stop
writer /mnt/ext4 &
writing=$!
for round in 1 2 3; do
    moved 20 $writing
    if call kill && call restart; then ok "storm-$round"; else fail "storm-$round" "$reply"; fi
    until_true 90 live
done
touch /tmp/stop
wait
check storm-no-write-failed test ! -e /tmp/writer-errors
check storm-umount umount /mnt/ext4
check storm-fsck fsck.ext4 -f -n "$(device_of "$MAIN" 1)"
check disconnect nvme disconnect-all
dmesg | grep -iE 'i/o error|ext4-fs error|xfs.*corrupt|bug:|call trace' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
