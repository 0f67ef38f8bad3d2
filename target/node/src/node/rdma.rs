//! NVMe/RDMA: the devices of the machine, and a transport on each reactor that uses them.

use super::Node;
use bdev::Memory;
use nvmf::Target;
use nvmf::registry::{Registry, Serves};
use nvmf::transport::Origin;
use nvmf_rdma::{CAPACITY, Config, RdmaTransport};
use std::io;
use std::sync::Arc;
use verbs::{Admit, Hardware, Inbox, VerbsNic};

/// The RDMA devices, and where each reactor's connections wait.
pub(crate) struct Rdma {
    pub hardware: Arc<Hardware>,
    pub inboxes: Vec<Arc<Inbox<Origin>>>,
}

/// Looks for RDMA devices; else, why there are none, as the end of the sentence "RDMA is off: ".
pub(super) fn open(memory: &Arc<Memory>) -> Result<Rdma, String> {
    match Hardware::open(memory) {
        Ok(hardware) => {
            let names: Vec<&str> = hardware.names().collect();
            tracing::info!(devices = names.join(", "), "RDMA");
            Ok(Rdma { hardware, inboxes: Vec::new() })
        }
        Err(why) => {
            tracing::info!("RDMA is off: {why}");
            Err(why)
        }
    }
}

impl Rdma {
    /// The target over RDMA of a reactor.
    pub(super) fn target(
        &mut self,
        registry: &Arc<Registry>,
        reactor: usize,
        stall_ns: u64,
    ) -> io::Result<Target<RdmaTransport<VerbsNic<Origin>>>> {
        let inbox = Inbox::new()?;
        let nic = VerbsNic::new(self.hardware.clone(), inbox.clone(), reactor, CAPACITY)?;
        self.inboxes.push(inbox);
        let transport = RdmaTransport::new(nic, Config { stall_ns, ..Config::default() });
        Ok(Target::new(transport, registry.clone(), reactor).with_stall_limit(stall_ns))
    }
}

impl Node {
    /// How RDMA is, in words.
    pub fn rdma_in_words(&self) -> String {
        match &self.rdma {
            Ok(rdma) => rdma.hardware.names().collect::<Vec<_>>().join(", "),
            Err(why) => format!("off: {why}"),
        }
    }

    /// What counts connections over RDMA among those of the process, and says what they came to.
    pub(super) fn rdma_admission(&self, serves: Serves) -> Admit<Origin> {
        let places = self.connections.clone();
        Arc::new(move |peer, local| {
            let place = places.take(peer.ip()).ok()?;
            Some(Origin { peer, local, serves, place })
        })
    }
}
