//! TLS: asked for where others listen, and spoken.

use crate::appliance::Appliance;
use crate::client::{
    Puppet, client_config, config, connect_with, exchange, now_ms, over_tls, read_head,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};
use webui_api::{Server, TlsConfig, TlsFiles, fingerprint, self_signed};
use webui_model::{Control, Severity};

fn files(folder: &TempDir) -> TlsFiles {
    TlsFiles { certificate: folder.path().join("api.crt"), key: folder.path().join("api.key") }
}

#[test]
fn an_address_that_is_not_loopback_needs_tls() {
    for (address, allowed) in [
        ("0.0.0.0:0", false),
        ("[::]:0", false),
        ("10.0.0.1:8080", false),
        ("127.0.0.1:0", true),
        ("[::1]:0", true),
    ] {
        let folder = TempDir::new().unwrap();
        let mut config = config(&folder);
        config.address = Some(address.parse().unwrap());
        assert_eq!(config.check().is_ok(), allowed, "{address}");
        if !allowed {
            let appliance = Arc::new(Appliance::new());
            let error =
                Server::start(config, appliance, Arc::new(Puppet::default())).err().unwrap();
            assert!(error.to_string().contains("needs TLS"), "{error}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was opened");
        }
    }
}

#[test]
fn files_that_are_no_certificate_are_refused_in_words() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    let start = || {
        let mut config = config(&folder);
        config.tls = Some(given(&files));
        let started =
            Server::start(config, Arc::new(Appliance::new()), Arc::new(Puppet::default()));
        started.err().map(|why| why.to_string())
    };
    assert!(start().unwrap().contains("cannot be used for TLS"));
    std::fs::write(&files.certificate, "nothing").unwrap();
    assert!(start().unwrap().contains("holds no certificate"));
    std::fs::remove_file(&files.certificate).unwrap();
    make(&files, now_ms());
    std::fs::write(&files.key, "nothing").unwrap();
    assert!(start().unwrap().contains("api.key"));
}

/// The same, made by nobody here.
fn given(files: &TlsFiles) -> TlsConfig {
    TlsConfig { files: files.clone(), made_for: None, client_ca: None, tls12: false }
}

const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

fn make(files: &TlsFiles, now_ms: u64) {
    self_signed(files, &NAMES.map(str::to_owned), now_ms).unwrap();
}

/// A connection of a client that trusts the certificate that is in its file now.
fn connect(server: &Server, files: &TlsFiles) -> StreamOwned<ClientConnection, TcpStream> {
    over_tls(server.address().unwrap(), &files.certificate)
}

/// The status line of an answer over a connection, or nothing if there is no TLS.
fn ask(mut stream: StreamOwned<ClientConnection, TcpStream>) -> Option<String> {
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut BufReader::new(stream), &mut line).ok()?;
    Some(line)
}

#[test]
fn a_certificate_is_read_again_while_it_serves() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let mut config = config(&folder);
    config.tls = Some(given(&files));
    let server =
        Server::start(config, Arc::new(Appliance::furnished()), Arc::new(Puppet::default()));
    let server = server.unwrap();
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
    for path in [&files.certificate, &files.key] {
        std::fs::remove_file(path).unwrap();
    }
    make(&files, now_ms());
    assert_eq!(ask(connect(&server, &files)), None, "it still shows the one before");
    server.certificate().read().unwrap();
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
    // One that cannot be used does not take the place of one that can.
    let good = std::fs::read(&files.certificate).unwrap();
    std::fs::write(&files.certificate, "nothing").unwrap();
    assert!(server.certificate().read().unwrap_err().contains("holds no certificate"));
    std::fs::write(&files.certificate, good).unwrap();
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
}

