//! The file or block device that channels share.

use crate::channel::UringChannel;
use crate::discard;
use crate::options::Options;
use crate::ring::Ring;
use crate::sys;
use bdev::dma::Region;
use bdev::{Bdev, Channel, Discards, Geometry, Memory, OpenCx, OpenError};
use std::fmt::{Debug, Display};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Bytes of zeros that are written at once where nothing better is possible.
pub(crate) const ZEROS_BYTES: usize = 1 << 20;

/// What was learned while running: the next operation does not try again in vain.
#[derive(Default)]
pub(crate) struct Learned {
    /// FALLOC_FL_PUNCH_HOLE is refused.
    pub(crate) no_punch: AtomicBool,
    /// FALLOC_FL_ZERO_RANGE is refused.
    pub(crate) no_zero_range: AtomicBool,
    /// RWF_DSYNC is refused.
    pub(crate) no_dsync: AtomicBool,
    /// A sync through the page cache failed. The kernel forgets such a failure once it was told,
    /// with the data: no later Flush may claim success.
    pub(crate) sync_failed: AtomicBool,
}

/// One file or device and what all channels need of it.
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) kind: Kind,
    pub(crate) block_bytes: u32,
    pub(crate) read_only: bool,
    /// Why it goes through the page cache; `None` for direct I/O.
    pub(crate) buffered: Option<String>,
    pub(crate) align_bytes: u32,
    pub(crate) blocks: AtomicU64,
    pub(crate) learned: Learned,
    pub(crate) errors: AtomicU64,
    /// Calls into the kernel for I/O, of all channels.
    pub(crate) crossings: AtomicU64,
    /// When an error was last written to the log, in ns.
    pub(crate) logged_ns: AtomicU64,
    /// Zeros to write from; nobody writes to them.
    pub(crate) zeros: Memory,
}

/// At most one line in the log for each such time, in ns, whatever goes wrong.
const LOG_EVERY_NS: u64 = 1_000_000_000;

impl Device {
    /// Counts an error, and writes it to the log if none was written lately.
    pub(crate) fn report(&self, now_ns: u64, what: &dyn Debug, error: &dyn Display) {
        let count = self.errors.fetch_add(1, Ordering::Relaxed) + 1;
        let last = self.logged_ns.load(Ordering::Relaxed);
        if count > 1 && now_ns < last.saturating_add(LOG_EVERY_NS) {
            return;
        }
        // Of several reactors that are due, one writes.
        let order = Ordering::Relaxed;
        if self.logged_ns.compare_exchange(last, now_ns, order, order).is_ok() {
            tracing::error!(path = %self.path.display(), ?what, %error, count, "I/O error");
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        sys::unlock(&self.file);
    }
}

/// What is behind the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Block,
}

/// What is wrong with a file or device of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The kernel could not write what it had taken, said so once, and forgot it.
    Lost,
    /// It is shorter than when it was opened or looked at last, in bytes.
    Shorter {
        /// What it had.
        had: u64,
        /// What it has.
        has: u64,
    },
    /// Its file has no name any more: it ends with the process.
    Deleted,
    /// It does not even tell its size.
    Gone,
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Lost => f.write_str("the kernel lost writes that it had taken"),
            Fault::Shorter { had, has } => {
                write!(f, "it had {had} bytes and has {has}: its end was cut off")
            }
            Fault::Deleted => {
                f.write_str("its file was deleted: it is gone when this process ends")
            }
            Fault::Gone => f.write_str("it is gone"),
        }
    }
}

/// A file or kernel block device, for this process alone.
pub struct UringBdev {
    device: Arc<Device>,
    geometry: Geometry,
    discards: Discards,
    /// What registering memory met, for the first channel that met it.
    unregistered: Mutex<Option<String>>,
}

impl UringBdev {
    /// Makes a new sparse file of `bytes` bytes, rounded down to blocks of `block_bytes` (512 or
    /// 4096), and opens it. Only its owner reads and writes it. The file's existence and length are durable before it returns.
    ///
    /// # Errors
    /// A sentence: it exists already, there is no such directory, the size makes no block.
    pub fn create(path: &Path, bytes: u64, block_bytes: u32) -> Result<UringBdev, OpenError> {
        let bytes = bytes - bytes % u64::from(check_block(block_bytes)?);
        if bytes == 0 {
            return Err(OpenError(format!(
                "{}: its size is less than one block of {block_bytes} bytes",
                path.display()
            )));
        }
        let make = || -> io::Result<()> {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
            file.set_len(bytes).and_then(|()| file.sync_all()).inspect_err(|_| {
                // Half a device is of no use; what went wrong is what the caller hears of.
                let _ = std::fs::remove_file(path);
            })?;
            File::open(
                path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")),
            )?
            .sync_all()
        };
        make().map_err(|error| say(path, "cannot be made", &error))?;
        UringBdev::open(path, Options { block_bytes, ..Options::default() })
    }

