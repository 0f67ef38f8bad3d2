//! Learning what a controller and its namespaces are: at bring-up, and when namespaces changed.

use crate::admin::{Admin, Page, Purpose};
use crate::identity::{Identity, NamespaceIdentity};
use crate::lifecycle::State;
use crate::limits::{NAMESPACES, PAGE_BYTES};
use crate::namespace::Namespace;
use crate::shared::Failure;
use nvme_spec::feature::{Queues, SetFeatures, fid};
use nvme_spec::identify::{
    Identify, IdentifyController, IdentifyNamespace, NamespaceList, NvmController, bits, cns,
};
use nvme_spec::opcode::admin;
use nvme_spec::property::version;
use nvme_spec::queue::doorbell;
use nvme_spec::{Cqe, Sqe, aen, queue};
use std::collections::VecDeque;
use std::sync::Arc;
use zerocopy::FromBytes;

/// A question to the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Identify Controller.
    Controller,
    /// Identify, limits of the NVM command set.
    Limits,
    /// Set Features, Number of Queues.
    Queues,
    /// Doorbell Buffer Config.
    Doorbells,
    /// Set Features, Asynchronous Event Configuration.
    Events,
    /// Identify, active namespaces.
    List,
    /// Identify Namespace.
    Namespace(u32),
    /// Identify, Namespace Identification Descriptor list.
    Descriptors(u32),
}

/// What was learned so far.
pub(crate) struct Survey {
    identity: Option<Identity>,
    waiting: VecDeque<u32>,
    found: Vec<NamespaceIdentity>,
}

impl Survey {
    fn identity(&mut self) -> &mut Identity {
        self.identity.as_mut().expect("the controller is identified first")
    }

    fn next_namespace(&mut self) -> Option<Step> {
        self.waiting.pop_front().map(Step::Namespace)
    }

    /// Takes the answer to `step`: the next step, or `None` when all is known.
    fn learn(
        &mut self,
        step: Step,
        cqe: &Cqe,
        page: &Page,
        wants_shadows: bool,
    ) -> Result<Option<Step>, String> {
        let status = cqe.status();
        let well = status.is_success();
        let parsed = "4096 bytes make a structure";
        match step {
            Step::Controller if well => {
                let data = IdentifyController::ref_from_bytes(page).expect(parsed);
                let identity = self.identity.insert(Identity::parse(data));
                let is_recent = identity.version >= version(2, 0, 0);
                Ok(Some(if is_recent { Step::Limits } else { Step::Queues }))
            }
            Step::Controller => Err(format!("Identify Controller failed: {status}")),
            Step::Limits => {
                if well {
                    let data = NvmController::ref_from_bytes(page).expect(parsed);
                    self.identity().set_limits(data);
                }
                Ok(Some(Step::Queues))
            }
            Step::Queues if well => {
                let granted = Queues::from_dword(cqe.dw0.get());
                let both = granted.submission.min(granted.completion).min(0xffff);
                self.identity().io_queues = both as u16;
                let offers = self.identity().admin_commands & bits::oacs::DOORBELL_BUFFER != 0;
                Ok(Some(if offers && wants_shadows { Step::Doorbells } else { Step::Events }))
            }
            Step::Queues => Err(format!("setting the number of queues failed: {status}")),
            Step::Doorbells => {
                self.identity().shadow_doorbells = well;
                Ok(Some(Step::Events))
            }
            Step::Events => Ok(Some(Step::List)),
            Step::List => {
                // A controller of before the list has namespace 1.
                let list = NamespaceList::ref_from_bytes(page).expect(parsed);
                let nsids = if well { list.iter().take(NAMESPACES).collect() } else { vec![1] };
                self.waiting = nsids.into();
                Ok(self.next_namespace())
            }
            Step::Namespace(nsid) => {
                let data = IdentifyNamespace::ref_from_bytes(page).expect(parsed);
                let found = NamespaceIdentity::parse(nsid, data).filter(|_| well);
                let has_descriptors = self.identity().version >= version(1, 3, 0);
                match found {
                    Some(found) => self.found.push(found),
                    None => return Ok(self.next_namespace()),
                }
                let next = has_descriptors.then_some(Step::Descriptors(nsid));
                Ok(next.or_else(|| self.next_namespace()))
            }
            Step::Descriptors(_) => {
                if well && let Some(found) = self.found.last_mut() {
                    found.add_descriptors(page);
                }
                Ok(self.next_namespace())
            }
        }
    }
}

