//! Where the API is served.

use super::canonical;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
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
    /// Certificate chain in PEM; one is made, signed with its own key, unless given.
    pub certificate: Option<PathBuf>,
    /// Its key in PEM.
    pub key: Option<PathBuf>,
}

/// An address, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ApiAddress {
    /// There is no API.
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
    fn an_address_or_off() {
        for text in ["off", "127.0.0.1:4480", "[::1]:0"] {
            assert_eq!(String::from(text.parse::<ApiAddress>().unwrap()), text);
        }
        let mapped: ApiAddress = "[::ffff:127.0.0.1]:4480".parse().unwrap();
        assert_eq!(String::from(mapped), "127.0.0.1:4480");
        assert!("localhost".parse::<ApiAddress>().unwrap_err().contains("or off"));
    }
}
