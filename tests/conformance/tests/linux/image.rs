//! The image, built from packages and the shipped binary, on a machine with UEFI firmware: from the
//! disk to serving, through a power cut, and off by its button.

mod machine;
mod servers;

use conformance::lab::Lab;
use machine::{
    Builder, KERNEL, LENGTH, LINK_MAC, Machine, ON_LINK, PATIENCE, TOKEN, broken, forged, hanging,
    older, ran,
};
use servers::Servers;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

#[test]
fn two_builds_are_the_same_and_small() {
    if Lab::required_or_skip().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let builder = Builder::new().unwrap_or_else(|why| panic!("{why}"));
    let sums = |name: &str| {
        let out = folder.path().join(name);
        builder.build(&out, &[]).unwrap_or_else(|why| panic!("{why}"));
        let names = ["forebay.efi", "forebay.efi.minisig", "forebay.img"];
        let mut command = Command::new("sha256sum");
        let sums = ran(command.args(names).current_dir(&out)).unwrap_or_else(|why| panic!("{why}"));
        // What is in the headers of files changes with the second.
        std::thread::sleep(Duration::from_millis(1100));
        (sums, fs::metadata(out.join("forebay.efi")).expect("it was built").len())
    };
    let (first, bytes) = sums("first");
    let (second, _) = sums("second");
    print!("{first}");
    assert_eq!(first, second, "two builds differ");
    println!("  note: the image has {:.1} MiB", bytes as f64 / f64::from(1 << 20));
    assert!(bytes < 64 << 20, "the image has {bytes} bytes");
}

/// Of the kernel's command line: what makes it start in less time where it is emulated.
const QUICK: &str = "rcupdate.rcu_expedited=1 tsc=reliable mitigations=off";

/// Holds where each of these has a line with all of its words.
fn expect(said: &str, lines: &[&[&str]]) -> Result<(), String> {
    let has =
        |words: &&[&str]| said.lines().any(|line| words.iter().all(|word| line.contains(word)));
    match lines.iter().find(|words| !has(words)) {
        Some(words) => Err(format!("no line with {words:?} in:\n{said}")),
        None => Ok(()),
    }
}

/// Says what has been seen, with the second of the test.
fn holds(what: &str) {
    static STARTED: OnceLock<Instant> = OnceLock::new();
    let seconds = STARTED.get_or_init(Instant::now).elapsed().as_secs_f64();
    println!("{seconds:>6.1}  ok    {what}");
}

/// An update is tried, and kept because it works; one that does not work is left; one that is not
/// signed is not even written.
fn updates(_: &Lab, folder: &Path) -> Result<(), String> {
    let builder = Builder::new()?;
    let (first, second) = (folder.join("first"), folder.join("second"));
    let append = format!("{QUICK} panic=1 forebay.trial=25");
    builder.build_quickly(&first, &["--version", "0.1.0", "--append", &append])?;
    builder.build_quickly(&second, &["--version", "0.2.0"])?;
    let update = second.join("forebay.efi");
    let (bad, forged) = (broken(&builder, folder)?, forged(folder)?);
    let silent = hanging(&builder, folder)?;
    holds("four images are built");
    let machine = Machine::new(folder, &first.join("forebay.img"))?;
    let path = |path: &Path| path.display().to_string();
    let mut board = machine.switch_on()?;
    machine.log_in(&mut board)?;
    match machine.operate(&["appliance", "update", &path(&forged)]) {
        Err(why) if why.contains("not signed with the key of this appliance") => {}
        other => return Err(format!("an image with a wrong signature: {other:?}")),
    }
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "Forebay 0.1.0", "good", "runs"], &["b ", "empty"]])?;
    holds("an image with a wrong signature is refused");

    machine.operate(&["appliance", "update", &path(&update), "--restart"])?;
    board.shown("Forebay 0.2.0, slot b", 1, PATIENCE)?;
    board.shown("This image works and is kept.", 1, PATIENCE)?;
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "0.1.0", "good"], &["b ", "Forebay 0.2.0", "good", "runs"]])?;
    holds("an update is tried and kept");

    let older = path(&older(&builder, folder)?);
    match machine.operate(&["appliance", "update", &older]) {
        Err(why) if why.contains("Version 0.1.0 is older than 0.2.0, which runs") => {}
        other => return Err(format!("an image that is older: {other:?}")),
    }
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "0.1.0", "good"]])?;
    machine.operate(&["appliance", "update", &older, "--allow-older"])?;
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "0.1.0", "on trial"], &["b ", "0.2.0", "good", "runs"]])?;
    holds("an older image is refused, unless it is meant");

    machine.operate(&["appliance", "update", &path(&bad), "--restart"])?;
    board.shown("Kernel panic", 1, PATIENCE)?;
    board.shown("Forebay 0.2.0, slot b", 2, PATIENCE)?;
    board.shown("Forebay is ready", 3, PATIENCE)?;
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "9.9.9", "failed"], &["b ", "Forebay 0.2.0", "good", "runs"]])?;
    holds("an update whose kernel panics is left");

    machine.operate(&["appliance", "update", &path(&silent), "--restart"])?;
    board.shown("Forebay 9.9.8, slot a", 1, PATIENCE)?;
    board.shown("the machine goes back", 1, PATIENCE)?;
    board.shown("Forebay 0.2.0, slot b", 3, PATIENCE)?;
    board.shown("Forebay is ready", 4, PATIENCE)?;
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "9.9.8", "failed"], &["b ", "Forebay 0.2.0", "good", "runs"]])?;
    holds("an update whose target never answers is left after its time");
    machine.operate(&["appliance", "power-off", "--yes"])?;
    board.off(PATIENCE)
}

