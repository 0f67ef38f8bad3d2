# What every job shares. Descriptor 3 is the port to the harness.
HOSTNQN=${HOSTNQN:-nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555}
HOSTID=${HOSTID:-11111111-2222-3333-4444-555555555555}
mkdir -p /etc/nvme /out
echo "$HOSTNQN" >/etc/nvme/hostnqn
echo "$HOSTID" >/etc/nvme/hostid

ok() { echo "check $1 ok" >&3; }
# fail NAME WHY...
fail() { echo "check $*" | tr '\n' ' ' | sed 's/^check \([^ ]*\)/check \1 fail/' >&3; echo >&3; }
note() { echo "note $*" >&3; }

# check NAME COMMAND...: holds where the command succeeds within 60 s; keeps its output in /out/NAME.
check() {
    name=$1
    shift
    if timeout 60 "$@" >"/out/$name" 2>&1; then
        ok "$name"
    else
        status=$?
        fail "$name" "status $status: $(tail -n 4 "/out/$name" | cut -c1-300)"
        return 1
    fi
}

# refuse NAME PATTERN COMMAND...: holds where the command fails and PATTERN is in its output or in
# what the kernel logged meanwhile.
refuse() {
    name=$1
    pattern=$2
    shift 2
    dmesg -c >/dev/null
    if timeout 60 "$@" >"/out/$name" 2>&1; then
        fail "$name" "it succeeded"
        return 1
    fi
    dmesg >>"/out/$name"
    if grep -qi "$pattern" "/out/$name"; then ok "$name"; else
        fail "$name" "no '$pattern' in: $(tail -n 4 "/out/$name" | cut -c1-300)"
    fi
}

# send NAME FILE
send() {
    { echo "file $1"; base64 "$2"; echo .; } >&3
}

# call WORDS...: asks the harness; the reply's text is in $reply.
call() {
    echo "call $*" >&3
    read -r verdict reply <&3
    [ "$verdict" = ok ]
}

# pick LONG SHORT: a size or a count; the load is long by hand and before a release, short in CI.
pick() { if [ "${LOAD:-short}" = long ]; then echo "$1"; else echo "$2"; fi; }

uptime_seconds() { cut -d. -f1 /proc/uptime; }

# until_true SECONDS COMMAND...
until_true() {
    until=$(($(uptime_seconds) + $1))
    shift
    while ! "$@" >/dev/null 2>&1; do
        [ "$(uptime_seconds)" -lt $until ] || return 1
        sleep 0.2
    done
}

# moved COUNT [PROCESS]: waits until so many more commands of all NVMe devices have ended, or the
# process has.
moved() {
    ended_by=$(($(commands_ended) + $1))
    until_true 60 moved_by "$ended_by" "${2:-}"
}
moved_by() {
    [ "$(commands_ended)" -ge "$1" ] && return
    [ -n "$2" ] && ! kill -0 "$2" 2>/dev/null
}
# Reads and writes (Documentation/block/stat of the kernel).
commands_ended() { cat /sys/block/nvme*/stat 2>/dev/null | awk '{ n += $1 + $5 } END { print n + 0 }'; }

# The block device of namespace $2 of the subsystem $1, waited for: prints its path.
device_of() {
    end=$(($(uptime_seconds) + 30))
    while [ "$(uptime_seconds)" -lt $end ]; do
        for head in /sys/class/nvme-subsystem/*; do
            [ "$(cat "$head/subsysnqn" 2>/dev/null)" = "$1" ] || continue
            for disk in "$head"/nvme*n*; do
                [ "$(cat "$disk/nsid" 2>/dev/null)" = "$2" ] || continue
                [ -b "/dev/${disk##*/}" ] && { echo "/dev/${disk##*/}"; return 0; }
            done
        done
        sleep 0.2
    done
    echo /nonexistent/disk
    return 1
}

# The controller of the subsystem $1 that is connected last: prints its path.
controller_of() {
    found=
    for one in /sys/class/nvme/nvme*; do
        [ "$(cat "$one/subsysnqn" 2>/dev/null)" = "$1" ] && found=/dev/${one##*/}
    done
    [ -n "$found" ] && echo "$found"
}

# judge NAME COMMAND...: as `check`, for functions and for what takes long.
judge() {
    name=$1
    shift
    if "$@" >"/out/$name" 2>&1; then ok "$name"; else
        fail "$name" "status $?: $(tail -n 4 "/out/$name" | cut -c1-300)"
    fi
}

# saw NAME FILE PATTERN: holds where the pattern is in what /out/FILE keeps.
saw() {
    if grep -qE "$3" "/out/$2"; then ok "$1"; else
        fail "$1" "no '$3' in: $(tail -n 4 "/out/$2" | cut -c1-300)"
    fi
}

# A MiB of data in /tmp/pattern, and one of zeros in /tmp/zero.
patterns() {
    dd if=/dev/urandom of=/tmp/pattern bs=65536 count=16 2>/dev/null
    head -c 1048576 /dev/zero >/tmp/zero
}

# readback NAME DISK COMMAND...: holds where the pattern can be written and read back, and zeros are
# there after the command.
readback() {
    name=$1
    at_disk=$2
    shift 2
    dd if=/tmp/pattern of="$at_disk" bs=65536 count=16 oflag=direct 2>/dev/null
    dd if="$at_disk" of=/tmp/seen bs=65536 count=16 iflag=direct 2>/dev/null
    cmp /tmp/pattern /tmp/seen || { fail "$name" "the pattern did not come back"; return; }
    "$@" "$at_disk" >"/out/$name" 2>&1 || { fail "$name" "$(cat "/out/$name")"; return; }
    dd if="$at_disk" of=/tmp/seen bs=65536 count=16 iflag=direct 2>/dev/null
    if cmp /tmp/zero /tmp/seen >"/out/$name" 2>&1; then ok "$name"; else
        fail "$name" "$(cat "/out/$name")"
    fi
}

# pci SERIAL: the PCI address of the drive, while the kernel's driver has it.
pci() {
    for one in /sys/class/nvme/nvme*; do
        [ "$(tr -d ' ' <"$one/serial" 2>/dev/null)" = "$1" ] && cat "$one/address"
    done
}

# disk SERIAL: its block device.
disk() {
    for one in /sys/class/nvme/nvme*; do
        [ "$(tr -d ' ' <"$one/serial" 2>/dev/null)" = "$1" ] || continue
        for block in /sys/block/nvme*; do
            [ "$(cat "$block/hidden" 2>/dev/null)" = 1 ] && continue
            case $(readlink -f "$block/device") in
            */"${one##*/}") echo "/dev/${block##*/}"; return ;;
            esac
            [ -e "$(readlink -f "$block/device")/${one##*/}" ] && echo "/dev/${block##*/}" && return
        done
    done
}

modprobe nvme-tcp
if [ "${PEER:-}" = nvmet ]; then
    . /nvmet.sh
    nvmet_port "$ADDRESS" "$PORT"
    nvmet_subsystem "$MAIN"
    nvmet_namespace "$MAIN" 1 4096 64
    nvmet_namespace "$MAIN" 2 512 64
fi
