//! The appliance on its board, as its administrator sees it, and images for it.

use crate::rdma::link;
use conformance::appliance;
use conformance::board::{Board, Parts};
use conformance::guest::{self, Extras, Job};
use conformance::lab::{Kernel, Lab, Load, tree};
use conformance::report;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(super) const VOLUME: &str = "nqn.2026-01.io.forebay:tank:vol";
/// Bytes that are written and verified.
pub(super) const LENGTH: &str = "16MiB";
/// The machine's end of the network that leads to the stock host only.
pub(super) const LINK_MAC: &str = "52:54:00:77:00:01";
/// Its address there.
pub(super) const ON_LINK: &str = "192.168.77.1";
const DATA_DISK: u64 = 512 << 20;
/// Emulation on a machine that does other things as well.
pub(super) const PATIENCE: Duration = Duration::from_secs(150);
const LIMIT: Duration = Duration::from_secs(600);
/// What a stock host checks.
const CHECKS: [&str; 15] = [
    "discover",
    "discovered",
    "connect",
    "there",
    "verify",
    "flush",
    "disconnect",
    "soft-roce",
    "rdma-ready",
    "rdma-connect",
    "rdma-there",
    "rdma-reads-what-tcp-wrote",
    "rdma-verify",
    "rdma-disconnect",
    "host-is-calm",
];
/// What the firmware shows when the kernel starts.
pub(super) const KERNEL: &str = "EFI stub: Loaded initrd";
pub(super) const TOKEN: &str = "shown this once: ";
const FINGERPRINT: &str = "certificate has the SHA-256 ";

/// A command of this machine; its standard output.
pub(super) fn ran(command: &mut Command) -> Result<String, String> {
    let out = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("{:?}: {}", command.get_program(), said.trim()))
}

/// What `image/build` is called with, and where its packages are.
pub(super) struct Builder {
    pub(super) binary: PathBuf,
    pub(super) work: PathBuf,
}

impl Builder {
    pub(super) fn new() -> Result<Builder, String> {
        Ok(Builder { binary: appliance::binary()?, work: tree().join("build/image") })
    }

    /// An image to be started here, and not compared or measured: packed in less time.
    pub(super) fn build_quickly(&self, out: &Path, more: &[&str]) -> Result<(), String> {
        self.packed("3", out, more)
    }

    /// An image as it is shipped; in the short form it is packed in less time, and is larger.
    pub(super) fn build(&self, out: &Path, more: &[&str]) -> Result<(), String> {
        self.packed(Load::wanted().pick("19", "3"), out, more)
    }

    /// With this level of zstd.
    fn packed(&self, level: &str, out: &Path, more: &[&str]) -> Result<(), String> {
        let mut command = Command::new(tree().join("image/build"));
        command.env("FOREBAY_ZSTD", level).arg("--binary").arg(&self.binary);
        ran(command.arg("--out").arg(out).args(more)).map(|said| print!("  {said}"))
    }
}

/// The appliance on its board, as its administrator sees it.
pub(super) struct Machine {
    folder: PathBuf,
    builder: Builder,
    disks: Vec<PathBuf>,
    fabric: u16,
    discovery: u16,
    api: u16,
    /// Options of the emulator: parts that not every machine has.
    pub(super) more: Vec<String>,
}

impl Machine {
    pub(super) fn new(folder: &Path, image: &Path) -> Result<Machine, String> {
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
        Ok(Machine { folder, builder, disks, fabric, discovery, api, more: Vec::new() })
    }

    pub(super) fn switch_on(&self) -> Result<Board, String> {
        let parts = Parts {
            packages: &self.builder.work.join("packages"),
            disks: &self.disks,
            forwards: &[(self.fabric, 4420), (self.discovery, 8009), (self.api, 4480)],
            folder: &self.folder,
            more: &self.more,
        };
        Board::start(&parts, LIMIT)
    }

    /// Learns from the console what the administrator learns there, and trusts the certificate that
    /// the API shows if it is the one of the console.
    pub(super) fn log_in(&self, board: &mut Board) -> Result<(), String> {
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

    /// A copy of its configuration partition.
    pub(super) fn configuration(&self) -> Result<PathBuf, String> {
        let partition = self.folder.join("config.img");
        let mut copy = Command::new("dd");
        copy.arg(format!("if={}", self.disks[0].display()));
        copy.arg(format!("of={}", partition.display()));
        ran(copy.args(["bs=1M", "skip=257", "count=64", "status=none"]))?;
        Ok(partition)
    }

    /// What the command line says, with the token and the certificate of the console.
    pub(super) fn operate(&self, words: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.builder.binary);
        command.args(words).args(["--api", &format!("https://localhost:{}", self.api)]);
        command.arg("--token-file").arg(self.folder.join("token"));
        ran(command.arg("--ca").arg(self.folder.join("api.crt")).stdin(Stdio::null()))
    }

    /// Our initiator on the volume.
    pub(super) fn io(&self, action: &str, length: &str) -> Result<String, String> {
        let mut command = Command::new(&self.builder.binary);
        let at = format!("127.0.0.1:{}", self.fabric);
        let length = ["--length", length, "--seed", "7", "--depth", "8"];
        ran(command.args(["io", action, &at, "--nqn", VOLUME]).args(length).stdin(Stdio::null()))
    }

