//! The server: started and stopped from outside of tokio, which runs on threads of its own.

mod certificate;
mod fault;
mod http;
mod ledger;
mod listen;
mod origin;
mod places;
mod respond;
mod socket;
mod stream;
mod tls;

pub use fault::handles_request;
pub use http::{Page, Pages};
pub use tls::{TlsConfig, TlsFiles, fingerprint, self_signed};

use crate::app::{App, Credential};
use crate::clock::World;
use crate::limits;
use crate::operation;
use crate::security::{Audit, AuditForward, LoginLimiter, Tokens};
use certificate::Certificate;
use places::Places;
use socket::SocketFile;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use webui_model::data_dir::SOCKET_FILE;
use webui_model::{Control, NewToken};

/// How to serve.
pub struct ServerConfig {
    /// The address to listen on, if any; port 0: the kernel chooses.
    pub address: Option<SocketAddr>,
    /// The folder to have the socket in for this machine's own callers, who need no token. Nobody
    /// else may be able to enter it.
    pub folder: PathBuf,
    /// Names it is reached by, beside addresses and `localhost`: no other is answered.
    pub names: Vec<String>,
    /// The certificate and key. Asked for on every address that is not loopback.
    pub tls: Option<TlsConfig>,
    /// The file of the tokens, which is made on the first start.
    pub tokens: PathBuf,
    /// Where the lines of both go, too.
    pub audit_forward: AuditForward,
    /// The log of changes; that of who was let in and refused is beside it.
    pub audit: PathBuf,
    /// The page, for browsers: every path outside of the API.
    pub pages: Option<Arc<dyn Pages>>,
}

impl ServerConfig {
    /// Checks what can be said before anything is opened.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.address {
            Some(address) if !address.ip().is_loopback() && self.tls.is_none() => Err(format!(
                "The API on {address} needs TLS, because others could read tokens on their way: name \
                 a certificate and a key, let one be generated, or listen on 127.0.0.1."
            )),
            _ => Ok(()),
        }
    }
}

/// Why a server does not start, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    /// Its address cannot be had.
    Address(String),
    /// Something else.
    Other(String),
}

impl From<String> for StartError {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Address(why) | Self::Other(why)) = self;
        f.write_str(why)
    }
}

/// Places for connections: over TCP, and over the socket.
struct Room {
    network: Arc<Places<IpAddr>>,
    local: Arc<Semaphore>,
}

impl Room {
    fn new() -> Self {
        Self {
            network: places::of_connections(),
            local: Arc::new(Semaphore::new(limits::LOCAL_CONNECTIONS)),
        }
    }

    /// Waits until all connections have ended.
    async fn wait_until_free(&self) {
        let local = u32::try_from(limits::LOCAL_CONNECTIONS).expect("a small number");
        self.network.wait_until_free().await;
        drop(self.local.acquire_many(local).await);
    }
}

/// What listens, before anything is answered.
struct Listeners {
    network: Option<(tokio::net::TcpListener, SocketAddr)>,
    local: tokio::net::UnixListener,
    file: SocketFile,
}

impl Listeners {
    /// Listens on the address, if there is one, and on the socket.
    fn open(config: &ServerConfig, runtime: &Runtime) -> Result<Self, StartError> {
        let network = match config.address {
            None => None,
            Some(wanted) => {
                let listener = runtime.block_on(tokio::net::TcpListener::bind(wanted));
                let listener = listener.map_err(|e| {
                    StartError::Address(format!("The API cannot listen on {wanted}: {e}."))
                })?;
                let address = listener.local_addr().map_err(|e| format!("{wanted}: {e}."))?;
                Some((listener, address))
            }
        };
        let cannot = |e| {
            let folder = config.folder.display();
            format!("The API cannot listen on {SOCKET_FILE} in {folder}: {e}.")
        };
        let (socket, file) = socket::listen(&config.folder).map_err(cannot)?;
        let _inside = runtime.enter();
        let local = tokio::net::UnixListener::from_std(socket).map_err(cannot)?;
        Ok(Self { network, local, file })
    }
}

/// Reads the certificate of a server again, as long as that runs.
pub struct CertificateReader(Weak<Certificate>);

impl CertificateReader {
    /// Reads certificate and key again: connections from now on are shown these.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence; those before stay in use.
    pub fn read(&self) -> Result<(), String> {
        self.0.upgrade().map_or(Ok(()), |certificate| certificate.read_again())
    }
}

