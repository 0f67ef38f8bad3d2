//! HTTP to one appliance.

use crate::failure::Failure;
use crate::socket::{NoResolver, SocketConnector};
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::config::Config;
use ureq::http::{Method, Request, Response, Uri};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, BodyReader, Error};
use webui_model::data_dir::SOCKET_FILE;
use webui_model::{ErrorBody, RefusalKind};

/// How long connecting may take: an appliance is near, or it is not there.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long an answer may take: more than the server waits for the appliance.
const ANSWER_TIME: Duration = Duration::from_secs(90);
/// How long a stream may say nothing: the server says every 15 s that it is alive.
const SILENCE: Duration = Duration::from_secs(60);
/// The longest answer that is read.
const ANSWER_BYTES: u64 = 256 << 20;

/// An appliance that is asked.
pub struct Http {
    agent: Agent,
    place: Place,
    token: Option<String>,
}

/// The certificate that an appliance may ask for beside a token, and its key, in PEM.
#[derive(Clone, Debug)]
pub struct OwnCertificate {
    /// The chain, the own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl OwnCertificate {
    fn read(&self) -> Result<ClientCert, Failure> {
        let chain = certificates(&self.certificate)?;
        let wrong = |what: &dyn std::fmt::Display| {
            Failure::Failed(format!("The key {} cannot be used: {what}.", self.key.display()))
        };
        let key = std::fs::read(&self.key).map_err(|error| wrong(&error))?;
        let key = PrivateKey::from_pem(&key).map_err(|error| wrong(&error))?;
        Ok(ClientCert::new_with_certs(&chain, key))
    }
}

/// Where an appliance is.
enum Place {
    /// At this scheme, host and port.
    Url(String),
    /// It is the one with this data directory.
    Folder(PathBuf),
}

impl Place {
    /// Scheme, host and port.
    fn base(&self) -> &str {
        match self {
            Place::Url(base) => base,
            Place::Folder(_) => "http://localhost",
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Url(base) => f.write_str(base),
            Place::Folder(folder) => {
                write!(f, "the appliance with the data directory {}", folder.display())
            }
        }
    }
}

/// What the appliance answered when it did what was asked.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body as it came; empty if there is nothing to say.
    pub body: Vec<u8>,
}

impl Http {
    /// Whom to ask, with what token, which certificate to trust besides the well-known ones, and which
    /// to show; `here`:
    /// no other machine than this one.
    ///
    /// # Errors
    /// The certificate cannot be read.
    pub fn new(
        base: String,
        here: bool,
        token: Option<String>,
        ca: Option<&Path>,
        own: Option<&OwnCertificate>,
    ) -> Result<Http, Failure> {
        let mut tls = TlsConfig::builder();
        if let Some(path) = ca {
            tls = tls.root_certs(RootCerts::new_with_certs(&certificates(path)?));
        }
        if let Some(own) = own {
            tls = tls.client_cert(Some(own.read()?));
        }
        let config = config(tls.build());
        let agent = match here {
            true => Agent::with_parts(config, DefaultConnector::default(), OnlyHere::default()),
            false => Agent::new_with_config(config),
        };
        Ok(Http { agent, place: Place::Url(base), token })
    }

    /// The appliance of this machine whose data directory is `folder`, asked over its socket.
    pub fn local(folder: PathBuf, token: Option<String>) -> Http {
        let connector = SocketConnector { folder: folder.clone() };
        let agent = Agent::with_parts(config(TlsConfig::default()), connector, NoResolver);
        Http { agent, place: Place::Folder(folder), token }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// The appliance is not reached, or says no.
    pub fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Failure> {
        let response = self.send(method, path, body)?;
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let read = body.with_config().limit(ANSWER_BYTES).read_to_vec();
        let body = read.map_err(|error| self.unreached(&error))?;
        if (200..300).contains(&status) {
            return Ok(Answer { status, body });
        }
        Err(self.refusal(status, &body))
    }

    /// Opens an answer that goes on.
    ///
    /// # Errors
    /// The appliance is not reached, or says no.
    pub fn stream(&self, path: &str) -> Result<BufReader<BodyReader<'static>>, Failure> {
        let request = self.request(Method::GET, path).body(()).map_err(wrong_request)?;
        let request = self.agent.configure_request(request);
        let request = request.timeout_per_read(Some(SILENCE)).build();
        let response = self.agent.run(request).map_err(|error| self.unreached(&error))?;
        if response.status().is_success() {
            return Ok(BufReader::new(response.into_body().into_reader()));
        }
        let status = response.status().as_u16();
        let body = response.into_body().read_to_vec().map_err(|error| self.unreached(&error))?;
        Err(self.refusal(status, &body))
    }

