//! The server against its own document: a property tester from outside makes requests of the
//! document and holds the answers against it.

use crate::appliance::Appliance;
use crate::client::Rig;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use webui_model::Role;

/// Where `scripts/setup test` puts the tester.
fn tester() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../build/schemathesis/bin/schemathesis")
}

/// Seconds of a run. It ends with the last phase that was begun.
const SECONDS: &str = "75";

/// Moves the server's clock so far that the tester, which also tries wrong tokens, never waits.
fn time_flies(rig: &Rig, done: &Arc<AtomicBool>) -> impl FnOnce() + use<> {
    let (world, done) = (Arc::clone(&rig.world), Arc::clone(done));
    move || {
        while !done.load(Ordering::SeqCst) {
            world.now_ns.fetch_add(60_000_000_000, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn the_server_does_what_its_document_says() {
    let tester = tester();
    if !tester.exists() {
        println!("SKIPPED: schemathesis is not there: run scripts/setup test.");
        return;
    }
    let rig = Rig::new(Appliance::furnished());
    let token = rig.token(Role::Admin);
    let done = Arc::new(AtomicBool::new(false));
    let ticking = std::thread::spawn(time_flies(&rig, &done));
    let output = Command::new(tester)
        .current_dir(rig.folder.path())
        .args(["--config-file", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/schemathesis.toml")])
        .arg("run")
        .arg(format!("http://{}/api/v1/openapi.json", rig.address()))
        .args(["--header", &format!("Authorization: Bearer {token}")])
        // It never ends by itself, and has tests of its own.
        .args(["--exclude-path", "/api/v1/events/stream"])
        .args(["--phases", "coverage,fuzzing,stateful", "--checks", "all", "--max-examples", "10"])
        // One worker: with more, its own caches are seen half filled at times.
        .args(["--max-time", SECONDS, "--seed", "1", "--workers", "1"])
        .args(["--generation-database", "none", "--warnings", "off", "--no-color"])
        .args(std::env::var("SCHEMATHESIS_MORE").unwrap_or_default().split_whitespace())
        .output()
        .unwrap();
    done.store(true, Ordering::SeqCst);
    ticking.join().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "the answers above are not as the document says");
}
