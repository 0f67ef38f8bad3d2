# The appliance over soft-RoCE, in a guest: the second network interface leads to rdma-host.sh.
modprobe rdma_rxe
modprobe rdma_ucm
modprobe ib_uverbs
export FOREBAY_DATA_DIR=/data HOME=/root
mkdir -p /data
ip addr add 192.168.77.1/24 dev eth1
ip link set eth1 up

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
[[bdev]]
name = "file"
kind = "file"
path = "/data/file.img"
size = "64MiB"
[[bdev]]
name = "below"
kind = "ram"
size = "16MiB"
[[bdev]]
name = "bad"
kind = "error"
base = "below"
[[bdev.rule]]
ops = ["read"]
lba = 100
blocks = 8
status = [2, 0x81]
[[bdev]]
name = "spare"
kind = "ram"
size = "16MiB"
[[subsystem]]
nqn = "$MAIN"
allow_any_host = true
[[subsystem.namespace]]
bdev = "disk"
nsid = 1
[[subsystem.namespace]]
bdev = "small"
nsid = 2
[[subsystem]]
nqn = "$MORE"
allow_any_host = true
[[subsystem.namespace]]
bdev = "file"
nsid = 1
[[subsystem.namespace]]
bdev = "bad"
nsid = 2
END
serve() {
    forebay serve --config /forebay.toml >>/out/stdout 2>>/out/log &
    SERVE=$!
    until_true 60 forebay status
}
ended() { ! kill -0 "$SERVE" 2>/dev/null; }

# Without a device the appliance starts, and says why there is no RDMA.
judge serve-without serve
forebay status >/out/off 2>&1
saw off-says-why off 'rdma +off: this machine has no RDMA device'
forebay listener list >/out/off-listeners 2>&1
saw off-listener off-listeners 'RDMA is off'
refuse off-create 'RDMA is off' forebay listener create 192.168.77.1:4421 --transport rdma
kill -TERM "$SERVE"
judge ends-without until_true 60 ended

check soft-roce rdma link add rxe0 type rxe netdev eth1
judge serve serve
forebay status >/out/on 2>&1
saw on-names-it on 'rdma +rxe0'
check create forebay listener create 192.168.77.1:4421 --transport rdma
forebay listener list >/out/on-listeners 2>&1
saw on-listener on-listeners 'rdma +192.168.77.1:4421 .*ok'
check delete forebay listener delete 192.168.77.1:4421 --transport rdma --yes
# Every address of both families on one port: the second leaves IPv4 to the first.
check every-ipv4 forebay listener create 0.0.0.0:4422 --transport rdma
check every-ipv6 forebay listener create '[::]:4422' --transport rdma
for every in 0.0.0.0:4422 '[::]:4422'; do
    forebay listener delete "$every" --transport rdma --yes || note "$every stays"
done

# What the kernel has given out to queue pairs and the like, and the buffers on loan.
held() { rdma resource show | sed 's/ cm_id [0-9]*//'; }
same() { [ "$(held)" = "$(cat /out/held)" ]; }
buffers_back() {
    forebay stats --json >/out/stats 2>&1 &&
        tr -d ' \n' </out/stats | grep -q '"buffers_taken":\[0,0,0,0\]'
}
held >/out/held
call tell served

call await mtu
ip link set eth1 mtu 4300
call tell mtu-set

call await add
check namespace-add forebay namespace add "$MAIN" --device spare --nsid 3
call tell added
call await remove
check namespace-remove forebay namespace remove "$MAIN" 3 --yes
call tell removed
for round in 1 2; do
    call await "kill-$round"
    kill -9 "$SERVE"
    judge "killed-$round" until_true 60 ended
    sleep 1
    judge "serves-$round" serve
    call tell "back-$round"
done

call await cycles
judge all-back until_true 30 same
held >/out/held-cycles
call tell weighed
call await over
judge all-back-cycles until_true 30 same
judge buffers-back until_true 30 buffers_back
rdma resource show >/out/resources
note "$(cat /out/resources)"
note "$(tr -d ' \n' </out/stats | grep -o '"rdma":{[^}]*}' | head -1)"
check still-serving kill -0 "$SERVE"
kill -TERM "$SERVE"
judge ends until_true 60 ended
grep -hE 'panicked' /out/log /out/stdout >/tmp/complaints
check forebay-is-calm test ! -s /tmp/complaints
nothing() { rdma resource show mr | grep -q forebay && return 1; ! rdma resource show qp | grep -q forebay; }
judge nothing-left nothing
dmesg | grep -iE 'bug:|call trace' >/tmp/splat
check kernel-is-calm test ! -s /tmp/splat
[ -s /tmp/complaints ] && note "$(tail -n 12 /out/log | cut -c1-300 | tr '\n' ';')"
