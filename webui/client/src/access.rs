//! Which appliance is asked, and with what token.

use crate::client::Client;
use crate::failure::Failure;
use crate::http::Http;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use webui_model::data_dir::{self, ADDRESS_FILE, CERTIFICATE_FILE, TOKEN_FILE};

/// The API of an appliance that was told nothing else.
const DEFAULT_API: &str = "http://127.0.0.1:4480";

/// Which appliance to ask, and with what.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Its API; that of this machine unless given.
    pub api: Option<String>,
    /// A file with the token to show.
    pub token_file: Option<PathBuf>,
    /// The token itself; the file goes before it.
    pub token: Option<String>,
    /// The certificate to trust, in PEM.
    pub ca: Option<PathBuf>,
    /// The data directory of an appliance on this machine.
    pub data_dir: Option<PathBuf>,
}

/// An address as a person writes it: `https://host:port`, or without the scheme.
struct Address {
    base: String,
    secure: bool,
    loopback: bool,
}

impl Address {
    fn read(text: &str) -> Result<Address, Failure> {
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
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
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
    /// Finds the appliance and the token.
    ///
    /// # Errors
    /// What cannot be read, or would not be safe.
    pub fn open(&self) -> Result<Client, Failure> {
        let folder = self.data_dir.clone().unwrap_or_else(data_dir::default);
        let written = match (&self.api, &self.data_dir) {
            (Some(api), _) => Some(api.clone()),
            (None, Some(given)) => Some(address_in(given)?),
            (None, None) => read_if_there(&folder.join(ADDRESS_FILE))?,
        };
        let address = Address::read(written.as_deref().unwrap_or(DEFAULT_API))?;
        // The data directory's token is for the appliance of this machine only.
        let own = self.api.is_none() || address.loopback;
        let token = self.token(own.then_some(folder.as_path()))?;
        if token.is_some() && !address.secure && !address.loopback {
            return Err(Failure::Usage(format!(
                "Others could read the token on its way to {}: use https.",
                address.base
            )));
        }
        let certificate = folder.join(CERTIFICATE_FILE);
        let ca = match &self.ca {
            Some(ca) => Some(ca.clone()),
            None if own && address.secure && certificate.exists() => Some(certificate),
            None => None,
        };
        let http = Http::new(address.base, token, ca.as_deref())?;
        Ok(Client::new(http))
    }

    fn token(&self, folder: Option<&Path>) -> Result<Option<String>, Failure> {
        if let Some(path) = &self.token_file {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|e| format!("The token in {}: {e}.", path.display()))?;
            return Ok(Some(text.trim().to_owned()));
        }
        match &self.token {
            Some(token) if !token.is_empty() => Ok(Some(token.trim().to_owned())),
            _ => folder.map_or(Ok(None), |folder| read_if_there(&folder.join(TOKEN_FILE))),
        }
    }
}

/// The address of the API that is served from a data directory. One that was named is never passed
/// over for another appliance.
fn address_in(folder: &Path) -> Result<String, Failure> {
    let path = folder.join(ADDRESS_FILE);
    let told = std::fs::read_to_string(&path).map_err(|error| {
        let why = match error.kind() {
            ErrorKind::NotFound => "it is not there".to_owned(),
            _ => error.to_string(),
        };
        Failure::Failed(format!(
            "No appliance with an API runs in the data directory {}: {ADDRESS_FILE} cannot be \
             read, {why}. Give the --data-dir (or FOREBAY_DATA_DIR) of one that runs, or its --api.",
            folder.display()
        ))
    })?;
    Ok(told.trim().to_owned())
}

/// The text of a file without the line's end. A file that is not there or not ours to read is none:
/// the appliance will say that a token is missing.
fn read_if_there(path: &Path) -> Result<Option<String>, Failure> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => {
            Ok(None)
        }
        Err(error) => Err(Failure::Failed(format!("{} cannot be read: {error}.", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let address = Address::read(text).unwrap();
            assert_eq!((address.base.as_str(), address.loopback), (base, loopback), "{text}");
        }
        for text in ["", "ftp://a", "https://", "a b", "user@host", "host/api"] {
            assert!(matches!(Address::read(text), Err(Failure::Usage(_))), "{text}");
        }
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
    fn a_data_directory_that_was_named_is_the_one_that_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let mut access = access("", folder.path());
        access.api = None;
        for nowhere in [folder.path().to_owned(), "/nowhere".into(), "/dev/null".into()] {
            access.data_dir = Some(nowhere.clone());
            let why = access.open().err().unwrap().sentence().to_owned();
            assert!(why.contains(nowhere.to_str().unwrap()) && why.contains("--api"), "{why}");
        }
        std::fs::write(folder.path().join(ADDRESS_FILE), "http://127.0.0.1:9\n").unwrap();
        access.data_dir = Some(folder.path().to_owned());
        assert!(access.open().is_ok());
    }

    #[test]
    fn the_data_directorys_token_stays_on_its_machine() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(TOKEN_FILE), "secret\n").unwrap();
        let mut access = access("https://10.0.0.1:4480", folder.path());
        access.token_file = None;
        assert_eq!(access.token(None).unwrap(), None);
        assert_eq!(access.token(Some(folder.path())).unwrap().as_deref(), Some("secret"));
        // Without https, a token would have been refused.
        access.api = Some("http://10.0.0.1:4480".into());
        assert!(access.open().is_ok());
    }
}
