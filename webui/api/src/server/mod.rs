//! The server: started and stopped from outside of tokio, which runs on threads of its own.

mod http;
mod listen;
mod origin;
mod respond;
mod stream;
mod tls;

pub use http::{Page, Pages};
pub use tls::{TlsFiles, fingerprint, self_signed};

use crate::app::App;
use crate::clock::World;
use crate::limits;
use crate::operation;
use crate::security::{AuditLog, LoginLimiter, Tokens};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use webui_model::{Control, NewToken};

/// How to serve.
pub struct ServerConfig {
    /// The address to listen on; port 0: the kernel chooses.
    pub address: SocketAddr,
    /// Names it is reached by, beside addresses and `localhost`: no other is answered.
    pub names: Vec<String>,
    /// The certificate and key. Asked for on every address that is not loopback.
    pub tls: Option<TlsFiles>,
    /// The file of the tokens, which is made on the first start.
    pub tokens: PathBuf,
    /// The audit log.
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
        if !self.address.ip().is_loopback() && self.tls.is_none() {
            return Err(format!(
                "The API on {} needs TLS, because others could read tokens on their way: name a \
                 certificate and a key, let one be generated, or listen on 127.0.0.1.",
                self.address
            ));
        }
        Ok(())
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

/// A server that runs.
pub struct Server {
    address: SocketAddr,
    first_token: Option<NewToken>,
    tls: Option<TlsFiles>,
    /// What accepts TLS connections from now on.
    acceptor: watch::Sender<Option<TlsAcceptor>>,
    stop: watch::Sender<bool>,
    /// A place for each connection.
    places: Arc<Semaphore>,
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
        let acceptor = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .max_blocking_threads(limits::THREADS)
            .thread_name("api")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| format!("The threads of the API cannot be started: {e}."))?;
        let listener =
            runtime.block_on(tokio::net::TcpListener::bind(config.address)).map_err(|e| {
                StartError::Address(format!("The API cannot listen on {}: {e}.", config.address))
            })?;
        let address = listener.local_addr().map_err(|e| format!("{}: {e}.", config.address))?;
        let audit = AuditLog::open(&config.audit, limits::AUDIT_BYTES)
            .map_err(|e| format!("The audit log {}: {e}.", config.audit.display()))?;
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
            secure: acceptor.is_some(),
            names: config.names,
        };
        let (stop, stopped) = watch::channel(false);
        let paths = operation::by_path(table.operations);
        let router = http::router(Arc::new(app), paths, config.pages, stopped.clone());
        let places = Arc::new(Semaphore::new(limits::CONNECTIONS));
        let (acceptor, accepts) = watch::channel(acceptor);
        runtime.spawn(listen::accept(listener, accepts, router, Arc::clone(&places), stopped));
        let (tls, runtime) = (config.tls, Some(runtime));
        Ok(Self { address, first_token, tls, acceptor, stop, places, runtime })
    }

    /// The address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The token that was made because there was none. Show it once.
    pub fn take_first_token(&mut self) -> Option<NewToken> {
        self.first_token.take()
    }

    /// Reads certificate and key again: connections from now on are shown these.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence; those before stay in use.
    pub fn renew_certificate(&self) -> Result<(), String> {
        let acceptor = self.tls.as_ref().map(tls::acceptor).transpose()?;
        self.acceptor.send_replace(acceptor);
        Ok(())
    }

    /// Stops: no new request is taken, those under way may end.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            let places = u32::try_from(limits::CONNECTIONS).expect("a small number");
            // All places are free when all connections have ended.
            let ended = async {
                tokio::time::timeout(limits::STOP_TIME, self.places.acquire_many(places)).await
            };
            if runtime.block_on(ended).is_err() {
                tracing::warn!("connections of the API had not ended when it stopped");
            }
            runtime.shutdown_timeout(limits::STOP_TIME);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shut_down();
    }
}
