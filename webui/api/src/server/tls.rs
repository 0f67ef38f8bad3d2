//! TLS: certificate and key from files, or made here.

use rcgen::{CertificateParams, KeyPair};
use ring::digest::{Context, Digest, SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring::default_provider};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use webui_model::Certificate;
use webui_model::data_dir::write_private;
use x509_parser::extensions::GeneralName;
use x509_parser::time::ASN1Time;

/// A certificate chain and its key, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// How the API is served over TLS.
#[derive(Clone, Debug)]
pub struct TlsConfig {
    /// Its certificate.
    pub files: TlsFiles,
    /// The names that the certificate was made for here, and is made for again before it ends; nothing
    /// if somebody has given it.
    pub made_for: Option<Vec<String>>,
    /// A file with certificates in PEM: who connects shows one that one of them has signed.
    pub client_ca: Option<PathBuf>,
    /// Whether TLS 1.2 is spoken beside TLS 1.3.
    pub tls12: bool,
}

/// Days for which a certificate is made: the most that clients take of one that nobody else signed.
const LIFE_DAYS: i64 = 825;
/// Days before its end at which it is made anew.
const RENEW_DAYS: u64 = 30;
/// Days for which it was good already when it was made: clocks differ.
const BEFORE_DAYS: i64 = 7;
pub(super) const DAY_MS: u64 = 24 * 3600 * 1000;

/// What was loaded from the files.
pub(super) struct Loaded {
    pub(super) acceptor: TlsAcceptor,
    /// What it says of itself.
    pub(super) shown: Certificate,
}

fn wrong(path: &Path, what: &dyn std::fmt::Display) -> String {
    format!("{} cannot be used for TLS: {what}.", path.display())
}

/// SHA-256 of all files of a configuration; one that cannot be read counts as empty.
pub(super) fn contents(config: &TlsConfig) -> Digest {
    let mut sum = Context::new(&SHA256);
    let TlsFiles { certificate, key } = &config.files;
    for path in [Some(certificate), Some(key), config.client_ca.as_ref()].into_iter().flatten() {
        let bytes = std::fs::read(path).unwrap_or_default();
        sum.update(&(bytes.len() as u64).to_le_bytes());
        sum.update(&bytes);
    }
    sum.finish()
}

/// Loads the files.
pub(super) fn load(config: &TlsConfig) -> Result<Loaded, String> {
    let TlsFiles { certificate, key } = &config.files;
    let chain = certificates(certificate)?;
    let own = config.made_for.is_some();
    let shown = described(&chain[0], own).map_err(|why| wrong(certificate, &why))?;
    let provider = Arc::new(default_provider());
    let versions: &[&SupportedProtocolVersion] =
        if config.tls12 { &[&TLS13, &TLS12] } else { &[&TLS13] };
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|e| e.to_string())?;
    let server = match &config.client_ca {
        Some(path) => server.with_client_cert_verifier(verifier(path, provider)?),
        None => server.with_no_client_auth(),
    };
    let server =
        server.with_single_cert(chain, read_key(key)?).map_err(|e| wrong(certificate, &e))?;
    Ok(Loaded { acceptor: TlsAcceptor::from(Arc::new(server)), shown })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| wrong(path, &e))?;
    match found.is_empty() {
        true => Err(wrong(path, &"it holds no certificate")),
        false => Ok(found),
    }
}

/// What looks at the certificates of clients.
fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| wrong(path, &e))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|e| wrong(path, &e))
}

/// Reads a key, which must be for its owner only: who reads it passes for this appliance. A key of
/// root's may be for a group, as Debian has them.
fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let mut file = File::open(path).map_err(|e| wrong(path, &e))?;
    let metadata = file.metadata().map_err(|e| wrong(path, &e))?;
    let for_group = if metadata.uid() == 0 { 0o040 } else { 0 };
    let others = metadata.mode() & 0o077 & !for_group;
    if metadata.is_file() && others != 0 {
        let sentence = format!("others can read or write this key: chmod 600 {}", path.display());
        return Err(wrong(path, &sentence));
    }
    let mut pem = Vec::new();
    file.read_to_end(&mut pem).map_err(|e| wrong(path, &e))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| wrong(path, &e))
}

