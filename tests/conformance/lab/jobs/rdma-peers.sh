# Two targets over soft-RoCE for rdma-initiator.sh: the appliance, and the kernel's own.
modprobe rdma_rxe
modprobe rdma_ucm
modprobe ib_uverbs
modprobe nvmet-rdma
. /nvmet.sh
export FOREBAY_DATA_DIR=/data HOME=/root
mkdir -p /data
ip addr add 192.168.77.1/24 dev eth1
ip link set eth1 up
check soft-roce rdma link add rxe0 type rxe netdev eth1
ready() { rdma link show rxe0/1 | grep -q 'state ACTIVE'; }
judge ready until_true 30 ready

mkdir "$nvmet/ports/1"
echo rdma >"$nvmet/ports/1/addr_trtype"
echo ipv4 >"$nvmet/ports/1/addr_adrfam"
echo 192.168.77.1 >"$nvmet/ports/1/addr_traddr"
echo 4422 >"$nvmet/ports/1/addr_trsvcid"
nvmet_subsystem "$KERNEL"
nvmet_namespace "$KERNEL" 1 4096 64
nvmet_namespace "$KERNEL" 2 512 16

cat >/forebay.toml <<END
data_dir = "/data"
[reactors]
memory = "64MiB"
[[listener]]
address = "192.168.77.1:4420"
[[listener]]
address = "192.168.77.1:4420"
transport = "rdma"
[[bdev]]
name = "disk"
kind = "ram"
size = "96MiB"
[[bdev]]
name = "small"
kind = "ram"
size = "16MiB"
block = 512
[[subsystem]]
nqn = "$MAIN"
allow_any_host = true
[[subsystem.namespace]]
bdev = "disk"
nsid = 1
[[subsystem.namespace]]
bdev = "small"
nsid = 2
END
forebay serve --config /forebay.toml >>/out/stdout 2>>/out/log &
SERVE=$!
judge serve until_true 60 forebay status

# All queue pairs, and what else our target has of the device: the kernel's own keeps a few things
# for later.
held() {
    rdma resource show qp | wc -l
    for kind in pd cq mr srq; do rdma resource show $kind | grep -c forebay; done
}
same() { held >/out/held-now; [ "$(held)" = "$(cat /out/held)" ]; }
# counted NAME: the sum of a count of the transport over all reactors.
counted() {
    forebay stats --json | tr -d ' \n' | grep -o '"rdma":{[^}]*}' |
        grep -o "\"$1\":[0-9]*" | cut -d: -f2 | awk '{sum += $1} END {print sum + 0}'
}
buffers_back() {
    forebay stats --json >/out/stats 2>&1 &&
        tr -d ' \n' </out/stats | grep -q '"buffers_taken":\[0,0,0,0\]'
}
held >/out/held
call tell served

call await done
judge all-back until_true 30 same
judge buffers-back until_true 30 buffers_back

# A host without a receive for its answers.
failures=$(counted failures)
call tell mute
call await muted
judge mute-all-back until_true 30 same
judge mute-buffers-back until_true 30 buffers_back
check mute-counted test "$(counted failures)" -gt "$failures"
call tell mute-weighed

# The cable is out under load: every queue pair is given up, and hosts come back later.
call await cable-out
judge given-up until_true 90 same
judge given-up-buffers until_true 30 buffers_back
call tell given-up
call await links
judge links-all-back until_true 60 same
judge links-buffers-back until_true 30 buffers_back
note "$(rdma resource show | tr '\n' ' ') $(tr -d ' \n' </out/stats | grep -o '"rdma":{[^}]*}' | head -1)"
check still-serving kill -0 "$SERVE"
kill -TERM "$SERVE"
ended() { ! kill -0 "$SERVE" 2>/dev/null; }
judge ends until_true 60 ended
grep -hE 'panicked' /out/log /out/stdout >/tmp/complaints
check forebay-is-calm test ! -s /tmp/complaints
dmesg | grep -iE 'bug:|call trace' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
note "$(tail -n 6 /out/log | cut -c1-200 | tr '\n' ';')"
