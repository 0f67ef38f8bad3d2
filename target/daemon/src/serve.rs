//! `forebay serve`.

use crate::arguments::ServeArgs;
use crate::configuration::configuration;
use crate::log;
use crate::signals::{Asked, Caught};
use node::config::{ApiAddress, Config, Forward, OldestTls};
use node::{ControlPlane, Node};
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use webui_api::security::AuditForward;
use webui_api::{Machine, Server, ServerConfig, StartError, TlsConfig, TlsFiles, World};
use webui_model::data_dir::{
    self, ADDRESS_FILE, AUDIT_LOG_FILE, CERTIFICATE_FILE, TOKEN_FILE, write_private,
};
use webui_model::{NewToken, Size};

/// Runs the target until SIGTERM or SIGINT.
pub fn serve(args: &ServeArgs) -> Result<(), String> {
    let config = configuration(args)?;
    let _log = start_log(args.log_json, log::filter()?);
    let mut signals = Caught::new()?;
    if config.control.is_some() {
        tracing::warn!(
            "control means nothing any more: the API's socket is in data_dir; take it out"
        );
    }
    for closed in data_dir::claim(&config.data_dir)? {
        tracing::warn!("{closed} It is closed now, and whoever has read it keeps what is in it.");
    }
    let node = Node::start(config.clone())?;
    let mut greeting = greeting(&node);
    let plane = ControlPlane::start(node)?;
    let (api, lines) = match start_api(&config, args, plane.clone()) {
        Ok(served) => served,
        Err(why) => {
            // What stops it comes first; that it could not be stopped well is said beside it.
            return Err(match plane.stop() {
                Ok(()) => why,
                Err(other) => format!("{why} {other}"),
            });
        }
    };
    let (certificate, again) = (api.certificate(), args.clone());
    plane.read_again_by(move || (configuration(&again), certificate.read()));
    greeting.push_str(&lines);
    cli::line!("{greeting}");
    let signal = loop {
        match signals.wait() {
            Asked::Stop(signal) => break signal,
            Asked::Reload => {
                plane.read_again();
            }
        }
    };
    tracing::info!(signal, "stopping: no new connections, commands under way end first");
    drop(api);
    // Left behind it does no harm: nothing answers there.
    let _ = std::fs::remove_file(config.data_dir.join(ADDRESS_FILE));
    let stopped = plane.stop();
    tracing::info!("stopped");
    stopped
}

/// Starts the API. Returns it, and what there is to say of it.
fn start_api(
    config: &Config,
    args: &ServeArgs,
    plane: Arc<ControlPlane>,
) -> Result<(Server, String), String> {
    let names = &config.api.names;
    let show_token = args.show_token || std::io::stdout().is_terminal();
    let in_data_dir = |name: &str| config.data_dir.join(name);
    let address = match config.api.address {
        ApiAddress::At(address) => Some(address),
        ApiAddress::Off => None,
    };
    let tls = address.map_or(Ok(None), |address| tls_files(config, address, names))?;
    let shown = tls.as_ref().map(|tls| webui_api::fingerprint(&tls.files)).transpose()?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let (tokens, audit) = (in_data_dir("tokens.json"), in_data_dir(AUDIT_LOG_FILE));
    let audit_forward = match config.audit.forward {
        Forward::Off => AuditForward::Off,
        Forward::Syslog => AuditForward::Syslog,
        Forward::Log => AuditForward::Log,
    };
    let server = ServerConfig {
        address,
        folder: config.data_dir.clone(),
        names: names.clone(),
        tls,
        tokens,
        audit,
        audit_forward,
        pages: Some(webui_pages::pages()),
    };
    let mut server =
        Server::start(server, plane, Arc::new(Machine::new())).map_err(|why| match why {
            StartError::Address(why) => {
                format!("{why} Give another address with --api, or --api off for no address.")
            }
            StartError::Other(why) => why,
        })?;
    let mut lines = String::new();
    let url = server.address().map(|address| match address.ip().is_unspecified() {
        true => format!("{scheme}://{}:{}", names_of(address, names)[0], address.port()),
        false => format!("{scheme}://{address}"),
    });
    if let Some(url) = &url {
        // A link lets its reader in: it is for somebody who is there alone.
        let code = show_token.then(|| server.make_code()).flatten();
        lines.push_str(&format!("\n{}\nAPI: {url}/api/v1", page_line(url, code)));
    }
    if let Some(fingerprint) = shown {
        lines.push_str(&format!("\nIts certificate has the SHA-256 {fingerprint}"));
    }
    if let Some(token) = server.take_first_token() {
        let NewToken { name, role, secret, .. } = token;
        // Where the output goes to a file or a log, so would the secret.
        lines.push_str(&match show_token {
            true => format!("\nToken of {name} ({role}), shown this once: {secret}"),
            false => format!(
                "\nToken of {name} ({role}): in {}, until another administrator has one",
                in_data_dir(TOKEN_FILE).display()
            ),
        });
    }
    // Last: whoever finds the address finds the rest, too.
    if let Some(url) = url {
        let path = in_data_dir(ADDRESS_FILE);
        write_private(&path, format!("{url}\n").as_bytes())
            .map_err(|error| format!("{} cannot be written: {error}.", path.display()))?;
    }
    Ok((server, lines))
}

/// Where browsers find the page, and how they are let in.
fn page_line(url: &str, code: Option<String>) -> String {
    match code {
        Some(code) => format!("Page for browsers, once and within 5 minutes: {url}/#/code/{code}"),
        None => format!("Page for browsers: {url} (forebay ui prints a link that signs in)"),
    }
}

