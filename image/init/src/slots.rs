//! The two slots of the image: an update goes to the one that the machine does not run from, is
//! tried once, and is kept when it has shown that it works.
//!
//! On the EFI system partition each slot has a kernel, `/forebay/a.efi`, and an entry of systemd's
//! boot loader, `/loader/entries/forebay-a.conf` (Boot Loader Specification, type 1). The loader
//! takes the entry with the highest `version`, here a number that grows with each update; an entry
//! whose name has a counter, `forebay-b+1.conf`, is renamed before each start (`+0-1`), and comes
//! last once none is left (Automatic Boot Assessment).

use crate::partition::Esp;
use crate::{line::Line, mounts, version};
use minisign_verify::{PublicKey, Signature};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// The largest image: two, and the loader, must fit the partition.
pub const IMAGE_BYTES: u64 = 112 << 20;
/// Where an update is gathered: memory, for it has to be signed before it touches the disk.
const STAGE: &str = "/tmp/update.efi";

/// A slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The first.
    A,
    /// The second.
    B,
}

impl Slot {
    const ALL: [Slot; 2] = [Slot::A, Slot::B];

    fn other(self) -> Slot {
        match self {
            Slot::A => Slot::B,
            Slot::B => Slot::A,
        }
    }

    fn named(text: &str) -> Option<Slot> {
        Slot::ALL.into_iter().find(|slot| slot.to_string() == text)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Slot::A => "a",
            Slot::B => "b",
        })
    }
}

/// What is in a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nothing that could be started.
    Empty,
    /// An image that has shown that it works.
    Good(String),
    /// An image that is tried at the next start, or now.
    Trial(String),
    /// An image that was tried and did not show that it works.
    Failed(String),
}

/// An update that is in its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The slot.
    pub slot: Slot,
    /// Its version.
    pub version: String,
    /// Whether it is older than the image that runs.
    pub older: bool,
}

/// Why there is no update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// This machine was not started from a slot.
    NoSlots,
    /// It is not what may be installed.
    Refused(String),
    /// It could not be installed.
    Failed(String),
}

impl fmt::Display for UpdateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpdateError::NoSlots => f.write_str(
                "This is not the appliance's image, started from a disk: update it as it was \
                 installed.",
            ),
            UpdateError::Refused(why) | UpdateError::Failed(why) => f.write_str(why),
        }
    }
}

/// An entry of the loader.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    path: PathBuf,
    slot: Slot,
    /// Starts that are left, where they are counted.
    left: Option<u32>,
    /// The number that grows.
    sequence: u64,
    title: String,
    options: String,
}

/// `forebay-b+0-1.conf`: the slot and how many starts are left.
fn read_name(name: &str) -> Option<(Slot, Option<u32>)> {
    let rest = name.strip_prefix("forebay-")?.strip_suffix(".conf")?;
    match rest.split_once('+') {
        None => Some((Slot::named(rest)?, None)),
        Some((slot, count)) => {
            let left = count.split_once('-').map_or(count, |(left, _)| left);
            Some((Slot::named(slot)?, Some(left.parse().ok()?)))
        }
    }
}

fn entries(esp: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(esp.join("loader/entries"))? {
        let path = file?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let Some((slot, left)) = read_name(name) else { continue };
        let text = fs::read_to_string(&path)?;
        let field = |name: &str| {
            let value = |line: &str| Some(line.strip_prefix(name)?.trim_start().to_owned());
            text.lines().find_map(value).unwrap_or_default()
        };
        let sequence = field("version ").parse().unwrap_or(0);
        let (title, options) = (field("title "), field("options "));
        entries.push(Entry { path, slot, left, sequence, title, options });
    }
    Ok(entries)
}

fn image(esp: &Path, slot: Slot) -> PathBuf {
    esp.join(format!("forebay/{slot}.efi"))
}

/// The entry of a slot that counts: of two, which a power cut can leave, the newer.
fn entry_of(entries: &[Entry], slot: Slot) -> Option<&Entry> {
    entries.iter().filter(|entry| entry.slot == slot).max_by_key(|entry| entry.sequence)
}