/// When a certificate ends, in milliseconds since 1970-01-01 UTC.
fn end_of(certificate: &CertificateDer<'_>) -> Result<u64, String> {
    described(certificate, false).map(|described| described.valid_until_ms)
}

/// What a certificate says of itself.
fn described(certificate: &CertificateDer<'_>, own: bool) -> Result<Certificate, String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|e| e.to_string())?;
    let ms = |at: ASN1Time| u64::try_from(at.timestamp()).unwrap_or(0).saturating_mul(1000);
    let names = parsed.subject_alternative_name().map_err(|e| e.to_string())?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    Ok(Certificate {
        subject: parsed.subject().to_string(),
        issuer: parsed.issuer().to_string(),
        names: names.iter().filter_map(name).collect(),
        fingerprint: fingerprint_of(certificate),
        valid_from_ms: ms(parsed.validity().not_before),
        valid_until_ms: ms(parsed.validity().not_after),
        own,
    })
}

/// A name that a host may be reached by.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(Ipv4Addr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| Ipv6Addr::from(v6).to_string()),
        },
        _ => None,
    }
}

/// Makes a certificate that is signed with its own key, for these host names and addresses, unless
/// the files are there already and good for a while. A new one gets the key of the one before, so that
/// who trusts that trusts it too. The key's file is for the owner only.
///
/// # Errors
/// A sentence: a name that is none, or what the file system says.
pub fn self_signed(files: &TlsFiles, names: &[String], now_ms: u64) -> Result<(), String> {
    let there = files.certificate.exists() && files.key.exists();
    if there && !is_due(files, now_ms) {
        return Ok(());
    }
    let key = match there {
        true => {
            std::fs::read_to_string(&files.key).ok().and_then(|pem| KeyPair::from_pem(&pem).ok())
        }
        false => None,
    };
    let made = |e| format!("No certificate can be made for {}: {e}.", names.join(", "));
    let write = |path: &Path, text: String| {
        write_private(path, text.as_bytes())
            .map_err(|e| format!("{} cannot be written: {e}.", path.display()))
    };
    let key = match key {
        Some(key) => key,
        None => {
            let key = KeyPair::generate().map_err(made)?;
            write(&files.key, key.serialize_pem())?;
            key
        }
    };
    let mut asked = CertificateParams::new(names).map_err(made)?;
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let day = i64::try_from(DAY_MS / 1000).expect("a small number");
    let at = |days: i64| OffsetDateTime::from_unix_timestamp(now.saturating_add(days * day));
    if let (Ok(from), Ok(to)) = (at(-BEFORE_DAYS), at(LIFE_DAYS)) {
        (asked.not_before, asked.not_after) = (from, to);
    }
    let certificate = asked.self_signed(&key).map_err(made)?;
    write(&files.certificate, certificate.pem())
}

/// Whether a certificate that was made here ends soon. One that cannot be read is not replaced: loading
/// it says what is wrong.
pub(super) fn is_due(files: &TlsFiles, now_ms: u64) -> bool {
    let ends = certificates(&files.certificate).and_then(|chain| end_of(&chain[0]));
    ends.is_ok_and(|ends_ms| ends_ms < now_ms.saturating_add(RENEW_DAYS * DAY_MS))
}

/// SHA-256 of the server's own certificate, as programs show it: 32 pairs of digits with colons.
///
/// # Errors
/// A sentence: the file cannot be read, or holds no certificate.
pub fn fingerprint(files: &TlsFiles) -> Result<String, String> {
    let certificate = CertificateDer::from_pem_file(&files.certificate)
        .map_err(|e| format!("{} cannot be read: {e}.", files.certificate.display()))?;
    Ok(fingerprint_of(&certificate))
}

fn fingerprint_of(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&SHA256, certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}
