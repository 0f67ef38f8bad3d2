//! What the server holds.

use crate::clock::World;
use crate::operation::{self, Table};
use crate::peer::Peer;
use crate::security::{Audit, CODE_LIFE_MS, Identity, LoginLimiter, Tokens};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;
use webui_model::{Alert, Certificate, Control, Refusal, RefusalKind, SessionCode};

/// The name of the cookie.
const COOKIE: &str = "forebay";
/// Its name over TLS: a browser takes it from this host alone, for the whole of it, and over TLS (the
/// prefixes of RFC 6265bis), so that nobody who answers for another port or in the clear can set it.
const SECURE_COOKIE: &str = "__Host-forebay";

/// Everything that a request may need.
pub(crate) struct App {
    pub(crate) control: Arc<dyn Control>,
    pub(crate) world: Arc<dyn World>,
    pub(crate) tokens: Tokens,
    pub(crate) audit: Audit,
    pub(crate) limiter: Mutex<LoginLimiter>,
    /// The number of the newest event.
    pub(crate) latest: watch::Receiver<u64>,
    /// The OpenAPI document.
    pub(crate) document: Vec<u8>,
    /// Whether it is reached over TLS.
    pub(crate) secure: bool,
    /// Whether its certificate was given, for names that are spoken to over TLS alone from then on.
    pub(crate) strict: bool,
    /// The names it is reached by, beside addresses and `localhost`.
    pub(crate) names: Vec<String>,
    pub(crate) alerts: Mutex<OwnAlerts>,
    /// The certificate that it shows, if any.
    pub(crate) certificate: Mutex<Option<Certificate>>,
}

/// Alerts of the API itself.
#[derive(Default)]
pub(crate) struct OwnAlerts {
    /// Of its certificate.
    pub(crate) certificate: Vec<Alert>,
    /// The last operation that panicked: until the program is started again.
    pub(crate) fault: Option<Alert>,
}

/// What a request shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token.
    Token(String),
    /// A session.
    Session(String),
    /// The socket that it came over, which nobody else reaches.
    Socket,
    /// Nothing.
    Nothing,
}

/// A log-in that failed.
pub(crate) enum Denied {
    /// Nothing was shown that could be right.
    Unknown(Refusal),
    /// Something was shown, and it is wrong: worth a line in the audit log.
    Wrong(Refusal),
    /// Too many were wrong: wait.
    TooMany(Refusal),
}

impl App {
    /// The document and the rows it was made from.
    pub(crate) fn describe() -> (Vec<u8>, Table) {
        let mut table = operation::all();
        let document = operation::document(&mut table);
        (serde_json::to_vec(&document).expect("a document is JSON"), table)
    }

