//! Memory goes by what is written, not by how large things could be.

use crate::appliance::Appliance;
use crate::host::Host;
use std::process::Command;

const MIB: u64 = 1 << 20;

fn good(node: &Appliance, args: &[&str]) {
    let output = node.ask(args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn snapshots_of_a_volume_of_1_pib_with_a_write_at_its_end() {
    let node = Appliance::start(&["--ram", "1MiB"]);
    let disk = node.dir.path().join("disk.img");
    // A sparse file, as large as a file system lets one be.
    std::fs::File::create(&disk).unwrap().set_len(8 << 40).unwrap();
    good(&node, &["pool", "create", "tank", disk.to_str().unwrap()]);
    good(&node, &["volume", "create", "tank/v", "1024TiB", "--allow-any-host"]);
    // 8 GiB of addresses: one bit for each of its extents and snapshots is more.
    let pid = node.pid().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--as=8589934592"]).status();
    assert!(limited.expect("prlimit is there").success());
    let end = (1 << 50) - MIB;
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    for number in 0..70_u64 {
        if number % 23 == 0 {
            host.write(number, end - number * (1 << 40), MIB);
        }
        good(&node, &["snapshot", "create", &format!("tank/v@s{number}")]);
    }
    host.write(99, end, MIB);
    host.verify(99, end, MIB);
    host.verify(69, end - 69 * (1 << 40), MIB);
    host.is_zero(1 << 49, MIB);
    host.end();
    let dir = node.kill();
    let node = Appliance::start_in(dir.0, &dir.1, &["--ram", "1MiB"]);
    let mut host = Host::connect(node.address, "nqn.2026-01.io.forebay:tank:v", 1);
    host.verify(99, end, MIB);
    host.verify(46, end - 46 * (1 << 40), MIB);
    host.end();
}
