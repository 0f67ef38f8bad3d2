//! Requests that changed nothing: a line a minute for each caller, and none is lost.

use proptest::prelude::*;
use std::collections::BTreeMap;
use webui_audit::{Access, Fold, Intent};

const MINUTE: u64 = 60 * 1_000_000_000;

fn request(caller: &str) -> Access {
    let request = Intent {
        who: None,
        role: None,
        address: caller.into(),
        session: None,
        operation: "delete_pool".into(),
        method: "DELETE".into(),
        path: "/".into(),
        body: None,
    };
    Access { request, status: 403, count: 1 }
}

proptest! {
    #[test]
    fn each_caller_has_a_line_a_minute_and_all_are_counted(
        steps in prop::collection::vec((0..MINUTE / 4, 0..4_usize, any::<bool>()), 1..300),
    ) {
        let (mut fold, mut now) = (Fold::default(), 0);
        let mut lines: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let mut counted = 0;
        for (gap, caller, look) in &steps {
            now += gap;
            let mut written = Vec::new();
            if *look {
                written = fold.due(now);
            }
            let caller = format!("10.0.0.{caller}");
            written.extend(fold.count(caller.clone(), request(&caller), now));
            for line in written {
                counted += line.count;
                lines.entry(line.request.address).or_default().push(now);
            }
        }
        for times in lines.values() {
            prop_assert!(times.windows(2).all(|two| two[1] - two[0] >= MINUTE), "{times:?}");
        }
        counted += fold.take().iter().map(|line| line.count).sum::<u64>();
        prop_assert_eq!(counted, steps.len() as u64);
    }
}

#[test]
fn callers_without_number_share_a_line() {
    let mut fold = Fold::default();
    let first: usize = (0..10_000)
        .map(|n| usize::from(fold.count(format!("{n}"), request("x"), 0).is_some()))
        .sum();
    assert!(first <= 1025, "{first}");
    let due = fold.due(MINUTE);
    assert_eq!((due.len(), due[0].count), (1, 10_000 - first as u64));
}
