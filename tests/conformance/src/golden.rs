//! JSON of nvme-cli compared field by field with the golden output in `tests/golden/nvme-cli`.
//!
//! `FOREBAY_BLESS=1` writes the golden files anew instead: read the difference before it is kept.

use crate::lab::tree;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The fields of a document by path, such as `/Subsystems/0/NQN`. Empty lists and objects count.
pub fn flatten(value: &Value) -> BTreeMap<String, Value> {
    let mut fields = BTreeMap::new();
    visit("", value, &mut fields);
    fields
}

fn visit(path: &str, value: &Value, fields: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(object) if !object.is_empty() => {
            for (key, value) in object {
                visit(&format!("{path}/{key}"), value, fields);
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for (number, value) in list.iter().enumerate() {
                visit(&format!("{path}/{number}"), value, fields);
            }
        }
        leaf => drop(fields.insert(path.to_owned(), leaf.clone())),
    }
}

/// Every difference between two documents. A field in `volatile` must be there, with any value.
pub fn differences(golden: &Value, seen: &Value, volatile: &[&str]) -> Vec<String> {
    let (golden, seen) = (flatten(golden), flatten(seen));
    let paths: BTreeSet<&String> = golden.keys().chain(seen.keys()).collect();
    let mut found = Vec::new();
    for path in paths {
        match (golden.get(path), seen.get(path)) {
            (Some(a), Some(b)) if a == b || volatile.contains(&path.as_str()) => {}
            (Some(a), Some(b)) => found.push(format!("{path}: {b}, golden {a}")),
            (Some(a), None) => found.push(format!("{path}: missing, golden {a}")),
            (None, Some(b)) => found.push(format!("{path}: {b}, not in the golden output")),
            (None, None) => unreachable!("the path came from one of the two"),
        }
    }
    for path in volatile {
        if !golden.contains_key(*path) {
            found.push(format!("{path}: listed as volatile, not in the golden output"));
        }
    }
    found
}

/// Compares `seen` with the golden document `name`.
///
/// # Errors
/// The differences, or why one of the two cannot be read.
pub fn compare(name: &str, seen: &str, volatile: &[&str]) -> Result<(), String> {
    let path = tree().join(format!("tests/golden/nvme-cli/{name}.json"));
    let seen: Value = serde_json::from_str(seen).map_err(|error| {
        let start: String = seen.chars().take(200).collect();
        format!("not JSON ({error}): {start}")
    })?;
    if std::env::var("FOREBAY_BLESS").is_ok_and(|value| value == "1") {
        let text = serde_json::to_string_pretty(&seen).map_err(|error| error.to_string())?;
        return std::fs::write(&path, text + "\n").map_err(|error| error.to_string());
    }
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let golden: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let found = differences(&golden, &seen, volatile);
    if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_kind_of_difference_is_found() {
        let golden = json!({"a": 1, "list": [{"b": "x"}, {"b": "y"}], "empty": []});
        assert!(differences(&golden, &golden.clone(), &["/a"]).is_empty());
        for seen in [
            json!({"a": 2, "list": [{"b": "x"}, {"b": "y"}], "empty": []}),
            json!({"a": 1, "list": [{"b": "x"}], "empty": []}),
            json!({"a": 1, "list": [{"b": "x"}, {"b": "y", "c": 0}], "empty": []}),
            json!({"list": [{"b": "x"}, {"b": "y"}], "empty": []}),
        ] {
            assert_eq!(differences(&golden, &seen, &[]).len(), 1, "{seen}");
        }
        let seen = json!({"a": 2, "list": [{"b": "x"}, {"b": "y"}], "empty": []});
        assert!(differences(&golden, &seen, &["/a"]).is_empty());
        assert_eq!(differences(&golden, &seen, &["/a", "/gone"]).len(), 1);
    }
}
