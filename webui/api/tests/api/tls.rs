//! TLS: asked for where others listen, and spoken.

use crate::appliance::Appliance;
use crate::client::{Puppet, config, exchange, read_head};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tempfile::TempDir;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use webui_api::{Server, TlsFiles, self_signed};

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
        config.tls = Some(files.clone());
        let started =
            Server::start(config, Arc::new(Appliance::new()), Arc::new(Puppet::default()));
        started.err().map(|why| why.to_string())
    };
    assert!(start().unwrap().contains("cannot be used for TLS"));
    std::fs::write(&files.certificate, "nothing").unwrap();
    assert!(start().unwrap().contains("holds no certificate"));
    std::fs::remove_file(&files.certificate).unwrap();
    self_signed(&files, &["localhost".into()]).unwrap();
    std::fs::write(&files.key, "nothing").unwrap();
    assert!(start().unwrap().contains("api.key"));
}

/// A connection of a client that trusts the certificate that is in its file now.
fn connect(server: &Server, files: &TlsFiles) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.certificate).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(client), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(server.address().unwrap()).unwrap())
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
    let make = || self_signed(&files, &["localhost".into(), "127.0.0.1".into()]).unwrap();
    make();
    let mut config = config(&folder);
    config.tls = Some(files.clone());
    let server =
        Server::start(config, Arc::new(Appliance::furnished()), Arc::new(Puppet::default()));
    let server = server.unwrap();
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
    for path in [&files.certificate, &files.key] {
        std::fs::remove_file(path).unwrap();
    }
    make();
    assert_eq!(ask(connect(&server, &files)), None, "it still shows the one before");
    server.renew_certificate().unwrap();
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
    // One that cannot be used does not take the place of one that can.
    let good = std::fs::read(&files.certificate).unwrap();
    std::fs::write(&files.certificate, "nothing").unwrap();
    assert!(server.renew_certificate().unwrap_err().contains("holds no certificate"));
    std::fs::write(&files.certificate, good).unwrap();
    assert!(ask(connect(&server, &files)).unwrap().contains("200"));
}

#[test]
fn a_self_signed_certificate_is_made_once_and_serves() {
    let folder = TempDir::new().unwrap();
    let files = files(&folder);
    self_signed(&files, &["localhost".into(), "127.0.0.1".into()]).unwrap();
    let certificate = std::fs::read(&files.certificate).unwrap();
    self_signed(&files, &["other".into()]).unwrap();
    assert_eq!(std::fs::read(&files.certificate).unwrap(), certificate);
    assert_eq!(std::fs::metadata(&files.key).unwrap().permissions().mode() & 0o777, 0o600);
    let mut config = config(&folder);
    config.tls = Some(files.clone());
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