/// `appliance.toml` of a machine with a network of each kind: by DHCP, and an address that is given
/// to a device that is named by its MAC address and does RDMA in software.
fn two_networks() -> String {
    format!(
        "soft_roce = [\"{LINK_MAC}\"]\n[[network]]\ndevice = \"eth0\"\n\
         [[network]]\ndevice = \"{LINK_MAC}\"\naddress = \"{ON_LINK}/24\"\n"
    )
}

/// From the disk to serving; what is written outlives a power cut; the button ends it in order.
fn life(lab: &Lab, folder: &Path) -> Result<(), String> {
    let builder = Builder::new()?;
    let given = folder.join("given");
    fs::create_dir(&given).map_err(|error| error.to_string())?;
    fs::write(given.join("appliance.toml"), two_networks()).map_err(|e| e.to_string())?;
    builder
        .build_quickly(folder, &["--append", QUICK, "--config", &given.display().to_string()])?;
    let machine = Machine::new(folder, &folder.join("forebay.img"))?.with_link();
    let mut board = machine.switch_on()?;
    machine.log_in(&mut board)?;
    holds("boots, shows address, certificate and token");
    machine.operate(&["pool", "create", "tank", "/dev/vdb", "--yes"])?;
    machine.operate(&["volume", "create", "tank/vol", "64MiB", "--allow-any-host"])?;
    machine.io("write", LENGTH)?;
    machine.io("verify", LENGTH)?;
    holds(&format!("serves NVMe over TCP: {LENGTH} written and verified"));
    let over_rdma = format!("{ON_LINK}:4420");
    machine.operate(&["listener", "create", &over_rdma, "--transport", "rdma"])?;
    machine.stock_host(lab)?;
    machine.io("verify", LENGTH)?;
    holds("serves a stock host over TCP and over RDMA, which verified what it wrote");
    board.pull_plug()?;

    let mut board = machine.switch_on()?;
    let kernel = board.shown(KERNEL, 1, PATIENCE)?;
    let served = machine.first_io()?;
    machine.io("verify", LENGTH)?;
    let listeners = machine.operate(&["listener", "list"])?;
    expect(&listeners, &[&["rdma", &over_rdma, "ok"]])?;
    holds("after a power cut everything is there again");
    println!(
        "  note: {:.1} s from the kernel's start to the first I/O, {:.1} s in the firmware before \
         (emulation)",
        (served - kernel).as_secs_f64(),
        (kernel - board.on).as_secs_f64()
    );
    if board.console().contains(TOKEN) {
        return Err("the token is shown again".into());
    }
    board.press_power()?;
    board.shown("Stopping.", 1, PATIENCE)?;
    board.off(PATIENCE)?;
    holds("the power button ends it");
    let console = board.console();
    let calm = ["Kernel panic", "BUG:", "Call Trace", "stays mounted", "the target ended"];
    match calm.iter().find(|&&word| console.contains(word)) {
        Some(word) => Err(format!("\"{word}\" on the console:\n{}", board.last_lines())),
        None => Ok(()),
    }
}

