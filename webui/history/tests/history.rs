//! What is looked at is what is answered: in memory, through restarts, kills and power cuts.

use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use webui_history::{MIN_BYTES, Past, Watcher};
use webui_model::{
    History, HistoryKind, HistoryQuery, IoStatistics, LatencyHistogram, PoolStatistics,
    RefusalKind, Space, Statistics, VolumeStatistics,
};

/// A moment that is the beginning of a month of hours, in seconds.
const BEGIN_S: u64 = 1_800_000_000 / 86_400 * 86_400;

fn histogram(fast: u64, slow: u64) -> LatencyHistogram {
    LatencyHistogram {
        bounds_ns: vec![1000, 2000, 4000],
        counts: vec![0, fast, slow, 0],
        sum_ns: 0,
    }
}

/// Counters of what has done `reads`, of which each tenth was slow.
fn io(reads: u64) -> IoStatistics {
    IoStatistics {
        reads,
        read_bytes: reads * 4096,
        queue_depth: u64::from(reads > 0) * 2,
        read_latency: histogram(reads - reads / 10, reads / 10),
        write_latency: histogram(0, 0),
        ..IoStatistics::default()
    }
}

fn statistics(at_s: u64, volumes: &[(&str, u64)]) -> Statistics {
    let volume = |(name, reads): &(&str, u64)| VolumeStatistics {
        pool: Some("tank".parse().unwrap()),
        volume: name.parse().unwrap(),
        io: io(*reads),
    };
    let pool = PoolStatistics {
        pool: "tank".parse().unwrap(),
        space: Space::default(),
        commits: 0,
        full_errors: 0,
        discarded_bytes: 0,
        discard_waiting_bytes: 0,
    };
    Statistics {
        at_ms: at_s * 1000 + 3,
        volumes: volumes.iter().map(volume).collect(),
        pools: vec![pool],
        ..Statistics::default()
    }
}

fn ask(past: &Past, kind: HistoryKind, name: Option<&str>, at_s: (u64, u64)) -> History {
    let query = HistoryQuery {
        kind,
        name: name.map(str::to_owned),
        from_ms: Some(at_s.0 * 1000),
        to_ms: Some(at_s.1 * 1000),
        step_s: None,
    };
    past.answer(&query, at_s.1 * 1000).unwrap()
}

fn volume(past: &Past, name: &str, at_s: (u64, u64)) -> History {
    ask(past, HistoryKind::Volume, Some(name), at_s)
}

fn sum(list: &[u64]) -> u64 {
    list.iter().sum()
}

/// Looks each second from `from` to `to`, where each second `each` reads are done.
fn run(watcher: &mut Watcher, name: &str, from: u64, to: u64, each: u64) {
    for second in from..to {
        let reads = (second + 1 - from) * each;
        watcher.look(statistics(BEGIN_S + second + 1, &[(name, reads)])).unwrap();
    }
}

fn open(folder: &Path) -> (Watcher, Arc<Past>) {
    let watcher = Watcher::on_disk(folder, 16 << 20).unwrap();
    let past = watcher.past();
    (watcher, past)
}

#[test]
fn the_last_hour_is_in_seconds() {
    let mut watcher = Watcher::in_memory();
    let past = watcher.past();
    run(&mut watcher, "a", 0, 4000, 20);
    let now = BEGIN_S + 4000;
    for (kind, name) in [
        (HistoryKind::Volume, Some("tank/a")),
        (HistoryKind::Pool, Some("tank")),
        (HistoryKind::Appliance, None),
    ] {
        let is = ask(&past, kind, name, (now - 3600, now));
        assert_eq!((is.step_s, is.at_ms.len()), (1, 3600));
        assert_eq!(is.at_ms[3599], (now - 1) * 1000);
        assert!(is.reads.iter().all(|reads| *reads == 20));
        assert_eq!((sum(&is.read_bytes), sum(&is.writes)), (3600 * 20 * 4096, 0));
        assert!(is.read_p50_ns.iter().all(|ns| *ns == Some(2000)));
        assert!(is.read_p99_ns.iter().all(|ns| *ns == Some(4000)));
        assert!(is.write_p99_ns.iter().all(Option::is_none));
        assert!(is.queue_depth.iter().all(|depth| *depth == 2.0));
        assert!(is.reason.contains("1 second") && is.reason.contains("off"), "{}", is.reason);
    }
}

