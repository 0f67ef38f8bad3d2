//! Names, checked where they come in.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a text is no name, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError(String);

impl std::fmt::Display for NameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NameError {}

/// A checked text: everything but the check itself.
macro_rules! checked {
    ($type:ident) => {
        impl $type {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
    };
}

/// The name of a pool, volume, snapshot or device: a letter or digit, then up to 62 letters, digits,
/// dots, underscores and hyphens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$", max_length = 63,
    min_length = 1, example = "scratch-01")]
pub struct Name(String);
checked!(Name);

fn is_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    text.len() <= 63
        && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && text.bytes().all(inner)
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        if is_name(&text) {
            return Ok(Self(text));
        }
        Err(NameError(format!(
            "\"{}\" is no name: start with a letter or digit and use at most 63 letters, digits, \
             dots, underscores and hyphens.",
            shown(&text)
        )))
    }
}

/// Part of a text that came from outside, fit for a sentence.
fn shown(text: &str) -> String {
    let mut part: String = text.chars().take(64).flat_map(char::escape_default).collect();
    if text.chars().nth(64).is_some() {
        part.push_str("...");
    }
    part
}

/// Checks that nothing is named twice in a list of the request.
pub(crate) fn once<T: Ord + std::fmt::Display>(names: &[T], field: &str) -> Result<(), String> {
    let mut seen = std::collections::BTreeSet::new();
    match names.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => Err(format!("{field} names {twice} twice: leave one out.")),
        None => Ok(()),
    }
}

/// The longest NQN in bytes (NVM Express Base Specification, NVMe Qualified Names).
const NQN_BYTES: usize = 223;

/// `nqn.`, a year and month, a dot, and then printable ASCII without space, slash, backslash,
/// quotes, percent, question mark and hash sign.
fn is_nqn(text: &str) -> bool {
    let Some(date) = text.strip_prefix("nqn.") else { return false };
    let date = date.as_bytes();
    let digits = |range: std::ops::Range<usize>| {
        date.get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    let rest = date.get(8..).unwrap_or_default();
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"._-:".contains(b);
    text.len() <= NQN_BYTES
        && digits(0..4)
        && date.get(4) == Some(&b'-')
        && digits(5..7)
        && date.get(7) == Some(&b'.')
        && !rest.is_empty()
        && rest.iter().all(plain)
}

/// The NVMe Qualified Name of a subsystem.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^nqn\\.[0-9]{4}-[0-9]{2}\\.[A-Za-z0-9._:-]+$",
    min_length = 13, max_length = 223, example = "nqn.2026-01.io.forebay:tank:scratch-01")]
pub struct Nqn(String);
checked!(Nqn);

/// What the names of subsystems made for volumes start with.
const OWN: &str = "nqn.2026-01.io.forebay";

impl Nqn {
    /// The name of a volume's own subsystem. No name holds a colon, so no two volumes share one.
    pub fn of_volume(pool: &Name, volume: &Name) -> Self {
        Self(format!("{OWN}:{pool}:{volume}"))
    }

    /// The name of a snapshot's own subsystem.
    pub fn of_snapshot(pool: &Name, volume: &Name, snapshot: &Name) -> Self {
        Self(format!("{OWN}:{pool}:{volume}:{snapshot}"))
    }
}

impl TryFrom<String> for Nqn {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        if is_nqn(&text) {
            return Ok(Self(text));
        }
        Err(NameError(format!(
            "\"{}\" is no NQN: write nqn.YYYY-MM. and then letters, digits, dots, colons, \
             underscores and hyphens, at most {NQN_BYTES} in all.",
            shown(&text)
        )))
    }
}

/// The NVMe Qualified Name of a host, as `nvme show-hostnqn` prints it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^nqn\\.[0-9]{4}-[0-9]{2}\\.[A-Za-z0-9._:-]+$",
    min_length = 13, max_length = 223,
    example = "nqn.2014-08.org.nvmexpress:uuid:2f9a1d9e-7d1d-4bd5-93b1-6a8f36a3d8a2")]
pub struct HostNqn(String);
checked!(HostNqn);

/// What the names of hosts start with that are made of a UUID (Base Specification, "NVMe Qualified
/// Names").
const OF_UUID: &str = "nqn.2014-08.org.nvmexpress:uuid:";

impl HostNqn {
    /// Checks a name that an operator gives: one that is made of a UUID has a UUID, since with
    /// anything else no host would ever match. (Hosts that connect call themselves what they like.)
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        match self.0.strip_prefix(OF_UUID) {
            Some(rest) if !is_uuid(rest) => Err(format!(
                "\"{self}\" is the NQN of no host: there is no UUID (8-4-4-4-12 hexadecimal \
                 digits) after uuid:. `nvme show-hostnqn` prints that of a host."
            )),
            _ => Ok(()),
        }
    }
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

impl TryFrom<String> for HostNqn {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Nqn::try_from(text).map(|nqn| Self(nqn.0)).map_err(|error| {
            NameError(format!("{} `nvme show-hostnqn` prints that of a host.", error.0))
        })
    }
}