    /// Has a second network, which leads to [`Machine::stock_host`].
    pub(super) fn with_link(mut self) -> Machine {
        self.more = link(&self.folder, "server=on", LINK_MAC);
        self
    }

    /// A stock kernel in another machine, on the volume over each fabric.
    pub(super) fn stock_host(&self, lab: &Lab) -> Result<(), String> {
        let variables = vec![
            ("ADDRESS", "10.0.2.2".to_owned()),
            ("PORT", self.fabric.to_string()),
            ("DISCOVERY", self.discovery.to_string()),
            ("RDMA", ON_LINK.to_owned()),
        ];
        let machine = link(&self.folder, "server=off,reconnect-ms=200", "52:54:00:77:00:02");
        let (forwards, extras) = (Vec::new(), Extras { machine, ..Extras::default() });
        let job = Job { script: "image-host", variables, limit: LIMIT, forwards, extras };
        let mut answer = |words: &str| Err(format!("unknown request {words}"));
        let outcome = guest::run(lab, Kernel::Linux6_12, &job, &mut answer)?;
        report::judge(&outcome, &CHECKS);
        Ok(())
    }

    /// Tries a read until one is answered: when that was.
    pub(super) fn first_io(&self) -> Result<Instant, String> {
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
pub(super) fn sign(key: &Path, image: &Path, version: &str) -> Result<(), String> {
    let comment = format!("version {version}");
    let mut command = Command::new("minisign");
    command.args(["-S", "-s"]).arg(key).arg("-m").arg(image).args(["-t", &comment]);
    ran(command.stdin(Stdio::null())).map(drop)
}

/// An image with a right signature whose kernel finds no first process.
pub(super) fn broken(builder: &Builder, folder: &Path) -> Result<PathBuf, String> {
    let image = folder.join("broken.efi");
    let mut command = Command::new(tree().join("image/uki"));
    command.arg(&image).args(["9.9.9", ""]).arg(builder.work.join("modules.cpio.zst"));
    ran(&mut command)?;
    sign(&builder.work.join("sign.key"), &image, "9.9.9")?;
    Ok(image)
}

/// An image with a right signature whose target starts, and never answers.
pub(super) fn hanging(builder: &Builder, folder: &Path) -> Result<PathBuf, String> {
    let (image, stage) = (folder.join("hanging.efi"), folder.join("hanging"));
    let (program, archive) = (folder.join("program.cpio.zst"), folder.join("hanging.cpio.zst"));
    let script = |name: &str| {
        let mut command = Command::new(tree().join("image").join(name));
        command.env("FOREBAY_ZSTD", "3").env("SOURCE_DATE_EPOCH", "1767225600");
        command
    };
    let say = |error: std::io::Error| format!("hanging image: {error}");
    let key = builder.work.join("sign.pub");
    ran(script("program").arg(&program).arg(&builder.binary).arg(key).arg("9.9.8"))?;
    fs::create_dir(&stage).map_err(say)?;
    let mut unpack = Command::new("sh");
    unpack.args(["-c", "zstd -dcq \"$1\" | cpio -id --quiet", "sh"]).arg(&program);
    ran(unpack.current_dir(&stage))?;
    // The first process stays what it is; what it starts is another program.
    fs::rename(stage.join("bin/forebay"), stage.join("bin/first")).map_err(say)?;
    fs::remove_file(stage.join("init")).map_err(say)?;
    std::os::unix::fs::symlink("bin/first", stage.join("init")).map_err(say)?;
    fs::copy(env!("CARGO_BIN_EXE_silent"), stage.join("bin/forebay")).map_err(say)?;
    ran(script("archive").arg(&stage).arg(&archive))?;
    let mut command = script("uki");
    command.arg(&image).args(["9.9.8", ""]).arg(builder.work.join("modules.cpio.zst"));
    ran(command.arg(&archive))?;
    sign(&builder.work.join("sign.key"), &image, "9.9.8")?;
    Ok(image)
}

/// Something with a right signature of version 0.1.0, which is never started.
pub(super) fn older(builder: &Builder, folder: &Path) -> Result<PathBuf, String> {
    let image = folder.join("older.efi");
    fs::write(&image, vec![7; 1 << 20]).map_err(|error| format!("older image: {error}"))?;
    sign(&builder.work.join("sign.key"), &image, "0.1.0")?;
    Ok(image)
}

/// Something that is signed with a key that nobody knows.
pub(super) fn forged(folder: &Path) -> Result<PathBuf, String> {
    let (key, forged) = (folder.join("forger.key"), folder.join("forged.efi"));
    let mut command = Command::new("minisign");
    command.args(["-G", "-W", "-s"]).arg(&key).arg("-p").arg(folder.join("forger.pub"));
    ran(command.stdin(Stdio::null()))?;
    fs::write(&forged, vec![7; 1 << 20]).map_err(|error| format!("forged image: {error}"))?;
    sign(&key, &forged, "0.2.0")?;
    Ok(forged)
}
