//! Admin commands.

use super::{ControllerInfo, NamespaceInfo, Session};
use crate::Error;
use crate::queue::{Data, MAX_DATA_BYTES};
use nvme_spec::feature::{GetFeatures, Queues, SetFeatures, fid};
use nvme_spec::identify::{IDENTIFY_BYTES, Identify, NamespaceList, NsDescriptors, cns, csi};
use nvme_spec::identify::{IdentifyController, IdentifyNamespace, NvmController};
use nvme_spec::log::GetLogPage;
use nvme_spec::opcode::admin as opcode;
use nvme_spec::{Cqe, Sqe};
use zerocopy::little_endian::U32;
use zerocopy::{FromZeros, IntoBytes};

impl Session {
    /// Any Identify structure.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn identify(
        &mut self,
        identify: Identify,
        nsid: u32,
        into: &mut [u8],
    ) -> Result<(), Error> {
        let mut sqe = Sqe::new(opcode::IDENTIFY, 0, nsid);
        identify.put(&mut sqe);
        let what = format!("Identify (CNS {:02x}h, namespace {nsid})", identify.cns);
        self.queue.succeed(&what, sqe, Data::In(into)).map(drop)
    }

    fn identify_cns<T: FromZeros + IntoBytes + zerocopy::FromBytes>(
        &mut self,
        cns: u8,
        nsid: u32,
    ) -> Result<Box<T>, Error> {
        let mut data = Box::new(T::new_zeroed());
        let identify = Identify { cns, cntid: 0, cns_specific: 0, csi: csi::NVM, uuid_index: 0 };
        self.identify(identify, nsid, data.as_mut_bytes())?;
        Ok(data)
    }

    /// Identify Controller.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn identify_controller(&mut self) -> Result<Box<IdentifyController>, Error> {
        self.identify_cns(cns::CONTROLLER, 0)
    }

    /// Identify Controller for the NVM command set. Older controllers do not have it.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn identify_nvm_controller(&mut self) -> Result<Box<NvmController>, Error> {
        self.identify_cns(cns::CSI_CONTROLLER, 0)
    }

    /// Identify Namespace.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn identify_namespace(&mut self, nsid: u32) -> Result<Box<IdentifyNamespace>, Error> {
        self.identify_cns(cns::NAMESPACE, nsid)
    }

    /// What a person or a bdev wants to know of the controller.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn controller(&mut self) -> Result<ControllerInfo, Error> {
        let id = self.identify_controller()?;
        let nvm = match self.identify_nvm_controller() {
            Ok(nvm) => Some(nvm),
            Err(error) if error.is_fatal() => return Err(error),
            Err(_) => None,
        };
        Ok(ControllerInfo::of(&id, nvm.as_deref(), self.cap))
    }

    /// What a person or a bdev wants to know of a namespace.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn namespace(&mut self, nsid: u32) -> Result<NamespaceInfo, Error> {
        let id = self.identify_namespace(nsid)?;
        let mut info = NamespaceInfo::of(nsid, &id);
        let mut page = [0; IDENTIFY_BYTES];
        let list = Identify {
            cns: cns::NAMESPACE_DESCRIPTORS,
            cntid: 0,
            cns_specific: 0,
            csi: 0,
            uuid_index: 0,
        };
        match self.identify(list, nsid, &mut page) {
            Ok(()) => NsDescriptors::new(&page).for_each(|descriptor| info.describe(descriptor)),
            Err(error) if error.is_fatal() => return Err(error),
            Err(_) => {}
        }
        Ok(info)
    }

    /// The identifiers of all active namespaces.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn active_namespaces(&mut self) -> Result<Vec<u32>, Error> {
        let mut all: Vec<u32> = Vec::new();
        loop {
            let after = all.last().copied().unwrap_or(0);
            let page: Box<NamespaceList> = self.identify_cns(cns::ACTIVE_NAMESPACES, after)?;
            // A list that does not rise would never end.
            let before = all.len();
            for nsid in page.iter() {
                if nsid > all.last().copied().unwrap_or(0) {
                    all.push(nsid);
                }
            }
            if all.len() - before < page.nsids.len() {
                return Ok(all);
            }
        }
    }

    /// Reads part of a log page: as many bytes as `into` has, which is a multiple of four, from
    /// `offset`.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn log_page(&mut self, page: GetLogPage, nsid: u32, into: &mut [u8]) -> Result<(), Error> {
        let mut at = page.lpo;
        for piece in into.chunks_mut(self.transfer_bytes()) {
            let numd = u32::try_from(piece.len() / 4).unwrap_or(u32::MAX).saturating_sub(1);
            let mut sqe = Sqe::new(opcode::GET_LOG_PAGE, 0, nsid);
            GetLogPage { lpo: at, numd, ..page }.put(&mut sqe);
            at = at.saturating_add(piece.len() as u64);
            let what = format!("Get Log Page {:02x}h", page.lid);
            self.queue.succeed(&what, sqe, Data::In(piece))?;
        }
        Ok(())
    }

    /// Bytes that an admin command may transfer on every controller.
    fn transfer_bytes(&self) -> usize {
        const { assert!(IDENTIFY_BYTES <= MAX_DATA_BYTES) };
        IDENTIFY_BYTES
    }

    /// Sets a feature. Returns the completion, whose dword 0 tells more for some features.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn set_feature(&mut self, fid: u8, value: u32) -> Result<Cqe, Error> {
        let mut sqe = Sqe::new(opcode::SET_FEATURES, 0, 0);
        SetFeatures { fid, save: false, value }.put(&mut sqe);
        self.queue.succeed(&format!("Set Features {fid:02x}h"), sqe, Data::None)
    }

    /// Gets a feature that is a dword.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn feature(&mut self, fid: u8) -> Result<u32, Error> {
        let mut sqe = Sqe::new(opcode::GET_FEATURES, 0, 0);
        sqe.cdw10 = U32::new(u32::from(GetFeatures::of(&sqe).fid) | u32::from(fid));
        let cqe = self.queue.succeed(&format!("Get Features {fid:02x}h"), sqe, Data::None)?;
        Ok(cqe.dw0.get())
    }

    /// Asks for `queues` I/O queues. Returns how many there are.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn set_queues(&mut self, queues: u16) -> Result<u16, Error> {
        let queues = u32::from(queues.max(1));
        let wanted = Queues { submission: queues, completion: queues };
        let cqe = self.set_feature(fid::QUEUES, wanted.dword())?;
        let granted = Queues::from_dword(cqe.dw0.get());
        let least = granted.submission.min(granted.completion).min(queues);
        Ok(u16::try_from(least).unwrap_or(u16::MAX))
    }

    /// Says that this host is alive.
    ///
    /// # Errors
    /// The command's, or the connection's.
    pub fn keep_alive(&mut self) -> Result<(), Error> {
        let sqe = Sqe::new(opcode::KEEP_ALIVE, 0, 0);
        self.queue.succeed("Keep Alive", sqe, Data::None).map(drop)
    }
}
