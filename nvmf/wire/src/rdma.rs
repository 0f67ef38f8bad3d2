//! Private data of the RDMA connection manager (RDMA Transport Specification, "RDMA_CM").

use nvme_spec::layout;
use zerocopy::little_endian::U16;

layout! {
    /// Private data of RDMA_CM_REQUEST.
    pub struct CmRequest[32] {
        /// Record format, 0.
        0 => recfmt: U16,
        /// Queue: 0 the admin queue.
        2 => qid: U16,
        /// Receive queue entries of the host.
        4 => hrqsize: U16,
        /// Send queue entries of the host, zero-based.
        6 => hsqsize: U16,
        /// Controller, for an I/O queue.
        8 => cntlid: U16,
        /// Reserved.
        10 => rsvd10: [u8; 22],
    }

    /// Private data of RDMA_CM_ACCEPT.
    pub struct CmAccept[32] {
        /// Record format, 0.
        0 => recfmt: U16,
        /// Receive queue entries of the controller.
        2 => crqsize: U16,
        /// Reserved.
        4 => rsvd4: [u8; 28],
    }

    /// Private data of RDMA_CM_REJECT.
    pub struct CmReject[4] {
        /// Record format, 0.
        0 => recfmt: U16,
        /// Status; see [`Reject`].
        2 => sts: U16,
    }
}

/// Why a connection is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Reject {
    /// Invalid length of private data.
    PrivateDataLength = 1,
    /// Invalid record format.
    Recfmt = 2,
    /// Invalid queue identifier.
    Qid = 3,
    /// Invalid host send queue size.
    HsqSize = 4,
    /// Invalid host receive queue size.
    HrqSize = 5,
    /// No resources.
    NoResources = 6,
    /// Invalid inbound read depth.
    Ird = 7,
    /// Invalid outbound read depth.
    Ord = 8,
    /// Invalid controller identifier.
    Cntlid = 9,
}

impl Reject {
    /// The reason with this code, if there is one.
    pub const fn from_code(code: u16) -> Option<Reject> {
        Some(match code {
            1 => Reject::PrivateDataLength,
            2 => Reject::Recfmt,
            3 => Reject::Qid,
            4 => Reject::HsqSize,
            5 => Reject::HrqSize,
            6 => Reject::NoResources,
            7 => Reject::Ird,
            8 => Reject::Ord,
            9 => Reject::Cntlid,
            _ => return None,
        })
    }

    /// The private data that says so.
    pub fn private_data(self) -> CmReject {
        CmReject { recfmt: U16::new(0), sts: U16::new(self as u16) }
    }
}
