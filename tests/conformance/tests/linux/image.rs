//! The image, built from packages and the shipped binary, on a machine with UEFI firmware: from the
//! disk to serving, through a power cut, and off by its button.

use conformance::appliance;
use conformance::board::{Board, Parts};
use conformance::guest::{self, Extras, Job};
use conformance::lab::{Kernel, Lab, tree};
use conformance::report;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const VOLUME: &str = "nqn.2026-01.io.forebay:tank:vol";
/// Bytes that are written and verified.
const LENGTH: &str = "16MiB";
const DATA_DISK: u64 = 512 << 20;
/// Emulation on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(150);
const LIMIT: Duration = Duration::from_secs(600);
/// What a stock host checks.
const CHECKS: [&str; 8] =
    ["discover", "discovered", "connect", "there", "verify", "flush", "disconnect", "host-is-calm"];
/// What the firmware shows when the kernel starts.
const KERNEL: &str = "EFI stub: Loaded initrd";
const TOKEN: &str = "shown this once: ";
const FINGERPRINT: &str = "certificate has the SHA-256 ";

/// A command of this machine; its standard output.
fn ran(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("{:?}: {}", command.get_program(), said.trim()))
}

/// What `image/build` is called with, and where its packages are.
struct Builder {
    binary: PathBuf,
    work: PathBuf,
}

impl Builder {
    fn new() -> Result<Builder, String> {
        Ok(Builder { binary: appliance::binary()?, work: tree().join("build/image") })
    }

    fn build(&self, out: &Path, more: &[&str]) -> Result<(), String> {
        let mut command = Command::new(tree().join("image/build"));
        command.arg("--binary").arg(&self.binary).arg("--out").arg(out).args(more);
        ran(&mut command).map(|said| print!("  {said}"))
    }
}

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

/// The appliance on its board, as its administrator sees it.
struct Machine {
    folder: PathBuf,
    builder: Builder,
    disks: Vec<PathBuf>,
    fabric: u16,
    discovery: u16,
    api: u16,
}

impl Machine {
    fn new(folder: &Path, image: &Path) -> Result<Machine, String> {
        let disks = vec![folder.join("boot.img"), folder.join("data.img")];
        let copy = ["--sparse=always"];
        ran(Command::new("cp").args(copy).arg(image).arg(&disks[0]))?;
        let data = fs::File::create(&disks[1]).and_then(|file| file.set_len(DATA_DISK));
        data.map_err(|error| format!("data disk: {error}"))?;
        // All are held until each is known: none is given twice.
        let held = [0; 3].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
        let ports = held.each_ref().map(|one| one.local_addr().expect("it has one").port());
        let [fabric, discovery, api] = ports;
        let (folder, builder) = (folder.to_owned(), Builder::new()?);
        Ok(Machine { folder, builder, disks, fabric, discovery, api })
    }

    fn switch_on(&self) -> Result<Board, String> {
        let parts = Parts {
            packages: &self.builder.work.join("packages"),
            disks: &self.disks,
            forwards: &[(self.fabric, 4420), (self.discovery, 8009), (self.api, 4480)],
            folder: &self.folder,
        };
        Board::start(&parts, LIMIT)
    }

    /// Learns from the console what the administrator learns there, and trusts the certificate that
    /// the API shows if it is the one of the console.
    fn log_in(&self, board: &mut Board) -> Result<(), String> {
        board.shown(TOKEN, 1, PATIENCE)?;
        // The line is there when the one after it begins, or at once: it is the last one.
        std::thread::sleep(Duration::from_millis(300));
        let console = board.console();
        let after = |mark: &str| {
            let rest = console.split(mark).nth(1).unwrap_or("");
            rest.split_whitespace().next().unwrap_or("").to_owned()
        };
        fs::write(self.folder.join("token"), after(TOKEN)).map_err(|e| e.to_string())?;
        let at = format!("127.0.0.1:{}", self.api);
        let mut client = Command::new("openssl");
        let shown = ran(client.args(["s_client", "-connect", &at]).stdin(Stdio::null()))?;
        fs::write(self.folder.join("shown"), shown).map_err(|e| e.to_string())?;
        let certificate = self.folder.join("api.crt");
        let x509 = |from: &Path, what: &[&str]| {
            ran(Command::new("openssl").args(["x509", "-in"]).arg(from).args(what))
        };
        fs::write(&certificate, x509(&self.folder.join("shown"), &[])?)
            .map_err(|e| e.to_string())?;
        let print = x509(&certificate, &["-noout", "-fingerprint", "-sha256"])?;
        let wanted = after(FINGERPRINT);
        match print.contains(&wanted) && wanted.len() == 95 {
            true => Ok(()),
            false => Err(format!("the console shows {wanted}, the API {print}")),
        }
    }