/// A device: the name of one that is attached, the absolute path of a file or block device, or the
/// PCI address of an NVMe drive, as in `pci:0000:03:00.0`, with `/2` behind it for namespace 2.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 1, max_length = 1024,
    pattern = "^(/[!-~]+|[A-Za-z0-9][A-Za-z0-9._-]{0,62}|pci:([0-9a-f]{1,8}:)?[0-9a-f]{1,2}:[01]?[0-9a-f]\\.[0-7](/[1-9][0-9]{0,8})?)$",
    example = "/dev/nvme0n1")]
pub struct DeviceRef(String);
checked!(DeviceRef);

impl DeviceRef {
    /// Whether it says where the device is, by path or PCI address: else it is a name.
    pub fn is_path(&self) -> bool {
        self.0.starts_with('/') || self.is_pci()
    }

    /// Whether it is an NVMe drive by its PCI address.
    pub fn is_pci(&self) -> bool {
        self.0.starts_with("pci:")
    }
}

/// The PCI address of an NVMe drive of the machine: `0000:03:00.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, min_length = 6, max_length = 16, example = "0000:03:00.0",
    pattern = "^([0-9a-f]{1,8}:)?[0-9a-f]{1,2}:[01]?[0-9a-f]\\.[0-7]$")]
pub struct DriveAddress(String);
checked!(DriveAddress);

impl TryFrom<String> for DriveAddress {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        if is_pci(&format!("pci:{text}")) && !text.contains('/') {
            return Ok(Self(text));
        }
        Err(NameError(format!(
            "\"{}\" is no PCI address: it looks like 0000:03:00.0.",
            shown(&text)
        )))
    }
}

/// Whether a text is `pci:`, an address as the kernel writes it, and a namespace or none.
fn is_pci(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("pci:") else { return false };
    let (address, nsid) = match rest.split_once('/') {
        Some((address, nsid)) => (address, Some(nsid)),
        None => (rest, None),
    };
    let hex = |part: &str, digits: usize| {
        let is_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        (1..=digits).contains(&part.len()) && part.bytes().all(is_hex)
    };
    let is_device = |part: &str| hex(part, 1) || (hex(part, 2) && part < "20");
    let is_nsid = |part: &str| {
        part.len() <= 9 && !part.starts_with('0') && part.parse::<u32>().is_ok_and(|n| n > 0)
    };
    let Some((place, function)) = address.rsplit_once('.') else { return false };
    let parts: Vec<&str> = place.split(':').collect();
    let is_place = match parts[..] {
        [domain, bus, device] => hex(domain, 8) && hex(bus, 2) && is_device(device),
        [bus, device] => hex(bus, 2) && is_device(device),
        _ => false,
    };
    let is_function = function.len() == 1 && function < "8" && hex(function, 1);
    is_place && is_function && nsid.is_none_or(|n| is_nsid(n) && !n.starts_with('+'))
}

impl TryFrom<String> for DeviceRef {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        let path = text.len() > 1
            && text.len() <= 1024
            && text.starts_with('/')
            && text.bytes().all(|b| b.is_ascii_graphic());
        if path || is_name(&text) || is_pci(&text) {
            return Ok(Self(text));
        }
        Err(NameError(format!(
            "\"{}\" is no device: give the name of one that is attached, an absolute path \
             without spaces, or pci: and the address of an NVMe drive, as in pci:0000:03:00.0.",
            shown(&text)
        )))
    }
}

/// An IP address and port: `10.0.0.1:4420`, `[fd00::1]:4420`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(pub std::net::SocketAddr);

impl utoipa::PartialSchema for Address {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        let octet = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
        let hex = "[0-9a-fA-F]{1,4}";
        let v6 = format!("\\[({hex}(:{hex}){{7}}|::|::{hex}|({hex}:){{1,6}}:{hex})\\]");
        let port = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2})";
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some(format!("^(({octet}\\.){{3}}{octet}|{v6}):{port}$")))
            .description(Some("An IP address and port; an IPv6 address in brackets."))
            .examples(["10.0.0.1:4420"])
            .into()
    }
}

impl ToSchema for Address {
    fn name() -> std::borrow::Cow<'static, str> {
        "Address".into()
    }
}

impl Address {
    /// An IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is one of IPv4.
    fn canonical(address: std::net::SocketAddr) -> Self {
        match address.ip().to_canonical() {
            ip @ std::net::IpAddr::V4(_) => Self(std::net::SocketAddr::new(ip, address.port())),
            std::net::IpAddr::V6(_) => Self(address),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.0.to_string()
    }
}

impl std::str::FromStr for Address {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let plain = |address: &std::net::SocketAddr| !text.contains('%') && address.port() != 0;
        text.parse().ok().filter(plain).map(Self::canonical).ok_or_else(|| {
            NameError(format!(
                "\"{}\" is no address: write an IP address and a port, 10.0.0.1:4420 or \
                 [fd00::1]:4420.",
                shown(text)
            ))
        })
    }
}

impl TryFrom<String> for Address {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
