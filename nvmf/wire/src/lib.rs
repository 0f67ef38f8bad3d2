//! NVMe over Fabrics on the wire: PDUs, capsules, fabrics commands, discovery log, digests.
//!
//! Sans-I/O: bytes in, typed views out, and back. Layouts follow the NVM Express Base
//! Specification, revision 2.0, the NVMe over PCIe-independent fabrics chapters in it, the TCP
//! Transport Specification, revision 1.0, and the RDMA Transport Specification, revision 1.0.
#![forbid(unsafe_code)]

pub mod connect;
pub mod digest;
pub mod discovery;
pub mod nqn;
pub mod pdu;
pub mod property;
pub mod rdma;

pub use nqn::{Nqn, NqnError};
