//! A process that is killed while it changes what is kept, in a real folder.

use crate::program::{Random, change, load, subsystem};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use wanted::{FileStore, Item, Ledger, Request, Store, Wanted};

/// What tells the child from the same test in a run of all tests.
const MARK: &str = "child-of-a-test";

/// Subsystems that come and go.
const NUMBERS: u64 = 50;

/// Whether the change of a revision makes something, or takes it away.
fn is_new(revision: u64) -> bool {
    (revision / NUMBERS).is_multiple_of(2)
}

/// The child: it changes what is kept in its folder, and says so after each change.
#[test]
fn changes_until_it_is_killed() {
    if !Path::new(MARK).exists() {
        return;
    }
    let mut store = FileStore::new(Path::new("."));
    let (mut revision, _) = load(&mut store).unwrap();
    loop {
        let there = Some(subsystem(revision % NUMBERS, 20));
        let step = if is_new(revision) { change(None, there) } else { change(there, None) };
        revision = store.compare_and_swap(revision, &[step]).unwrap();
        println!("\nkept {revision}");
    }
}

#[test]
fn nothing_that_was_answered_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(MARK), "").unwrap();
    let mut random = Random(5);
    let mut last = 0;
    for _ in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "kills::changes_until_it_is_killed", "--nocapture"])
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let kept = lines.map_while(Result::ok).filter_map(|line| {
            line.strip_prefix("kept ").and_then(|number| number.parse::<u64>().ok())
        });
        let mut kept = kept.peekable();
        for _ in 0..=random.below(60) {
            last = kept.next().expect("it goes on until it is killed");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said after the last line that was read.
        last = kept.last().unwrap_or(last);
        let (revision, items) = load(&mut FileStore::new(folder.path())).unwrap();
        assert!((last..=last + 1).contains(&revision), "{revision} after {last}");
        let mut there = BTreeSet::new();
        for done in 1..revision {
            match is_new(done) {
                true => there.insert(done % NUMBERS),
                false => there.remove(&(done % NUMBERS)),
            };
        }
        assert_eq!(items.len(), there.len(), "at revision {revision}");
    }
    println!("{last} changes");
}

#[test]
fn files_are_their_owners_alone_and_links_are_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let treasure = folder.path().join("treasure");
    std::fs::write(&treasure, "gold").unwrap();
    std::os::unix::fs::symlink(&treasure, folder.path().join("wanted.log.new")).unwrap();
    let mut store = FileStore::new(folder.path());
    let (revision, _) = load(&mut store).unwrap();
    let step = [change(None, Some(subsystem(1, 1)))];
    store.compare_and_swap(revision, &step).unwrap();
    assert_eq!(std::fs::read_to_string(&treasure).unwrap(), "gold");
    let mode = std::fs::metadata(folder.path().join("wanted.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_ledger_keeps_what_is_asked_for_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let open = |configured: Wanted| {
        Ledger::open(Box::new(FileStore::new(folder.path())), |_| Ok(configured)).unwrap()
    };
    let nqn = "nqn.2026-01.io.forebay:tank:v1";
    let create = |any| {
        let allow_any_host = any;
        let (nqn, hosts) = (nqn.parse().unwrap(), Vec::new());
        Request::CreateSubsystem(webui_model::SubsystemCreate { nqn, hosts, allow_any_host })
    };
    let ledger = open(Wanted::default());
    let before = ledger.now();
    let edited = ledger.edit(&create(true), &()).unwrap();
    assert!(!edited.is_as_before() && before.subsystem(nqn).is_none());
    assert!(ledger.edit(&create(true), &()).unwrap().is_as_before());
    ledger.edit(&create(false), &()).unwrap_err();
    assert_eq!(open(Wanted::default()).now(), ledger.now());
    // Taken back, it is as it was.
    ledger.undo(&edited.changes).unwrap();
    assert_eq!(ledger.now(), before);
    assert_eq!(open(Wanted::default()).now(), before);
    ledger.edit(&create(true), &()).unwrap();
    drop(ledger);
    // What the configuration declares is not stored, and hides what has its name.
    let mut configured = Wanted::default();
    let Item::Subsystem(mut of_file) = subsystem(1, 2) else { unreachable!("it is one") };
    of_file.own = false;
    assert!(configured.add(wanted::Declared::configured(Item::Subsystem(of_file))));
    assert!(open(configured.clone()).now().subsystem(nqn).unwrap().is_configured());
    let hosts = vec!["nqn.2026-01.org.example:h9".to_owned()];
    let request = Request::SetConfiguredHosts { nqn: nqn.into(), hosts, allow_any_host: false };
    open(configured).edit(&request, &()).unwrap();
    let now = open(Wanted::default()).now();
    assert!(now.subsystem(nqn).unwrap().allow_any_host);
}
