//! The certificate while the API is served: read again when its files change, made anew before it
//! ends, and told of when nobody does that.

use super::tls::{self, DAY_MS, TlsConfig};
use crate::app::App;
use crate::limits;
use ring::digest::Digest;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use webui_model::{Alert, EventKind, Object, ObjectKind, Severity};

/// Days before the end of a certificate at which an alert says so.
const ALERT_DAYS: u64 = 14;

/// The certificate that is shown.
pub(super) struct Certificate {
    config: TlsConfig,
    app: Arc<App>,
    /// What accepts connections from now on.
    acceptor: watch::Sender<Option<TlsAcceptor>>,
    seen: Mutex<Seen>,
}

struct Seen {
    /// The files as they were loaded.
    contents: Vec<u8>,
    ends_ms: u64,
    /// Files that could not be loaded, and at how many looks in a row they were there: half of a
    /// change is no reason to complain.
    wrong: Option<(Vec<u8>, u32)>,
}

impl Certificate {
    pub(super) fn new(
        config: TlsConfig,
        app: Arc<App>,
        acceptor: watch::Sender<Option<TlsAcceptor>>,
        contents: Digest,
        ends_ms: u64,
    ) -> Self {
        let seen = Seen { contents: contents.as_ref().to_vec(), ends_ms, wrong: None };
        Self { config, app, acceptor, seen: Mutex::new(seen) }
    }

    /// Reads the files again, whether they have changed or not.
    ///
    /// # Errors
    /// What is wrong with them, as a sentence; those before stay in use.
    pub(super) fn read_again(&self) -> Result<(), String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        self.load(&mut seen)
    }

    fn load(&self, seen: &mut Seen) -> Result<(), String> {
        // Before they are read: what changes meanwhile is read at the next look.
        let contents = tls::contents(&self.config);
        let loaded = tls::load(&self.config)?;
        self.acceptor.send_replace(Some(loaded.acceptor));
        let ends_ms = loaded.shown.valid_until_ms;
        self.app.shows(loaded.shown);
        (seen.contents, seen.ends_ms) = (contents.as_ref().to_vec(), ends_ms);
        seen.wrong = None;
        Ok(())
    }

    /// Looks after it. Blocks for as long as files are read and written.
    fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now_ms = self.app.world.unix_ms();
        let files = &self.config.files;
        if let Some(names) = &self.config.made_for
            && tls::is_due(files, now_ms)
            && let Err(why) = tls::self_signed(files, names, now_ms)
        {
            tracing::warn!(why, "the API's certificate is not made anew");
        }
        let contents = tls::contents(&self.config).as_ref().to_vec();
        if contents != seen.contents {
            self.changed(&mut seen, contents);
        }
        let alerts = self.alerts(&seen, now_ms);
        self.app.set_alerts(|own| own.certificate = alerts);
    }

    fn changed(&self, seen: &mut Seen, contents: Vec<u8>) {
        match self.load(seen) {
            Ok(()) => {
                let shown = tls::fingerprint(&self.config.files).unwrap_or_default();
                let message = format!("The API shows another certificate: its SHA-256 is {shown}.");
                self.publish(Severity::Info, message);
            }
            Err(why) => {
                let before = seen.wrong.take().filter(|(wrong, _)| *wrong == contents);
                let looks = before.map_or(1, |(_, looks)| looks.saturating_add(1));
                if looks == 2 {
                    let kept = "The API shows the certificate that it had";
                    self.publish(Severity::Warning, format!("{kept}: {why}"));
                }
                seen.wrong = Some((contents, looks));
            }
        }
    }

    fn publish(&self, severity: Severity, message: String) {
        let object = Object::new(ObjectKind::Appliance, "");
        let (log, at_ms) = (self.app.control.event_log(), self.app.world.unix_ms());
        log.publish(at_ms, EventKind::Changed, severity, object, message);
    }

    fn alerts(&self, seen: &Seen, now_ms: u64) -> Vec<Alert> {
        let left_ms = seen.ends_ms.saturating_sub(now_ms);
        if left_ms >= ALERT_DAYS * DAY_MS {
            return Vec::new();
        }
        let path = self.config.files.certificate.display();
        let (severity, message) = match left_ms {
            0 => (Severity::Critical, format!("The API's certificate {path} has ended.")),
            left => {
                let days = left.div_ceil(DAY_MS);
                let message = format!("The API's certificate {path} ends within {days} days.");
                (Severity::Warning, message)
            }
        };
        let advice = "Put another certificate, and its key, in its place: it is read by itself.";
        vec![Alert {
            id: "certificate-ends:API".into(),
            since_ms: now_ms,
            severity,
            object: Object::new(ObjectKind::Appliance, "API"),
            message,
            advice: advice.into(),
        }]
    }
}

/// Looks after a certificate until the server stops.
pub(super) async fn look_after(certificate: Arc<Certificate>, mut stopped: watch::Receiver<bool>) {
    loop {
        let certificate = Arc::clone(&certificate);
        let _ = tokio::task::spawn_blocking(move || certificate.look()).await;
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(limits::CERTIFICATE_LOOK) => {}
        }
    }
}
