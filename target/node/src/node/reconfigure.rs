//! The configuration, read again while hosts are at work.

use super::Node;
use crate::config::Config;
use wanted::Request;

/// What became of a configuration that was read again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// Subsystems that other hosts may connect to from now on, by their names.
    pub changed: Vec<String>,
    /// Parts of the configuration that differ from the running one, and wait for the next start.
    pub waiting: Vec<&'static str>,
}

impl Node {
    /// Takes over from a configuration what may change at any time: who may connect to the
    /// subsystems that it declares.
    ///
    /// # Errors
    /// A sentence; what was taken over before stays so.
    pub(crate) fn reload(&self, new: &Config) -> Result<Reloaded, String> {
        let mut reloaded = Reloaded::default();
        let mut running = Config::clone(&self.config());
        for wanted in &new.subsystems {
            let declared = running.subsystems.iter_mut().find(|s| s.nqn == wanted.nqn);
            let Some(declared) = declared else { continue };
            let access = (&wanted.hosts, wanted.allow_any_host);
            if (&declared.hosts, declared.allow_any_host) == access {
                continue;
            }
            let request = Request::SetConfiguredHosts {
                nqn: wanted.nqn.clone(),
                hosts: wanted.hosts.clone(),
                allow_any_host: wanted.allow_any_host,
            };
            self.exports().change(&request).map_err(|refusal| refusal.message)?;
            declared.hosts.clone_from(&wanted.hosts);
            declared.allow_any_host = wanted.allow_any_host;
            self.config.set(running.clone());
            reloaded.changed.push(wanted.nqn.clone());
        }
        reloaded.waiting = differences(&running, new);
        Ok(reloaded)
    }
}

/// The parts of two configurations that differ, as a file names them.
fn differences(running: &Config, new: &Config) -> Vec<&'static str> {
    let parts = [
        ("data_dir", running.data_dir != new.data_dir),
        ("reactors", running.reactors != new.reactors),
        ("api", running.api != new.api),
        ("audit", running.audit != new.audit),
        ("tcp", running.tcp != new.tcp),
        ("bdev", running.bdevs != new.bdevs),
        ("subsystem", running.subsystems != new.subsystems),
        ("listener", running.listeners != new.listeners),
    ];
    parts.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
