//! Admin commands.

use super::engine::{Cq, Engine, Fate, Space, Sq};
use nvme_spec::feature::{Queues, SetFeatures, fid};
use nvme_spec::identify::{
    Identify, IdentifyController, IdentifyNamespace, LbaFormat, NamespaceList, NvmController, bits,
    cns, put_ascii,
};
use nvme_spec::log::{ErrorEntry, FirmwareSlots, GetLogPage, SmartLog, lid};
use nvme_spec::maintenance::Format;
use nvme_spec::opcode::admin;
use nvme_spec::property::version;
use nvme_spec::queue::{CreateCq, CreateSq, is_contiguous};
use nvme_spec::{Sqe, Status};
use zerocopy::IntoBytes;

/// The formats of every namespace: block bytes as a power of two, metadata bytes.
const FORMATS: [(u8, u16); 4] = [(9, 0), (12, 0), (12, 8), (16, 0)];

impl Engine {
    /// Does an admin command: status and dword 0, or nothing for one that waits.
    pub fn admin(&mut self, sqe: &Sqe) -> Option<(Status, u32)> {
        let ok = Some((Status::SUCCESS, 0));
        match sqe.opcode {
            admin::IDENTIFY => Some((self.identify(sqe), 0)),
            admin::SET_FEATURES => {
                let set = SetFeatures::of(sqe);
                let granted = u32::from(self.config.io_queues);
                let dw0 = match set.fid {
                    fid::QUEUES => Queues { submission: granted, completion: granted + 3 }.dword(),
                    fid::ASYNC_EVENTS => {
                        self.events_wanted = set.value;
                        0
                    }
                    _ => return Some((Status::INVALID_FIELD.dnr(), 0)),
                };
                Some((Status::SUCCESS, dw0))
            }
            admin::CREATE_CQ => Some((self.create_cq(sqe), 0)),
            admin::CREATE_SQ => Some((self.create_sq(sqe), 0)),
            admin::DELETE_SQ => Some((self.delete_sq(sqe.cdw10.get() as u16), 0)),
            admin::DELETE_CQ => Some((self.delete_cq(sqe.cdw10.get() as u16), 0)),
            admin::ASYNC_EVENT => {
                if self.event_requests.len() == 2 {
                    return Some((Status::AER_LIMIT, 0));
                }
                self.event_requests.push(sqe.cid());
                None
            }
            admin::ABORT => Some((Status::SUCCESS, self.abort(sqe.abort_sqid(), sqe.abort_cid()))),
            admin::GET_LOG_PAGE => Some((self.log(sqe), 0)),
            admin::DOORBELL_BUFFER if self.config.shadows => {
                let (shadows, events) = sqe.prps();
                for (what, page) in [("doorbells", shadows), ("event indices", events)] {
                    let mut bytes = [0; 4096];
                    assert!(self.bus.read(page, &mut bytes), "the pages are on the bus");
                    if bytes.iter().any(|byte| *byte != 0) {
                        self.blame(format!("{what} in memory that are not zero at first"));
                    }
                }
                self.shadows = Some((shadows, events));
                ok
            }
            admin::FORMAT_NVM => Some((self.format(sqe), 0)),
            admin::SANITIZE => {
                self.spaces.iter_mut().for_each(|space| space.data.fill(0));
                ok
            }
            _ => Some((Status::INVALID_OPCODE.dnr(), 0)),
        }
    }

    fn answer(&mut self, sqe: &Sqe, data: &[u8]) -> Status {
        let (prp1, prp2) = sqe.prps();
        if prp2 != 0 || !prp1.is_multiple_of(4096) {
            self.blame("admin data is one page");
        }
        if self.dma_write(prp1, data) { Status::SUCCESS } else { Status::DATA_TRANSFER_ERROR }
    }

