//! Every operation with every role, as the document lists them: what is new is tried by itself.

use crate::appliance::Appliance;
use crate::client::Rig;
use crate::document::{document, operations};
use serde_json::{Value, json};
use webui_model::Role;

/// What needs no token: nothing else does.
const OPEN: [&str; 4] = ["healthz", "open_session", "openapi", "readyz"];

/// Changes that a viewer may make: to the own session.
const VIEWERS: [&str; 1] = ["close_session"];

/// A path with names that nothing has.
fn filled(path: &str) -> String {
    let values = [
        ("{nqn}", "nqn.2026-01.org.example:none"),
        ("{host}", "nqn.2014-08.org.example:none"),
        ("{transport}", "rdma"),
        ("{address}", "192.0.2.1:9"),
        ("{number}", "77"),
        ("{nsid}", "77"),
        ("{cntlid}", "77"),
        ("{id}", "77"),
    ];
    let path = values.iter().fold(path.to_owned(), |path, (name, value)| path.replace(name, value));
    path.split('/')
        .map(|p| if p.starts_with('{') { "none" } else { p })
        .collect::<Vec<_>>()
        .join("/")
}

fn role_of(operation: &Value) -> Option<Role> {
    serde_json::from_value(operation["x-role"].clone()).ok()
}

#[test]
fn each_role_may_what_it_may() {
    let rig = Rig::new(Appliance::furnished());
    let tokens: Vec<(Role, String)> = Role::ALL.map(|role| (role, rig.token(role))).into();
    let mut tried = 0;
    for (method, path, operation) in operations(&document()) {
        let id = operation["operationId"].as_str().unwrap();
        let body = operation["requestBody"].is_object().then(|| json!({}));
        let path = filled(&path);
        let Some(needed) = role_of(&operation) else {
            assert!(OPEN.contains(&id), "{method} {path} needs no token");
            continue;
        };
        let nobody = rig.ask_as(None, &method, &path, body.as_ref());
        assert_eq!((nobody.status, nobody.refusal().0.as_str()), (401, "unauthenticated"), "{id}");
        assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
        for (role, token) in &tokens {
            let answer = rig.ask_as(Some(token), &method, &path, body.as_ref());
            if *role < needed {
                assert_eq!(
                    (answer.status, answer.refusal().0.as_str()),
                    (403, "forbidden"),
                    "{id}"
                );
                assert!(answer.refusal().1.contains(needed.as_str()), "{id}");
            } else {
                assert!(
                    ![401, 403, 500].contains(&answer.status),
                    "{role} {id}: {}",
                    answer.text()
                );
            }
            tried += 1;
        }
    }
    assert!(tried > 180, "{tried}");
}

#[test]
fn changes_need_an_operator_and_what_is_below_volumes_an_admin() {
    for (method, path, operation) in operations(&document()) {
        let id = operation["operationId"].as_str().unwrap();
        let tag = operation["tags"][0].as_str().unwrap();
        let Some(role) = role_of(&operation) else { continue };
        let least = match (method.as_str(), tag) {
            (_, "access") if path.contains("/tokens") || path.contains("/audit") => Role::Admin,
            ("GET", _) => Role::Viewer,
            (_, "appliance" | "devices" | "drives" | "pools" | "listeners") => Role::Admin,
            _ if path.contains("/namespaces") => Role::Admin,
            _ if VIEWERS.contains(&id) => Role::Viewer,
            _ => Role::Operator,
        };
        assert_eq!(role, least, "{method} {path}");
    }
}