#[test]
fn a_self_signed_certificate_is_made_once_and_serves() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let certificate = std::fs::read(&files.certificate).unwrap();
    self_signed(&files, &["other".into()], now_ms()).unwrap();
    assert_eq!(std::fs::read(&files.certificate).unwrap(), certificate);
    assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    let mut config = config(&folder);
    config.tls = Some(given(&files));
    let appliance = Arc::new(Appliance::furnished());
    let mut server = Server::start(config, appliance, Arc::new(Puppet::default())).unwrap();
    let secret = server.take_first_token().unwrap().secret;

    let mut stream = connect(&server, &files);
    let body = format!("{{\"token\": \"{secret}\"}}");
    write!(
        stream,
        "POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let (status, headers) = read_head(&mut BufReader::new(stream));
    assert_eq!(status, 200);
    let cookie = headers.iter().find(|(n, _)| n.eq_ignore_ascii_case("set-cookie")).unwrap();
    assert!(cookie.1.starts_with("__Host-forebay="), "{}", cookie.1);
    assert!(cookie.1.ends_with("; Secure") && cookie.1.contains("; Path=/;"), "{}", cookie.1);
    let value = cookie.1.split(';').next().unwrap().strip_prefix("__Host-").unwrap();
    for (cookie, status) in [(format!("__Host-{value}"), 200), (value.to_owned(), 401)] {
        let headers = [("Cookie".to_owned(), cookie)];
        let stream = connect(&server, &files);
        let answer = exchange(stream, "localhost", "GET", "/api/v1/session", &headers, b"");
        assert_eq!(answer.status, status, "a cookie without the prefix may be anyone's");
    }

    let mut plain = TcpStream::connect(server.address().unwrap()).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut plain, &mut answer);
    assert!(!answer.starts_with(b"HTTP"), "no answer without TLS");
}

const DAY_MS: u64 = 24 * 3600 * 1000;

/// Waits until something is so.
fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn start(config: webui_api::ServerConfig, world: &Arc<Puppet>) -> (Server, Arc<Appliance>) {
    let appliance = Arc::new(Appliance::furnished());
    (Server::start(config, appliance.clone(), world.clone()).unwrap(), appliance)
}

/// A world in which it is this late.
fn at(now_ms: u64) -> Arc<Puppet> {
    let world = Arc::new(Puppet::default());
    world.now_ns.store(now_ms * 1_000_000, Ordering::SeqCst);
    world
}

#[test]
fn a_certificate_that_is_put_there_is_shown_by_itself() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let mut config = config(&folder);
    config.tls = Some(given(&files));
    let (server, appliance) = start(config, &at(now_ms()));
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
    // First the key, then the certificate, as somebody copies them: half of it is not loaded.
    let other = TempDir::new().unwrap();
    let new = super::tls::files(&other);
    make(&new, now_ms());
    std::fs::copy(&new.key, &files.key).unwrap();
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(ask(connect(&server, &new)), None, "the old pair is still shown");
    std::fs::copy(&new.certificate, &files.certificate).unwrap();
    eventually("the new one is shown", || ask(connect(&server, &new)).is_some());
    let told = appliance.event_log().newest(1).items.remove(0).message;
    assert!(told.contains(&fingerprint(&new).unwrap()), "{told}");
}

#[test]
fn tls_1_3_alone_is_spoken_unless_asked_for() {
    for (tls12, old_client) in [(false, false), (true, true)] {
        let folder = TempDir::new().unwrap();
        let files = files(&folder);
        make(&files, now_ms());
        let mut config = config(&folder);
        config.tls = Some(TlsConfig { tls12, ..given(&files) });
        let (server, _) = start(config, &at(now_ms()));
        let with = |version| {
            let client = client_config(&files.certificate, &[version]).with_no_client_auth();
            ask(connect_with(server.address().unwrap(), client)).is_some()
        };
        assert!(with(&TLS13));
        assert_eq!(with(&TLS12), old_client, "{tls12}");
    }
}