#[test]
fn what_cannot_be_answered_is_refused_in_a_sentence() {
    let mut watcher = Watcher::in_memory();
    let past = watcher.past();
    run(&mut watcher, "a", 0, 3, 1);
    let query = |kind, name: Option<&str>| HistoryQuery {
        kind,
        name: name.map(str::to_owned),
        from_ms: None,
        to_ms: None,
        step_s: None,
    };
    let now_ms = (BEGIN_S + 3) * 1000;
    let refused = |query: HistoryQuery, kind, says: &str| {
        let refusal = past.answer(&query, now_ms).unwrap_err();
        assert_eq!(refusal.kind, kind, "{}", refusal.message);
        assert!(refusal.message.contains(says), "{}", refusal.message);
    };
    use RefusalKind::{Invalid, NotFound};
    refused(query(HistoryKind::Volume, None), Invalid, "say which volume");
    refused(query(HistoryKind::Appliance, Some("x")), Invalid, "leave it out");
    refused(query(HistoryKind::Volume, Some("a")), NotFound, "POOL/VOLUME");
    refused(query(HistoryKind::Host, Some("a")), NotFound, "of a host a");
    let whole = query(HistoryKind::Appliance, None);
    let late = HistoryQuery { from_ms: Some(now_ms), ..whole.clone() };
    refused(late, Invalid, "not before to_ms");
    refused(HistoryQuery { step_s: Some(0), ..whole.clone() }, Invalid, "step_s is 0");
    let longer = past.answer(&HistoryQuery { step_s: Some(60), ..whole }, now_ms).unwrap();
    assert_eq!((longer.step_s, longer.reads), (60, vec![3]));
}

#[test]
fn a_day_and_a_month_go_through_restarts() {
    let folder = TempDir::new().unwrap();
    let (mut watcher, _) = open(folder.path());
    run(&mut watcher, "a", 0, 5430, 10);
    watcher.end().unwrap();
    // It was off for ten minutes; counters begin anew.
    let (mut watcher, past) = open(folder.path());
    run(&mut watcher, "a", 6030, 9000, 10);
    let now = BEGIN_S + 9000;
    let done = (5430 + 2970) * 10;
    let day = volume(&past, "tank/a", (now - 86_400, now));
    assert_eq!((day.step_s, sum(&day.reads)), (60, done), "{}", day.reason);
    assert!(day.reason.contains("a day on disk"), "{}", day.reason);
    // 90 whole minutes and a half; then half of one, and the rest, of which the last is in memory.
    assert_eq!(day.at_ms.len(), 91 + 50);
    assert_eq!((day.reads[90], day.reads[91]), (300, 300));
    assert_eq!(day.read_p99_ns[3], Some(4000));
    let month = volume(&past, "tank/a", (now - 31 * 86_400, now));
    assert_eq!((month.step_s, sum(&month.reads)), (3600, done));
    assert_eq!(month.reads, [36_000, (1830 + 1170) * 10, 18_000]);
    // The last hour is not all in memory.
    let hour = volume(&past, "tank/a", (now - 3600, now));
    assert_eq!((hour.step_s, sum(&hour.reads)), (60, (30 + 2970) * 10), "{}", hour.reason);
}

#[test]
fn a_kill_loses_the_step_under_way_and_no_more() {
    let folder = TempDir::new().unwrap();
    let (mut watcher, _) = open(folder.path());
    run(&mut watcher, "a", 0, 5430, 10);
    drop(watcher);
    for _ in 0..3 {
        // Each time what hours do not have yet is taken from the minutes, once.
        let (watcher, past) = open(folder.path());
        let now = BEGIN_S + 5500;
        for (back, step_s) in [(86_400, 60), (31 * 86_400, 3600)] {
            let is = volume(&past, "tank/a", (now - back, now));
            assert_eq!((is.step_s, sum(&is.reads)), (step_s, 54_000), "{}", is.reason);
        }
        drop(watcher);
    }
}

