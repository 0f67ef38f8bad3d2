//! The lines of a file, from its end on: who asks for the newest reads no more than those.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

const PIECE: u64 = 64 << 10;

/// Lines of a file up to a length, the last one first. A last line without an end is one, too.
pub(crate) struct Backward<'a> {
    file: &'a File,
    /// What is not read yet ends here.
    end: u64,
    /// What was read and not given, and whether it begins the file.
    rest: Vec<u8>,
    started: bool,
}

impl<'a> Backward<'a> {
    pub(crate) fn new(file: &'a File, bytes: u64) -> Self {
        Self { file, end: bytes, rest: Vec::new(), started: false }
    }

    fn more(&mut self) -> io::Result<()> {
        let start = self.end.saturating_sub(PIECE);
        let mut piece = vec![0; usize::try_from(self.end - start).expect("a piece")];
        self.file.read_exact_at(&mut piece, start)?;
        piece.extend_from_slice(&self.rest);
        (self.rest, self.end) = (piece, start);
        Ok(())
    }

    /// The line before; nothing at the start of the file.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.started && self.end > 0 {
            self.more()?;
            self.started = true;
            if self.rest.last() == Some(&b'\n') {
                self.rest.pop();
            }
        } else if self.rest.is_empty() && self.end == 0 {
            return Ok(None);
        }
        loop {
            if let Some(at) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                let line = self.rest.split_off(at + 1);
                self.rest.pop();
                return Ok(Some(line));
            }
            if self.end == 0 {
                return Ok(Some(std::mem::take(&mut self.rest)));
            }
            self.more()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_read_from_the_end() {
        for lengths in
            [vec![], vec![1], vec![3, 100_000, 5, 70_000, 1], vec![200_000], vec![9; 9000]]
        {
            let lines: Vec<Vec<u8>> = lengths.iter().map(|n| vec![b'x'; *n]).collect();
            for ended in [true, false] {
                let mut file = tempfile::tempfile().unwrap();
                let mut text = lines.join(&b'\n');
                if ended && !lines.is_empty() {
                    text.push(b'\n');
                }
                file.write_all(&text).unwrap();
                let mut backward = Backward::new(&file, text.len() as u64);
                let mut found = Vec::new();
                while let Some(line) = backward.next().unwrap() {
                    found.push(line);
                }
                found.reverse();
                assert_eq!(found, lines, "{lengths:?} {ended}");
            }
        }
    }
}
