//! Configuration and certificates, read again.

use super::ControlPlane;
use crate::config::Config;
use webui_model::{EventKind, Object, ObjectKind, Severity};

impl ControlPlane {
    /// Takes over from a configuration that was read again what may change at any time, and says
    /// what became of it, and of the certificate of the API. What could not be read, or is wrong,
    /// leaves things as they are.
    pub fn reload(&self, config: Result<Config, String>, certificate: Result<(), String>) {
        let reloaded = config.and_then(|config| {
            let reloaded = self.with(|node| Ok(node.reload(&config)));
            reloaded.map_err(|refusal| refusal.message)?
        });
        match reloaded {
            Err(why) => self.say(
                Severity::Warning,
                format!("The configuration was read again, and stays as it was: {why}"),
            ),
            Ok(reloaded) => {
                let mut told = "The configuration was read again".to_owned();
                if !reloaded.changed.is_empty() {
                    told.push_str("; who may connect has changed for ");
                    told.push_str(&reloaded.changed.join(", "));
                }
                self.say(Severity::Info, format!("{told}."));
                if !reloaded.waiting.is_empty() {
                    let parts = reloaded.waiting.join(", ");
                    let why = format!("Changes of {parts} take effect at the next start.");
                    self.say(Severity::Warning, why);
                }
            }
        }
        if let Err(why) = certificate {
            let told = format!("The API shows the certificate that it had: {why}");
            self.say(Severity::Warning, told);
        }
    }

    fn say(&self, severity: Severity, message: String) {
        match severity {
            Severity::Info => tracing::info!("{message}"),
            _ => tracing::warn!("{message}"),
        }
        self.publish(EventKind::Changed, severity, Object::new(ObjectKind::Appliance, ""), message);
    }
}
