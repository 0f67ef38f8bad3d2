//! Which admin commands there are.

use crate::export::subsystem::SubsystemKind;
use nvme_spec::opcode::admin;

/// The admin commands of an I/O controller, besides the fabrics ones.
const NVM_COMMANDS: [u8; 7] = [
    admin::GET_LOG_PAGE,
    admin::IDENTIFY,
    admin::ABORT,
    admin::SET_FEATURES,
    admin::GET_FEATURES,
    admin::ASYNC_EVENT,
    admin::KEEP_ALIVE,
];

/// The admin commands of a discovery controller, besides the fabrics ones.
const DISCOVERY_COMMANDS: [u8; 6] = [
    admin::GET_LOG_PAGE,
    admin::IDENTIFY,
    admin::SET_FEATURES,
    admin::GET_FEATURES,
    admin::ASYNC_EVENT,
    admin::KEEP_ALIVE,
];

/// The admin commands of a kind of controller, besides the fabrics ones.
pub(super) fn commands(kind: &SubsystemKind) -> &'static [u8] {
    match kind {
        SubsystemKind::Nvm => &NVM_COMMANDS,
        SubsystemKind::Discovery(_) => &DISCOVERY_COMMANDS,
    }
}