/// The certificate that the API shows at this address: the one that was named; none on loopback; else
/// one of our own, which is made when it is missing.
fn tls_files(
    config: &Config,
    address: SocketAddr,
    names: &[String],
) -> Result<Option<TlsConfig>, String> {
    let in_data_dir = |name: &str| config.data_dir.join(name);
    let tls = |files, made_for| TlsConfig {
        files,
        made_for,
        client_ca: config.api.client_ca.clone(),
        tls12: config.api.tls == OldestTls::V12,
    };
    match (&config.api.certificate, &config.api.key) {
        (Some(certificate), Some(key)) => {
            let files = TlsFiles { certificate: certificate.clone(), key: key.clone() };
            Ok(Some(tls(files, None)))
        }
        _ if address.ip().is_loopback() => Ok(None),
        _ => {
            let (certificate, key) = (in_data_dir(CERTIFICATE_FILE), in_data_dir("api.key"));
            let files = TlsFiles { certificate, key };
            let names = names_of(address, names);
            make_certificate(&files, &in_data_dir("api.names"), &names)?;
            Ok(Some(tls(files, Some(names))))
        }
    }
}

/// Names and addresses that the API is reached by, those that were given first. Where it listens
/// on all addresses, this machine's own name for itself is among them.
fn names_of(address: SocketAddr, given: &[String]) -> Vec<String> {
    let mut names = given.to_vec();
    names.push(match address.ip().is_unspecified() {
        true => "localhost".to_owned(),
        false => address.ip().to_string(),
    });
    names.dedup();
    names
}

/// Makes a certificate for these names, unless there is one. The names are kept beside it: a machine
/// that got another address needs another certificate.
fn make_certificate(files: &TlsFiles, beside: &Path, names: &[String]) -> Result<(), String> {
    let wanted = names.join("\n");
    // A note that is empty is one that a power cut took.
    let made_for = std::fs::read_to_string(beside).ok().filter(|names| !names.is_empty());
    let same = made_for.as_ref() == Some(&wanted);
    if made_for.is_some() && !same {
        for path in [&files.certificate, &files.key] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{} cannot be removed: {error}.", path.display()));
                }
                _ => {}
            }
        }
    }
    if !same {
        // Durable before the certificate is: or the next start finds other names, and makes another.
        write_private(beside, wanted.as_bytes())
            .map_err(|error| format!("{} cannot be written: {error}.", beside.display()))?;
    }
    webui_api::self_signed(files, names, Machine::new().unix_ms())
}

/// Logs to standard error from a thread of its own, so that a reactor never waits for whoever reads
/// the log; what it cannot take is dropped. The log is written out when the guard is dropped.
fn start_log(json: bool, filter: EnvFilter) -> WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let log = log.with_ansi(colours);
    if json {
        log.json().init()
    } else {
        log.fmt_fields(log::ShownFields).init()
    }
    guard
}

/// Where hosts connect: name and port, and whether it is for discovery alone. A name that was given
/// stands for a listener on all addresses; without one there are those of the machine.
fn places(node: &Node, names: &[String]) -> Vec<((String, u16), bool)> {
    let mut places = Vec::new();
    for (address, listened, alone) in node.reachable() {
        let given = names.first().filter(|_| listened.ip().is_unspecified()).cloned();
        let name = given.unwrap_or_else(|| address.ip().to_string());
        places.push(((name, address.port()), alone));
    }
    places.dedup();
    places
}

/// What to type on a host, printed once everything is open.
fn greeting(node: &Node) -> String {
    let mut lines = vec!["Forebay is ready. On a host:".to_owned()];
    let everywhere = places(node, &node.config().api.names);
    let port = |(name, port): &(String, u16)| format!("-t tcp -a {name} -s {port}");
    let discovery = everywhere.iter().find(|(_, alone)| *alone).or(everywhere.first());
    if let Some((place, _)) = discovery {
        lines.push(format!("  nvme discover {}", port(place)));
    }
    if node.config().subsystems.is_empty() && node.wanted().namespaces().next().is_none() {
        lines
            .push("  (nothing is exported yet: forebay pool create, forebay volume create)".into());
    }
    for subsystem in &node.config().subsystems {
        for (place, _) in everywhere.iter().filter(|(_, alone)| !alone) {
            lines.push(format!("  nvme connect {} -n {}", port(place), subsystem.nqn));
        }
        if subsystem.allow_any_host {
            lines.push(format!("  ({} is open to any host that reaches it)", subsystem.nqn));
        }
    }
    let (reactors, each) = node.memory();
    let all = Size(each.0 * reactors as u64);
    lines.push(format!("Memory: {each} for each of {reactors} reactors, {all} in all (--memory)"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_anew_for_other_names() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { certificate: path("crt"), key: path("key") };
        let make = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            make_certificate(&files, &path("names"), &names).unwrap();
            webui_api::fingerprint(&files).unwrap()
        };
        let first = make(&["10.0.0.5", "localhost"]);
        assert_eq!(first.len(), 32 * 3 - 1);
        assert_eq!(make(&["10.0.0.5", "localhost"]), first);
        assert_ne!(make(&["10.0.0.6", "localhost"]), first);
        // One that somebody put there, whose names nobody noted, stays.
        std::fs::remove_file(path("names")).unwrap();
        let theirs = webui_api::fingerprint(&files).unwrap();
        assert_eq!(make(&["10.0.0.7"]), theirs);
        // A power cut that left the note without its contents makes no other certificate.
        std::fs::write(path("names"), "").unwrap();
        assert_eq!(make(&["10.0.0.7"]), theirs);
        assert_eq!(std::fs::read_to_string(path("names")).unwrap(), "10.0.0.7");
    }
}
