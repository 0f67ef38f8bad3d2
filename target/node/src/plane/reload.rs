//! Configuration and certificates, read again.

use super::ControlPlane;
use crate::config::Config;
use crate::unit::schedule::{Claim, Key};
use webui_model::{EventKind, Object, ObjectKind, Reloaded, Severity};

/// What reads the configuration file and the certificate of the API.
pub(super) type Reread =
    Box<dyn Fn() -> (Result<Config, String>, Result<(), String>) + Send + Sync>;

impl ControlPlane {
    /// Says how the files are read again, once they have been read for the first time.
    pub fn read_again_by(
        &self,
        reread: impl Fn() -> (Result<Config, String>, Result<(), String>) + Send + Sync + 'static,
    ) {
        // A second one would say the same.
        let _ = self.rereads.set(Box::new(reread));
    }

    /// Reads the files again, on SIGHUP and through the API; nothing while it starts.
    pub fn read_again(&self) -> Option<Reloaded> {
        let (config, certificate) = self.rereads.get()?();
        Some(self.take_over(config, certificate))
    }

    /// Takes over from a configuration that was read again what may change at any time, and says
    /// what became of it, and of the certificate of the API. What could not be read, or is wrong,
    /// leaves things as they are.
    fn take_over(
        &self,
        config: Result<Config, String>,
        certificate: Result<(), String>,
    ) -> Reloaded {
        let mut told = Reloaded::default();
        let reloaded = config.and_then(|config| {
            let claims = vec![Claim::sole(Key::Appliance)];
            let reloaded = self.change("taking over the configuration", claims, move |plane| {
                Ok(plane.node.reload(&config))
            });
            reloaded.map_err(|refusal| refusal.message)?
        });
        match reloaded {
            Err(why) => told
                .left
                .push(format!("The configuration was read again, and stays as it was: {why}")),
            Ok(reloaded) => {
                let mut done = "The configuration was read again".to_owned();
                if !reloaded.changed.is_empty() {
                    done.push_str("; who may connect has changed for ");
                    done.push_str(&reloaded.changed.join(", "));
                }
                told.done.push(format!("{done}."));
                if !reloaded.waiting.is_empty() {
                    let parts = reloaded.waiting.join(", ");
                    told.left.push(format!("Changes of {parts} take effect at the next start."));
                }
            }
        }
        if let Err(why) = certificate {
            told.left.push(format!("The API shows the certificate that it had: {why}"));
        }
        told.done.iter().for_each(|message| self.say(Severity::Info, message));
        told.left.iter().for_each(|message| self.say(Severity::Warning, message));
        told
    }

    fn say(&self, severity: Severity, message: &str) {
        match severity {
            Severity::Info => tracing::info!("{message}"),
            _ => tracing::warn!("{message}"),
        }
        self.publish(EventKind::Changed, severity, Object::new(ObjectKind::Appliance, ""), message);
    }
}
