//! Logs on a real file system: chained, bounded, and readable after whatever ends a process.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use webui_audit::{Access, Intent, Log, Quota, Verified, verify};

const SMALL: Quota = Quota { segment_bytes: 10_000, kept: 4, reserve_bytes: 4096 };

fn intent(n: u64) -> Intent {
    Intent {
        who: Some("admin".parse().unwrap()),
        role: Some(webui_model::Role::Admin),
        address: "127.0.0.1".into(),
        session: None,
        operation: "create_volume".into(),
        method: "POST".into(),
        path: format!("/api/v1/pools/tank/volumes?{n}"),
        body: Some(serde_json::json!({"name": format!("v{n}")})),
    }
}

/// Changes with their results.
fn changes(log: &Log, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let number = log.intend(intent(n), n).unwrap();
        log.result(number, 201, n).unwrap();
    }
}

fn path(folder: &TempDir) -> PathBuf {
    folder.path().join("audit.log")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn good(found: &Verified) {
    assert_eq!(found.faults, Vec::<String>::new());
}

#[test]
fn lines_are_chained_over_files_and_starts() {
    let folder = TempDir::new().unwrap();
    for start in 0..20 {
        let log = Log::open(&path(&folder), SMALL, None).unwrap();
        changes(&log, start * 7..start * 7 + 7);
    }
    let found = verify(&path(&folder)).unwrap();
    good(&found);
    assert!(found.first.unwrap() > 1, "the oldest made room");
    assert_eq!(found.last.as_ref().unwrap().0, 20 * 14);
    assert_eq!(found.lines, 20 * 14 - found.first.unwrap() + 1);
    let log = Log::open(&path(&folder), SMALL, None).unwrap();
    let newest = log.newest(30).unwrap();
    let at: Vec<u64> = newest.iter().map(|record| record.at_ms).collect();
    assert_eq!(at, (110..140).rev().collect::<Vec<_>>());
    assert!(newest.iter().all(|record| record.status == Some(201) && record.count == 1));
    for file in files(folder.path()) {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_log_stays_within_its_quota() {
    let folder = TempDir::new().unwrap();
    let log = Log::open(&path(&folder), SMALL, None).unwrap();
    for n in 0..1000 {
        changes(&log, n..n + 1);
        let told = files(folder.path()).into_iter().map(|file| fs::metadata(file).unwrap());
        let (bytes, blocks) = told.fold((0, 0), |(b, k), m| (b + m.len(), k + m.blocks() * 512));
        assert!(bytes <= SMALL.bytes(), "{bytes}");
        // Each of six files ends within a block.
        assert!(blocks <= SMALL.bytes() + 6 * 4096, "{blocks} with what is kept");
    }
    assert_eq!(files(folder.path()).len(), 6, "five, and a spare one");
}

#[test]
fn a_quota_that_became_smaller_is_kept() {
    let folder = TempDir::new().unwrap();
    changes(&Log::open(&path(&folder), SMALL, None).unwrap(), 0..200);
    let less = Quota { segment_bytes: 4096, kept: 2, reserve_bytes: 4096 };
    let log = Log::open(&path(&folder), less, None).unwrap();
    changes(&log, 200..300);
    let bytes: u64 = files(folder.path()).iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    assert!(bytes <= less.bytes(), "{bytes}");
    good(&verify(&path(&folder)).unwrap());
}

#[test]
fn a_change_without_a_result_is_one_of_which_nobody_knows_more() {
    let folder = TempDir::new().unwrap();
    let log = Log::open(&path(&folder), SMALL, None).unwrap();
    changes(&log, 0..2);
    log.intend(intent(2), 2).unwrap();
    drop(log);
    let log = Log::open(&path(&folder), SMALL, None).unwrap();
    changes(&log, 3..4);
    let status: Vec<_> = log.newest(9).unwrap().iter().map(|record| record.status).collect();
    assert_eq!(status, [Some(201), None, Some(201), Some(201)]);
}

#[test]
fn whatever_is_changed_is_seen() {
    let folder = TempDir::new().unwrap();
    let log = Log::open(&path(&folder), SMALL, None).unwrap();
    changes(&log, 0..60);
    let all = log.files().unwrap();
    assert!(all.len() > 2);
    good(&verify(&path(&folder)).unwrap());
    let mut tried = 0;
    for file in &all {
        let text = fs::read(file).unwrap();
        let ends: Vec<usize> = (0..text.len()).filter(|at| text[*at] == b'\n').collect();
        let is_newest = file == &path(&folder);
        // The last line of all has none after it that would tell.
        let lines = if is_newest { ends.len() - 1 } else { ends.len() };
        for line in 0..lines {
            let start = if line == 0 { 0 } else { ends[line - 1] + 1 };
            let (mut flipped, mut without) = (text.clone(), text.clone());
            flipped[(start + ends[line]) / 2] ^= 1;
            without.drain(start..=ends[line]);
            let mut twice = text[..=ends[line]].to_vec();
            twice.extend_from_slice(&text[start..]);
            for (what, changed) in [("flipped", flipped), ("without", without), ("twice", twice)] {
                let first_of_all = what == "without" && line == 0 && Some(file) == all.last();
                fs::write(file, changed).unwrap();
                let found = verify(&path(&folder)).unwrap();
                assert!(first_of_all || !found.faults.is_empty(), "{what} {file:?} {line}");
                tried += 1;
            }
        }
        fs::write(file, &text).unwrap();
    }
    assert!(tried > 200, "{tried}");
    fs::remove_file(&all[1]).unwrap();
    assert!(!verify(&path(&folder)).unwrap().faults.is_empty(), "a file is missing");
}

#[test]
fn a_torn_line_is_kept_apart_and_the_chain_goes_on() {
    let folder = TempDir::new().unwrap();
    changes(&Log::open(&path(&folder), SMALL, None).unwrap(), 0..3);
    let whole = fs::read(path(&folder)).unwrap();
    for cut in [1, 7, 60] {
        fs::write(path(&folder), &whole[..whole.len() - cut]).unwrap();
        let log = Log::open(&path(&folder), SMALL, None).unwrap();
        changes(&log, 3..4);
        let found = verify(&path(&folder)).unwrap();
        good(&found);
        assert_eq!(found.torn, u64::from(cut > 1));
        let at: Vec<u64> = log.newest(9).unwrap().iter().map(|record| record.at_ms).collect();
        assert_eq!(at, [3, 2, 1, 0]);
    }
}

#[test]
fn a_rotation_that_was_cut_short_goes_on() {
    // Renamed, from the oldest on, and then the power went.
    for steps in 1..=5 {
        let folder = TempDir::new().unwrap();
        let log = Log::open(&path(&folder), SMALL, None).unwrap();
        changes(&log, 0..100);
        let last = log.newest(1).unwrap()[0].number.unwrap();
        drop(log);
        let place = |n: u32| match n {
            0 => path(&folder),
            n => folder.path().join(format!("audit.log.{n}")),
        };
        fs::remove_file(place(4)).unwrap();
        for n in (0..4).rev().take(steps) {
            fs::rename(place(n), place(n + 1)).unwrap();
        }
        let log = Log::open(&path(&folder), SMALL, None).unwrap();
        changes(&log, 100..101);
        assert_eq!(log.newest(2).unwrap()[1].number, Some(last), "{steps}");
        changes(&log, 101..200);
        good(&verify(&path(&folder)).unwrap());
    }
}

#[test]
fn lines_from_before_the_chain_are_shown_and_counted() {
    let folder = TempDir::new().unwrap();
    let old = "{\"at_ms\":5,\"who\":\"admin\",\"role\":\"admin\",\"address\":\"::1\",\
               \"operation\":\"create_pool\",\"method\":\"POST\",\"path\":\"/api/v1/pools\",\
               \"status\":201}\n";
    fs::write(path(&folder), old.repeat(2)).unwrap();
    let log = Log::open(&path(&folder), SMALL, None).unwrap();
    changes(&log, 6..7);
    let newest = log.newest(9).unwrap();
    assert_eq!(newest.iter().map(|r| r.number).collect::<Vec<_>>(), [Some(1), None, None]);
    assert_eq!((newest[1].at_ms, newest[1].status), (5, Some(201)));
    let found = verify(&path(&folder)).unwrap();
    good(&found);
    assert_eq!((found.unchained, found.lines), (2, 2));
    let text = fs::read_to_string(path(&folder)).unwrap().replacen("create_pool", "delete_pool", 2);
    fs::write(path(&folder), text).unwrap();
    assert_eq!(verify(&path(&folder)).unwrap().faults.len(), 1, "the first one holds them, too");
}

#[test]
fn what_is_no_file_of_ours_is_refused() {
    let folder = TempDir::new().unwrap();
    std::os::unix::fs::symlink("/dev/full", path(&folder)).unwrap();
    assert!(Log::open(&path(&folder), SMALL, None).is_err());
    assert!(Log::open(Path::new("/dev/full"), SMALL, None).is_err());
    assert!(Log::open(folder.path(), SMALL, None).is_err());
}

/// A file system of its own, gone with this.
struct Small(TempDir);

impl Small {
    /// None where this user cannot mount.
    fn new(size: &str) -> Option<Small> {
        let folder = TempDir::new().unwrap();
        let (size, place) = (format!("size={size}"), folder.path().to_str().unwrap().to_owned());
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "none", &place]);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIPPED: this user cannot mount a file system");
        }
        mounted.then_some(Small(folder))
    }

    /// Fills what is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("ballast");
        let mut file = fs::File::create(&path).unwrap();
        for bytes in [1 << 16, 4096] {
            while file.write_all(&vec![7; bytes]).is_ok() {}
        }
        path
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_file_system_that_others_filled_keeps_nobody_from_changing_things() {
    let Some(small) = Small::new("8m") else { return };
    let (quota, _) = webui_audit::of_file_system(small.0.path()).unwrap();
    assert!(quota.bytes() <= 2 << 20, "{quota:?}");
    let path = small.0.path().join("audit.log");
    let log = Log::open(&path, quota, None).unwrap();
    changes(&log, 0..10);
    small.fill();
    fs::write(small.0.path().join("other"), vec![1; 4096]).unwrap_err();
    // More than fits into all that was kept: history gives way then, and no change is refused.
    changes(&log, 10..20_000);
    good(&verify(&path).unwrap());
    drop(log);
    changes(&Log::open(&path, quota, None).unwrap(), 20_000..20_010);
    good(&verify(&path).unwrap());
}

#[test]
fn a_line_that_does_not_fit_leaves_nothing_behind() {
    let Some(small) = Small::new("1m") else { return };
    let path = small.0.path().join("access.log");
    // Nothing is kept for it, and there is one file.
    let quota = Quota { segment_bytes: 1 << 20, kept: 0, reserve_bytes: 0 };
    let log = Log::open(&path, quota, None).unwrap();
    let line = || Access { request: intent(1), status: 403, count: 7 };
    log.access(line(), 1).unwrap();
    let ballast = small.fill();
    let mut written = 1;
    while log.access(line(), 1).is_ok() && written < 10_000 {
        written += 1;
    }
    fs::remove_file(ballast).unwrap();
    log.access(line(), 2).unwrap();
    let found = verify(&path).unwrap();
    good(&found);
    assert_eq!(found.torn, 0);
}