#[test]
fn a_client_shows_a_certificate_where_that_is_asked_for() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let signed = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let certificate = params.signed_by(&own, &issuer).unwrap();
        (ca.pem(), certificate.der().clone(), own.serialize_pem())
    };
    let (ca, certificate, key) = signed("ours");
    let (_, other_certificate, other_key) = signed("theirs");
    let client_ca = folder.path().join("clients.crt");
    std::fs::write(&client_ca, ca).unwrap();
    let mut config = config(&folder);
    config.tls = Some(TlsConfig { client_ca: Some(client_ca), ..given(&files) });
    let (server, _) = start(config, &at(now_ms()));
    let to = server.address().unwrap();
    let client = || client_config(&files.certificate, &[&TLS13]);
    let shows = |certificate, key: String| {
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let client = client().with_client_auth_cert(vec![certificate], key).unwrap();
        ask(connect_with(to, client)).filter(|line| line.contains("200")).is_some()
    };
    assert!(shows(certificate, key));
    assert!(!shows(other_certificate, other_key), "signed by somebody else");
    let bare = connect_with(to, client().with_no_client_auth());
    assert!(ask(bare).filter(|line| line.contains("200")).is_none(), "none is shown");
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let start = |mode: u32| {
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(mode)).unwrap();
        let mut config = config(&folder);
        config.tls = Some(given(&files));
        let started = Server::start(config, Arc::new(Appliance::new()), at(now_ms()));
        started.err().map(|why| why.to_string())
    };
    for mode in [0o644, 0o604, 0o602, 0o660, 0o666] {
        let why = start(mode).unwrap_or_else(|| panic!("{mode:o} is taken"));
        assert!(why.contains("others can read or write this key: chmod 600"), "{why}");
    }
    for mode in [0o600, 0o400] {
        assert_eq!(start(mode), None, "{mode:o}");
    }
    // One of root's may be for a group, as Debian has them.
    let of_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&files.key).unwrap()) == 0;
    assert_eq!(start(0o640).is_none(), of_root);
}

#[test]
fn a_certificate_of_ours_is_made_anew_before_it_ends() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    // It was made long ago, and ends in 20 days.
    make(&files, now_ms() - 805 * DAY_MS);
    let (before, key) = (fingerprint(&files).unwrap(), std::fs::read(&files.key).unwrap());
    let old = folder.path().join("what-a-client-has.crt");
    std::fs::copy(&files.certificate, &old).unwrap();
    let mut config = config(&folder);
    let names = NAMES.map(str::to_owned).to_vec();
    config.tls = Some(TlsConfig { made_for: Some(names), ..given(&files) });
    let (server, appliance) = start(config, &at(now_ms()));
    eventually("it is made anew", || fingerprint(&files).unwrap() != before);
    eventually("it is shown", || {
        appliance.event_log().newest(1).items[0].message.contains("another certificate")
    });
    assert_eq!(std::fs::read(&files.key).unwrap(), key);
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
    let trusting_the_old = over_tls(server.address().unwrap(), &old);
    assert!(ask(trusting_the_old).unwrap().contains("200"), "it has the same key");
    assert!(appliance.api_alerts.lock().unwrap().is_empty());
}

#[test]
fn a_certificate_that_ends_soon_and_is_not_ours_raises_an_alert() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let alert_after = |days: u64| {
        let mut config = config(&folder);
        config.tls = Some(given(&files));
        let (_server, appliance) = start(config, &at(now_ms() + days * DAY_MS));
        let log = || appliance.api_alerts.lock().unwrap().clone();
        let started = Instant::now();
        while log().is_empty() && started.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(20));
        }
        log().pop().map(|alert| (alert.severity, alert.message))
    };
    assert_eq!(alert_after(825 - 16), None);
    let (severity, message) = alert_after(825 - 10).unwrap();
    assert!(severity == Severity::Warning && message.contains("ends within 10 days"), "{message}");
    let (severity, message) = alert_after(826).unwrap();
    assert!(severity == Severity::Critical && message.contains("has ended"), "{message}");
    let left = fingerprint(&files).unwrap();
    assert_eq!(left, fingerprint(&files).unwrap(), "it is not ours to replace");
}

#[test]
fn a_name_with_a_certificate_that_was_given_is_spoken_to_over_tls_alone() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    make(&files, now_ms());
    let told = |made_for: Option<Vec<String>>, host: &str| {
        let mut config = config(&folder);
        config.names = vec!["node-a.example".into()];
        config.tls = Some(TlsConfig { made_for, ..given(&files) });
        let (server, _) = start(config, &at(now_ms()));
        let answer = exchange(connect(&server, &files), host, "GET", "/healthz", &[], b"");
        answer.header("strict-transport-security").is_some()
    };
    assert!(told(None, "node-a.example:4480"));
    assert!(!told(None, "127.0.0.1:4480") && !told(None, "localhost"));
    let names = NAMES.map(str::to_owned).to_vec();
    assert!(!told(Some(names), "node-a.example"), "who trusts ours looks at the next one");
}
