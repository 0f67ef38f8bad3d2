//! The machine under the appliance, where it is the appliance's own: its two slots, its end.

use super::{ControlPlane, now_ms};
use crate::executor::Task;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use init::{Installed, UpdateError};
use std::sync::atomic::{AtomicBool, Ordering};
use wanted::STATE_JSON;
use webui_model::{
    EventKind, EventLog, Object, ObjectKind, Refusal, RefusalKind, Severity, Slot, SlotState,
    Slots, UpdateInstall, UpdatePiece,
};

fn refused(why: impl Into<String>) -> Refusal {
    Refusal::new(RefusalKind::Refused, why.into())
}

fn refusal(error: UpdateError) -> Refusal {
    match error {
        UpdateError::NoSlots | UpdateError::Refused(_) => refused(error.to_string()),
        UpdateError::Failed(why) => Refusal::new(RefusalKind::Internal, why),
    }
}

fn state(state: init::SlotState) -> (SlotState, Option<String>) {
    match state {
        init::SlotState::Empty => (SlotState::Empty, None),
        init::SlotState::Good(title) => (SlotState::Good, Some(title)),
        init::SlotState::Trial(title) => (SlotState::Trial, Some(title)),
        init::SlotState::Failed(title) => (SlotState::Failed, Some(title)),
    }
}

/// The machine, as operators update and end it.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a>(pub &'a ControlPlane);

impl Machine<'_> {
    pub(super) fn slots(self) -> Result<Slots, Refusal> {
        let staged_bytes = self.0.slots.staged();
        let (running, all) = match self.0.slots.all() {
            Ok(found) => found,
            Err(UpdateError::NoSlots) => {
                let reason = UpdateError::NoSlots.to_string();
                return Ok(Slots { staged_bytes, reason, ..Slots::default() });
            }
            Err(error) => return Err(Refusal::new(RefusalKind::Internal, error.to_string())),
        };
        let slots: Vec<Slot> = all
            .into_iter()
            .map(|(slot, stands)| {
                let (state, title) = state(stands);
                Slot { slot: slot.to_string(), state, title }
            })
            .collect();
        let tried = slots.iter().find(|slot| slot.state == SlotState::Trial);
        let reason = match tried {
            Some(slot) if slot.slot == running.to_string() => "It is kept once it works.".into(),
            Some(slot) => format!("Slot {} is tried at the next start.", slot.slot),
            None => format!("It starts from slot {running}."),
        };
        Ok(Slots { running: Some(running.to_string()), slots, staged_bytes, reason })
    }

    pub(super) fn stage_update(self, piece: &UpdatePiece) -> Result<Slots, Refusal> {
        let bytes = STANDARD
            .decode(&piece.data)
            .map_err(|error| Refusal::invalid(format!("data is no base64: {error}.")))?;
        self.0.slots.stage(piece.offset, &bytes).map_err(refusal)?;
        self.slots()
    }

    pub(super) fn install_update(self, install: &UpdateInstall) -> Result<Slots, Refusal> {
        match self.0.slots.install(&install.signature, install.allow_older) {
            Ok(Installed { slot, version, older }) => {
                let older = if older { ", older than what runs," } else { "" };
                let what =
                    format!("Version {version}{older} is in slot {slot}, for the next start.");
                tell(&self.0.log, Severity::Info, what);
                self.slots()
            }
            Err(error) => {
                tell(&self.0.log, Severity::Warning, format!("An update was refused: {error}"));
                Err(refusal(error))
            }
        }
    }

    pub(super) fn end(self, restart: bool) -> Result<(), Refusal> {
        let end = if restart { init::End::Restart } else { init::End::PowerOff };
        init::end_machine(end).map_err(refused)
    }
}

/// The slot that the machine runs from, and what each one has.
type Found = Result<(init::Slot, Vec<(init::Slot, init::SlotState)>), UpdateError>;

/// What becomes of the state file that an older program has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// The image that runs is kept: nobody goes back to the older one.
    Goes,
    /// It is on trial.
    Waits,
    /// That cannot be known.
    Stays,
}

fn left(found: &Found) -> Left {
    let Ok((running, all)) = found else { return Left::Stays };
    match all.iter().find(|(slot, _)| slot == running) {
        Some((_, init::SlotState::Good(_))) => Left::Goes,
        Some((_, init::SlotState::Trial(_))) => Left::Waits,
        _ => Left::Stays,
    }
}

/// Whether a state file of an older program may be there that has to go one day.
pub(super) struct Leftover(AtomicBool);

impl Leftover {
    /// In an image it has to; a program that is in none is gone back from at any time.
    pub(super) fn in_folder(folder: &std::path::Path) -> Leftover {
        Leftover(AtomicBool::new(init::is_appliance() && folder.join(STATE_JSON).exists()))
    }
}

impl Machine<'_> {
    /// Takes away the state file of the older program when the image that runs is kept; on the
    /// executor, since the slots are on a disk.
    pub(super) fn look_at_leftover(self) {
        if !self.0.leftover.0.swap(false, Ordering::AcqRel) {
            return;
        }
        let Some(me) = self.0.me.upgrade() else { return };
        let task = Task::new("looking whether the image is kept", Vec::new());
        let again = me.clone();
        let job = move || match left(&me.slots.all()) {
            Left::Goes => match me.node.ledger.forget_old() {
                Ok(()) => tracing::info!("the state file of the older program is gone"),
                Err(error) => tracing::warn!("{error}"),
            },
            Left::Waits => me.leftover.0.store(true, Ordering::Release),
            Left::Stays => {}
        };
        let refused = move |_| again.leftover.0.store(true, Ordering::Release);
        self.0.node.executor.start(task, job, refused);
    }
}

fn tell(log: &EventLog, severity: Severity, what: String) {
    let object = Object::new(ObjectKind::Appliance, "image");
    log.publish(now_ms(), EventKind::Notice, severity, object, what);
}

#[cfg(test)]
mod tests {
    use super::*;
    use init::Slot::{A, B};
    use init::SlotState::{Empty, Failed, Good, Trial};

    #[test]
    fn what_an_older_program_left_stays_until_the_image_is_kept() {
        let at = |slots| left(&Ok((A, slots)));
        assert_eq!(at(vec![(A, Good("2".into())), (B, Good("1".into()))]), Left::Goes);
        assert_eq!(at(vec![(A, Trial("2".into())), (B, Good("1".into()))]), Left::Waits);
        assert_eq!(at(vec![(A, Failed("2".into())), (B, Good("1".into()))]), Left::Stays);
        assert_eq!(at(vec![(A, Empty), (B, Good("1".into()))]), Left::Stays);
        assert_eq!(left(&Err(UpdateError::NoSlots)), Left::Stays);
    }
}