    fn identify(&mut self, sqe: &Sqe) -> Status {
        let what = Identify::of(sqe);
        match what.cns {
            cns::CONTROLLER => {
                let data = self.identify_controller();
                self.answer(sqe, data.as_bytes())
            }
            cns::ACTIVE_NAMESPACES => {
                let nsids: Vec<u32> = self.spaces.iter().map(|space| space.nsid).collect();
                let list = NamespaceList::above(sqe.nsid(), nsids);
                self.answer(sqe, list.as_bytes())
            }
            cns::CSI_CONTROLLER => {
                let dmrsl = self.config.discards.unwrap_or(0).into();
                let data = NvmController { dmrsl, ..NvmController::default() };
                self.answer(sqe, data.as_bytes())
            }
            cns::NAMESPACE => {
                let found = self.spaces.iter().find(|space| space.nsid == sqe.nsid());
                let data = found.map(identify_namespace).unwrap_or_default();
                self.answer(sqe, data.as_bytes())
            }
            cns::NAMESPACE_DESCRIPTORS => {
                let mut data = [0; 4096];
                data[..4].copy_from_slice(&[3, 16, 0, 0]);
                data[4..20].copy_from_slice(&[sqe.nsid() as u8; 16]);
                self.answer(sqe, &data)
            }
            _ => Status::INVALID_FIELD.dnr(),
        }
    }

    fn identify_controller(&self) -> IdentifyController {
        let mut data = IdentifyController::default();
        put_ascii(&mut data.mn, "Software Controller");
        put_ascii(&mut data.sn, "SOFT0001");
        put_ascii(&mut data.fr, "1.0");
        data.mdts = self.config.mdts;
        // From then on there is a place for the limits of Dataset Management.
        let limits = self.config.discards.is_some();
        data.ver = if limits { version(2, 0, 0) } else { version(1, 4, 0) }.into();
        data.oaes = nvme_spec::aen::config::NAMESPACE.into();
        let shadows = if self.config.shadows { bits::oacs::DOORBELL_BUFFER } else { 0 };
        data.oacs = (bits::oacs::FORMAT | shadows).into();
        data.acl = 1;
        data.aerl = 1;
        data.elpe = 3;
        data.sqes = 0x66;
        data.cqes = 0x44;
        data.nn = 16.into();
        let zeroes = if self.config.write_zeroes { bits::oncs::WRITE_ZEROES } else { 0 };
        let discards = match self.config.discards {
            Some(_) => bits::oncs::DATASET_MANAGEMENT,
            None => 0,
        };
        data.oncs = (zeroes | discards).into();
        data.vwc = u8::from(self.config.cache);
        data.awupf = 7.into();
        data
    }

    fn create_cq(&mut self, sqe: &Sqe) -> Status {
        let create = CreateCq::of(sqe);
        let base = sqe.prps().0;
        if let Err(status) = self.check_queue(create.qid, create.entries, base, 16, sqe) {
            return status;
        }
        if self.cqs.contains_key(&create.qid) {
            return Status::INVALID_QUEUE_ID;
        }
        let CreateCq { qid, entries, vector } = create;
        self.add_cq(qid, Cq { base, entries, tail: 0, head: 0, phase: true, vector });
        Status::SUCCESS
    }

    fn create_sq(&mut self, sqe: &Sqe) -> Status {
        let create = CreateSq::of(sqe);
        let base = sqe.prps().0;
        if let Err(status) = self.check_queue(create.qid, create.entries, base, 64, sqe) {
            return status;
        }
        let known = self.sqs.contains_key(&create.qid) || !self.cqs.contains_key(&create.cqid);
        if known || self.faults.no_queues {
            return Status::INVALID_QUEUE_ID;
        }
        let CreateSq { qid, entries, cqid } = create;
        self.add_sq(qid, Sq { base, entries, head: 0, tail: 0, cqid, open: Vec::new() });
        Status::SUCCESS
    }

    fn check_queue(
        &mut self,
        qid: u16,
        entries: u32,
        base: u64,
        entry: usize,
        sqe: &Sqe,
    ) -> Result<(), Status> {
        if qid == 0 || qid > self.config.io_queues {
            return Err(Status::INVALID_QUEUE_ID);
        }
        if entries > u32::from(self.config.mqes) + 1 {
            return Err(Status::INVALID_QUEUE_SIZE);
        }
        let reachable = self.bus.find(base, entries as usize * entry).is_some();
        if !is_contiguous(sqe) || !base.is_multiple_of(4096) || !reachable {
            self.blame("a queue is contiguous, starts at a page and is on the bus");
            return Err(Status::INVALID_FIELD);
        }
        // A completion queue that is not zeros shows completions that never were.
        let mut last = [0; 4];
        if entry == 16 && self.dma_read(base + 12, &mut last) && last[2] & 1 != 0 {
            self.blame("a new completion queue has a phase tag set");
        }
        Ok(())
    }