fn state_of(esp: &Path, entries: &[Entry], slot: Slot) -> SlotState {
    let Some(entry) = entry_of(entries, slot).filter(|_| image(esp, slot).exists()) else {
        return SlotState::Empty;
    };
    let title = entry.title.clone();
    let running = running() == Some(slot);
    match entry.left {
        None => SlotState::Good(title),
        Some(0) if !running => SlotState::Failed(title),
        Some(_) => SlotState::Trial(title),
    }
}

/// The slot that this machine was started from.
fn running() -> Option<Slot> {
    let line = fs::read_to_string("/proc/cmdline").ok()?;
    Line::read(&line).slot.and_then(|slot| Slot::named(&slot))
}

/// What is on the disk stays on the disk.
fn sync(esp: &Path) -> io::Result<()> {
    rustix::fs::syncfs(File::open(esp)?)?;
    Ok(())
}

/// Puts an image into a slot, to be tried once. In this order, each step on the disk before the
/// next, so that a power cut leaves the other slot, or a whole image with a whole entry: the entry
/// goes first, then the image is replaced, then there is an entry again.
fn put(esp: &Path, slot: Slot, from: &mut impl Read, title: &str) -> io::Result<()> {
    let before = entries(esp)?;
    let options = entry_of(&before, slot.other()).map_or("", |entry| &entry.options);
    let words = options.split_ascii_whitespace().filter(|word| !word.starts_with("forebay.slot="));
    let options = words.collect::<Vec<_>>().join(" ");
    let sequence = before.iter().map(|entry| entry.sequence).max().unwrap_or(0) + 1;
    for entry in before.iter().filter(|entry| entry.slot == slot) {
        fs::remove_file(&entry.path)?;
    }
    sync(esp)?;
    // There is room for two images, not for three.
    match fs::remove_file(image(esp, slot)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let part = esp.join("forebay/update.part");
    let mut file = File::create(&part)?;
    io::copy(from, &mut file)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&part, image(esp, slot))?;
    sync(esp)?;
    let text = format!(
        "title {title}\nsort-key forebay\nversion {sequence}\nefi /forebay/{slot}.efi\n\
         options {options} forebay.slot={slot}\n"
    );
    let part = esp.join("loader/entries/update.part");
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&part, esp.join(format!("loader/entries/forebay-{slot}+1.conf")))?;
    sync(esp)
}

/// Keeps the image of a slot: its entry is counted no more.
fn keep(esp: &Path, slot: Slot) -> io::Result<()> {
    let all = entries(esp)?;
    if let Some(entry) = entry_of(&all, slot).filter(|entry| entry.left.is_some()) {
        fs::rename(&entry.path, esp.join(format!("loader/entries/forebay-{slot}.conf")))?;
        sync(esp)?;
    }
    Ok(())
}

/// Whether the machine runs from a slot that is being tried.
///
/// # Errors
/// A sentence.
pub fn on_trial() -> Result<bool, String> {
    let Some(slot) = running() else { return Ok(false) };
    let esp = Esp::open()?;
    let all = entries(esp.path()).map_err(|error| format!("The slots cannot be read: {error}."))?;
    Ok(entry_of(&all, slot).is_some_and(|entry| entry.left.is_some()))
}

/// Keeps the image that the machine runs from.
///
/// # Errors
/// A sentence.
pub fn keep_running() -> Result<(), String> {
    let Some(slot) = running() else { return Ok(()) };
    let esp = Esp::open()?;
    keep(esp.path(), slot).map_err(|error| format!("The image cannot be kept: {error}."))
}

/// The version that an image says of itself, if a key that we trust has signed both: it stands in
/// the trusted comment of a minisign signature.
fn version_of(key: &str, signature: &str, image: &mut impl Read) -> Result<String, String> {
    let key = PublicKey::decode(key.trim()).map_err(|error| format!("No key of ours: {error}."))?;
    let signature = Signature::decode(signature.trim())
        .map_err(|error| format!("The signature cannot be read: {error}."))?;
    let wrong = |error| {
        format!("The image is not signed with the key of this appliance: {error}. It is not used.")
    };
    let mut verifier = key.verify_stream(&signature).map_err(wrong)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        match image.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => verifier.update(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("The image cannot be read: {error}.")),
        }
    }
    verifier.finalize().map_err(wrong)?;
    match signature.trusted_comment().strip_prefix("version ") {
        Some(version) if version.len() <= 64 && version.chars().all(|c| c.is_ascii_graphic()) => {
            Ok(version.to_owned())
        }
        _ => Err("The signature names no version.".to_owned()),
    }
}

