//! How a file or device is opened.

/// How to open a file or block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes in a block: 512 or 4096.
    pub block_bytes: u32,
    /// Writes fail with Namespace is Write Protected.
    pub read_only: bool,
    /// Goes through the page cache even where direct I/O is possible.
    pub buffered: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { block_bytes: 4096, read_only: false, buffered: false }
    }
}