    fn request(&self, method: Method, path: &str) -> ureq::http::request::Builder {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.place.base()));
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Body>, Failure> {
        let without = method == Method::GET || method == Method::DELETE;
        let mut request = self.request(method, path);
        if body.is_some() {
            request = request.header("Content-Type", "application/json");
        }
        let sent = if without {
            self.agent.run(request.body(()).map_err(wrong_request)?)
        } else {
            self.agent.run(request.body(body.unwrap_or_default()).map_err(wrong_request)?)
        };
        sent.map_err(|error| self.unreached(&error))
    }

    /// The appliance's own sentence, or what came instead of one.
    fn refusal(&self, status: u16, body: &[u8]) -> Failure {
        let Ok(ErrorBody { error }) = serde_json::from_slice::<ErrorBody>(body) else {
            return Failure::Failed(format!(
                "{} answers with HTTP status {status} and is no Forebay appliance of this version.",
                self.place
            ));
        };
        let kind = error.kind;
        Failure::Refused(error).hint(
            RefusalKind::Unauthenticated,
            match (kind, &self.token) {
                (RefusalKind::Unauthenticated, None) => {
                    "(Set FOREBAY_TOKEN or give --token-file. On the appliance's own machine leave out \
                     --api and FOREBAY_API: root and the user that it runs as need no token there.)"
                }
                _ => "(It came from FOREBAY_TOKEN or --token-file.)",
            },
        )
    }

    /// Why there is no answer, and what to do.
    fn unreached(&self, error: &Error) -> Failure {
        let base = match &self.place {
            Place::Url(base) => base,
            Place::Folder(folder) => return unreached_in(folder, error),
        };
        let io = |kind| matches!(error, Error::Io(io) if io.kind() == kind);
        let sentence = match error {
            _ if io(ErrorKind::ConnectionRefused) => format!(
                "Nothing listens on {base}: start the appliance with `forebay serve`, or name \
                 another one with --api or FOREBAY_API."
            ),
            Error::HostNotFound => format!(
                "The host of {base} is not known: look for a mistake in --api or FOREBAY_API."
            ),
            Error::Timeout(_) => format!(
                "{base} did not answer in time: look whether the appliance runs and whether its \
                 network is reached."
            ),
            // What rustls finds while it reads is wrapped as invalid data.
            _ if io(ErrorKind::InvalidData) => untrusted(base, error),
            Error::Rustls(_) | Error::Tls(_) => untrusted(base, error),
            _ => format!("{base} cannot be asked: {error}."),
        };
        Failure::Failed(sentence)
    }
}

/// Names are resolved as always, and what leads to another machine is not gone after.
#[derive(Debug, Default)]
struct OnlyHere(DefaultResolver);

impl Resolver for OnlyHere {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        match found.iter().all(|address| address.ip().is_loopback()) {
            true => Ok(found),
            false => Err(Error::HostNotFound),
        }
    }
}

/// How an appliance is asked.
fn config(tls: TlsConfig) -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        // An appliance is in one's own network, and it never sends its clients elsewhere: the token
        // goes to the address that was named and nowhere else.
        .proxy(None)
        .max_redirects(0)
        .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_TIME))
        .timeout_per_read(Some(ANSWER_TIME))
        .tls_config(tls)
        .build()
}

/// Why the appliance with this data directory does not answer, and what to do.
fn unreached_in(folder: &Path, error: &Error) -> Failure {
    let folder = folder.display();
    let kind = match error {
        Error::Io(io) => io.kind(),
        Error::Timeout(_) => ErrorKind::TimedOut,
        _ => ErrorKind::Other,
    };
    Failure::Failed(match kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused => format!(
            "No appliance runs with the data directory {folder}: nothing listens on {SOCKET_FILE} in \
             it. Start one with `forebay serve`, give the --data-dir (or FOREBAY_DATA_DIR) of one \
             that runs, or name another with --api or FOREBAY_API."
        ),
        ErrorKind::PermissionDenied => format!(
            "The data directory {folder} is closed to this user ({error}): run this as root or as the \
             user that the appliance runs as, or ask its --api (or FOREBAY_API) with a token."
        ),
        ErrorKind::TimedOut => format!(
            "The appliance with the data directory {folder} did not answer in time: look into its log."
        ),
        _ => format!("The appliance with the data directory {folder} cannot be asked: {error}."),
    })
}

fn untrusted(base: &str, error: &Error) -> String {
    format!(
        "{base} cannot be trusted: {error}. Name the certificate that it shows with --ca or \
         FOREBAY_CA; an appliance keeps its own in its data directory."
    )
}

fn wrong_request(error: ureq::http::Error) -> Failure {
    Failure::Usage(format!("The request cannot be sent: {error}. Look at --api and the token."))
}

/// The certificates in a file in PEM.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, Failure> {
    let wrong = |what: String| {
        Failure::Failed(format!("The certificate {} cannot be used: {what}.", path.display()))
    };
    let text = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut found = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| wrong(e.to_string()))? {
            found.push(certificate);
        }
    }
    if found.is_empty() {
        return Err(wrong("it holds no certificate in PEM".into()));
    }
    Ok(found)
}
