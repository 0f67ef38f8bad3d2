//! Finding the appliance and being let in; sentences and exit codes when that fails.

use crate::appliance::Appliance;
use crate::rig::{Rig, Said, binary, file, forebay};
use std::path::{Path, PathBuf};
use webui_api::{TlsConfig, TlsFiles, self_signed};

#[test]
fn nobody_there_is_a_sentence_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    // Bound and not listening: nobody else gets the port, and nobody answers on it.
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    drop(taken);
    let said = forebay(&["pool", "list", "--data-dir", dir, "--api", &format!("http://{free}")]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    for part in ["Nothing listens on", "`forebay serve`", "--api", "FOREBAY_API"] {
        assert!(said.err.contains(part), "{}", said.err);
    }
    assert_eq!(said.err.lines().count(), 1);
    let said = forebay(&["pool", "list", "--data-dir", dir, "--api", "https://no-host.invalid:1"]);
    assert!(said.code == 1 && said.err.contains("no-host.invalid"), "{said:?}");
}

#[test]
fn the_command_line_is_checked_before_anybody_is_asked() {
    for (args, says) in [
        (&["volume", "create", "tank/a b", "1GiB"][..], "is no name"),
        (&["volume", "create", "a", "much"], "is no size"),
        (&["volume", "create", "a", "1GiB", "--host", "x"], "is no NQN"),
        (&["snapshot", "create", "tank/a"], "is no snapshot"),
        (&["listener", "create", "nowhere"], "is no address"),
        (&["pool", "list", "--api", "http://user@host"], "is no address of an API"),
        (&["volume", "export", "a", "--host", "nqn.2026-01.a:b", "--allow-any-host"], "with"),
        (&["namespace", "add", "nqn.2026-01.a:b"], "required"),
        (&["frobnicate"], "frobnicate"),
    ] {
        let said = forebay(args);
        assert!(said.code == 2 && said.err.contains(says), "{args:?}: {said:?}");
        assert_eq!(said.out, "");
    }
}

#[test]
fn the_appliances_own_sentence_is_passed_on() {
    let rig = Rig::furnished();
    let sentence = rig.bad(1, &["volume", "show", "tank/none"]);
    let url = format!("http://{}/api/v1/pools/tank/volumes/none", rig.address());
    let config = ureq::Agent::config_builder().http_status_as_error(false).build();
    let request = ureq::Agent::new_with_config(config).get(url);
    let request = request.header("Authorization", format!("Bearer {}", rig.secret()));
    let body = request.call().unwrap().body_mut().read_to_string().unwrap();
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(sentence, format!("forebay: {}\n", body["error"]["message"].as_str().unwrap()));
    let sentence = rig.bad(1, &["volume", "show", "none"]);
    assert!(sentence.contains("`forebay volume list`"), "{sentence}");
    let sentence = rig.bad(2, &["snapshot", "create", "tank/a@x", "tank/b@y"]);
    assert!(sentence.contains("one name"), "{sentence}");
}

#[test]
fn tokens_come_from_the_environment_or_a_file() {
    let rig = Rig::furnished();
    let url = format!("http://{}", rig.address());
    let empty = tempfile::tempdir().unwrap();
    let ask = |token: &str, args: &[&str]| -> Said {
        let mut command = binary();
        command.args(["pool", "list", "--data-dir"]).arg(empty.path()).args(args);
        command.env("FOREBAY_API", &url).env("FOREBAY_TOKEN", token);
        command.output().unwrap().into()
    };
    assert_eq!(ask(&rig.secret(), &[]).code, 0);
    let path = file(empty.path(), "token", &format!("{}\n", rig.secret()));
    assert_eq!(ask("", &["--token-file", &path]).code, 0);
    let said = ask("", &[]);
    assert!(said.code == 1 && said.err.contains("Set FOREBAY_TOKEN"), "{said:?}");
    let said = ask("forebay_wrong", &[]);
    assert!(said.code == 1 && said.err.contains("The token is not known"), "{said:?}");
    let said = ask("", &["--token-file", "/no/such/file"]);
    assert!(said.code == 1 && said.err.contains("/no/such/file"), "{said:?}");
}

