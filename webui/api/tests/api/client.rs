//! A server over the appliance in memory, and a client that is no more than a socket.

use crate::appliance::Appliance;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, ConfigBuilder, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};
use webui_api::{Server, ServerConfig, World};
use webui_model::{NewToken, Role};

/// A clock that is set by hand, and bytes that are counted: no two secrets are equal.
#[derive(Default)]
pub struct Puppet {
    pub now_ns: AtomicU64,
    pub drawn: AtomicU64,
}

impl World for Puppet {
    fn now_ns(&self) -> u64 {
        self.now_ns.load(Ordering::SeqCst)
    }
    fn unix_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        let count = self.drawn.fetch_add(1, Ordering::SeqCst).to_le_bytes();
        bytes.iter_mut().zip(count).for_each(|(byte, part)| *byte = part);
    }
}

/// A server with everything it stands on.
pub struct Rig {
    pub server: Option<Server>,
    pub appliance: Arc<Appliance>,
    pub world: Arc<Puppet>,
    pub admin: String,
    pub folder: TempDir,
}

pub fn config(folder: &TempDir) -> ServerConfig {
    ServerConfig {
        address: Some("127.0.0.1:0".parse().unwrap()),
        folder: folder.path().to_owned(),
        names: Vec::new(),
        tls: None,
        tokens: folder.path().join("tokens.json"),
        audit: folder.path().join("audit.log"),
        audit_forward: Default::default(),
        pages: None,
    }
}

impl Rig {
    pub fn new(appliance: Appliance) -> Self {
        let (appliance, world) = (Arc::new(appliance), Arc::new(Puppet::default()));
        let folder = TempDir::new().unwrap();
        let mut server = Server::start(config(&folder), appliance.clone(), world.clone()).unwrap();
        let admin = server.take_first_token().expect("a first start").secret;
        Self { server: Some(server), appliance, world, admin, folder }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.as_ref().unwrap().address().expect("it listens")
    }

    /// Asks as the admin.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(Some(&self.admin), method, path, body)
    }

    pub fn ask_as(
        &self,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Answer {
        let mut headers = Vec::new();
        if let Some(token) = token {
            headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
        }
        let body = body.map(Value::to_string);
        if body.is_some() {
            headers.push(("Content-Type".to_owned(), "application/json".to_owned()));
        }
        send(self.address(), method, path, &headers, body.as_deref().unwrap_or("").as_bytes())
    }

    /// A token with this role.
    pub fn token(&self, role: Role) -> String {
        let name = format!("a-{role}-{}", self.world.drawn.load(Ordering::SeqCst));
        let request = serde_json::json!({"name": name, "role": role});
        let answer = self.ask("POST", "/api/v1/tokens", Some(&request));
        assert_eq!(answer.status, 201, "{}", answer.text());
        serde_json::from_slice::<NewToken>(&answer.body).unwrap().secret
    }
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The kind of a refusal, and its sentence; fails if this is none.
    pub fn refusal(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |field: &str| error[field].as_str().map(str::to_owned);
        let kind = text("kind").unwrap_or_else(|| panic!("{} {}", self.status, self.text()));
        (kind, text("message").unwrap())
    }
}

/// Sends a request on a connection of its own and reads the answer to its end.
pub fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Answer {
    exchange(TcpStream::connect(to).unwrap(), &to.to_string(), method, path, headers, body)
}

/// A connection from an address of this machine's choice.
pub fn connect_from(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// A connection over TLS, by a client that trusts the certificate in this file.
pub fn over_tls(to: SocketAddr, certificate: &Path) -> StreamOwned<ClientConnection, TcpStream> {
    connect_with(to, client_config(certificate, &[&TLS13, &TLS12]).with_no_client_auth())
}

/// What a client trusts and speaks.
pub fn client_config(
    certificate: &Path,
    versions: &[&'static SupportedProtocolVersion],
) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
}

/// A connection of this client.
pub fn connect_with(
    to: SocketAddr,
    client: ClientConfig,
) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let connection = ClientConnection::new(Arc::new(client), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(to).unwrap())
}

/// Now, in milliseconds since 1970: what clients hold the end of a certificate against.
pub fn now_ms() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Sends a request to `host` and reads the answer to its end. A header Host in `headers` takes the
/// place of `host`.
pub fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Answer {
    let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| name == "Host") {
        head.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    // A server that refuses may have hung up already.
    let _ = stream.write_all(body);
    let mut reader = BufReader::new(stream);
    let (status, headers) = read_head(&mut reader);
    let mut answer = Answer { status, headers, body: Vec::new() };
    match answer.header("content-length").map(|n| n.parse::<u64>().unwrap()) {
        Some(length) if method != "HEAD" => {
            reader.take(length).read_to_end(&mut answer.body).unwrap();
        }
        _ => {}
    }
    answer
}

pub fn read_head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_owned(), value.to_owned())),
            None => return (status, headers),
        }
    }
}
