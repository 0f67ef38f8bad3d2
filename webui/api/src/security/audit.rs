//! The audit log of the API: changes before they are carried out, and what became of them; requests
//! that changed nothing, folded, in a log of their own, so that they take no room from the changes.

use super::secret::without_secrets;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use webui_audit::{Access, Fold, Forward, Intent, Log, SYSLOG_SOCKET, Syslog};
use webui_model::AuditRecord;

/// The log of requests that changed nothing, beside that of the changes.
const ACCESS_FILE: &str = "access.log";
/// The longest body that is recorded as a whole, in bytes of JSON.
const BODY_BYTES: usize = 16 << 10;
/// The longest text of a body that is recorded as a whole: what is longer is data.
const TEXT_BYTES: usize = 1 << 10;
/// Fields that are never recorded, in whatever body.
const SECRET_FIELDS: [&str; 6] = ["token", "secret", "password", "passphrase", "psk", "key"];

/// Where lines go beside the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditForward {
    /// Nowhere.
    #[default]
    Off,
    /// To the machine's log daemon: syslog, or journald.
    Syslog,
    /// Into the log of the program.
    Log,
}

fn forwarding(to: AuditForward, syslog: Option<&Arc<Syslog>>) -> Option<Forward> {
    match to {
        AuditForward::Off => None,
        AuditForward::Syslog => {
            let syslog = Arc::clone(syslog?);
            Some(Box::new(move |line| syslog.send(line)))
        }
        AuditForward::Log => Some(Box::new(|line| {
            tracing::info!(target: "audit", "{}", String::from_utf8_lossy(line));
        })),
    }
}

/// Both logs.
pub(crate) struct Audit {
    changes: Log,
    access: Log,
    fold: Mutex<Fold>,
    /// Whether the last line could not be written.
    failing: AtomicBool,
}

impl Audit {
    /// Opens the log of changes at `path`, and the other beside it.
    ///
    /// # Errors
    /// A sentence: what the file system says.
    pub(crate) fn open(path: &Path, forward: AuditForward) -> Result<Self, String> {
        let wrong = |path: &Path, error: io::Error| {
            format!("The audit log {} cannot be opened: {error}.", path.display())
        };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (changes, access) =
            webui_audit::of_file_system(folder).map_err(|error| wrong(folder, error))?;
        let syslog = match forward {
            AuditForward::Syslog => Syslog::start(Path::new(SYSLOG_SOCKET)).map(Arc::new).ok(),
            _ => None,
        };
        let open = |path: &Path, quota| {
            let forward = forwarding(forward, syslog.as_ref());
            Log::open(path, quota, forward).map_err(|error| wrong(path, error))
        };
        Ok(Self {
            changes: open(path, changes)?,
            access: open(&path.with_file_name(ACCESS_FILE), access)?,
            fold: Mutex::default(),
            failing: AtomicBool::new(false),
        })
    }

    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether a line was written. Whether that is otherwise than with the line before.
    fn noted<T>(&self, written: io::Result<T>) -> Result<T, Unwritten> {
        let failed = written.is_err();
        let first = self.failing.swap(failed, Ordering::Relaxed) != failed;
        written.map_err(|error| Unwritten { error, first })
    }

    /// Writes down a change before it is carried out. Returns its number.
    pub(crate) fn intend(&self, intent: Intent, at_ms: u64) -> Result<u64, Unwritten> {
        self.noted(self.changes.intend(intent, at_ms))
    }

    /// Writes down what became of it.
    pub(crate) fn result(&self, of: u64, status: u16, at_ms: u64) -> Result<u64, Unwritten> {
        self.noted(self.changes.result(of, status, at_ms))
    }

    /// Counts a request that changed nothing. Returns the line to write now, if any.
    pub(crate) fn count(&self, access: Access, now_ns: u64) -> Option<Access> {
        let request = &access.request;
        let who = request.who.as_ref().map_or(request.address.as_str(), |who| who.as_str());
        // Of one caller, what was let in does not hide what was refused.
        let caller = format!("{who} {}", if access.status < 400 { "let in" } else { "refused" });
        self.fold().count(caller, access, now_ns)
    }

    /// Writes down requests that changed nothing.
    pub(crate) fn access(&self, access: Access, at_ms: u64) -> Result<u64, Unwritten> {
        self.noted(self.access.access(access, at_ms))
    }

    /// What was counted and is to be written now; `all`: whatever was counted, because it ends.
    pub(crate) fn due(&self, now_ns: u64, all: bool) -> Vec<Access> {
        let mut fold = self.fold();
        if all { fold.take() } else { fold.due(now_ns) }
    }

    /// The newest records, newest first; of requests that changed nothing, or of changes.
    pub(crate) fn newest(&self, access: bool, limit: usize) -> io::Result<Vec<AuditRecord>> {
        if access { self.access.newest(limit) } else { self.changes.newest(limit) }
    }
}

/// A line that could not be written.
pub(crate) struct Unwritten {
    /// Why.
    pub(crate) error: io::Error,
    /// Whether the line before could be.
    pub(crate) first: bool,
}

/// A body as it is recorded: without secrets, and without the bytes of what is large.
pub(crate) fn recorded_body(body: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    clean(&mut value);
    let text = value.to_string();
    if text.len() <= BODY_BYTES {
        return Some(value);
    }
    let begins = &text[..text.floor_char_boundary(TEXT_BYTES)];
    Some(json!({"bytes": text.len(), "sha256": sha256(text.as_bytes()), "begins": begins}))
}

fn sha256(bytes: &[u8]) -> String {
    super::secret::hex(digest(&SHA256, bytes).as_ref())
}

fn clean(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > TEXT_BYTES => {
            *value = json!({"bytes": text.len(), "sha256": sha256(text.as_bytes())});
        }
        Value::String(text) => *text = without_secrets(text),
        Value::Array(items) => items.iter_mut().for_each(clean),
        Value::Object(fields) => {
            for (name, field) in fields {
                match SECRET_FIELDS.contains(&name.as_str()) && !field.is_null() {
                    true => *field = json!("***"),
                    false => clean(field),
                }
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_recorded_without_secrets_and_bulk() {
        let secret = format!("forebay_{}", "a1".repeat(32));
        let body = json!({
            "name": "n",
            "token": secret,
            "list": [{"secret": 5}, format!("see {secret}."), "DHHC-1:00:ia6zGodOr4SEG0Zzaw398rpY0wqipUWj4jWjUh4HWUz6aQ2n:"],
            "data": "A".repeat(5000),
        });
        let kept = recorded_body(body.to_string().as_bytes()).unwrap();
        assert_eq!(kept["name"], "n");
        assert_eq!(kept["token"], "***");
        assert_eq!(kept["list"], json!([{"secret": "***"}, "see forebay_***.", "DHHC-1:***"]));
        assert_eq!(kept["data"]["bytes"], 5000);
        let many: Vec<String> = (0..5000).map(|n| format!("volume-{n}")).collect();
        let kept = recorded_body(json!(many).to_string().as_bytes()).unwrap();
        assert!(
            kept["begins"].as_str().unwrap().starts_with("[\"volume-0\"")
                && kept["bytes"].as_u64().unwrap() > 50_000
        );
        assert!(kept.to_string().len() < 2000);
    }
}
