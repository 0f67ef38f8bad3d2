//! Which appliance a command asks, and how its answers are printed.

use crate::connection::Connection;
use clap::Args;
use std::path::PathBuf;
use webui_client::{Access, Failure, OwnCertificate};

/// Which appliance to ask, and how to print what it says.
#[derive(Args)]
#[command(next_help_heading = "Whom to ask")]
pub struct Api {
    /// The API of the appliance; unless given that of this machine, over the socket in its data
    /// directory, which root and the user that it runs as need no token for.
    #[arg(long, value_name = "URL", env = "FOREBAY_API", global = true)]
    pub api: Option<String>,
    /// A file with the token to show; FOREBAY_TOKEN may hold the token itself.
    #[arg(long, value_name = "FILE", global = true)]
    pub token_file: Option<PathBuf>,
    /// The certificate to trust, in PEM.
    #[arg(long, value_name = "FILE", env = "FOREBAY_CA", global = true)]
    pub ca: Option<PathBuf>,
    /// The certificate to show where the appliance asks for one, in PEM.
    #[arg(long, value_name = "FILE", env = "FOREBAY_CERT", requires = "cert_key", global = true)]
    pub cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, value_name = "FILE", env = "FOREBAY_CERT_KEY", requires = "cert", global = true)]
    pub cert_key: Option<PathBuf>,
    /// The data directory of an appliance on this machine.
    #[arg(long, value_name = "DIR", env = "FOREBAY_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Print what the API answers, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

impl Api {
    /// Where its page is.
    ///
    /// # Errors
    /// It has none that is known here.
    pub fn page(&self) -> Result<String, Failure> {
        let Api { api, data_dir, .. } = self;
        Access { api: api.clone(), data_dir: data_dir.clone(), ..Access::default() }.page()
    }

    /// Finds the appliance and the token.
    ///
    /// # Errors
    /// What cannot be read, or would not be safe.
    pub fn open(self) -> Result<Connection, Failure> {
        let Api { api, token_file, ca, cert, cert_key, data_dir, json } = self;
        let own = cert.zip(cert_key);
        let own = own.map(|(certificate, key)| OwnCertificate { certificate, key });
        // No flag holds a token itself: every user of a machine reads others' command lines.
        let token = std::env::var("FOREBAY_TOKEN").ok();
        let access = Access { api, token_file, token, ca, own, data_dir };
        Ok(Connection::new(access.open()?, json))
    }
}
