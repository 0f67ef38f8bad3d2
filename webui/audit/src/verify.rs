//! Whether a log is what was written.

use crate::line::{Link, Read};
use crate::segment::Places;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

/// What was found in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Lines that are chained, and as they were written.
    pub lines: u64,
    /// Lines from before lines were chained: nothing can be said of them.
    pub unchained: u64,
    /// Lines that power cuts have torn.
    pub torn: u64,
    /// The number of the first chained line; those before it made room for others.
    pub first: Option<u64>,
    /// The number of the last chained line, and its SHA-256: who notes it elsewhere sees later that
    /// nothing up to it was taken away.
    pub last: Option<(u64, String)>,
    /// What is not as it was written, in sentences.
    pub faults: Vec<String>,
}

/// Verifies the log at `path`, with the full files beside it. It may be written meanwhile.
///
/// # Errors
/// What the file system says; `NotFound` where there is no log.
pub fn verify(path: &Path) -> io::Result<Verified> {
    let places = Places { path: path.to_owned() };
    let mut files = places.open_all()?;
    if files.is_empty() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // The oldest first.
    files.reverse();
    let mut walk = Walk::default();
    for file in &files {
        walk.file(file)?;
    }
    Ok(walk.found)
}

#[derive(Default)]
struct Walk {
    found: Verified,
    /// The link of the line before.
    before: Option<Link>,
}

impl Walk {
    fn file(&mut self, file: &File) -> io::Result<()> {
        let mut lines = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            lines.read_until(b'\n', &mut line)?;
            if line.pop() != Some(b'\n') {
                // The end; or a line that is being written, or was torn just now.
                return Ok(());
            }
            self.line(&line);
        }
    }

    fn line(&mut self, text: &[u8]) {
        let link = Link::of(text);
        match Read::of(text) {
            Read::Torn => self.found.torn += 1,
            Read::Unchained(_) => self.found.unchained += 1,
            Read::Chained(line) => {
                let awaited = self.found.last.as_ref().map(|(number, _)| number + 1);
                let chained = self.before.as_ref().is_none_or(|before| before.0 == line.previous);
                if awaited.is_some_and(|awaited| awaited != line.number) || !chained {
                    let what = match awaited {
                        Some(awaited) if awaited != line.number => {
                            format!("line {awaited} should come, and line {} does", line.number)
                        }
                        _ => "the line before it is another than was written".to_owned(),
                    };
                    self.found.faults.push(format!("Before line {}: {what}.", line.number));
                }
                self.found.lines += 1;
                self.found.first.get_or_insert(line.number);
                self.found.last = Some((line.number, link.0.clone()));
            }
        }
        self.before = Some(link);
    }
}