fn identify(cid: u16, page: u64, cns: u8, nsid: u32) -> Sqe {
    let mut sqe = Sqe::new(admin::IDENTIFY, cid, nsid);
    Identify { cns, cntid: 0, cns_specific: 0, csi: 0, uuid_index: 0 }.put(&mut sqe);
    sqe.set_prps(page, 0);
    sqe
}

fn set_feature(cid: u16, fid: u8, value: u32) -> Sqe {
    let mut sqe = Sqe::new(admin::SET_FEATURES, cid, 0);
    SetFeatures { fid, save: false, value }.put(&mut sqe);
    sqe
}

impl Admin {
    /// Begins to learn everything: the controller has just been enabled.
    pub(crate) fn survey_all(&mut self, now_ns: u64) {
        let (waiting, found) = (VecDeque::new(), Vec::new());
        self.survey = Some(Survey { identity: None, waiting, found });
        self.send_step(Step::Controller, now_ns);
    }

    /// Begins to learn what namespaces there are now.
    pub(crate) fn look_at_namespaces(&mut self, now_ns: u64) {
        if !matches!(self.state, State::Ready) || self.survey.is_some() {
            return;
        }
        let (waiting, found) = (VecDeque::new(), Vec::new());
        self.survey = Some(Survey { identity: self.identity.clone(), waiting, found });
        self.send_step(Step::List, now_ns);
    }

    fn send_step(&mut self, step: Step, now_ns: u64) {
        let queues = u32::from(self.options.io_queues.max(1));
        let shadows = [2, 3].map(|number| self.block.bus(number * PAGE_BYTES));
        let offered =
            self.survey.as_ref().and_then(|s| s.identity.as_ref()).map_or(0, |i| i.events);
        let due_ns = self.due(now_ns);
        self.send(Purpose::Survey(step), due_ns, |cid, page| match step {
            Step::Controller => identify(cid, page, cns::CONTROLLER, 0),
            Step::Limits => identify(cid, page, cns::CSI_CONTROLLER, 0),
            Step::Queues => {
                let wanted = Queues { submission: queues, completion: queues };
                set_feature(cid, fid::QUEUES, wanted.dword())
            }
            Step::Doorbells => queue::doorbell_buffers(cid, shadows[0], shadows[1]),
            Step::Events => {
                let health = 0x1f;
                let notices = offered & (aen::config::NAMESPACE | aen::config::FIRMWARE);
                set_feature(cid, fid::ASYNC_EVENTS, notices | health)
            }
            Step::List => identify(cid, page, cns::ACTIVE_NAMESPACES, 0),
            Step::Namespace(nsid) => identify(cid, page, cns::NAMESPACE, nsid),
            Step::Descriptors(nsid) => identify(cid, page, cns::NAMESPACE_DESCRIPTORS, nsid),
        });
    }

    /// An answer came.
    pub(crate) fn surveyed(&mut self, step: Step, cqe: &Cqe, page: &Page, now_ns: u64) {
        let Some(mut survey) = self.survey.take() else { return };
        let queues = self.options.io_queues;
        let fits = doorbell(queues, true, self.cap.dstrd) + 4 - 0x1000 <= PAGE_BYTES;
        let wants_shadows = self.options.shadow_doorbells && fits;
        match survey.learn(step, cqe, page, wants_shadows) {
            Ok(Some(next)) => {
                self.survey = Some(survey);
                self.send_step(next, now_ns);
            }
            Ok(None) => self.publish(survey, now_ns),
            Err(why) => self.die(Failure::Unusable(why)),
        }
    }

    /// Everything is known: lets the rest of the driver see it.
    fn publish(&mut self, survey: Survey, now_ns: u64) {
        let identity = survey.identity.expect("the controller is identified first");
        if let Some(before) = &self.identity
            && !before.is_same_drive(&identity)
        {
            let (was, is) = (&before.serial, &identity.serial);
            let why = format!("another drive answers: serial number {is}, not {was}");
            return self.die(Failure::Unusable(why));
        }
        let known = std::mem::take(&mut self.namespaces);
        for found in survey.found {
            let same =
                known.iter().find(|ns| ns.nsid() == found.nsid && ns.update(&found, &identity));
            let namespace = same.cloned();
            self.namespaces
                .push(namespace.unwrap_or_else(|| Arc::new(Namespace::new(found, &identity))));
        }
        let is_kept =
            |ns: &Arc<Namespace>| self.namespaces.iter().any(|kept| Arc::ptr_eq(kept, ns));
        known.iter().filter(|ns| !is_kept(ns)).for_each(|ns| ns.retire());
        self.identity = Some(identity);
        self.surveyed_all(now_ns);
    }
}