    /// Opens a file or block device.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the path, its size or the block size.
    pub fn open(path: &Path, options: Options) -> Result<UringBdev, OpenError> {
        let block_bytes = check_block(options.block_bytes)?;
        let kind = kind_of(path)?;
        let file = open_alone(path, kind, options)?;
        let size = bytes_of(&file, kind).map_err(|e| say(path, "does not tell its size", &e))?;
        if size < u64::from(block_bytes) {
            let path = path.display();
            let hint = if size == 0 { "is empty" } else { "is smaller than one block" };
            return Err(OpenError(format!("{path} {hint}: give it a size first (truncate -s)")));
        }
        let (file, needs, buffered) = make_direct(path, file, kind, options)?;
        let atomic_bytes = match kind {
            // What lies below a file system is not known: its pages are taken for atomic.
            Kind::File => block_bytes,
            Kind::Block => sys::physical_block_bytes(&file)
                .map_err(|e| say(path, "does not tell its physical block size", &e))?,
        };
        let zeros = Region::map(ZEROS_BYTES).map_err(|e| say(path, "gets no memory", &e))?;
        let device = Device {
            path: path.to_owned(),
            kind,
            block_bytes,
            read_only: options.read_only,
            align_bytes: buffered.as_ref().map_or(needs.memory_bytes.next_power_of_two(), |_| 1),
            buffered,
            blocks: AtomicU64::new(size / u64::from(block_bytes)),
            learned: Learned::default(),
            errors: AtomicU64::new(0),
            crossings: AtomicU64::new(0),
            logged_ns: AtomicU64::new(0),
            zeros: Memory::new(vec![zeros]),
            file,
        };
        let deallocates = !options.read_only && discard::can_deallocate(&device, size);
        let discards = discard::of(&device, deallocates);
        Ok(UringBdev::assemble(device, deallocates, discards, atomic_bytes))
    }

    fn assemble(
        device: Device,
        deallocates: bool,
        discards: Discards,
        atomic_bytes: u32,
    ) -> UringBdev {
        let geometry = Geometry {
            atomic_blocks: atomic_bytes / device.block_bytes,
            align_bytes: device.align_bytes,
            optimal_blocks: (4096 / device.block_bytes).max(1),
            volatile_cache: true,
            deallocates,
            read_only: device.read_only,
            ..Geometry::plain(device.block_bytes, 0)
        };
        let (device, unregistered) = (Arc::new(device), Mutex::new(None));
        UringBdev { device, geometry, discards, unregistered }
    }

    /// Why I/O goes through the page cache, as part of a sentence; `None` for direct I/O.
    pub fn buffered(&self) -> Option<&str> {
        self.device.buffered.as_deref()
    }

    /// Why the last channel opened works without registered memory, if it does.
    pub fn unregistered(&self) -> Option<String> {
        self.unregistered.lock().expect("nothing panics with it locked").clone()
    }

    /// Operations that ended with an error of the kernel.
    pub fn errors(&self) -> u64 {
        self.device.errors.load(Ordering::Relaxed)
    }

    /// System calls that the I/O of all channels took so far: at most one for each turn of a
    /// reactor, and none in a turn without anything new.
    pub fn system_calls(&self) -> u64 {
        self.device.crossings.load(Ordering::Relaxed)
    }

    /// Looks at the size again: a file or device that grew or shrank gives more or fewer blocks
    /// from now on. Returns the number of blocks.
    ///
    /// # Errors
    /// A sentence, when the kernel does not tell.
    pub fn rescan(&self) -> Result<u64, OpenError> {
        let size = bytes_of(&self.device.file, self.device.kind)
            .map_err(|error| say(&self.device.path, "does not tell its size", &error))?;
        let blocks = size / u64::from(self.device.block_bytes);
        self.device.blocks.store(blocks, Ordering::Release);
        Ok(blocks)
    }

