//! The machine under the appliance, where it is the appliance's own: its two slots, its end.

use super::{ControlPlane, now_ms};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use init::{Installed, UpdateError};
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

fn tell(log: &EventLog, severity: Severity, what: String) {
    let object = Object::new(ObjectKind::Appliance, "image");
    log.publish(now_ms(), EventKind::Notice, severity, object, what);
}
