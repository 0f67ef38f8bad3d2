//! What is asked of an appliance: devices, pools, subsystems with their hosts, namespaces, listeners.
//! One model ([`Wanted`]), all rules of what may be asked ([`edit`]), what has to be done so that what
//! runs is what is wanted ([`diff`]), what a declaration asks for ([`plan`]), and where it is kept
//! ([`Store`]). What lies in a pool is in the pool; a namespace names its volume by UUID.
//!
//! The rules do no I/O, read no clock and draw no random numbers: what they have to know of what runs
//! they look up in [`Seen`], and UUIDs are arguments.

#![forbid(unsafe_code)]

mod change;
mod diff;
mod edit;
mod item;
mod limits;
mod listening;
mod plan;
mod request;
mod seen;
mod source;
mod store;
mod tables;

pub use change::{Change, Item, Key, Step};
pub use diff::diff;
pub use edit::{Edited, edit};
pub use item::{
    Declared, DeclaredBy, Device, DeviceSpec, Drive, ErrorRule, GonePool, ListenAt, Listener,
    Namespace, Pool, RemoteNamespace, Subsystem,
};
pub use limits::{DISCOVERY_NQN, NAMESPACES};
pub use listening::{leaves_ipv4, takes_in};
pub use plan::{Act, Planned, plan};
pub use request::{Request, Shown};
pub use seen::{Listening, Seen, SeenVolume};
pub use source::Source;
pub use store::{FileStore, Files, FolderFiles, Ledger, Revision, STATE_JSON, Store, StoreError};
pub use tables::Wanted;
pub use uuid::Uuid;