/// The slots of this machine, and the update that is being gathered.
#[derive(Default)]
pub struct Slots {
    /// Bytes that have come.
    staged: Mutex<u64>,
}

impl Slots {
    /// The slot that the machine runs from, and what each one has.
    ///
    /// # Errors
    /// There are no slots, or they cannot be read.
    pub fn all(&self) -> Result<(Slot, Vec<(Slot, SlotState)>), UpdateError> {
        let running = running().ok_or(UpdateError::NoSlots)?;
        let esp = Esp::open().map_err(UpdateError::Failed)?;
        let all = entries(esp.path())
            .map_err(|error| UpdateError::Failed(format!("The slots cannot be read: {error}.")))?;
        let state = |slot| (slot, state_of(esp.path(), &all, slot));
        Ok((running, Slot::ALL.map(state).to_vec()))
    }

    /// Bytes of an update that have come.
    pub fn staged(&self) -> u64 {
        *self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in a piece of an update, where the one before ended; at 0 an update begins. Returns the
    /// bytes that are there now.
    ///
    /// # Errors
    /// There are no slots, it is another piece's turn, or the image is too large.
    pub fn stage(&self, offset: u64, piece: &[u8]) -> Result<u64, UpdateError> {
        running().ok_or(UpdateError::NoSlots)?;
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        if offset != 0 && offset != *staged {
            return Err(UpdateError::Refused(format!(
                "The piece is at {offset} and {} bytes are there: begin at 0.",
                *staged
            )));
        }
        if offset + piece.len() as u64 > IMAGE_BYTES {
            return Err(UpdateError::Refused(format!(
                "An image has at most {} MiB.",
                IMAGE_BYTES >> 20
            )));
        }
        let failed = |error: io::Error| UpdateError::Failed(format!("{STAGE}: {error}."));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(offset == 0).mode(0o600).open(STAGE);
        let mut file = file.map_err(failed)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        file.write_all(piece).map_err(failed)?;
        *staged = offset + piece.len() as u64;
        Ok(*staged)
    }

    /// Puts the update that has come into the other slot, if the signature is right and it is not
    /// older than the image that runs, unless that is meant. It is tried when the machine starts the
    /// next time.
    ///
    /// # Errors
    /// There are no slots, nothing has come, the signature is wrong, the image is older, or it cannot
    /// be written.
    pub fn install(&self, signature: &str, allow_older: bool) -> Result<Installed, UpdateError> {
        let slot = running().ok_or(UpdateError::NoSlots)?.other();
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        if *staged == 0 {
            return Err(UpdateError::Refused("No image has been sent.".to_owned()));
        }
        let failed = |error: io::Error| UpdateError::Failed(format!("The update failed: {error}."));
        let key = fs::read_to_string(mounts::KEY).map_err(failed)?;
        let mut file = File::open(STAGE).map_err(failed)?;
        let version = version_of(&key, signature, &mut file).map_err(UpdateError::Refused)?;
        let runs = fs::read_to_string(mounts::VERSION).map_err(failed)?;
        let runs = runs.trim();
        let older = version::is_older(&version, runs);
        if older && !allow_older {
            return Err(UpdateError::Refused(format!(
                "Version {version} is older than {runs}, which runs: what was mended since then would \
                 be broken again. Say --allow-older (allow_older) if that is meant."
            )));
        }
        file.rewind().map_err(failed)?;
        let esp = Esp::open().map_err(UpdateError::Failed)?;
        put(esp.path(), slot, &mut file, &format!("Forebay {version}")).map_err(failed)?;
        drop(esp);
        *staged = 0;
        // Memory, which is not needed any more.
        let _ = fs::remove_file(STAGE);
        Ok(Installed { slot, version, older })
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
