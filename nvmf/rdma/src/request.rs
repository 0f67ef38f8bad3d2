//! Commands under way, from their capsule to the end of their answer's SEND.

use nvmf::transport::{Carried, Command, Commands, ReqId, Stage};
use verbs::{PortId, Remote};

/// What came with a command.
#[derive(Debug, Default)]
pub(crate) struct Capsule {
    /// The host's memory for its data.
    pub remote: Option<Remote>,
    /// The receive that its data came in.
    pub receive: Option<(PortId, u16)>,
}

/// Commands that came over RDMA. Their data is read by one work request, and their answer is on its
/// way as so many.
#[derive(Debug)]
pub(crate) struct Rdma;

impl Carried for Rdma {
    type Capsule = Capsule;
    type Pull = ();
    type Answer = u32;

    fn is_released(capsule: &Capsule) -> bool {
        capsule.receive.is_none()
    }
}

/// All commands of a transport.
pub(crate) type Requests = Commands<Rdma>;

/// What the work requests of a command carry. Tags stay below 2^62.
pub(crate) fn tag(requests: &Requests, req: ReqId) -> u64 {
    u64::from(requests.get(req).uses) << 32 | u64::from(req.0)
}

/// The command that a tag means, if it is the one that has the place now.
pub(crate) fn untag(requests: &Requests, tag: u64) -> Option<(ReqId, &Command<Rdma>)> {
    let index = tag as u32;
    let request = requests.find(index)?;
    let is_it = u64::from(request.uses) == tag >> 32 && !matches!(request.stage, Stage::Free);
    is_it.then_some((ReqId(index), request))
}