    /// What the command line says, with the token and the certificate of the console.
    fn operate(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.builder.binary);
        command.args(words).args(["--api", &format!("https://localhost:{}", self.api)]);
        command.arg("--token-file").arg(self.folder.join("token"));
        ran(command.arg("--ca").arg(self.folder.join("api.crt")).stdin(Stdio::null()))
    }

    /// Our initiator on the volume.
    fn io(&self, action: &str, length: &str) -> Result<String, String> {
        let mut command = Command::new(&self.builder.binary);
        let at = format!("127.0.0.1:{}", self.fabric);
        let length = ["--length", length, "--seed", "7", "--depth", "8"];
        ran(command.args(["io", action, &at, "--nqn", VOLUME]).args(length).stdin(Stdio::null()))
    }

    /// A stock kernel in another machine, on the volume.
    fn stock_host(&self, lab: &Lab) -> Result<(), String> {
        let variables = vec![
            ("ADDRESS", "10.0.2.2".to_owned()),
            ("PORT", self.fabric.to_string()),
            ("DISCOVERY", self.discovery.to_string()),
        ];
        let (forwards, extras) = (Vec::new(), Extras::default());
        let job = Job { script: "image-host", variables, limit: LIMIT, forwards, extras };
        let mut answer = |words: &str| Err(format!("unknown request {words}"));
        let outcome = guest::run(lab, Kernel::Linux6_12, &job, &mut answer)?;
        report::judge(&outcome, &CHECKS);
        Ok(())
    }

    /// Tries a read until one is answered: when that was.
    fn first_io(&self) -> Result<Instant, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.io("read", "4KiB") {
                Ok(_) => return Ok(Instant::now()),
                Err(why) if Instant::now() > until => return Err(why),
                Err(_) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }
}

/// Signs an image with a key of minisign's.
fn sign(key: &Path, image: &Path, version: &str) -> Result<(), String> {
    let comment = format!("version {version}");
    let mut command = Command::new("minisign");
    command.args(["-S", "-s"]).arg(key).arg("-m").arg(image).args(["-t", &comment]);
    ran(command.stdin(Stdio::null())).map(drop)
}

/// An image with a right signature whose kernel finds no first process.
fn broken(builder: &Builder, folder: &Path) -> Result<PathBuf, String> {
    let image = folder.join("broken.efi");
    let mut command = Command::new(tree().join("image/uki"));
    command.arg(&image).args(["9.9.9", ""]).arg(builder.work.join("modules.cpio.zst"));
    ran(&mut command)?;
    sign(&builder.work.join("sign.key"), &image, "9.9.9")?;
    Ok(image)
}

/// An image that is signed with a key that nobody knows.
fn forged(folder: &Path, image: &Path) -> Result<PathBuf, String> {
    let (key, forged) = (folder.join("forger.key"), folder.join("forged.efi"));
    let mut command = Command::new("minisign");
    command.args(["-G", "-W", "-s"]).arg(&key).arg("-p").arg(folder.join("forger.pub"));
    ran(command.stdin(Stdio::null()))?;
    fs::copy(image, &forged).map_err(|error| format!("forged image: {error}"))?;
    sign(&key, &forged, "0.2.0")?;
    Ok(forged)
}

/// An update is tried, and kept because it works; one that does not work is left; one that is not
/// signed is not even written.
fn updates(_: &Lab, folder: &Path) -> Result<(), String> {
    let builder = Builder::new()?;
    let (first, second) = (folder.join("first"), folder.join("second"));
    let append = "rcupdate.rcu_expedited=1 tsc=reliable mitigations=off panic=1";
    builder.build(&first, &["--version", "0.1.0", "--append", append])?;
    builder.build(&second, &["--version", "0.2.0"])?;
    let update = second.join("forebay.efi");
    let (bad, forged) = (broken(&builder, folder)?, forged(folder, &update)?);
    let machine = Machine::new(folder, &first.join("forebay.img"))?;
    let path = |path: &Path| path.display().to_string();
    let expect = |status: &str, lines: &[&[&str]]| {
        let has = |words: &&[&str]| {
            status.lines().any(|line| words.iter().all(|word| line.contains(word)))
        };
        match lines.iter().find(|words| !has(words)) {
            Some(words) => Err(format!("no line with {words:?} in:\n{status}")),
            None => Ok(()),
        }
    };

    let mut board = machine.switch_on()?;
    machine.log_in(&mut board)?;
    match machine.operate(&["appliance", "update", &path(&forged)]) {
        Err(why) if why.contains("not signed with the key of this appliance") => {}
        other => return Err(format!("an image with a wrong signature: {other:?}")),
    }
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "Forebay 0.1.0", "good", "runs"], &["b ", "empty"]])?;
    println!("  ok    an image with a wrong signature is refused");

    machine.operate(&["appliance", "update", &path(&update), "--restart"])?;
    board.shown("Forebay 0.2.0, slot b", 1, PATIENCE)?;
    board.shown("This image works and is kept.", 1, PATIENCE)?;
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "0.1.0", "good"], &["b ", "Forebay 0.2.0", "good", "runs"]])?;
    println!("  ok    an update is tried and kept");

    machine.operate(&["appliance", "update", &path(&bad), "--restart"])?;
    board.shown("Kernel panic", 1, PATIENCE)?;
    board.shown("Forebay 0.2.0, slot b", 2, PATIENCE)?;
    board.shown("Forebay is ready", 3, PATIENCE)?;
    let status = machine.operate(&["appliance", "status"])?;
    expect(&status, &[&["a ", "9.9.9", "failed"], &["b ", "Forebay 0.2.0", "good", "runs"]])?;
    println!("  ok    an update that does not work is left");
    machine.operate(&["appliance", "power-off", "--yes"])?;
    board.off(PATIENCE)
}

