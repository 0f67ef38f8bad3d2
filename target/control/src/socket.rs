//! The control socket: over a Unix socket that only the owner may open, one JSON request a
//! connection, a line, and its JSON answer, a line.

use crate::config::{BdevConfig, NamespaceConfig, SubsystemConfig, check_nqn};
use crate::node::Node;
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest request or answer, in bytes.
const LINE_BYTES: u64 = 16 << 20;

/// What can be asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// All counters.
    Stats,
    /// Open a bdev.
    BdevAdd {
        /// What it is.
        bdev: BdevConfig,
    },
    /// Close a bdev that nobody uses.
    BdevRemove {
        /// Its name.
        name: String,
    },
    /// Look at the size of a bdev again.
    BdevRescan {
        /// Its name.
        name: String,
    },
    /// Export a subsystem.
    SubsystemAdd {
        /// What it is.
        subsystem: SubsystemConfig,
    },
    /// Take a subsystem away.
    SubsystemRemove {
        /// Its NQN.
        nqn: String,
    },
    /// Add a namespace to a subsystem.
    NamespaceAdd {
        /// The subsystem.
        nqn: String,
        /// The namespace.
        namespace: NamespaceConfig,
    },
    /// Take a namespace away.
    NamespaceRemove {
        /// The subsystem.
        nqn: String,
        /// Its number.
        nsid: u32,
    },
    /// Let a host connect.
    HostAdd {
        /// The subsystem.
        nqn: String,
        /// The host.
        host: String,
    },
    /// Do not let a host connect any more, and disconnect it.
    HostRemove {
        /// The subsystem.
        nqn: String,
        /// The host.
        host: String,
    },
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// It is done, in words.
    Done(String),
    /// All counters.
    Stats(Box<Report>),
    /// It cannot be done, and why.
    Error(String),
}

/// Carries out one request.
pub fn execute(node: &mut Node, request: Request) -> Answer {
    if let Request::Stats = request {
        return Answer::Stats(Box::new(node.report()));
    }
    change(node, request).map_or_else(Answer::Error, Answer::Done)
}

fn change(node: &mut Node, request: Request) -> Result<String, String> {
    match request {
        Request::Stats => unreachable!("answered before"),
        Request::BdevAdd { bdev } => {
            node.bdevs.add(&bdev)?;
            Ok(format!("bdev \"{}\" is open.", bdev.name))
        }
        Request::BdevRemove { name } => {
            node.bdevs.remove(&name)?;
            Ok(format!("bdev \"{name}\" is closed."))
        }
        Request::BdevRescan { name } => {
            let blocks = node.rescan(&name)?;
            Ok(format!("bdev \"{name}\" has {blocks} blocks."))
        }
        Request::SubsystemAdd { subsystem } => {
            check_nqn(&subsystem.nqn).map_err(|error| error.0)?;
            node.add_subsystem(&subsystem)?;
            Ok(format!("{} is exported.", subsystem.nqn))
        }
        Request::SubsystemRemove { nqn } => {
            node.remove_subsystem(&nqn)?;
            Ok(format!("{nqn} is gone."))
        }
        Request::NamespaceAdd { nqn, namespace } => {
            let nsid = node.add_namespace(&nqn, &namespace)?;
            Ok(format!("Namespace {nsid} of {nqn} is there."))
        }
        Request::NamespaceRemove { nqn, nsid } => {
            node.remove_namespace(&nqn, nsid)?;
            Ok(format!("Namespace {nsid} of {nqn} is gone."))
        }
        Request::HostAdd { nqn, host } => {
            check_nqn(&host).map_err(|error| error.0)?;
            node.registry.add_host(&nqn, &host).map_err(|error| error.to_string())?;
            Ok(format!("{host} may connect to {nqn}."))
        }
        Request::HostRemove { nqn, host } => {
            node.registry.remove_host(&nqn, &host).map_err(|error| error.to_string())?;
            Ok(format!("{host} may not connect to {nqn} any more."))
        }
    }
}

/// The control socket of a running process; its file goes away with it.
pub struct ControlSocket {
    path: PathBuf,
}

impl ControlSocket {
    /// Serves `node` at `path`, on a thread of its own. `None` in the lock: it has been stopped.
    ///
    /// # Errors
    /// A sentence: another process serves there, or the file cannot be made.
    pub fn serve(path: &Path, node: Arc<Mutex<Option<Node>>>) -> Result<ControlSocket, String> {
        let cannot = |error: io::Error| {
            format!("The control socket {} cannot be made: {error}.", path.display())
        };
        if UnixStream::connect(path).is_ok() {
            return Err(format!(
                "Another forebay answers at {}: stop it, or give another --data-dir or --control.",
                path.display()
            ));
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(cannot)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        let serve = move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away early has only itself to blame.
                let _ = answer(stream, &node);
            }
        };
        std::thread::Builder::new().name("control".into()).spawn(serve).map_err(cannot)?;
        Ok(ControlSocket { path: path.into() })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Left behind it does no harm: the next process replaces it.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn answer(stream: UnixStream, node: &Mutex<Option<Node>>) -> io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LINE_BYTES)).read_line(&mut line)?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => match node.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
            Some(node) => execute(node, request),
            None => Answer::Error("The process is on its way down.".into()),
        },
        Err(error) => Answer::Error(format!("This is no request: {error}.")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    (&stream).write_all(text.as_bytes())
}

/// Asks the process that serves at `path`.
///
/// # Errors
/// A sentence: nobody is there, or what it answered.
pub fn ask(path: &Path, request: &Request) -> Result<Answer, String> {
    let stream = UnixStream::connect(path).map_err(|error| {
        format!(
            "No forebay answers at {}: {error}. Start one with `forebay serve`, or give its \
             --data-dir or --control.",
            path.display()
        )
    })?;
    let talk = || {
        let mut text = serde_json::to_string(request)?;
        text.push('\n');
        (&stream).write_all(text.as_bytes())?;
        // To the end of the stream: by then the process has closed its side, and what it holds
        // open does not count the question about it.
        let line = io::read_to_string((&stream).take(LINE_BYTES))?;
        Ok::<Answer, io::Error>(serde_json::from_str(&line)?)
    };
    match talk()
        .map_err(|error| format!("The process at {} broke off: {error}.", path.display()))?
    {
        Answer::Error(why) => Err(why),
        answer => Ok(answer),
    }
}
