//! Which appliance is asked, and with what token.

use crate::client::Client;
use crate::failure::Failure;
use crate::http::{Http, OwnCertificate};
use std::net::{IpAddr, ToSocketAddrs};
use std::path::PathBuf;
use webui_model::data_dir::{self, ADDRESS_FILE, CERTIFICATE_FILE};

/// Which appliance to ask, and with what.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Its API; unless given that of this machine, over the socket of its data directory.
    pub api: Option<String>,
    /// A file with the token to show.
    pub token_file: Option<PathBuf>,
    /// The token itself; the file goes before it.
    pub token: Option<String>,
    /// The certificate to trust, in PEM.
    pub ca: Option<PathBuf>,
    /// The certificate to show, where the appliance asks for one.
    pub own: Option<OwnCertificate>,
    /// The data directory of an appliance on this machine.
    pub data_dir: Option<PathBuf>,
}

/// An address as a person writes it: `https://host:port`, or without the scheme.
struct Address {
    base: String,
    secure: bool,
    loopback: bool,
}

/// Whether every address that a name stands for is of this machine. Others could answer for one that
/// does not lead here, or that nobody knows.
fn leads_here(name: &str) -> bool {
    let found = (name, 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>);
    found.is_ok_and(|found| !found.is_empty() && found.iter().all(|at| at.ip().is_loopback()))
}

impl Address {
    fn read(text: &str, leads_here: impl Fn(&str) -> bool) -> Result<Address, Failure> {
        let wrong = || {
            Failure::Usage(format!(
                "\"{text}\" is no address of an API: write it as https://10.0.0.1:4480."
            ))
        };
        let (scheme, rest) = match text.trim().split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text.trim()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.is_empty() || rest.contains(['/', '@', '?', '#', ' ']) {
            return Err(wrong());
        }
        let host = match rest.strip_prefix('[') {
            Some(v6) => v6.split(']').next().unwrap_or(v6),
            None => rest.split(':').next().unwrap_or(rest),
        };
        let loopback = match host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => host == "localhost" && leads_here(host),
        };
        let secure = match scheme {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(wrong()),
            None => !loopback,
        };
        let scheme = if secure { "https" } else { "http" };
        Ok(Address { base: format!("{scheme}://{rest}"), secure, loopback })
    }
}

impl Access {
    /// Finds the appliance and the token. A token is only ever shown where one was named.
    ///
    /// # Errors
    /// What cannot be read, or would not be safe.
    pub fn open(&self) -> Result<Client, Failure> {
        let folder = self.data_dir.clone().unwrap_or_else(data_dir::default);
        let token = self.token()?;
        let Some(api) = &self.api else { return Ok(Client::new(Http::local(folder, token))) };
        let address = Address::read(api, leads_here)?;
        if token.is_some() && !address.secure && !address.loopback {
            return Err(Failure::Usage(format!(
                "Others could read the token on its way to {}: use https.",
                address.base
            )));
        }
        let certificate = folder.join(CERTIFICATE_FILE);
        let ca = match &self.ca {
            Some(ca) => Some(ca.clone()),
            None if address.loopback && address.secure && certificate.exists() => Some(certificate),
            None => None,
        };
        let here = address.loopback && !address.secure;
        let http = Http::new(address.base, here, token, ca.as_deref(), self.own.as_ref())?;
        Ok(Client::new(http))
    }

    /// Where browsers find the appliance's page: without a slash at its end.
    ///
    /// # Errors
    /// No address was given, and the appliance of the data directory is on none.
    pub fn page(&self) -> Result<String, Failure> {
        if let Some(api) = &self.api {
            return Ok(Address::read(api, leads_here)?.base);
        }
        let folder = self.data_dir.clone().unwrap_or_else(data_dir::default);
        let url = std::fs::read_to_string(folder.join(ADDRESS_FILE)).map_err(|_| {
            format!(
                "No appliance that serves its page says where in {}: start it with --api and an \
                 address, or name its address with --api here.",
                folder.display()
            )
        })?;
        Ok(url.trim().to_owned())
    }

