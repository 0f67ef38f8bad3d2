//! The control socket: over a Unix socket that only the owner may open, one JSON question a
//! connection, a line, and its JSON answer, a line. It tells what the API does not, counters of
//! queues and transports; nothing is changed through it.

use crate::node::Node;
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest question or answer, in bytes.
const LINE_BYTES: u64 = 16 << 20;

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// All counters.
    Stats,
}

/// What is answered.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// All counters.
    Stats(Box<Report>),
    /// There is no answer, and why.
    Error(String),
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
        Ok(Request::Stats) => match node.lock().unwrap_or_else(|e| e.into_inner()).as_ref() {
            Some(node) => Answer::Stats(Box::new(node.report())),
            None => Answer::Error("The process is on its way down.".into()),
        },
        Err(error) => Answer::Error(format!("This is no question: {error}.")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    (&stream).write_all(text.as_bytes())
}

/// Asks the process that serves at `path`.
///
/// # Errors
/// A sentence: nobody is there, or what it answered.
pub fn ask(path: &Path, request: &Request) -> Result<Report, String> {
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
        Answer::Stats(report) => Ok(*report),
    }
}
