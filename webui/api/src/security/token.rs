//! Tokens: what a program or a person shows to be let in.

use super::code::Codes;
use super::secret;
use super::session::{SessionId, Sessions};
use crate::clock::World;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use webui_model::data_dir::{TOKEN_FILE, write_private};
use webui_model::{Name, NewToken, Refusal, RefusalKind, Role, Token, TokenCreate};

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The name of the token, or [`LOCAL`].
    pub(crate) name: Name,
    /// Its role.
    pub(crate) role: Role,
    /// The session it came with, if it did.
    pub(crate) session: Option<SessionId>,
}

/// The name of who comes over the socket of the data directory; no token has it.
const LOCAL: &str = "local";

impl Identity {
    /// Who comes over the socket of the data directory, and shows no token.
    pub(crate) fn local() -> Identity {
        Identity { name: LOCAL.parse().expect("a name"), role: Role::Admin, session: None }
    }
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: Name,
    role: Role,
    created_at_ms: u64,
    sha256: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    tokens: Vec<Kept>,
}

const FORMAT: u32 = 1;
/// Tokens at once: far more than there are people and programs.
const TOKENS: usize = 1024;

/// What is let in, under one lock: a session is opened for a token that is there, and ends in the
/// step in which its token goes.
#[derive(Default)]
struct Admitted {
    tokens: Vec<Kept>,
    sessions: Sessions,
    codes: Codes,
}

impl Admitted {
    /// The token with this hash.
    fn token(&self, sha256: &str) -> Option<&Kept> {
        self.tokens.iter().find(|kept| secret::equal(&kept.sha256, sha256))
    }

    /// Who holds a session or a code: the hash of a token that is still there, or [`LOCAL`], which no
    /// hash is.
    fn identity(&self, holder: &str, session: Option<SessionId>) -> Option<Identity> {
        match holder {
            LOCAL => Some(Identity { session, ..Identity::local() }),
            sha256 => Some(self.token(sha256)?.identity(session)),
        }
    }
}

impl Kept {
    fn identity(&self, session: Option<SessionId>) -> Identity {
        Identity { name: self.name.clone(), role: self.role, session }
    }
}

/// A token that is new, and what is kept of it.
fn make(request: TokenCreate, world: &dyn World) -> (NewToken, Kept) {
    let secret = format!("{}{}", secret::MARK, secret::draw(world));
    let created_at_ms = world.unix_ms();
    let TokenCreate { name, role } = request;
    let sha256 = secret::hash(&secret);
    let kept = Kept { name: name.clone(), role, created_at_ms, sha256 };
    (NewToken { name, role, created_at_ms, secret }, kept)
}

/// All tokens, hashed, in a file that only the owner reads, and the sessions that stand for them.
pub struct Tokens {
    path: PathBuf,
    /// Held by who changes the tokens, while the file is written: nobody who asks waits for that.
    changing: Mutex<()>,
    admitted: Mutex<Admitted>,
}

