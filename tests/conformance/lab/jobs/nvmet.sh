# The kernel's own target, in the guest itself: what the lab is tried against.
nvmet=/sys/kernel/config/nvmet

nvmet_subsystem() { # nvmet_subsystem NQN
    mkdir "$nvmet/subsystems/$1"
    echo 1 >"$nvmet/subsystems/$1/attr_allow_any_host"
    ln -s "$nvmet/subsystems/$1" "$nvmet/ports/1/subsystems/$1"
}

nvmet_namespace() { # nvmet_namespace NQN NSID BLOCK MIB
    disk=nullb$((nulls = nulls + 1))
    mkdir "/sys/kernel/config/nullb/$disk"
    for setting in memory_backed=1 discard=1 "blocksize=$3" "size=$4" power=1; do
        echo "${setting#*=}" >"/sys/kernel/config/nullb/$disk/${setting%=*}"
    done
    mkdir "$nvmet/subsystems/$1/namespaces/$2"
    echo "/dev/$disk" >"$nvmet/subsystems/$1/namespaces/$2/device_path"
    echo 1 >"$nvmet/subsystems/$1/namespaces/$2/enable"
}

nvmet_port() { # nvmet_port ADDRESS PORT
    mkdir "$nvmet/ports/1"
    echo tcp >"$nvmet/ports/1/addr_trtype"
    echo ipv4 >"$nvmet/ports/1/addr_adrfam"
    echo "$1" >"$nvmet/ports/1/addr_traddr"
    echo 1024 >"$nvmet/ports/1/param_inline_data_size"
    echo "$2" >"$nvmet/ports/1/addr_trsvcid"
}

nulls=0
modprobe nvmet
modprobe nvmet-tcp
modprobe null_blk nr_devices=0