    /// What is wrong with it beyond single operations, if anything.
    pub fn fault(&self) -> Option<Fault> {
        if self.device.learned.sync_failed.load(Ordering::Relaxed) {
            return Some(Fault::Lost);
        }
        let had = self.geometry().bytes();
        match bytes_of(&self.device.file, self.device.kind) {
            Ok(has) if has < had => return Some(Fault::Shorter { had, has }),
            Ok(_) => {}
            Err(_) => return Some(Fault::Gone),
        }
        let is_deleted = self.device.kind == Kind::File
            && self.device.file.metadata().is_ok_and(|meta| meta.nlink() == 0);
        is_deleted.then_some(Fault::Deleted)
    }

    /// Whoever wrote what the kernel lost has been told: Flush may succeed again. Whether anything
    /// was lost.
    pub fn forget_lost(&self) -> bool {
        self.device.learned.sync_failed.swap(false, Ordering::Relaxed)
    }

    /// Bytes that are left in the file system of a file.
    pub fn left_bytes(&self) -> Option<u64> {
        (self.device.kind == Kind::File).then(|| sys::left_bytes(&self.device.file)).flatten()
    }

    fn note_unregistered(&self, refused: Option<io::Error>) {
        static SAID: AtomicBool = AtomicBool::new(false);
        let why = refused.map(|error| match error.raw_os_error() {
            Some(libc::ENOMEM) => "RLIMIT_MEMLOCK is too small (ulimit -l)".to_owned(),
            _ => error.to_string(),
        });
        if let Some(why) = &why
            && !SAID.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(why, "memory is not registered with io_uring: I/O costs more");
        }
        *self.unregistered.lock().expect("nothing panics with it locked") = why;
    }
}

impl Bdev for UringBdev {
    fn geometry(&self) -> Geometry {
        let blocks = self.device.blocks.load(Ordering::Acquire);
        Geometry { blocks, ..self.geometry.clone() }
    }

    fn power_session(&self) -> u64 {
        match self.device.kind {
            // The kernel has what was written.
            Kind::File => 0,
            Kind::Block => sys::disk_sequence(&self.device.file).unwrap_or(0),
        }
    }

    fn identity(&self) -> Option<String> {
        crate::identity::of(&self.device.file, self.device.kind)
    }

    fn discards(&self) -> Discards {
        self.discards.clone()
    }

    fn discard(&self, lba: u64, blocks: u64) -> Option<io::Result<()>> {
        let block_bytes = u64::from(self.device.block_bytes);
        let (at, bytes) = (lba * block_bytes, blocks * block_bytes);
        Some(match self.device.kind {
            Kind::File => sys::punch(&self.device.file, at, bytes),
            Kind::Block => sys::discard(&self.device.file, at, bytes),
        })
    }

    /// The channel is used by the thread that opens it, as every channel of a reactor is: its
    /// ring is bound to that thread.
    fn open(&self, cx: &OpenCx<'_>) -> Result<Box<dyn Channel>, OpenError> {
        let opened = Ring::new(sys::raw(&self.device.file), cx.memory);
        let (ring, refused) = opened.map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::ENOSYS) => OpenError(
                "io_uring is not allowed here (kernel.io_uring_disabled, or a seccomp filter)"
                    .to_owned(),
            ),
            Some(libc::ENOMEM) => OpenError(
                "io_uring gets no memory for a ring: RLIMIT_MEMLOCK is too small (ulimit -l)"
                    .to_owned(),
            ),
            _ => OpenError(format!("io_uring: {error}")),
        })?;
        self.note_unregistered(refused);
        Ok(Box::new(UringChannel::new(ring, self.device.clone(), cx.limit)))
    }
}

/// How long to try while somebody else has the device, and how often.
const BUSY_TRIES: u32 = 100;
const BUSY_WAIT: Duration = Duration::from_millis(20);

/// Opens for this process alone. After a process was killed the kernel gives the files of its
/// rings back a little later, so a device in use is tried again for two seconds.
fn open_alone(path: &Path, kind: Kind, options: Options) -> Result<File, OpenError> {
    let exclusive = if kind == Kind::Block { libc::O_EXCL } else { 0 };
    let in_use = format!("{} is in use by another device or process", path.display());
    let attempt = || -> Result<File, (bool, OpenError)> {
        let file = sys::open(path, options.read_only, exclusive).map_err(|error| {
            (error.raw_os_error() == Some(libc::EBUSY), say_open(path, kind, options, &error))
        })?;
        sys::lock(&file).map_err(|error| match error.raw_os_error() {
            Some(libc::EWOULDBLOCK) => (true, OpenError(in_use.clone())),
            _ => (false, say(path, "cannot be locked", &error)),
        })?;
        Ok(file)
    };
    for _ in 1..BUSY_TRIES {
        match attempt() {
            Err((true, _)) => std::thread::sleep(BUSY_WAIT),
            other => return other.map_err(|(_, error)| error),
        }
    }
    attempt().map_err(|(_, error)| error)
}