impl Tokens {
    /// Opens the file at `path`. If there is none it is made with one token, `admin`, whose secret
    /// is returned: show it once. It is also in the file [`TOKEN_FILE`] beside the other, for as long
    /// as it is the only one of an administrator.
    ///
    /// # Errors
    /// A sentence: the file cannot be read, written or understood.
    pub fn open(path: &Path, world: &dyn World) -> Result<(Self, Option<NewToken>), String> {
        let wrong = |what: &dyn std::fmt::Display| {
            format!(
                "The tokens in {} cannot be used: {what}. Bring back a copy that is whole; or move \
                 the file away: a new first token is made, and all others are gone.",
                path.display()
            )
        };
        let tokens =
            Self { path: path.to_owned(), changing: Mutex::default(), admitted: Mutex::default() };
        match std::fs::read(path) {
            Ok(bytes) => {
                let document: Document = serde_json::from_slice(&bytes).map_err(|e| wrong(&e))?;
                if document.format != FORMAT {
                    return Err(wrong(&format_args!("format {} is not known", document.format)));
                }
                tokens.drop_first_secret(&document.tokens);
                tokens.lock().tokens = document.tokens;
                Ok((tokens, None))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name: Name = "admin".parse().expect("a name");
                let (first, kept) = make(TokenCreate { name, role: Role::Admin }, world);
                // Before the token is one: a crash in between leaves a secret of nothing, and the
                // next start makes another.
                let secret = format!("{}\n", first.secret);
                write_private(&tokens.first_secret(), secret.as_bytes()).map_err(|e| wrong(&e))?;
                let kept = vec![kept];
                tokens.save(&kept).map_err(|e| wrong(&e.message))?;
                tokens.lock().tokens = kept;
                Ok((tokens, Some(first)))
            }
            Err(error) => Err(wrong(&error)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Admitted> {
        self.admitted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every token, by name.
    pub fn list(&self) -> Vec<Token> {
        let shown = |kept: &Kept| Token {
            name: kept.name.clone(),
            role: kept.role,
            created_at_ms: kept.created_at_ms,
        };
        let mut tokens: Vec<Token> = self.lock().tokens.iter().map(shown).collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    /// Makes a token. It is on disk when this returns.
    ///
    /// # Errors
    /// `Invalid`: the name is what the machine itself is called. `Exists`: a secret is shown once, so
    /// there is no second answer. `Internal`: the file cannot be written.
    pub fn create(&self, request: TokenCreate, world: &dyn World) -> Result<NewToken, Refusal> {
        if request.name.as_str() == LOCAL {
            return Err(Refusal::invalid(format!(
                "\"{LOCAL}\" is what the audit log calls the appliance's own machine: choose another \
                 name."
            )));
        }
        let _one_at_a_time = self.change();
        let mut tokens = self.lock().tokens.clone();
        if tokens.iter().any(|kept| kept.name == request.name) {
            return Err(Refusal::exists(format!(
                "There is a token \"{}\" and its secret is not shown again: revoke it first, or \
                 choose another name.",
                request.name
            )));
        }
        if tokens.len() >= TOKENS {
            return Err(Refusal::full(format!("There are {TOKENS} tokens: revoke some first.")));
        }
        let (token, kept) = make(request, world);
        tokens.push(kept);
        self.save(&tokens)?;
        self.drop_first_secret(&tokens);
        self.lock().tokens = tokens;
        Ok(token)
    }

    /// Revokes a token, and ends its sessions. It is off the disk when this returns.
    ///
    /// # Errors
    /// `NotFound`; `Refused` for the last admin's: nobody could make another one.
    pub fn revoke(&self, name: &Name) -> Result<(), Refusal> {
        let _one_at_a_time = self.change();
        let mut tokens = self.lock().tokens.clone();
        let place = tokens.iter().position(|kept| kept.name == *name);
        let place = place.ok_or_else(|| {
            Refusal::not_found(format!("There is no token \"{name}\" to revoke."))
        })?;
        let admins = tokens.iter().filter(|kept| kept.role == Role::Admin).count();
        if tokens[place].role == Role::Admin && admins == 1 {
            return Err(Refusal::refused(format!(
                "\"{name}\" is the only token with the role admin: make another one first."
            )));
        }
        let gone = tokens.remove(place);
        self.save(&tokens)?;
        self.drop_first_secret(&tokens);
        let mut admitted = self.lock();
        admitted.tokens = tokens;
        admitted.sessions.close_all(&gone.sha256);
        admitted.codes.drop_all(&gone.sha256);
        Ok(())
    }

    /// Where the secret of the first token is, for who was not there to see it.
    fn first_secret(&self) -> PathBuf {
        self.path.with_file_name(TOKEN_FILE)
    }

    /// Removes the file with the first token's secret, unless that is the only one of an
    /// administrator.
    fn drop_first_secret(&self, tokens: &[Kept]) {
        let path = self.first_secret();
        let Ok(secret) = std::fs::read_to_string(&path) else { return };
        let admins: Vec<&Kept> = tokens.iter().filter(|kept| kept.role == Role::Admin).collect();
        let hash = secret::hash(secret.trim());
        if let [only] = admins[..]
            && secret::equal(&only.sha256, &hash)
        {
            return;
        }
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::error!(path = %path.display(), %error, "a secret cannot be removed: remove it");
        }
    }

    fn save(&self, tokens: &[Kept]) -> Result<(), Refusal> {
        let document = Document { format: FORMAT, tokens: tokens.to_vec() };
        let text = serde_json::to_vec_pretty(&document).expect("texts and numbers");
        write_private(&self.path, &text).map_err(|error| {
            let path = self.path.display();
            Refusal::new(RefusalKind::Internal, format!("{path} cannot be written: {error}."))
        })
    }

    /// Whose secret this is.
    pub(crate) fn identify(&self, secret: &str) -> Option<Identity> {
        let sha256 = secret::hash(secret);
        Some(self.lock().token(&sha256)?.identity(None))
    }

    /// Opens a session for whom this secret or this code is of. Returns who it is, and the cookie's
    /// value.
    pub(crate) fn log_in(&self, secret: &str, world: &dyn World) -> Option<(Identity, String)> {
        let (sha256, value) = (secret::hash(secret), secret::draw(world));
        let (mut admitted, now_ns) = (self.lock(), world.now_ns());
        let holder = match admitted.token(&sha256).is_some() {
            true => sha256,
            false => admitted.codes.take(&sha256, now_ns)?,
        };
        admitted.identity(&holder, None)?;
        let session = admitted.sessions.open(&holder, &value, now_ns);
        Some((admitted.identity(&holder, Some(session))?, value))
    }

    /// Makes a code that opens one session, for whom this secret is of; without one for who comes over
    /// the socket of the data directory. Nothing: the secret is of nobody.
    pub(crate) fn make_code(&self, secret: Option<&str>, world: &dyn World) -> Option<String> {
        let holder = secret.map_or_else(|| LOCAL.to_owned(), secret::hash);
        let code = format!("{}{}", secret::MARK, secret::draw(world));
        let mut admitted = self.lock();
        admitted.identity(&holder, None)?;
        admitted.codes.keep(&code, &holder, world.now_ns());
        Some(code)
    }

    /// Whose session this is.
    pub(crate) fn in_session(&self, value: &str, now_ns: u64) -> Option<Identity> {
        let admitted = self.lock();
        let (session, holder) = admitted.sessions.find(value, now_ns)?;
        admitted.identity(holder, Some(session))
    }

    /// Ends a session.
    pub(crate) fn log_out(&self, value: &str) {
        self.lock().sessions.close(value);
    }
}