/// From the disk to serving; what is written outlives a power cut; the button ends it in order.
fn life(lab: &Lab, folder: &Path) -> Result<(), String> {
    let builder = Builder::new()?;
    builder
        .build(folder, &["--append", "rcupdate.rcu_expedited=1 tsc=reliable mitigations=off"])?;
    let machine = Machine::new(folder, &folder.join("forebay.img"))?;
    let mut board = machine.switch_on()?;
    machine.log_in(&mut board)?;
    println!("  ok    boots, shows address, certificate and token");
    machine.operate(&["pool", "create", "tank", "/dev/vdb", "--yes"])?;
    machine.operate(&["volume", "create", "tank/vol", "64MiB", "--allow-any-host"])?;
    machine.io("write", LENGTH)?;
    machine.io("verify", LENGTH)?;
    println!("  ok    serves NVMe over TCP: {LENGTH} written and verified");
    machine.stock_host(lab)?;
    machine.io("verify", LENGTH)?;
    println!("  ok    serves a stock host, which verified what it wrote");
    board.pull_plug()?;

    let mut board = machine.switch_on()?;
    let kernel = board.shown(KERNEL, 1, PATIENCE)?;
    let served = machine.first_io()?;
    machine.io("verify", LENGTH)?;
    println!("  ok    after a power cut everything is there again");
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
    println!("  ok    the power button ends it");
    let console = board.console();
    let calm = ["Kernel panic", "BUG:", "Call Trace", "stays mounted", "the target ended"];
    match calm.iter().find(|&&word| console.contains(word)) {
        Some(word) => Err(format!("\"{word}\" on the console:\n{}", board.last_lines())),
        None => Ok(()),
    }
}

/// A target that ends is noted on the configuration partition and started again; the first process
/// goes on, and the button still works.
fn crashes(_: &Lab, folder: &Path) -> Result<(), String> {
    let builder = Builder::new()?;
    let given = folder.join("given");
    fs::create_dir(&given).map_err(|error| error.to_string())?;
    fs::write(given.join("forebay.toml"), "no_such_key = 1\n").map_err(|e| e.to_string())?;
    builder.build(folder, &["--config", &given.display().to_string()])?;
    let machine = Machine::new(folder, &folder.join("forebay.img"))?;
    let mut board = machine.switch_on()?;
    board.shown("the target ended: status 1", 2, PATIENCE)?;
    board.press_power()?;
    board.off(PATIENCE)?;
    let partition = folder.join("config.img");
    let mut copy = Command::new("dd");
    copy.arg(format!("if={}", machine.disks[0].display()));
    copy.arg(format!("of={}", partition.display()));
    ran(copy.args(["bs=1M", "skip=257", "count=64", "status=none"]))?;
    let read = |what: &str| {
        let mut command = Command::new("/sbin/debugfs");
        ran(command.args(["-R", what]).arg(&partition).stdin(Stdio::null()))
    };
    let names = read("ls -p /crash")?;
    let note = names.split('/').find(|name| name.ends_with("-target.txt"));
    let note = note.ok_or_else(|| format!("no note in /crash: {names}"))?;
    let text = read(&format!("cat /crash/{note}"))?;
    for words in ["The target ended: status 1", "no_such_key", "Linux version"] {
        if !text.contains(words) {
            return Err(format!("the note lacks \"{words}\":\n{text}"));
        }
    }
    println!("  ok    a target that ends is noted and started again");
    Ok(())
}

/// Runs one of the stories above; fails with the end of the console.
fn tell(story: fn(&Lab, &Path) -> Result<(), String>) {
    let Some(lab) = Lab::required_or_skip() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
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
