//! Volumes and snapshots, as far as who uses them has to hear of what is done to them.

use super::Node;
use crate::state::Source;
use bdev::Bdev;
use std::sync::Arc;
use webui_api::Refusal;

impl Node {
    /// Exports a source no more. Nothing, if it is not exported.
    pub(crate) fn unexport(&mut self, source: &Source) -> Result<(), Refusal> {
        let Some(known) = self.state().namespace_of(source).cloned() else { return Ok(()) };
        self.forget_namespace(&known)
    }

    /// Refuses while hosts are connected to a source, unless forced.
    pub(crate) fn is_idle(&self, source: &Source, force: bool, what: &str) -> Result<(), Refusal> {
        let hosts = self.connected_to(source);
        if force || hosts.is_empty() {
            return Ok(());
        }
        Err(Refusal::in_use(format!(
            "{} connected to {source}: disconnect {} there, or force {what}.",
            match &hosts[..] {
                [host] => format!("{host} is"),
                hosts => format!("{} hosts are", hosts.len()),
            },
            if hosts.len() == 1 { "it" } else { "them" },
        )))
    }

    /// Tells hosts that a volume is of another size now.
    pub(crate) fn tell_size(&mut self, source: &Source) -> Result<(), Refusal> {
        let Some(pool) = source.pool().and_then(|pool| self.pools.get(pool)) else {
            return Ok(());
        };
        let Some(bdev) = pool.opened(source) else { return Ok(()) };
        let bdev: Arc<dyn Bdev> = bdev.clone();
        self.tell_of(&bdev).map_err(Refusal::unavailable)
    }

    /// A volume has another name: what is written down for people follows.
    pub(crate) fn renamed(
        &mut self,
        pool: &str,
        to: &str,
        volume: uuid::Uuid,
    ) -> Result<(), Refusal> {
        self.change_state(|state| {
            for known in &mut state.namespaces {
                if let Source::Volume { pool: of, uuid, name }
                | Source::Snapshot { pool: of, uuid, name, .. } = &mut known.source
                    && of == pool
                    && *uuid == volume
                {
                    to.clone_into(name);
                }
            }
        })
    }

    /// A snapshot is another volume's now: its export goes on.
    pub(crate) fn snapshot_moved(&mut self, from: &Source, to: &Source) -> Result<(), Refusal> {
        if let Some(pool) = from.pool().and_then(|pool| self.pools.get_mut(pool)) {
            pool.moved(from, to);
        }
        self.change_state(|state| {
            for known in state.namespaces.iter_mut().filter(|known| known.source.is(from)) {
                known.source = to.clone();
            }
        })
    }
}