#[test]
fn objects_that_go_and_come_are_there_when_they_were() {
    let folder = TempDir::new().unwrap();
    let (mut watcher, past) = open(folder.path());
    for second in 1..=3600 {
        let (mut there, reads) = (vec![("a", second)], second);
        if !(600..1200).contains(&second) {
            there.push(("b", if second < 600 { reads } else { reads - 1199 }));
        }
        watcher.look(statistics(BEGIN_S + second, &there)).unwrap();
    }
    let now = BEGIN_S + 3600;
    let b = volume(&past, "tank/b", (now - 80_000, now));
    assert_eq!(sum(&b.reads), 599 + 2401);
    let began = |at_s: u64| b.at_ms.contains(&((BEGIN_S + at_s) * 1000));
    assert!(began(540) && !began(660) && !began(1080) && began(1200), "{:?}", b.at_ms);
    assert_eq!(sum(&volume(&past, "tank/a", (now - 80_000, now)).reads), 3600);
}

fn bytes_in(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn disk_is_bounded_and_steps_are_longer_for_many() {
    let folder = TempDir::new().unwrap();
    let mut watcher = Watcher::on_disk(folder.path(), MIN_BYTES).unwrap();
    let past = watcher.past();
    let names: Vec<String> = (0..300).map(|n| format!("v{n:03}")).collect();
    for minute in 1..=3000_u64 {
        let there: Vec<(&str, u64)> = names.iter().map(|n| (n.as_str(), minute * 500)).collect();
        watcher.look(statistics(BEGIN_S + minute * 60, &there)).unwrap();
        assert!(bytes_in(folder.path()) <= MIN_BYTES);
    }
    let now = BEGIN_S + 3000 * 60;
    let day = volume(&past, "tank/v007", (now - 86_400, now));
    assert_eq!(day.step_s, 1800, "{}", day.reason);
    assert!(
        day.reason.contains("30 minutes, so long because there are 302 objects"),
        "{}",
        day.reason
    );
    assert_eq!(sum(&day.reads), 1440 * 500);
    let month = volume(&past, "tank/v007", (BEGIN_S, now));
    assert_eq!((month.step_s, sum(&month.reads)), (86_400, 3000 * 500));
    // A smaller space is kept to from the next start on.
    drop(watcher);
    let bytes: u64 = std::fs::read_dir(folder.path()).unwrap().count() as u64;
    assert!(bytes <= 16);
}

#[test]
fn more_objects_than_a_file_names_are_left_out_and_that_is_said() {
    let folder = TempDir::new().unwrap();
    let mut watcher = Watcher::on_disk(folder.path(), MIN_BYTES).unwrap();
    let past = watcher.past();
    let names: Vec<String> = (0..2000).map(|n| format!("v{n:04}")).collect();
    for minute in 1..=600_u64 {
        let there: Vec<(&str, u64)> = names.iter().map(|n| (n.as_str(), minute)).collect();
        watcher.look(statistics(BEGIN_S + minute * 600, &there)).unwrap();
        assert!(bytes_in(folder.path()) <= MIN_BYTES);
    }
    let now = BEGIN_S + 600 * 600;
    let all = ask(&past, HistoryKind::Appliance, None, (now - 86_400, now));
    assert!(all.reason.contains("There is no room for 1"), "{}", all.reason);
    assert_eq!(sum(&all.reads), 144 * 2000);
}

#[test]
fn what_is_on_disk_keeps_nothing_from_starting() {
    for content in [&b""[..], b"FBHI", b"FBHISTO1\x04\0\0\0", b"something else, and longer"] {
        let folder = TempDir::new().unwrap();
        for name in ["minutes-00000000000000ff", "hours-ffffffffffffffff", "hours-x", "other"] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let (mut watcher, past) = open(folder.path());
        // No number is above the last one: hours are kept no more, and that is said.
        for second in 1..=4000_u64 {
            let _ = watcher.look(statistics(BEGIN_S + second, &[("a", second)]));
        }
        let now = BEGIN_S + 4000;
        assert_eq!(sum(&volume(&past, "tank/a", (now - 86_400, now)).reads), 4000);
    }
}

#[test]
fn a_full_disk_costs_steps_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let (mut watcher, past) = open(folder.path());
    run(&mut watcher, "a", 0, 60, 1);
    // Nothing can be written there: it is no folder any more.
    let aside = folder.path().with_extension("aside");
    std::fs::rename(folder.path(), &aside).unwrap();
    std::fs::write(folder.path(), "").unwrap();
    let mut other = Watcher::on_disk(&aside, 16 << 20).unwrap();
    assert!(Watcher::on_disk(folder.path(), 16 << 20).is_err());
    other.look(statistics(BEGIN_S + 61, &[("a", 61)])).unwrap();
    let now = BEGIN_S + 60;
    assert_eq!(sum(&volume(&past, "tank/a", (now - 60, now)).reads), 60);
    std::fs::remove_file(folder.path()).unwrap();
    std::fs::rename(&aside, folder.path()).unwrap();
}