/// A target that ends is noted on the configuration partition and started again; a kernel that
/// crashes and hangs is reset by the watchdog, and noted by the one after it. The machine is told of
/// its network, of a log server and of a time server by the command line.
fn crashes(_: &Lab, folder: &Path) -> Result<(), String> {
    let builder = Builder::new()?;
    let given = folder.join("given");
    fs::create_dir(&given).map_err(|error| error.to_string())?;
    fs::write(given.join("forebay.toml"), "no_such_key = 1\n").map_err(|e| e.to_string())?;
    let servers = Servers::start()?;
    let append = format!(
        "{QUICK} ip=10.0.2.20::10.0.2.2:255.255.255.0:box:eth0:off forebay.syslog=10.0.2.2:{} \
         forebay.ntp=10.0.2.2:{} i6300esb.heartbeat=15 unknown_nmi_panic panic=0",
        servers.log_port, servers.time_port
    );
    builder
        .build_quickly(folder, &["--config", &given.display().to_string(), "--append", &append])?;
    let mut machine = Machine::new(folder, &folder.join("forebay.img"))?;
    machine.more = vec!["-rtc".into(), "base=2020-01-01T00:00:00".into()];
    let mut board = machine.switch_on()?;
    board.shown("eth0 has the address 10.0.2.20", 1, PATIENCE)?;
    board.shown("the target ended: status 1", 2, PATIENCE)?;
    servers.heard("the clock was ", "ms wrong and is set by 10.0.2.2", PATIENCE)?;
    servers.heard(" box forebay ", "the target ended: status 1", PATIENCE)?;
    holds("its log comes to a server, with the time that another one gave it");

    board.press_nmi()?;
    let panic = board.shown("Kernel panic", 1, PATIENCE)?;
    let reset = board.shown(KERNEL, 2, PATIENCE)?;
    println!("  note: {:.1} s from the panic to the next kernel", (reset - panic).as_secs_f64());
    board.shown("the kernel crashed before this start", 1, PATIENCE)?;
    // From here on the button is minded.
    board.shown("Forebay 0.1.0, slot a", 2, PATIENCE)?;
    board.press_power()?;
    board.off(PATIENCE)?;
    let partition = machine.configuration()?;
    noted(&partition, "target", &["The target ended: status 1", "no_such_key", "Linux version"])?;
    holds("a target that ends is noted and started again");
    noted(&partition, "kernel", &["NMI", "Kernel panic", "the target ended: status 1"])?;
    holds("a kernel that crashes and hangs is reset and noted");
    Ok(())
}

/// Holds where the partition has a note of `what` with all of these words.
fn noted(partition: &Path, what: &str, words: &[&str]) -> Result<(), String> {
    let read = |what: &str| {
        let mut command = Command::new("/sbin/debugfs");
        ran(command.args(["-R", what]).arg(partition).stdin(Stdio::null()))
    };
    let names = read("ls -p /crash")?;
    let note = names.split('/').find(|name| name.ends_with(&format!("-{what}.txt")));
    let note = note.ok_or_else(|| format!("no note of {what} in /crash: {names}"))?;
    let text = read(&format!("cat /crash/{note}"))?;
    match words.iter().find(|word| !text.contains(**word)) {
        Some(word) => Err(format!("the note of {what} lacks \"{word}\":\n{text}")),
        None => Ok(()),
    }
}

/// Runs one of the stories above; fails with the end of the console.
fn tell(story: fn(&Lab, &Path) -> Result<(), String>) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    holds("begins");
    if let Err(why) = story(&lab, folder.path()) {
        let serial = fs::read(folder.path().join("serial")).unwrap_or_default();
        let serial = String::from_utf8_lossy(&serial);
        let lines: Vec<&str> = serial.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!("{why}\n--- end of the machine's console\n{tail}");
    }
}

#[test]
fn from_the_disk_to_serving() {
    tell(life);
}

#[test]
fn updates_are_kept_or_left() {
    tell(updates);
}

#[test]
fn crashes_are_noted() {
    tell(crashes);
}
