# Data comes back as it was written: block sizes, depths, mixes, digests. Sizes are small because
# the emulation is slow; the depth is what finds faults.
at="-t tcp -a $ADDRESS -s $PORT"

# fio_jobs BIG SMALL MEMORY: job file for a disk of 4 KiB blocks, one of 512 B blocks, and one that
# is the target's own memory, which goes to the wire without a copy.
fio_jobs() {
    cat <<JOBS
[global]
ioengine=libaio
direct=1
verify=crc32c
verify_fatal=1
verify_dump=0
randrepeat=1
group_reporting=1
JOBS
    section 512-qd1 "$2" 512 write 1 64k
    section 512-qd32 "$2" 512 randwrite 32 512k
    section 512-mixed-qd128 "$2" 512 randrw 128 1m
    section 4k-qd1 "$1" 4k randwrite 1 512k
    section 4k-qd32 "$1" 4k randwrite 32 4m
    section 4k-mixed-qd128 "$1" 4k randrw 128 4m
    section 128k-qd1 "$1" 128k write 1 1m
    section 128k-mixed-qd128 "$1" 128k randrw 128 16m
    section 1m-qd1 "$1" 1m write 1 4m
    section 1m-mixed-qd128 "$1" 1m randrw 128 "$(pick 128m 80m)"
    section split-qd32 "$1" 4k-256k randwrite 32 8m
    section memory-4k-mixed-qd128 "$3" 4k randrw 128 4m
    section memory-128k-mixed-qd32 "$3" 128k randrw 32 8m
    section memory-1m-mixed-qd16 "$3" 1m randrw 16 "$(pick 16m 8m)"
}

section() { # section NAME DISK BLOCK PATTERN DEPTH SIZE
    cat <<JOBS
[$1]
stonewall
filename=$2
bs=$3
rw=$4
iodepth=$5
size=$6
JOBS
    case $3 in *-*) printf 'bsrange=%s\nbs_unaligned=0\nblockalign=4k\n' "$3" ;; esac
    case $4 in randrw) echo verify_backlog=64 ;; esac
}

round() { # round NAME OPTIONS...
    round=$1
    shift
    check "connect-$round" nvme connect $at -n "$MAIN" "$@" || return
    disk=$(device_of "$MAIN" 1)
    small=$(device_of "$MAIN" 2)
    memory=$(device_of "$MAIN" 3)
    if [ ! -b "$disk" ] || [ ! -b "$small" ] || [ ! -b "$memory" ]; then
        fail "verify-$round" "no block device"
        return
    fi
    fio_jobs "$disk" "$small" "$memory" >/tmp/jobs.fio
    if timeout 600 fio --output=/out/fio --output-format=json /tmp/jobs.fio >/tmp/said 2>&1; then
        ok "verify-$round"
    else
        fail "verify-$round" "$(grep -hi 'err\|verify' /tmp/said /out/fio | head -5 | cut -c1-300)"
    fi
    send "fio-$round" /out/fio
    check "disconnect-$round" nvme disconnect -n "$MAIN"
}

for digests in $ROUNDS; do
    case $digests in
    none) round none ;;
    header) round header --hdr-digest ;;
    data) round data --data-digest ;;
    both) round both --hdr-digest --data-digest ;;
    esac
done
dmesg | grep -iE 'digest|bug:|warning:|call trace|i/o error' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
