//! The files that a store stands on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use webui_model::data_dir::write_private;

/// What a store does with files, by their names in one folder. What a method does is durable when it
/// returns.
pub trait Files: Send {
    /// The content of a file; nothing if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>>;

    /// Puts a new content in the place of a file, as a whole or not at all.
    ///
    /// # Errors
    /// What the file system says. The old content is there then, or the new one.
    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<()>;

    /// Writes behind the end of a file that is there.
    ///
    /// # Errors
    /// What the file system says. Anything may be behind the former end then.
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// Takes a file away, if it is there.
    ///
    /// # Errors
    /// What the file system says.
    fn remove(&mut self, name: &str) -> io::Result<()>;

    /// A file in words.
    fn show(&self, name: &str) -> String;
}

/// A folder of the file system. What it makes is its owner's alone.
#[derive(Debug)]
pub struct FolderFiles {
    folder: PathBuf,
    /// The file that was appended to last, by its name.
    open: Option<(String, File)>,
}

impl FolderFiles {
    /// The files in `folder`.
    pub fn new(folder: &Path) -> FolderFiles {
        FolderFiles { folder: folder.to_owned(), open: None }
    }
}

impl Files for FolderFiles {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match std::fs::read(self.folder.join(name)) {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.open = None;
        write_private(&self.folder.join(name), content)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| open != name) {
            let file = OpenOptions::new().append(true).open(self.folder.join(name))?;
            self.open = Some((name.to_owned(), file));
        }
        let (_, file) = self.open.as_mut().expect("opened above");
        if file.metadata()?.nlink() == 0 {
            self.open = None;
            return Err(io::Error::new(io::ErrorKind::NotFound, "somebody has removed it"));
        }
        file.write_all(bytes)?;
        file.sync_data()
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        File::open(&self.folder)?.sync_all()
    }

    fn show(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}
