//! Every operation of the API has a command.

use crate::appliance::HOST;
use crate::proxy;
use crate::rig::{Rig, Said, file};
use serde_json::Value;
use std::collections::BTreeSet;

/// Operations that are for others than people at a command line.
const FOR_OTHERS: [&str; 8] = [
    // For whoever watches from outside.
    "healthz",
    "readyz",
    "metrics",
    "openapi",
    // For browsers, which keep a cookie instead of a token.
    "open_session",
    "get_session",
    "close_session",
    // Its answer is part of what `get_pool` says.
    "get_pool_device",
];

const SHARED: &str = "nqn.2026-01.org.example:shared";
const OWN: &str = "nqn.2026-01.io.forebay:tank:a";

const STATUS_AND_DEVICES: [&[&str]; 21] = [
    &["status"],
    &["alerts"],
    &["top", "-n", "1"],
    &["stats"],
    &["history"],
    &["history", "pool", "tank", "--last", "day", "--step", "60"],
    &["events"],
    &["export"],
    &["apply", "-f", "DECLARATION"],
    &["device", "list"],
    &["device", "show", "d0"],
    &["device", "attach", "--memory", "1GiB", "--name", "d9"],
    &["device", "rescan", "d9"],
    &["device", "detach", "d9", "--yes"],
    &["device", "drives"],
    &["device", "health", "d0"],
    &["device", "format", "0000:03:00.0", "--block", "4096", "--force", "--yes"],
    &["device", "sanitize", "0000:03:00.0", "--action", "block-erase", "--force", "--yes"],
    &["jobs"],
    &["jobs", "show", "JOB"],
    &["jobs", "cancel", "JOB", "--yes"],
];

const POOLS: [&[&str]; 13] = [
    &["pool", "list"],
    &["pool", "show", "tank"],
    &["pool", "create", "other", "d2"],
    &["pool", "discard", "other", "off"],
    &["pool", "upgrade", "other", "--yes"],
    &["pool", "add-device", "other", "d3"],
    &["pool", "grow-device", "other", "d3"],
    &["pool", "drain-device", "other", "d3"],
    &["pool", "remove-device", "tank", "d1", "--yes"],
    &["pool", "export", "other", "--yes"],
    &["pool", "importable"],
    &["pool", "import", "other"],
    &["pool", "delete", "other", "--yes"],
];

const VOLUMES: [&[&str]; 23] = [
    &["volume", "list"],
    &["volume", "list", "tank"],
    &["volume", "create", "tank/new", "1MiB"],
    &["volume", "show", "tank/new"],
    &["volume", "resize", "tank/new", "2MiB"],
    &["volume", "limits", "tank/new", "--iops", "5"],
    &["volume", "export", "tank/new", "--allow-any-host"],
    &["connect-info", "tank/new"],
    &["volume", "unexport", "tank/new", "--yes"],
    &["volume", "rename", "tank/new", "newer"],
    &["snapshot", "create", "tank/newer@one"],
    &["snapshot", "create", "tank/newer@two", "tank/b@two"],
    &["snapshot", "list", "--pool", "tank"],
    &["snapshot", "list", "tank/newer"],
    &["snapshot", "show", "tank/newer@one"],
    &["volume", "rollback", "tank/newer@two", "--yes"],
    &["snapshot", "export", "tank/newer@one", "--host", HOST],
    &["connect-info", "tank/newer@one"],
    &["snapshot", "unexport", "tank/newer@one"],
    &["snapshot", "clone", "tank/newer@one", "copy"],
    &["volume", "promote", "tank/copy"],
    &["volume", "delete", "tank/c", "--yes", "--force"],
    &["snapshot", "delete", "tank/b@two", "--yes"],
];

const SUBSYSTEMS: [&[&str]; 13] = [
    &["subsystem", "list"],
    &["subsystem", "create", "nqn.2026-01.org.example:mine"],
    &["subsystem", "show", SHARED],
    &["subsystem", "hosts", SHARED],
    &["namespace", "add", "nqn.2026-01.org.example:mine", "--device", "d3"],
    &["namespace", "remove", "nqn.2026-01.org.example:mine", "1", "--yes"],
    &["host", "add", "nqn.2026-01.org.example:mine", HOST],
    &["host", "remove", "nqn.2026-01.org.example:mine", HOST, "--yes"],
    &["subsystem", "delete", "nqn.2026-01.org.example:mine", "--yes"],
    &["host", "list"],
    &["host", "show", HOST],
    &["controllers"],
    &["controllers", "show", OWN, "CNTLID"],
];

