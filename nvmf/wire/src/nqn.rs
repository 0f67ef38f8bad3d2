//! NVMe Qualified Names (Base Specification, "NVMe Qualified Names").

use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;

/// The most bytes of a name, its ending NUL excluded.
pub const MAX_BYTES: usize = 223;

/// Bytes of a field that holds a name.
pub const FIELD_BYTES: usize = 256;

/// The name of the discovery service.
pub const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// What the names made of a UUID start with.
pub const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// An NVMe Qualified Name: 1 to 223 bytes of UTF-8 without control characters. Kept in place, without
/// allocation; two names are the same when their bytes are.
#[derive(Clone, Copy)]
pub struct Nqn {
    len: u8,
    bytes: [u8; MAX_BYTES],
}

/// Why something is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NqnError {
    /// No byte at all.
    Empty,
    /// More than 223 bytes, or no NUL in the field.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// A control character or a space.
    BadCharacter,
    /// Does not start with `nqn.yyyy-mm.`.
    BadDate,
    /// No reverse domain name after the date.
    BadDomain,
    /// Nothing after the colon.
    EmptyName,
    /// No UUID after `nqn.2014-08.org.nvmexpress:uuid:`.
    BadUuid,
}

impl NqnError {
    /// A sentence's end: "the NQN ...".
    pub const fn text(self) -> &'static str {
        match self {
            NqnError::Empty => "is empty",
            NqnError::TooLong => "is longer than 223 bytes",
            NqnError::NotUtf8 => "is not UTF-8",
            NqnError::BadCharacter => "contains a space or a control character",
            NqnError::BadDate => "does not start with nqn.yyyy-mm.",
            NqnError::BadDomain => "has no reverse domain name after the date",
            NqnError::EmptyName => "has nothing after the colon",
            NqnError::BadUuid => "has no UUID (8-4-4-4-12 hexadecimal digits) after uuid:",
        }
    }
}

impl fmt::Display for NqnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for NqnError {}

impl Nqn {
    /// A name as the specification writes it: `nqn.yyyy-mm.reverse.domain[:anything]`, or
    /// `nqn.2014-08.org.nvmexpress:uuid:UUID`. For names that we are given to use.
    pub fn new(text: &str) -> Result<Nqn, NqnError> {
        let nqn = Nqn::lenient(text)?;
        if text.contains(char::is_whitespace) {
            return Err(NqnError::BadCharacter);
        }
        let rest = after_date(text).ok_or(NqnError::BadDate)?;
        if let Some(uuid) = text.strip_prefix(UUID_PREFIX) {
            return if is_uuid(uuid) { Ok(nqn) } else { Err(NqnError::BadUuid) };
        }
        let (domain, name) = match rest.split_once(':') {
            Some((domain, name)) => (domain, Some(name)),
            None => (rest, None),
        };
        if !domain.split('.').all(is_label) {
            return Err(NqnError::BadDomain);
        }
        if name.is_some_and(str::is_empty) {
            return Err(NqnError::EmptyName);
        }
        Ok(nqn)
    }

    /// Any text of 1 to 223 bytes without control characters: what hosts send is not always in the
    /// form of the specification, and they are known by these names all the same. Control
    /// characters are in none, since names are shown on terminals and in logs.
    pub fn lenient(text: &str) -> Result<Nqn, NqnError> {
        if text.is_empty() {
            return Err(NqnError::Empty);
        }
        if text.contains(char::is_control) {
            return Err(NqnError::BadCharacter);
        }
        let mut bytes = [0; MAX_BYTES];
        bytes.get_mut(..text.len()).ok_or(NqnError::TooLong)?.copy_from_slice(text.as_bytes());
        Ok(Nqn { len: text.len() as u8, bytes })
    }

    /// The name in a field, ended by NUL; what follows the NUL does not count.
    pub fn from_field(field: &[u8; FIELD_BYTES]) -> Result<Nqn, NqnError> {
        let end = field.iter().position(|&b| b == 0).ok_or(NqnError::TooLong)?;
        let name = field.get(..end).unwrap_or_default();
        Nqn::lenient(core::str::from_utf8(name).map_err(|_| NqnError::NotUtf8)?)
    }

    /// The name as a field: ended and padded by NULs.
    pub fn to_field(&self) -> [u8; FIELD_BYTES] {
        let mut field = [0; FIELD_BYTES];
        field[..MAX_BYTES].copy_from_slice(&self.bytes);
        field
    }

    /// The well-known name of the discovery service.
    pub fn discovery() -> Nqn {
        Nqn::new(DISCOVERY).expect("the well-known name is valid")
    }

    /// Whether this is the well-known name of the discovery service.
    pub fn is_discovery(&self) -> bool {
        self.as_str() == DISCOVERY
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("was made from a str")
    }
}

/// What follows `nqn.yyyy-mm.`.
fn after_date(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("nqn.")?;
    let (year, rest) = rest.split_once('-')?;
    let (month, rest) = rest.split_once('.')?;
    let digits = |s: &str, n| s.len() == n && s.bytes().all(|b| b.is_ascii_digit());
    let month_is_one = digits(month, 2) && (1..=12).contains(&month.parse().unwrap_or(0u8));
    (digits(year, 4) && month_is_one).then_some(rest)
}

/// A label of a domain name; underscores are let pass.
fn is_label(label: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !label.is_empty() && label.bytes().all(fits)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, b)| match at {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        })
}

impl PartialEq for Nqn {
    fn eq(&self, other: &Nqn) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Nqn {}

impl Hash for Nqn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl PartialOrd for Nqn {
    fn partial_cmp(&self, other: &Nqn) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Nqn {
    fn cmp(&self, other: &Nqn) -> core::cmp::Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Nqn {
    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl FromStr for Nqn {
    type Err = NqnError;

    fn from_str(text: &str) -> Result<Nqn, NqnError> {
        Nqn::new(text)
    }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