fn say(path: &Path, what: &str, error: &io::Error) -> OpenError {
    OpenError(format!("{} {what}: {error}", path.display()))
}

fn say_open(path: &Path, kind: Kind, options: Options, error: &io::Error) -> OpenError {
    let name = path.display();
    let access = if options.read_only { "reading" } else { "reading and writing" };
    OpenError(match error.raw_os_error() {
        Some(libc::EBUSY) if kind == Kind::Block => {
            format!("{name} is in use: it is mounted, or part of another device")
        }
        Some(libc::EACCES | libc::EPERM) => {
            format!("{name} cannot be opened for {access}: permission denied")
        }
        Some(libc::EROFS) => format!("{name} is on a read-only file system"),
        _ => format!("{name} cannot be opened for {access}: {error}"),
    })
}

fn check_block(block_bytes: u32) -> Result<u32, OpenError> {
    match block_bytes {
        512 | 4096 => Ok(block_bytes),
        other => Err(OpenError(format!("blocks of {other} bytes: only 512 and 4096 exist"))),
    }
}

fn kind_of(path: &Path) -> Result<Kind, OpenError> {
    let name = path.display();
    let meta = std::fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => OpenError(format!("{name} does not exist")),
        _ => say(path, "cannot be looked at", &error),
    })?;
    let kind = meta.file_type();
    if kind.is_file() {
        Ok(Kind::File)
    } else if kind.is_block_device() {
        Ok(Kind::Block)
    } else {
        let what = if kind.is_dir() { "a directory" } else { "neither file nor block device" };
        Err(OpenError(format!("{name} is {what}: a file or a block device is needed")))
    }
}

fn bytes_of(file: &File, kind: Kind) -> io::Result<u64> {
    match kind {
        Kind::File => Ok(file.metadata()?.len()),
        Kind::Block => sys::device_bytes(file),
    }
}

/// What direct I/O on this path needs, with cautious values where the kernel does not tell.
fn direct_needs(path: &Path, file: &File, kind: Kind) -> sys::DirectNeeds {
    let guess = || {
        let logical = if kind == Kind::Block { sys::logical_block_bytes(file).ok() } else { None };
        sys::DirectNeeds { memory_bytes: 4096, offset_bytes: logical.unwrap_or(512) }
    };
    sys::direct_needs(path).unwrap_or_else(guess)
}

type MadeDirect = (File, sys::DirectNeeds, Option<String>);

/// Turns on direct I/O, or says why not.
fn make_direct(
    path: &Path,
    file: File,
    kind: Kind,
    options: Options,
) -> Result<MadeDirect, OpenError> {
    let needs = direct_needs(path, &file, kind);
    if options.buffered {
        return Ok((file, needs, Some("as asked for".to_owned())));
    }
    let refused = "the file system does no direct I/O";
    // A device node is on a tmpfs of its own kind, which says nothing about the device.
    let ignored = kind == Kind::File && sys::is_on_tmpfs(&file);
    if needs.memory_bytes == 0 || needs.memory_bytes > 4096 || ignored {
        return Ok((file, needs, Some(refused.to_owned())));
    }
    if needs.offset_bytes > options.block_bytes {
        return Err(OpenError(format!(
            "{} needs blocks of at least {} bytes for direct I/O: use {} instead of {}",
            path.display(),
            needs.offset_bytes,
            needs.offset_bytes.max(4096),
            options.block_bytes
        )));
    }
    let direct =
        sys::set_direct(&file, true).and_then(|()| sys::try_read(&file, options.block_bytes));
    match direct {
        Ok(()) => Ok((file, needs, None)),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            sys::set_direct(&file, false).map_err(|e| say(path, "keeps its mode", &e))?;
            Ok((file, needs, Some(refused.to_owned())))
        }
        Err(error) => Err(say(path, "cannot be read", &error)),
    }
}
