# A host of the appliance's image, of the volume that our initiator wrote before: tank/vol.
at="-t tcp -a $ADDRESS -s $PORT"
VOLUME=nqn.2026-01.io.forebay:tank:vol
check discover nvme discover -t tcp -a "$ADDRESS" -s "$DISCOVERY"
saw discovered discover "$VOLUME"
check connect nvme connect $at -n "$VOLUME"
vol=$(device_of "$VOLUME" 1)
check there test -b "$vol"
judge verify timeout 300 fio --name=host --filename="$vol" --ioengine=libaio --direct=1 \
    --randrepeat=1 --rw=randwrite --bs=4k-64k --blockalign=4k --iodepth=16 --offset=32m --size=12m \
    --verify=crc32c --verify_fatal=1 --verify_dump=0 --do_verify=1
check flush nvme flush "$vol" --namespace-id=1
check disconnect nvme disconnect -n "$VOLUME"
dmesg | grep -iE 'bug:|warning:|call trace' >/tmp/splat
check host-is-calm test ! -s /tmp/splat