/// Every prefix of what a run has written, as a power cut may leave it.
#[test]
fn cut_at_each_byte_it_starts_and_has_what_was_whole() {
    let folder = TempDir::new().unwrap();
    let (mut watcher, _) = open(folder.path());
    run(&mut watcher, "a", 0, 600, 7);
    drop(watcher);
    let path = folder.path().join("minutes-0000000000000001");
    let bytes = std::fs::read(&path).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for cut in 0..=bytes.len() {
        let cut_off = TempDir::new().unwrap();
        let path = cut_off.path().join("minutes-0000000000000001");
        std::fs::write(&path, &bytes[..cut]).unwrap();
        let (mut watcher, past) = open(cut_off.path());
        // It goes on as if nothing had happened.
        run(&mut watcher, "a", 600, 660, 7);
        let now = BEGIN_S + 660;
        let is = volume(&past, "tank/a", (now - 86_400, now));
        assert_eq!(is.reads.last(), Some(&420));
        assert!(is.reads.iter().all(|reads| *reads == 420), "cut at {cut}: {:?}", is.reads);
        seen.insert(is.reads.len());
        drop(watcher);
        let (_, past) = open(cut_off.path());
        let again = volume(&past, "tank/a", (now - 86_400, now));
        assert_eq!(again.reads, is.reads, "cut at {cut}");
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), (1..=11).collect::<Vec<_>>());
}

/// What happens to a history.
#[derive(Clone, Debug)]
enum Happens {
    /// Seconds of so many reads each.
    Runs(u64, u64),
    /// It is stopped, and is off for so many seconds.
    Stops(u64),
    /// It is killed on a minute, and is off for so many seconds.
    Killed(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        (1_u64..2000, 0_u64..50).prop_map(|(s, reads)| Happens::Runs(s, reads)),
        (0_u64..200).prop_map(Happens::Stops),
        (0_u64..200).prop_map(Happens::Killed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However often it is stopped, or killed when a step was just written, what was done is in each
    /// of the three, once.
    #[test]
    fn what_was_done_is_there_once(program in prop::collection::vec(happens(), 1..14)) {
        let folder = TempDir::new().unwrap();
        let (mut watcher, mut past) = open(folder.path());
        let (mut now, mut counter, mut done) = (BEGIN_S, 0_u64, 0_u64);
        let tick = |watcher: &mut Watcher, now: &mut u64, counter: &mut u64, each: u64| {
            *now += 1;
            *counter += each;
            watcher.look(statistics(*now, &[("a", *counter)])).unwrap();
            each
        };
        for one in program {
            match one {
                Happens::Runs(seconds, each) => {
                    for _ in 0..seconds {
                        done += tick(&mut watcher, &mut now, &mut counter, each);
                    }
                    continue;
                }
                Happens::Stops(off) => {
                    if counter > 0 { watcher.end().unwrap(); }
                    now += off;
                }
                Happens::Killed(off) => {
                    while !now.is_multiple_of(60) {
                        done += tick(&mut watcher, &mut now, &mut counter, 1);
                    }
                    now += off;
                }
            }
            drop(watcher);
            (watcher, past) = open(folder.path());
            counter = 0;
        }
        done += tick(&mut watcher, &mut now, &mut counter, 1);
        for back in [80_000, 30 * 86_400] {
            let is = volume(&past, "tank/a", (now - back, now));
            prop_assert_eq!(sum(&is.reads), done);
            prop_assert_eq!(sum(&is.read_bytes), done * 4096);
            prop_assert!(is.at_ms.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
}
