# A host of the appliance's image, of the volume that our initiator wrote before: tank/vol. The second
# network interface leads to the appliance's, for soft-RoCE.
at="-t tcp -a $ADDRESS -s $PORT"
VOLUME=nqn.2026-01.io.forebay:tank:vol
# round NAME OFFSET OPTIONS...: fio, and what it wrote read back.
round() {
    label=$1 offset=$2
    shift 2
    # Without the device fio would make a file of that name.
    [ -b "$vol" ] || { echo "no block device"; return 1; }
    timeout 300 fio --name="$label" --filename="$vol" --ioengine=libaio --direct=1 --randrepeat=1 \
        --rw=randwrite --bs=4k-64k --blockalign=4k --iodepth=16 --offset="$offset" --size=12m \
        --verify=crc32c --verify_fatal=1 --verify_dump=0 --do_verify=1 "$@"
}
check discover nvme discover -t tcp -a "$ADDRESS" -s "$DISCOVERY"
saw discovered discover "$VOLUME"
check connect nvme connect $at -n "$VOLUME"
vol=$(device_of "$VOLUME" 1)
check there test -b "$vol"
judge verify round tcp 32m
check flush nvme flush "$vol" --namespace-id=1
check disconnect nvme disconnect -n "$VOLUME"

modprobe rdma_rxe
modprobe nvme-rdma
ip addr add 192.168.77.2/24 dev eth1
ip link set eth1 up
check soft-roce rdma link add rxe0 type rxe netdev eth1
ready() { rdma link show rxe0/1 | grep -q 'state ACTIVE'; }
judge rdma-ready until_true 30 ready
check rdma-connect nvme connect -t rdma -a "$RDMA" -s 4420 -n "$VOLUME"
vol=$(device_of "$VOLUME" 1)
check rdma-there test -b "$vol"
judge rdma-reads-what-tcp-wrote round tcp 32m --verify_only
judge rdma-verify round rdma 48m
check rdma-disconnect nvme disconnect -n "$VOLUME"
dmesg | grep -iE 'bug:|warning:|call trace' >/tmp/splat
check host-is-calm test ! -s /tmp/splat
