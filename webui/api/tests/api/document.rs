//! The OpenAPI document: every operation has what it must have, and every reference leads somewhere.

use serde_json::Value;
use std::collections::BTreeSet;

pub fn document() -> Value {
    serde_json::from_slice(&webui_api::openapi_document()).unwrap()
}

/// Every operation: its method, path and description.
pub fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut found = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            found.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(to) if name == "$ref" => drop(found.insert(to)),
                    other => references(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema() {
    let document = document();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 40, "{found:?}");
    for to in found {
        let name = to.strip_prefix("#/components/schemas/").unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "{to}");
    }
}

#[test]
fn every_operation_is_described() {
    let document = document();
    let operations = operations(&document);
    assert!(operations.len() > 60, "{}", operations.len());
    let mut ids = BTreeSet::new();
    for (method, path, operation) in &operations {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} twice");
        assert!(operation["summary"].as_str().unwrap().ends_with('.'), "{id}");
        assert!(!operation["tags"][0].as_str().unwrap().is_empty(), "{id}");
        let named: BTreeSet<&str> =
            path.split('/').filter_map(|p| p.strip_prefix('{')?.strip_suffix('}')).collect();
        let parameters = operation["parameters"].as_array().unwrap();
        let described: BTreeSet<&str> = parameters
            .iter()
            .filter(|p| p["in"] == "path")
            .map(|p| p["name"].as_str().unwrap())
            .collect();
        assert_eq!(named, described, "{method} {path}");
        let open = operation["security"].as_array().unwrap().is_empty();
        assert_ne!(open, operation["x-role"].is_string(), "{method} {path}");
    }
}

#[test]
fn objects_have_a_status_and_a_reason() {
    let document = document();
    for name in [
        "Appliance",
        "Device",
        "Pool",
        "PoolDevice",
        "Volume",
        "Snapshot",
        "Subsystem",
        "Namespace",
        "Host",
        "Controller",
        "Listener",
        "Job",
        "ImportablePool",
    ] {
        let required = &document["components"]["schemas"][name]["required"];
        let required = required.as_array().unwrap_or_else(|| panic!("{name}"));
        assert!(
            required.contains(&"status".into()) && required.contains(&"reason".into()),
            "{name}"
        );
    }
}

#[test]
fn no_object_takes_fields_that_are_not_known() {
    fn check(schema: &Value, place: &str) -> usize {
        match schema {
            Value::Object(fields) => {
                let closed = fields.get("additionalProperties") == Some(&Value::Bool(false));
                let object = fields.contains_key("properties");
                assert!(closed || !object, "{place}");
                usize::from(object)
                    + fields.values().map(|inner| check(inner, place)).sum::<usize>()
            }
            Value::Array(items) => items.iter().map(|inner| check(inner, place)).sum(),
            _ => 0,
        }
    }
    let document = document();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let objects: usize = schemas.iter().map(|(name, schema)| check(schema, name)).sum();
    assert!(objects > 60, "{objects}");
}

#[test]
fn numbers_of_events_are_unsigned() {
    let document = document();
    let parameters = &document["paths"]["/api/v1/events"]["get"]["parameters"];
    let after = parameters.as_array().unwrap().iter().find(|p| p["name"] == "after").unwrap();
    assert_eq!(after["schema"]["maximum"].as_u64(), Some(u64::MAX), "{after}");
    assert_eq!(after["schema"]["minimum"].as_u64(), Some(0), "{after}");
    assert!(after["schema"]["format"].is_null(), "{after}");
}
