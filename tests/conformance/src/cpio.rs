//! Writer of `newc` archives: a second archive appended to an initramfs adds files to it.

/// A file to add to a guest's root.
pub struct Entry<'a> {
    /// Path from the root, without a leading slash.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: &'a [u8],
}

const REGULAR: u32 = 0o100_000;

/// An archive of `entries`, ended by its trailer.
///
/// # Panics
/// When a file is 4 GiB or larger: the format cannot hold it.
pub fn archive(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        append(&mut out, number as u32 + 1, REGULAR | entry.mode, entry.path, entry.data);
    }
    append(&mut out, 0, 0, "TRAILER!!!", &[]);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn append(out: &mut Vec<u8>, inode: u32, mode: u32, path: &str, data: &[u8]) {
    let size = u32::try_from(data.len()).expect("a file below 4 GiB");
    let fields = [
        inode,
        mode,
        0, // uid
        0, // gid
        1, // links
        0, // mtime
        size,
        0, // device major
        0, // device minor
        0, // special major
        0, // special minor
        path.len() as u32 + 1,
        0, // checksum: unused
    ];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_cpio_tool_reads_it_back() {
        let made = archive(&[
            Entry { path: "job.sh", mode: 0o755, data: b"echo hi\n" },
            Entry { path: "empty", mode: 0o644, data: b"" },
        ]);
        assert_eq!(made.len() % 512, 0);
        let Ok(mut tool) = Command::new("cpio")
            .args(["--quiet", "-i", "--to-stdout", "job.sh"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
        else {
            println!("skipped: no cpio tool on this machine");
            return;
        };
        tool.stdin.take().unwrap().write_all(&made).unwrap();
        assert_eq!(tool.wait_with_output().unwrap().stdout, b"echo hi\n");
    }
}
