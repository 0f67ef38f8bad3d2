//! Updates on a folder in the place of the partition, cut short at every step.

use super::*;
use proptest::prelude::*;

fn esp() -> tempfile::TempDir {
    // Memory, if it is there: a sync of a disk takes its time.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    fs::create_dir_all(folder.path().join("loader/entries")).unwrap();
    fs::create_dir_all(folder.path().join("forebay")).unwrap();
    fs::write(image(folder.path(), Slot::A), b"one").unwrap();
    let entry = "title Forebay 1\nsort-key forebay\nversion 1\nefi /forebay/a.efi\n\
                 options quiet forebay.slot=a\n";
    fs::write(folder.path().join("loader/entries/forebay-a.conf"), entry).unwrap();
    folder
}

/// What the loader does: the entry that it takes, after counting.
fn boot(esp: &Path) -> Slot {
    let mut all = entries(esp).unwrap();
    all.sort_by_key(|entry| (entry.left != Some(0), entry.sequence));
    let entry = all.last().expect("the machine starts");
    if let Some(left) = entry.left.filter(|left| *left > 0) {
        let name = format!("loader/entries/forebay-{}+{}-1.conf", entry.slot, left - 1);
        fs::rename(&entry.path, esp.join(name)).unwrap();
    }
    assert!(image(esp, entry.slot).exists(), "the loader takes an entry without an image");
    entry.slot
}

#[test]
fn an_update_is_tried_once_and_kept() {
    let esp = esp();
    let esp = esp.path();
    assert_eq!(boot(esp), Slot::A);
    put(esp, Slot::B, &mut &b"two"[..], "Forebay 2").unwrap();
    assert_eq!(
        state_of(esp, &entries(esp).unwrap(), Slot::B),
        SlotState::Trial("Forebay 2".into())
    );
    assert_eq!(boot(esp), Slot::B);
    keep(esp, Slot::B).unwrap();
    assert_eq!(boot(esp), Slot::B);
    let all = entries(esp).unwrap();
    assert_eq!(state_of(esp, &all, Slot::B), SlotState::Good("Forebay 2".into()));
    assert_eq!(entry_of(&all, Slot::B).unwrap().options, "quiet forebay.slot=b");
    // And back, with an older one: the order of updates counts, not that of versions.
    put(esp, Slot::A, &mut &b"one"[..], "Forebay 1").unwrap();
    assert_eq!(boot(esp), Slot::A);
    keep(esp, Slot::A).unwrap();
    assert_eq!(boot(esp), Slot::A);
}

#[test]
fn an_update_that_is_not_kept_is_left() {
    let esp = esp();
    let esp = esp.path();
    put(esp, Slot::B, &mut &b"two"[..], "Forebay 2").unwrap();
    assert_eq!(boot(esp), Slot::B);
    assert_eq!(boot(esp), Slot::A);
    assert_eq!(boot(esp), Slot::A);
    assert_eq!(
        state_of(esp, &entries(esp).unwrap(), Slot::B),
        SlotState::Failed("Forebay 2".into())
    );
    put(esp, Slot::B, &mut &b"three"[..], "Forebay 3").unwrap();
    assert_eq!(boot(esp), Slot::B);
}

/// A source that breaks off.
struct Cut<'a>(&'a [u8]);

impl Read for Cut<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::Error::other("cut")),
            length => Ok(length),
        }
    }
}

#[test]
fn an_update_that_breaks_off_leaves_the_slot_that_runs() {
    let esp = esp();
    let esp = esp.path();
    assert!(put(esp, Slot::B, &mut Cut(b"tw"), "Forebay 2").is_err());
    assert_eq!(boot(esp), Slot::A);
    assert_eq!(state_of(esp, &entries(esp).unwrap(), Slot::B), SlotState::Empty);
    // What was left behind is in nobody's way.
    put(esp, Slot::B, &mut &b"two"[..], "Forebay 2").unwrap();
    assert_eq!(boot(esp), Slot::B);
}

#[test]
fn names_are_read() {
    assert_eq!(read_name("forebay-a.conf"), Some((Slot::A, None)));
    assert_eq!(read_name("forebay-b+1.conf"), Some((Slot::B, Some(1))));
    assert_eq!(read_name("forebay-b+0-1.conf"), Some((Slot::B, Some(0))));
    for name in ["", "forebay-c.conf", "forebay-a", "forebay-b+x.conf", "other.conf", "update.part"]
    {
        assert_eq!(read_name(name), None, "{name}");
    }
}

/// Made with minisign 0.11: `minisign -G -W`, `minisign -S -t "version 2"` of the text `image`.
const KEY: &str = include_str!("../tests/signed/key.pub");
const SIGNATURE: &str = include_str!("../tests/signed/image.minisig");

#[test]
fn only_what_was_signed_is_taken() {
    assert_eq!(version_of(KEY, SIGNATURE, &mut &b"image\n"[..]).as_deref(), Ok("2"));
    let refused = |key: &str, signature: &str, image: &[u8]| {
        version_of(key, signature, &mut &image[..]).unwrap_err()
    };
    assert!(refused(KEY, SIGNATURE, b"imagE\n").contains("not signed with the key"));
    assert!(refused(KEY, SIGNATURE, b"").contains("not signed with the key"));
    let other = SIGNATURE.replace("version 2", "version 3");
    assert!(refused(KEY, &other, b"image\n").contains("not signed with the key"), "its version");
    let other = include_str!("../tests/signed/other.pub");
    assert!(refused(other, SIGNATURE, b"image\n").contains("not signed with the key"));
    assert!(refused(KEY, "nothing", b"image\n").contains("cannot be read"));
}

proptest! {
    #[test]
    fn any_signature_is_read(text in "\\PC{0,300}", image in proptest::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(version_of(KEY, &text, &mut &image[..]).is_err());
    }
}