/// A server that runs.
pub struct Server {
    app: Arc<App>,
    address: Option<SocketAddr>,
    _socket: SocketFile,
    first_token: Option<NewToken>,
    certificate: Option<Arc<Certificate>>,
    stop: watch::Sender<bool>,
    /// A place for each connection.
    room: Room,
    runtime: Option<Runtime>,
}

impl Server {
    /// Starts to serve.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: ServerConfig,
        control: Arc<dyn Control>,
        world: Arc<dyn World>,
    ) -> Result<Self, StartError> {
        config.check()?;
        // Looked at before it is read: what changes in between is read again.
        let contents = config.tls.as_ref().map(tls::contents);
        let loaded = config.tls.as_ref().map(tls::load).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(limits::THREADS)
            .thread_name("api")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| format!("The threads of the API cannot be started: {e}."))?;
        let listeners = Listeners::open(&config, &runtime)?;
        let audit = Audit::open(&config.audit, config.audit_forward)?;
        // Last of what may fail: a first token that is made is also shown.
        let (tokens, first_token) = Tokens::open(&config.tokens, &*world)?;
        let (document, table) = App::describe();
        let (newest, latest) = watch::channel(control.event_log().last_id());
        control.event_log().follow(move |id| {
            newest.send_replace(id);
        });
        let app = App {
            control,
            world,
            tokens,
            audit,
            limiter: Mutex::new(LoginLimiter::default()),
            latest,
            document,
            secure: loaded.is_some(),
            strict: config.tls.as_ref().is_some_and(|tls| tls.made_for.is_none()),
            names: config.names,
            alerts: Mutex::default(),
            certificate: Mutex::new(loaded.as_ref().map(|loaded| loaded.shown.clone())),
        };
        let (stop, stopped) = watch::channel(false);
        let paths = operation::by_path(table.operations);
        let app = Arc::new(app);
        runtime.spawn(ledger::write_counted(Arc::clone(&app), stopped.clone()));
        let router = http::router(Arc::clone(&app), paths, config.pages, stopped.clone());
        let room = Room::new();
        let ends_ms = loaded.as_ref().map_or(0, |loaded| loaded.shown.valid_until_ms);
        let acceptor = watch::Sender::new(loaded.map(|loaded| loaded.acceptor));
        let address = listeners.network.as_ref().map(|(_, address)| *address);
        let Listeners { network, local, file } = listeners;
        if let Some((listener, _)) = network {
            let (accepts, router) = (acceptor.subscribe(), router.clone());
            let (places, stopped) = (Arc::clone(&room.network), stopped.clone());
            runtime.spawn(listen::accept(listener, accepts, router, places, stopped));
        }
        runtime.spawn(listen::accept_local(local, router, Arc::clone(&room.local), stopped));
        let certificate = config.tls.zip(contents).map(|(config, contents)| {
            let certificate =
                Certificate::new(config, Arc::clone(&app), acceptor, contents, ends_ms);
            Arc::new(certificate)
        });
        if let Some(certificate) = &certificate {
            let stopped = stop.subscribe();
            runtime.spawn(certificate::look_after(Arc::clone(certificate), stopped));
        }
        let runtime = Some(runtime);
        Ok(Self { app, address, _socket: file, first_token, certificate, stop, room, runtime })
    }

    /// The address it listens on, if any.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The token that was made because there was none. Show it once, to somebody who is there.
    pub fn take_first_token(&mut self) -> Option<NewToken> {
        self.first_token.take()
    }

    /// A code that opens one session of an administrator in a browser, within five minutes. Show it to
    /// somebody who is there.
    pub fn make_code(&self) -> Option<String> {
        self.app.make_code(&Credential::Socket).map(|made| made.code).ok()
    }

    /// What reads the certificate again.
    pub fn certificate(&self) -> CertificateReader {
        CertificateReader(self.certificate.as_ref().map_or_else(Weak::new, Arc::downgrade))
    }

    /// Stops: no new request is taken, those under way may end.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            let ended = async {
                tokio::time::timeout(limits::STOP_TIME, self.room.wait_until_free()).await
            };
            if runtime.block_on(ended).is_err() {
                tracing::warn!("connections of the API had not ended when it stopped");
            }
            runtime.shutdown_timeout(limits::STOP_TIME);
            ledger::write_due(&self.app, true);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}
