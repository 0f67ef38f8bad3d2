//! TLS: certificate and key from files, or generated.

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use webui_model::data_dir::write_private;

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// What accepts TLS connections with these files.
pub(super) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, String> {
    let wrong = |path: &Path, what: &dyn std::fmt::Display| {
        format!("{} cannot be used for TLS: {what}.", path.display())
    };
    let certificates = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| wrong(&files.certificate, &e))?;
    if certificates.is_empty() {
        return Err(wrong(&files.certificate, &"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|e| wrong(&files.key, &e))?;
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_no_client_auth()
        .with_single_cert(certificates, key)
        .map_err(|e| wrong(&files.certificate, &e))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Makes a certificate that is signed with its own key, for these host names and addresses, unless
/// the files are there already. The key's file is for the owner only.
///
/// # Errors
/// A sentence: a name that is none, or what the file system says.
pub fn self_signed(files: &TlsFiles, names: &[String]) -> Result<(), String> {
    if files.certificate.exists() && files.key.exists() {
        return Ok(());
    }
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|e| format!("No certificate can be made for {}: {e}.", names.join(", ")))?;
    let write = |path: &Path, text: String| {
        write_private(path, text.as_bytes())
            .map_err(|e| format!("{} cannot be written: {e}.", path.display()))
    };
    write(&files.key, made.signing_key.serialize_pem())?;
    write(&files.certificate, made.cert.pem())
}

/// SHA-256 of the server's own certificate, as programs show it: 32 pairs of digits with colons.
///
/// # Errors
/// A sentence: the file cannot be read, or holds no certificate.
pub fn fingerprint(files: &TlsFiles) -> Result<String, String> {
    let certificate = CertificateDer::from_pem_file(&files.certificate)
        .map_err(|e| format!("{} cannot be read: {e}.", files.certificate.display()))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(pairs.join(":"))
}
