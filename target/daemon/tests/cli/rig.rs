//! A server over the appliance in memory, and the binary against it.

use crate::appliance::{self, Appliance};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tempfile::TempDir;
use webui_api::{Machine, Server, ServerConfig, TlsConfig};

/// A server, and a data directory that says how to reach it.
pub struct Rig {
    server: Server,
    pub appliance: Arc<Appliance>,
    pub folder: TempDir,
    secret: String,
}

/// What a command did.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        let (out, err) = (text(output.stdout), text(output.stderr));
        assert!(!err.contains("panicked"), "{err}");
        Said { code: output.status.code().expect("it ended by itself"), out, err }
    }
}

/// The binary, with nothing of this machine's in its environment.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for name in [
        "FOREBAY_API",
        "FOREBAY_TOKEN",
        "FOREBAY_CA",
        "FOREBAY_CERT",
        "FOREBAY_CERT_KEY",
        "FOREBAY_DATA_DIR",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub fn forebay(args: &[&str]) -> Said {
    binary().args(args).output().expect("the binary runs").into()
}

impl Rig {
    /// One with a pool, volumes, a snapshot, a clone, a connected host, a listener and a job.
    pub fn furnished() -> Rig {
        Rig::start(Appliance::furnished(), None)
    }

    /// One with nothing.
    pub fn empty() -> Rig {
        Rig::start(Appliance::new(), None)
    }

    pub fn start(appliance: Appliance, tls: Option<TlsConfig>) -> Rig {
        let folder = tempfile::tempdir().expect("a folder");
        let appliance = Arc::new(appliance);
        let config = ServerConfig {
            address: Some("127.0.0.1:0".parse().unwrap()),
            folder: folder.path().to_owned(),
            names: Vec::new(),
            tls,
            tokens: folder.path().join("tokens.json"),
            audit: folder.path().join("audit.log"),
            audit_forward: Default::default(),
            pages: None,
        };
        let world = Arc::new(Machine::new());
        let mut server = Server::start(config, appliance.clone(), world).expect("a server");
        let secret = server.take_first_token().expect("a first start").secret;
        Rig { server, appliance, folder, secret }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn secret(&self) -> String {
        self.secret.clone()
    }

    pub fn address(&self) -> std::net::SocketAddr {
        self.server.address().expect("it listens")
    }

    /// The binary with these arguments, for this server.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = binary();
        command.args(args).arg("--data-dir").arg(self.folder.path());
        command
    }

    /// The binary with these arguments, for this server by its address and with its token.
    pub fn command_over_tcp(&self, url: &str, args: &[&str]) -> Command {
        let mut command = self.command(args);
        command.env("FOREBAY_API", url).env("FOREBAY_TOKEN", self.secret());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, args: &[&str]) -> Said {
        self.command(args).output().expect("the binary runs").into()
    }

    /// Runs a command that must succeed; its standard output.
    pub fn good(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
        said.out
    }

    /// Runs a command that must fail with this exit code; its sentence.
    pub fn bad(&self, code: i32, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, code, "{args:?}: {said:?}");
        assert_eq!(said.out, "", "{args:?}: what fails prints no result");
        said.err
    }

    /// Runs a command on a terminal where somebody types `typed`; its exit code and what the
    /// terminal showed.
    pub fn on_terminal(&self, args: &[&str], typed: &str) -> (i32, String) {
        let line = self.command(args);
        let words = std::iter::once(line.get_program()).chain(line.get_args());
        let quoted: Vec<_> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &quoted.join(" "), "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).env("TERM", "xterm");
        let mut child = script.spawn().expect("util-linux is there");
        let mut stdin = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, typed.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        drop(stdin);
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code().expect("an exit code"), shown)
    }

    /// What the API answers to a GET, byte by byte.
    pub fn get(&self, path: &str) -> String {
        let url = format!("http://{}{path}", self.address());
        let request = ureq::get(url).header("Authorization", format!("Bearer {}", self.secret()));
        request.call().expect("an answer").body_mut().read_to_string().expect("text")
    }
}

/// Writes a file below a folder; its path as a text.
pub fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().expect("a plain path").to_owned()
}

/// A volume of the furnished appliance.
pub fn volume(name: &str) -> webui_model::VolumeRef {
    webui_model::VolumeRef { pool: appliance::name("tank"), volume: appliance::name(name) }
}