    fn token(&self) -> Result<Option<String>, Failure> {
        if let Some(path) = &self.token_file {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|e| format!("The token in {}: {e}.", path.display()))?;
            return Ok(Some(text.trim().to_owned()));
        }
        let token = self.token.as_ref().map(|token| token.trim().to_owned());
        Ok(token.filter(|token| !token.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Address, Failure> {
        Address::read(text, |_| true)
    }

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, base, loopback) in [
            ("127.0.0.1:1", "http://127.0.0.1:1", true),
            ("localhost:1", "http://localhost:1", true),
            ("[::1]:1", "http://[::1]:1", true),
            ("http://127.9.9.9:1/", "http://127.9.9.9:1", true),
            ("10.0.0.1:1", "https://10.0.0.1:1", false),
            ("https://node-a:1", "https://node-a:1", false),
            ("http://node-a:1", "http://node-a:1", false),
            ("localhost.example:1", "https://localhost.example:1", false),
        ] {
            let address = read(text).unwrap();
            assert_eq!((address.base.as_str(), address.loopback), (base, loopback), "{text}");
        }
        for text in ["", "ftp://a", "https://", "a b", "user@host", "host/api"] {
            assert!(matches!(read(text), Err(Failure::Usage(_))), "{text}");
        }
    }

    #[test]
    fn localhost_is_this_machine_where_it_leads_here() {
        let elsewhere = |text| Address::read(text, |_| false).unwrap();
        assert!(!elsewhere("http://localhost:1").loopback);
        assert!(elsewhere("localhost:1").secure, "over TLS unless it is this machine");
        assert!(!leads_here("nobody-knows.invalid"));
        assert!(leads_here("127.0.0.1") && !leads_here("192.0.2.1"));
    }

    fn access(address: &str, folder: &Path) -> Access {
        let token_file = Some(folder.join("token"));
        std::fs::write(folder.join("token"), "secret\n").unwrap();
        let data_dir = Some(folder.to_owned());
        Access { api: Some(address.into()), token_file, data_dir, ..Access::default() }
    }

    #[test]
    fn a_token_never_goes_over_an_open_network() {
        let folder = tempfile::tempdir().unwrap();
        let refused = access("http://10.0.0.1:4480", folder.path()).open();
        assert!(matches!(refused, Err(Failure::Usage(why)) if why.contains("use https")));
        assert!(access("http://127.0.0.1:4480", folder.path()).open().is_ok());
        assert!(access("https://10.0.0.1:4480", folder.path()).open().is_ok());
    }

    #[test]
    fn a_token_is_one_that_was_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(data_dir::TOKEN_FILE), "secret\n").unwrap();
        let mut access = access("http://127.0.0.1:4480", folder.path());
        assert_eq!(access.token().unwrap().as_deref(), Some("secret"));
        access.token_file = None;
        assert_eq!(access.token().unwrap(), None, "the data directory's is for its reader");
        access.token = Some(" named \n".into());
        assert_eq!(access.token().unwrap().as_deref(), Some("named"));
    }

    #[test]
    fn a_data_directory_that_was_named_is_the_one_that_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(ADDRESS_FILE), "http://127.0.0.1:9\n").unwrap();
        let here = Access { data_dir: Some(folder.path().to_owned()), ..Access::default() };
        assert_eq!(here.page().unwrap(), "http://127.0.0.1:9");
        let elsewhere = Access { api: Some("node-a:1/".into()), ..here };
        assert_eq!(elsewhere.page().unwrap(), "https://node-a:1");
        for nowhere in [folder.path(), "/nowhere".as_ref(), "/dev/null".as_ref()] {
            let data_dir = Some(nowhere.to_owned());
            let client = Access { data_dir, ..Access::default() }.open().unwrap();
            let why = client.look(&[&"pools"]).err().unwrap().sentence().to_owned();
            assert!(why.contains(nowhere.to_str().unwrap()) && why.contains("--api"), "{why}");
        }
    }
}
