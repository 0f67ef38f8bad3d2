//! The image, built from packages and the shipped binary, on a machine with UEFI firmware: from the
//! disk to serving, through a power cut, and off by its button.

use conformance::appliance;
use conformance::board::{Board, Parts};
use conformance::lab::{Lab, tree};
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
    api: u16,
}

impl Machine {
    fn new(folder: &Path, image: &Path) -> Result<Machine, String> {
        let disks = vec![folder.join("boot.img"), folder.join("data.img")];
        let copy = ["--sparse=always"];
        ran(Command::new("cp").args(copy).arg(image).arg(&disks[0]))?;
        let data = fs::File::create(&disks[1]).and_then(|file| file.set_len(DATA_DISK));
        data.map_err(|error| format!("data disk: {error}"))?;
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let (one, two) = (free().map_err(|e| e.to_string())?, free().map_err(|e| e.to_string())?);
        let port = |l: &TcpListener| l.local_addr().map(|at| at.port()).map_err(|e| e.to_string());
        let (fabric, api) = (port(&one)?, port(&two)?);
        Ok(Machine { folder: folder.to_owned(), builder: Builder::new()?, disks, fabric, api })
    }

    fn switch_on(&self) -> Result<Board, String> {
        let parts = Parts {
            packages: &self.builder.work.join("packages"),
            disks: &self.disks,
            forwards: &[(self.fabric, 4420), (self.api, 4480)],
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
        let mut reader = Command::new("openssl");
        reader.args(["x509", "-fingerprint", "-sha256", "-in"]).arg(self.folder.join("shown"));
        let print = ran(reader.arg("-out").arg(&certificate))?;
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

/// From the disk to serving; what is written outlives a power cut; the button ends it in order.
fn life(folder: &Path) -> Result<(), String> {
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

#[test]
fn from_the_disk_to_serving() {
    if Lab::required_or_skip().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let result = life(folder.path());
    if let Err(why) = result {
        let serial = fs::read_to_string(folder.path().join("serial")).unwrap_or_default();
        let lines: Vec<&str> = serial.lines().collect();
        let tail = lines[lines.len().saturating_sub(60)..].join("\n");
        panic!("{why}\n--- end of the machine's console\n{tail}");
    }
}