    const fn cookie_name(&self) -> &'static str {
        if self.secure { SECURE_COOKIE } else { COOKIE }
    }

    /// The cookie of a session.
    pub(crate) fn cookie(&self, value: &str) -> String {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.cookie_name();
        format!("{name}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age=43200{secure}")
    }

    /// The session in a `Cookie` header.
    pub(crate) fn session_in(&self, header: &str) -> Option<String> {
        let pairs = header.split(';').filter_map(|pair| pair.trim().split_once('='));
        let mut named = pairs.filter(|(name, _)| *name == self.cookie_name());
        named.next().map(|(_, value)| value.to_owned())
    }

    /// Changes the alerts of the API itself, and hands them on.
    pub(crate) fn set_alerts(&self, change: impl FnOnce(&mut OwnAlerts)) {
        let mut alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut alerts);
        let all = alerts.certificate.iter().chain(&alerts.fault);
        self.control.set_api_alerts(all.cloned().collect());
    }

    /// The certificate that it shows, if any.
    pub(crate) fn shown_certificate(&self) -> Option<Certificate> {
        self.certificate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another certificate is shown from now on.
    pub(crate) fn shows(&self, certificate: Certificate) {
        *self.certificate.lock().unwrap_or_else(PoisonError::into_inner) = Some(certificate);
    }

    /// Whose request this is.
    pub(crate) fn identify(&self, shown: &Credential, from: Peer) -> Result<Identity, Denied> {
        let unknown =
            |sentence: &str| Denied::Unknown(Refusal::new(RefusalKind::Unauthenticated, sentence));
        match shown {
            Credential::Token(secret) => self.check_token(secret, from),
            // Sessions end by themselves, and nobody guesses one: no failure is counted.
            Credential::Session(value) => self
                .tokens
                .in_session(value, self.world.now_ns())
                .ok_or_else(|| unknown("The session has ended: log in again.")),
            Credential::Socket => Ok(Identity::local()),
            Credential::Nothing => {
                Err(unknown("A token is needed: send it as \"Authorization: Bearer TOKEN\"."))
            }
        }
    }

    /// A token that is right is never held up, whoever else guesses.
    fn check_token(&self, secret: &str, from: Peer) -> Result<Identity, Denied> {
        self.tokens.identify(secret).ok_or_else(|| self.wrong_token(from))
    }

    fn limiter(&self) -> MutexGuard<'_, LoginLimiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a token that is wrong, where it may have been guessed: who comes over the socket needs
    /// none.
    fn wrong_token(&self, from: Peer) -> Denied {
        let counted = match from {
            Peer::Address(address) => self.limiter().failed(address, self.world.now_ns()),
            Peer::Socket { .. } => Ok(()),
        };
        match counted {
            Ok(()) => Denied::Wrong(Refusal::new(
                RefusalKind::Unauthenticated,
                "The token is not known: it is mistyped or was revoked.",
            )),
            Err(wait_ns) => {
                let seconds = wait_ns.div_ceil(1_000_000_000);
                let sentence = format!(
                    "The token is not known, and too many before it were wrong: show one that is \
                     right, or try again in {seconds} s."
                );
                Denied::TooMany(Refusal::new(RefusalKind::TooMany, sentence))
            }
        }
    }

    /// Seconds until a wrong token of this address is looked at again.
    pub(crate) fn wait_seconds(&self, from: Peer) -> u64 {
        let Peer::Address(address) = from else { return 1 };
        let wait_ns = self.limiter().wait_ns(address, self.world.now_ns());
        wait_ns.div_ceil(1_000_000_000).max(1)
    }

    /// Opens a session for whom this token is of. Returns who it is, and the cookie.
    pub(crate) fn log_in(&self, secret: &str, from: Peer) -> Result<(Identity, String), Refusal> {
        let opened = self.tokens.log_in(secret, &*self.world);
        let (identity, value) = opened.ok_or_else(|| self.wrong_token(from).into_refusal())?;
        Ok((identity, self.cookie(&value)))
    }

    /// Makes a code that opens one session of whoever shows this.
    pub(crate) fn make_code(&self, shown: &Credential) -> Result<SessionCode, Refusal> {
        let nobody = |why| Refusal::new(RefusalKind::Unauthenticated, why);
        let secret = match shown {
            Credential::Token(secret) => Some(secret.as_str()),
            Credential::Socket => None,
            // Else one that was stolen would have no end.
            Credential::Session(_) => {
                return Err(Refusal::refused(
                    "A session does not open another one: show a token, or ask on the appliance's own \
                     machine.",
                ));
            }
            Credential::Nothing => return Err(nobody("Nobody is logged in.")),
        };
        let code = self.tokens.make_code(secret, &*self.world);
        let code = code.ok_or_else(|| nobody("The token was revoked while the request waited."))?;
        Ok(SessionCode { code, ends_at_ms: self.world.unix_ms().saturating_add(CODE_LIFE_MS) })
    }

    /// Whether what was shown once is still right: for answers that go on for long.
    pub(crate) fn still(&self, shown: &Credential) -> bool {
        match shown {
            Credential::Token(secret) => self.tokens.identify(secret).is_some(),
            Credential::Session(value) => {
                self.tokens.in_session(value, self.world.now_ns()).is_some()
            }
            Credential::Socket => true,
            Credential::Nothing => false,
        }
    }
}

impl Denied {
    pub(crate) fn into_refusal(self) -> Refusal {
        match self {
            Self::Unknown(refusal) | Self::Wrong(refusal) | Self::TooMany(refusal) => refusal,
        }
    }
}
