//! Which of two versions is the older one, by the rules of Semantic Versioning 2.0.0 (section 11);
//! numbers that are not there are 0.

use std::cmp::Ordering;

/// Whether `one` is older than `other`.
pub fn is_older(one: &str, other: &str) -> bool {
    compare(one, other) == Ordering::Less
}

fn compare(one: &str, other: &str) -> Ordering {
    let ((one, one_pre), (other, other_pre)) = (parts(one), parts(other));
    let released = match (one_pre, other_pre) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(one), Some(other)) => identifiers(one, other, ""),
    };
    identifiers(one, other, "0").then(released)
}

/// The numbers, and what makes it one before the release; what is after a `+` orders nothing.
fn parts(version: &str) -> (&str, Option<&str>) {
    let version = version.split('+').next().unwrap_or("");
    match version.split_once('-') {
        Some((numbers, pre)) => (numbers, Some(pre)),
        None => (version, None),
    }
}

/// Compares from left to right; `missing` stands where one has less of them.
fn identifiers(one: &str, other: &str, missing: &str) -> Ordering {
    let (mut one, mut other) = (one.split('.'), other.split('.'));
    loop {
        let order = match (one.next(), other.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) => identifier(a.unwrap_or(missing), b.unwrap_or(missing)),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Numbers by their value, of any length; they come before texts.
fn identifier(one: &str, other: &str) -> Ordering {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match (digits(one), digits(other)) {
        (true, true) => {
            let (one, other) = (one.trim_start_matches('0'), other.trim_start_matches('0'));
            one.len().cmp(&other.len()).then_with(|| one.cmp(other))
        }
        // Nothing is before everything.
        (true, false) if !other.is_empty() => Ordering::Less,
        (false, true) if !one.is_empty() => Ordering::Greater,
        _ => one.cmp(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn versions_have_an_order() {
        // The second line is the example of the specification.
        let ordered = [
            ["0.1.0", "0.1.1", "0.2.0", "0.10.0", "1.0.0-rc1", "1.0", "1.0.0.1", "2"].as_slice(),
            &[
                "1.0.0-alpha",
                "1.0.0-alpha.1",
                "1.0.0-alpha.beta",
                "1.0.0-beta",
                "1.0.0-beta.2",
                "1.0.0-beta.11",
                "1.0.0-rc.1",
                "1.0.0",
            ],
        ];
        for versions in ordered {
            for (at, one) in versions.iter().enumerate() {
                for (other_at, other) in versions.iter().enumerate() {
                    assert_eq!(compare(one, other), at.cmp(&other_at), "{one} {other}");
                }
            }
        }
        for (one, other) in [("1.0", "1.0.0"), ("1.0.0+a", "1.0.0+b"), ("01.2", "1.02"), ("", "")] {
            assert_eq!(compare(one, other), Ordering::Equal, "{one} {other}");
            assert!(!is_older(one, other));
        }
    }

    proptest! {
        #[test]
        fn any_texts_have_an_order(a in "[0-9a.+-]{0,8}", b in "[0-9a.+-]{0,8}", c in "[0-9a.+-]{0,8}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            if compare(&a, &b) != Ordering::Greater && compare(&b, &c) != Ordering::Greater {
                prop_assert_ne!(compare(&a, &c), Ordering::Greater);
            }
        }

        #[test]
        fn numbers_are_compared_by_value(a in any::<[u32; 3]>(), b in any::<[u32; 3]>()) {
            let text = |v: [u32; 3]| format!("{}.{}.{}", v[0], v[1], v[2]);
            prop_assert_eq!(compare(&text(a), &text(b)), a.cmp(&b));
        }
    }
}
