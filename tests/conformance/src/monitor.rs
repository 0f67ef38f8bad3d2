//! The emulator's monitor, for what is done to a machine from outside.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the monitor shows when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";

/// The monitor of an emulator.
pub struct Monitor(PathBuf);

impl Monitor {
    /// One whose socket is at `path`.
    pub fn at(path: &Path) -> Monitor {
        Monitor(path.to_owned())
    }

    /// The emulator's options for it.
    pub fn options(&self) -> [String; 2] {
        ["-monitor".into(), format!("unix:{},server=on,wait=off", self.0.display())]
    }

    /// Gives a command, and waits until the monitor waits for the next.
    ///
    /// # Errors
    /// The monitor does not answer, or says what was wrong with the command.
    pub fn command(&self, command: &str) -> Result<String, String> {
        let say = |error: std::io::Error| format!("monitor: {error}");
        let mut stream = UnixStream::connect(&self.0).map_err(say)?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).map_err(say)?;
        until_prompt(&mut stream).map_err(say)?;
        stream.write_all(format!("{command}\n").as_bytes()).map_err(say)?;
        let said = until_prompt(&mut stream).map_err(say)?;
        match said.lines().find(|line| line.starts_with("Error")) {
            Some(error) => Err(format!("{command}: {error}")),
            None => Ok(said),
        }
    }
}

fn until_prompt(stream: &mut UnixStream) -> std::io::Result<String> {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(PROMPT) {
        stream.read_exact(&mut byte)?;
        said.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
