//! Where the API is served.

use super::canonical;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The port of the API.
pub const API_PORT: u16 = 4480;

/// The API.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// Where it listens. Anything but loopback is served with TLS.
    pub address: ApiAddress,
    /// Names and addresses that it is reached by: those of a certificate that is made, and the only
    /// names that are answered beside `localhost`. Addresses always are.
    pub names: Vec<String>,
    /// Certificate chain in PEM; one is made, signed with its own key, unless given.
    pub certificate: Option<PathBuf>,
    /// Its key in PEM.
    pub key: Option<PathBuf>,
    /// Folders below which devices may be attached over the API; `/dev` and the data directory unless
    /// given. Only root should be able to write to them.
    pub device_folders: Option<Vec<PathBuf>>,
    /// Certificates in PEM: who connects shows one that one of them has signed, beside a token.
    pub client_ca: Option<PathBuf>,
    /// The oldest version of TLS that is spoken.
    pub tls: OldestTls,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OldestTls {
    /// TLS 1.2, for old clients.
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[default]
    #[serde(rename = "1.3")]
    V13,
}

/// The audit log of the API.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// Where its lines go beside its files.
    pub forward: Forward,
}

/// Where lines of the audit log go beside its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Nowhere.
    #[default]
    Off,
    /// To the machine's log daemon at /dev/log: syslog, or journald.
    Syslog,
    /// Into the log of this program, which on the image goes to the log server.
    Log,
}

impl Api {
    /// Checks names and folders.
    ///
    /// # Errors
    /// What is wrong with one, as a sentence.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.certificate.is_some() != self.key.is_some() {
            return Err("api.certificate and api.key go together: give both.".into());
        }
        let mut folders = self.device_folders.iter().flatten();
        if let Some(folder) = folders.find(|folder| !folder.is_absolute()) {
            return Err(format!(
                "\"{}\" in api.device_folders is no path from the root: write it as /srv/disks.",
                folder.display()
            ));
        }
        let over_tls = self.certificate.is_some()
            || matches!(self.address, ApiAddress::At(address) if !address.ip().is_loopback());
        if self.client_ca.is_some() && !over_tls {
            return Err("api.client_ca needs TLS: give api.certificate and api.key, too.".into());
        }
        let is_name = |name: &str| {
            let label = |label: &str| {
                !label.is_empty()
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            };
            name.len() <= 253 && name.split('.').all(label)
        };
        match self.names.iter().find(|name| name.parse::<IpAddr>().is_err() && !is_name(name)) {
            Some(wrong) => Err(format!(
                "\"{wrong}\" in api.names is no name of a machine: write it without scheme and \
                 port, as in node-a.example."
            )),
            None => Ok(()),
        }
    }
}

/// An address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ApiAddress {
    /// It is served on the socket of the data directory only.
    Off,
    /// It is served here.
    At(SocketAddr),
}

impl Default for ApiAddress {
    fn default() -> ApiAddress {
        ApiAddress::At((Ipv4Addr::LOCALHOST, API_PORT).into())
    }
}

impl FromStr for ApiAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ApiAddress, String> {
        if text == "off" {
            return Ok(ApiAddress::Off);
        }
        text.parse().map(canonical).map(ApiAddress::At).map_err(|_| {
            format!("\"{text}\" is no address with a port: write 127.0.0.1:{API_PORT}, or off")
        })
    }
}

impl TryFrom<String> for ApiAddress {
    type Error = String;

    fn try_from(text: String) -> Result<ApiAddress, String> {
        text.parse()
    }
}

impl From<ApiAddress> for String {
    fn from(address: ApiAddress) -> String {
        match address {
            ApiAddress::Off => "off".to_owned(),
            ApiAddress::At(address) => address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_without_scheme_and_port() {
        let check = |name: &str| Api { names: vec![name.to_owned()], ..Api::default() }.check();
        for name in ["node-a", "node-a.example", "10.0.0.1", "2001:db8::5"] {
            check(name).unwrap();
        }
        for name in ["", "https://node-a", "node-a:4480", "a b", "a..b", "*.example"] {
            assert!(check(name).unwrap_err().contains("in api.names"), "{name}");
        }
    }

    #[test]
    fn an_address_or_off() {
        for text in ["off", "127.0.0.1:4480", "[::1]:0"] {
            assert_eq!(String::from(text.parse::<ApiAddress>().unwrap()), text);
        }
        let mapped: ApiAddress = "[::ffff:127.0.0.1]:4480".parse().unwrap();
        assert_eq!(String::from(mapped), "127.0.0.1:4480");
        assert!("localhost".parse::<ApiAddress>().unwrap_err().contains("or off"));
    }
}
