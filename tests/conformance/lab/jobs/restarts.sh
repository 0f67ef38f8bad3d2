# The appliance is stopped, or killed, and started again in the middle of fio's verify. fio meets no
# error, the kernel has nothing to say beyond its reconnects, and everything that was acknowledged is
# there.
at="-t tcp -a $ADDRESS -s $PORT"

# restarts HOW PROCESS: restarts the appliance in the midst of the commands of the process, while it
# runs, three times at most. How often it did is in $restarted.
restarts() {
    restarted=0
    while [ $restarted -lt 3 ] && moved 150 "$2" && kill -0 "$2" 2>/dev/null; do
        call "$1" && call restart || { note "$1: $reply"; return 1; }
        until_true 60 live || { note "$1: not reconnected"; return 1; }
        restarted=$((restarted + 1))
    done
    [ $restarted -gt 0 ]
}

# The kernel's nvme-tcp sends in the context of whoever submits, and where the target has just hung up,
# that process gets a SIGPIPE for it, even though its command is only put off. Nothing of a target's
# doing: fio is told to ignore it.
trap '' PIPE

# through NAME HOW OPTIONS...: fio's verify with these options, through restarts.
through() {
    name=$1
    how=$2
    shift 2
    fio --name=verify --filename="$disk" --rw=randwrite --bs=16k --size="$(pick 64m 20m)" --iodepth=16 --ioengine=libaio \
        --direct=1 --verify=crc32c --verify_fatal=1 "$@" >"/out/$name" 2>&1 &
    fio=$!
    if restarts "$how" $fio; then ok "$name-restarts"; else fail "$name-restarts" "$restarted times"; fi
    wait $fio
    status=$?
    send "$name" "/out/$name"
    if [ $status = 0 ]; then ok "$name"; else fail "$name" "status $status: $(grep -ai 'fio:\|assert\|verify: bad' "/out/$name" | head -n 3)"; fi
}

one() { # one HOW NQN
    check "$1-connect" nvme connect $at -n "$2" --reconnect-delay=1 --keep-alive-tmo=60 --ctrl-loss-tmo=300
    disk=$(device_of "$2" 1)
    controller=$(controller_of "$2")
    live() { [ "$(cat "/sys/class/nvme/${controller##*/}/state")" = live ]; }
    # Into new blocks, with what was written read back not long after; and all of it once more.
    through "$1-write" "$1" --verify_backlog=64
    through "$1-read" "$1" --verify_only
    dmesg -c | grep -iE 'i/o error|i/o cmd|timeout|removing controller|bug:|call trace' >/tmp/splat
    if [ -s /tmp/splat ]; then fail "$1-calm" "$(head -n 3 /tmp/splat)"; else ok "$1-calm"; fi
    check "$1-disconnect" nvme disconnect-all
}

one terminate "$STOPPED"
one kill "$KILLED"