    fn delete_sq(&mut self, qid: u16) -> Status {
        let Some(sq) = self.sqs.remove(&qid).filter(|_| qid > 0) else {
            return Status::INVALID_QUEUE_ID;
        };
        if !sq.open.is_empty() {
            self.blame("a queue with commands under way is deleted");
        }
        self.held.retain(|held| held.qid != qid);
        Status::SUCCESS
    }

    fn delete_cq(&mut self, qid: u16) -> Status {
        if qid == 0 || self.sqs.values().any(|sq| sq.cqid == qid) {
            self.blame("a completion queue is deleted after its submission queues");
            return Status::INVALID_QUEUE_ID;
        }
        if self.cqs.remove(&qid).is_some() { Status::SUCCESS } else { Status::INVALID_QUEUE_ID }
    }

    /// Ends a command that waits to be told to complete; not one that hangs.
    fn abort(&mut self, qid: u16, cid: u16) -> u32 {
        self.aborts.push((qid, cid));
        let at = self.held.iter().position(|held| (held.qid, held.sqe.cid()) == (qid, cid));
        let Some(at) = at.filter(|at| self.held[*at].fate == Fate::Later) else { return 1 };
        self.held[at].fate = Fate::Fail(Status::ABORT_REQUESTED);
        self.complete_at(at);
        0
    }

    fn log(&mut self, sqe: &Sqe) -> Status {
        let get = GetLogPage::of(sqe);
        let mut data = vec![0; 4096];
        match get.lid {
            lid::SMART => {
                let temperature = 311.into();
                let smart = SmartLog { temperature, percentage_used: 7, ..SmartLog::default() };
                data[..512].copy_from_slice(smart.as_bytes());
            }
            lid::ERROR => {
                let entry = ErrorEntry { error_count: 5.into(), ..ErrorEntry::default() };
                data[..64].copy_from_slice(entry.as_bytes());
            }
            lid::FIRMWARE_SLOT => {
                let mut slots = FirmwareSlots { afi: 1, ..FirmwareSlots::default() };
                put_ascii(&mut slots.revisions[0], "1.0");
                data[..512].copy_from_slice(slots.as_bytes());
            }
            lid::CHANGED_NAMESPACES => {}
            _ => return Status::INVALID_LOG_PAGE.dnr(),
        }
        let from = (get.lpo as usize).min(4096);
        let to = (from + get.bytes() as usize).min(4096);
        self.answer(sqe, &data[from..to])
    }

    fn format(&mut self, sqe: &Sqe) -> Status {
        let Some(&(power, metadata)) = FORMATS.get(usize::from(Format::lbaf_of(sqe))) else {
            return Status::INVALID_FIELD.dnr();
        };
        let Some(space) = self.spaces.iter_mut().find(|space| space.nsid == sqe.nsid()) else {
            return Status::INVALID_NAMESPACE.dnr();
        };
        let blocks = space.data.len() as u64 >> power;
        *space = Space { metadata_bytes: metadata, ..Space::new(space.nsid, 1 << power, blocks) };
        Status::SUCCESS
    }
}

fn identify_namespace(space: &Space) -> IdentifyNamespace {
    let mut data = IdentifyNamespace {
        nsze: space.blocks().into(),
        ncap: space.blocks().into(),
        nlbaf: FORMATS.len() as u8 - 1,
        nguid: [space.nsid as u8; 16],
        dlfeat: nvme_spec::identify::dlfeat::WRITE_ZEROES_DEALLOCATES | 1,
        ..IdentifyNamespace::default()
    };
    for (slot, (power, metadata)) in data.lbaf.iter_mut().zip(FORMATS) {
        *slot = LbaFormat { ms: metadata.into(), lbads: power, rp: 0 };
    }
    let is = |(power, metadata): &(u8, u16)| {
        1 << power == space.block_bytes && *metadata == space.metadata_bytes
    };
    data.flbas = FORMATS.iter().position(is).expect("made with one of the formats") as u8;
    data
}