#[test]
fn a_viewers_token_only_looks() {
    let rig = Rig::furnished();
    let secret = rig.good(&["token", "create", "eye", "--role", "viewer"]);
    let eye = file(rig.folder.path(), "eye", &secret);
    rig.good(&["volume", "list", "--token-file", &eye]);
    let args = ["volume", "delete", "tank/b", "--yes", "--token-file", &eye];
    let sentence = rig.bad(1, &args);
    assert!(sentence.contains("operator"), "{sentence}");
    rig.good(&["token", "revoke", "eye", "--yes"]);
    rig.bad(1, &["volume", "list", "--token-file", &eye]);
    let audit = rig.good(&["audit"]);
    assert!(audit.contains("create token") && audit.contains("revoke token"), "{audit}");
}

/// A certificate that is signed with its own key.
fn made(folder: &Path, name: &str) -> TlsFiles {
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    let files = TlsFiles { certificate: path("crt"), key: path("key") };
    let now_ms = webui_api::World::unix_ms(&webui_api::Machine::new());
    self_signed(&files, &["localhost".into(), "127.0.0.1".into()], now_ms).unwrap();
    files
}

fn given(files: &TlsFiles, client_ca: Option<PathBuf>) -> TlsConfig {
    TlsConfig { files: files.clone(), made_for: None, client_ca, tls12: false }
}

#[test]
fn a_certificate_is_shown_where_the_appliance_asks_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let (server, ours) = (made(folder.path(), "server"), made(folder.path(), "ours"));
    let theirs = made(folder.path(), "theirs");
    let tls = given(&server, Some(ours.certificate.clone()));
    let rig = Rig::start(Appliance::furnished(), Some(tls));
    let secure = format!("https://{}", rig.address());
    let list = |shown: Option<&TlsFiles>| -> Said {
        let mut command = rig.command_over_tcp(&secure, &["pool", "list"]);
        command.arg("--ca").arg(&server.certificate);
        if let Some(files) = shown {
            command.arg("--cert").arg(&files.certificate).arg("--cert-key").arg(&files.key);
        }
        command.output().unwrap().into()
    };
    let said = list(Some(&ours));
    assert!(said.out.contains("tank"), "{said:?}");
    for shown in [None, Some(&theirs)] {
        let said = list(shown);
        assert!(said.code == 1 && !said.out.contains("tank"), "{said:?}");
    }
    let mut half = rig.command_over_tcp(&secure, &["pool", "list"]);
    let said: Said = half.arg("--cert").arg(&ours.certificate).output().unwrap().into();
    assert!(said.code == 2 && said.err.contains("--cert-key"), "{said:?}");
}

#[test]
fn https_is_trusted_when_its_certificate_is_named_and_not_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let files = made(folder.path(), "own");
    let rig = Rig::start(Appliance::furnished(), Some(given(&files, None)));
    let secure = format!("https://{}", rig.address());
    let list = |more: &[&str]| -> Said {
        let mut command = rig.command_over_tcp(&secure, &["pool", "list"]);
        command.args(more).output().unwrap().into()
    };
    let said = list(&[]);
    assert!(said.err.contains("cannot be trusted") && said.err.contains("--ca"), "{said:?}");
    let ca = files.certificate.to_str().unwrap();
    assert!(list(&["--ca", ca]).out.contains("tank"));
    // The data directory's own certificate is found by itself.
    std::fs::copy(&files.certificate, rig.path("api.crt")).unwrap();
    assert!(list(&[]).out.contains("tank"));
    let said = list(&["--ca", files.key.to_str().unwrap()]);
    assert!(said.err.contains("holds no certificate"), "{said:?}");
    // Plain HTTP to a port that speaks TLS is an error, no answer.
    let plain = format!("http://{}", rig.address());
    let said = rig.run(&["pool", "list", "--api", &plain]);
    assert!(said.code == 1 && !said.err.is_empty(), "{said:?}");
}