const APPLIANCE: [&[&str]; 16] = [
    &["api", "reload"],
    &["appliance", "status"],
    &["appliance", "certificate"],
    &["appliance", "interfaces"],
    &["appliance", "update", "IMAGE"],
    &["appliance", "restart", "--yes"],
    &["appliance", "power-off", "--yes"],
    &["listener", "create", "[::1]:4421"],
    &["listener", "list"],
    &["listener", "show", "[::1]:4421"],
    &["listener", "delete", "[::1]:4421", "--yes"],
    &["token", "create", "eye", "--role", "viewer"],
    &["token", "list"],
    &["ui"],
    &["token", "revoke", "eye", "--yes"],
    &["audit"],
];

/// Commands, in an order in which each does what it says.
fn commands(declaration: &str) -> Vec<Vec<&str>> {
    let all = [&STATUS_AND_DEVICES[..], &POOLS, &VOLUMES, &SUBSYSTEMS, &APPLIANCE].concat();
    let file = |word| if word == "DECLARATION" { declaration } else { word };
    all.iter().map(|line| line.iter().copied().map(file).collect()).collect()
}

#[test]
fn every_operation_is_in_the_command_line() {
    let rig = Rig::furnished();
    let (door, seen) = proxy::watch(rig.address());
    let api = format!("http://{door}");
    let declaration = file(rig.folder.path(), "same.toml", &rig.good(&["export"]));
    // Two pieces, and a rest.
    let image = file(rig.folder.path(), "image.efi", &"x".repeat(5 << 20));
    file(rig.folder.path(), "image.efi.minisig", "signed\n");
    let job = rig.appliance.lock().jobs.keys().next().unwrap().to_string();
    let cntlid = rig.appliance.lock().controllers.keys().next().unwrap().1.to_string();
    let mut undone = Vec::new();
    for line in commands(&declaration) {
        let place = |word: &&str| match *word {
            "IMAGE" => image.clone(),
            "JOB" => job.clone(),
            "CNTLID" => cntlid.clone(),
            word => word.to_owned(),
        };
        let words: Vec<String> = line.iter().map(place).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = Said::from(rig.command_over_tcp(&api, &words).output().unwrap());
        if said.code != 0 {
            undone.push(format!("{line:?}: {}", said.err));
        }
    }
    // Followed until it is cut off: the stream has no end of its own.
    let mut following = rig.command_over_tcp(&api, &["events", "--follow"]).spawn().unwrap();
    let open = || seen.lock().unwrap().iter().any(|(_, path)| path.ends_with("/stream"));
    while !open() {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    following.kill().unwrap();
    following.wait().unwrap();

    let document: Value = serde_json::from_slice(&webui_api::openapi_document()).unwrap();
    let seen = seen.lock().unwrap();
    let used: BTreeSet<String> = seen.iter().filter_map(|r| operation(&document, r)).collect();
    assert_eq!(undone, Vec::<String>::new(), "commands that failed");
    let all = operations(&document);
    let without: Vec<_> = all.iter().filter(|id| !used.contains(*id)).collect();
    let others: Vec<_> = without.iter().filter(|id| !FOR_OTHERS.contains(&id.as_str())).collect();
    assert!(others.is_empty(), "operations without a command: {others:?}");
    assert_eq!(without.len(), FOR_OTHERS.len(), "an operation for others has a command after all");
    assert!(used.len() > 50, "{used:?}");
}

fn operations(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().unwrap().values();
    let methods = paths.flat_map(|path| path.as_object().unwrap().values());
    methods.filter_map(|o| o["operationId"].as_str().map(str::to_owned)).collect()
}

/// What the document calls this request.
fn operation(document: &Value, (method, target): &(String, String)) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (parts, names) = (path.split('/'), template.split('/'));
        let same = |(part, name): (&str, &str)| name.starts_with('{') || part == name;
        parts.clone().count() == names.clone().count() && parts.zip(names).all(same)
    };
    let paths = document["paths"].as_object()?;
    // A path without a variable goes before one with it.
    let mut found: Vec<_> = paths.iter().filter(|(template, _)| fits(template)).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    let methods = found.first()?.1;
    methods[method.to_ascii_lowercase()]["operationId"].as_str().map(str::to_owned)
}
