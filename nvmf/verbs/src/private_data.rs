//! What hosts ask for when they connect: the private data of the connection manager's messages
//! (NVMe/RDMA Transport Specification, "RDMA_CM_REQUEST Private Data Format").

use nvmf_wire::rdma::{CmAccept, CmRequest, Reject};
use zerocopy::FromBytes;
use zerocopy::little_endian::U16;

/// The queues that a target has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// I/O queues of one controller.
    pub io: u16,
    /// Entries of the largest queue.
    pub entries: u16,
}

/// What a host asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The queue: 0 for the admin queue.
    pub qid: u16,
    /// Entries of the queue, which the host sends at most at a time.
    pub entries: u16,
    /// RDMA READs of ours that the host's side answers at a time.
    pub reads: u8,
}

impl Ask {
    /// Understands private data that asks for one of `queues`. `reads` is what the connection
    /// manager says of the host's inbound read depth. Bytes beyond the format are padding of the connection manager.
    ///
    /// # Errors
    /// What the host is told.
    pub fn parse(data: &[u8], reads: u8, queues: &Queues) -> Result<Ask, Reject> {
        let (request, _) =
            CmRequest::ref_from_prefix(data).map_err(|_| Reject::PrivateDataLength)?;
        if request.recfmt.get() != 0 {
            return Err(Reject::Recfmt);
        }
        if request.qid.get() > queues.io {
            return Err(Reject::Qid);
        }
        // HSQSIZE is zero-based, HRQSIZE is not. A queue has two entries at least.
        let sends = request.hsqsize.get();
        if sends == 0 || sends >= queues.entries {
            return Err(Reject::HsqSize);
        }
        if request.hrqsize.get() == 0 {
            return Err(Reject::HrqSize);
        }
        // Without RDMA READ no data of a write can be fetched.
        if reads == 0 {
            return Err(Reject::Ird);
        }
        Ok(Ask { qid: request.qid.get(), entries: sends + 1, reads })
    }
}

/// The private data that accepts: `receives` is what we have for the host's SENDs.
pub fn accept_data(receives: u16) -> CmAccept {
    CmAccept { recfmt: U16::new(0), crqsize: U16::new(receives), rsvd4: [0; 28] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    const QUEUES: Queues = Queues { io: 128, entries: 1024 };

    fn request(recfmt: u16, qid: u16, hrqsize: u16, hsqsize: u16) -> Vec<u8> {
        let request = CmRequest {
            recfmt: U16::new(recfmt),
            qid: U16::new(qid),
            hrqsize: U16::new(hrqsize),
            hsqsize: U16::new(hsqsize),
            cntlid: U16::new(0),
            rsvd10: [0; 22],
        };
        request.as_bytes().to_vec()
    }

    #[test]
    fn a_linux_host_is_understood() {
        let mut data = request(0, 3, 128, 127);
        data.resize(56, 0);
        assert_eq!(Ask::parse(&data, 16, &QUEUES), Ok(Ask { qid: 3, entries: 128, reads: 16 }));
    }

    #[test]
    fn each_field_has_its_reject_code() {
        let cases = [
            (request(0, 0, 32, 31)[..31].to_vec(), 1, Reject::PrivateDataLength),
            (Vec::new(), 1, Reject::PrivateDataLength),
            (request(1, 0, 32, 31), 1, Reject::Recfmt),
            (request(0, QUEUES.io + 1, 32, 31), 1, Reject::Qid),
            (request(0, 0, 32, 0), 1, Reject::HsqSize),
            (request(0, 0, 32, QUEUES.entries), 1, Reject::HsqSize),
            (request(0, 0, 0, 31), 1, Reject::HrqSize),
            (request(0, 0, 32, 31), 0, Reject::Ird),
        ];
        for (data, reads, reject) in cases {
            assert_eq!(Ask::parse(&data, reads, &QUEUES), Err(reject));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_ask_within_limits_or_a_reject(
            data in proptest::collection::vec(any::<u8>(), 0..80),
            reads in any::<u8>(),
        ) {
            if let Ok(ask) = Ask::parse(&data, reads, &QUEUES) {
                prop_assert!(ask.entries >= 2 && ask.entries <= QUEUES.entries);
                prop_assert!(ask.qid <= QUEUES.io && ask.reads > 0 && data.len() >= 32);
            }
        }
    }
}
