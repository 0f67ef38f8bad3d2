//! Tokens: what a program or a person shows to be let in.

use super::secret;
use crate::clock::World;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use webui_model::{Name, NewToken, Refusal, RefusalKind, Role, Token, TokenCreate};

/// Writes a token's secret into a file that only the owner reads, for the command line of this
/// machine.
///
/// # Errors
/// What the file system says.
pub fn save_secret(token: &NewToken, path: &Path) -> io::Result<()> {
    secret::write_private(path, format!("{}\n", token.secret).as_bytes())
}

/// Who a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The token's name.
    pub(crate) name: Name,
    /// Its role.
    pub(crate) role: Role,
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

struct Entry {
    kept: Kept,
    /// Whether it was shown since the start: its bearer does not wait for others' failed logins.
    seen: bool,
}

/// All tokens, hashed, in a file that only the owner reads.
pub struct Tokens {
    path: PathBuf,
    entries: Mutex<Vec<Entry>>,
}

impl Tokens {
    /// Opens the file at `path`. If there is none it is made with one token, `admin`, whose secret
    /// is returned: show it once.
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
        let tokens = Self { path: path.to_owned(), entries: Mutex::default() };
        match std::fs::read(path) {
            Ok(bytes) => {
                let document: Document = serde_json::from_slice(&bytes).map_err(|e| wrong(&e))?;
                if document.format != FORMAT {
                    return Err(wrong(&format_args!("format {} is not known", document.format)));
                }
                *tokens.lock() =
                    document.tokens.into_iter().map(|kept| Entry { kept, seen: false }).collect();
                Ok((tokens, None))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let name: Name = "admin".parse().expect("a name");
                let request = TokenCreate { name, role: Role::Admin };
                let first = tokens.create(request, world).map_err(|e| wrong(&e.message))?;
                Ok((tokens, Some(first)))
            }
            Err(error) => Err(wrong(&error)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every token, by name.
    pub fn list(&self) -> Vec<Token> {
        let shown = |entry: &Entry| Token {
            name: entry.kept.name.clone(),
            role: entry.kept.role,
            created_at_ms: entry.kept.created_at_ms,
        };
        let mut tokens: Vec<Token> = self.lock().iter().map(shown).collect();
        tokens.sort_by(|a, b| a.name.cmp(&b.name));
        tokens
    }

    /// Makes a token. It is on disk when this returns.
    ///
    /// # Errors
    /// `Exists`: a secret is shown once, so there is no second answer. `Internal`: the file cannot
    /// be written.
    pub fn create(&self, request: TokenCreate, world: &dyn World) -> Result<NewToken, Refusal> {
        let mut entries = self.lock();
        if entries.iter().any(|entry| entry.kept.name == request.name) {
            return Err(Refusal::exists(format!(
                "There is a token \"{}\" and its secret is not shown again: revoke it first, or \
                 choose another name.",
                request.name
            )));
        }
        if entries.len() >= TOKENS {
            return Err(Refusal::full(format!("There are {TOKENS} tokens: revoke some first.")));
        }
        let secret = format!("{}{}", secret::MARK, secret::draw(world));
        let kept = Kept {
            name: request.name,
            role: request.role,
            created_at_ms: world.unix_ms(),
            sha256: secret::hash(&secret),
        };
        let (name, role, created_at_ms) = (kept.name.clone(), kept.role, kept.created_at_ms);
        entries.push(Entry { kept, seen: false });
        if let Err(refusal) = self.save(&entries) {
            entries.pop();
            return Err(refusal);
        }
        Ok(NewToken { name, role, created_at_ms, secret })
    }

    /// Revokes a token. It is off the disk when this returns.
    ///
    /// # Errors
    /// `NotFound`; `Refused` for the last admin's: nobody could make another one.
    pub fn revoke(&self, name: &Name) -> Result<(), Refusal> {
        let mut entries = self.lock();
        let place = entries.iter().position(|entry| entry.kept.name == *name);
        let place = place.ok_or_else(|| {
            Refusal::not_found(format!("There is no token \"{name}\" to revoke."))
        })?;
        let admins = entries.iter().filter(|entry| entry.kept.role == Role::Admin).count();
        if entries[place].kept.role == Role::Admin && admins == 1 {
            return Err(Refusal::refused(format!(
                "\"{name}\" is the only token with the role admin: make another one first."
            )));
        }
        let entry = entries.remove(place);
        self.save(&entries).inspect_err(|_| entries.insert(place, entry))
    }

    fn save(&self, entries: &[Entry]) -> Result<(), Refusal> {
        let tokens = entries.iter().map(|entry| entry.kept.clone()).collect();
        let document = Document { format: FORMAT, tokens };
        let text = serde_json::to_vec_pretty(&document).expect("texts and numbers");
        secret::write_private(&self.path, &text).map_err(|error| {
            let path = self.path.display();
            Refusal::new(RefusalKind::Internal, format!("{path} cannot be written: {error}."))
        })
    }

    /// Whose secret this is.
    pub(crate) fn identify(&self, secret: &str) -> Option<Identity> {
        let hash = secret::hash(secret);
        let mut entries = self.lock();
        let entry = entries.iter_mut().find(|e| secret::equal(&e.kept.sha256, &hash))?;
        entry.seen = true;
        Some(Identity { name: entry.kept.name.clone(), role: entry.kept.role })
    }

    /// Whether this secret was shown, and right, since the start.
    pub(crate) fn seen(&self, secret: &str) -> bool {
        let hash = secret::hash(secret);
        self.lock().iter().any(|e| e.seen && secret::equal(&e.kept.sha256, &hash))
    }

    /// The token of that name, if it is not revoked.
    pub(crate) fn named(&self, name: &Name) -> Option<Identity> {
        let entries = self.lock();
        let entry = entries.iter().find(|entry| entry.kept.name == *name)?;
        Some(Identity { name: entry.kept.name.clone(), role: entry.kept.role })
    }
}
