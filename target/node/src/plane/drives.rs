//! NVMe drives of the machine, and what destroys everything on them.

use super::{ControlPlane, locked};
use crate::unit::schedule::{Claim, Key};
use drives::{Erase, PciAddress};
use nvme_spec::maintenance::{Sanitize, SecureErase};
use webui_model::{
    Drive, DriveAddress, DriveFormat, DriveHealth, DriveSanitize, Job, JobKind, Name, Object,
    ObjectKind, Refusal, SanitizeAction, Severity, Size,
};

/// NVMe drives of the machine, as operators see and erase them.
#[derive(Clone, Copy)]
pub(super) struct Drives<'a>(pub &'a ControlPlane);

impl Drives<'_> {
    pub(super) fn list(self) -> Result<Vec<Drive>, Refusal> {
        // The kernel and what is on each are asked, which may take a while.
        self.0.change("listing drives", Vec::new(), |plane| {
            let bdevs = &plane.node.bdevs;
            let mut drives = bdevs.drives().list().map_err(Refusal::device)?;
            for (name, place) in bdevs.places() {
                let address = place.address.to_string();
                let drive = drives.iter_mut().find(|drive| drive.address == address);
                if let (Some(drive), Ok(name)) = (drive, name.parse::<Name>()) {
                    drive.devices.push(name);
                }
            }
            Ok(drives)
        })
    }

    pub(super) fn health(self, device: &Name) -> Result<DriveHealth, Refusal> {
        let (drive, place) = self.0.with(|node| {
            node.bdevs.get(device.as_str()).map_err(|_| {
                Refusal::not_found(format!("There is no device {device}, or it is missing."))
            })?;
            let places = node.bdevs.places();
            let place = places.iter().find(|(name, _)| name == device.as_str());
            node.bdevs.drive(device.as_str()).zip(place.map(|(_, place)| *place)).ok_or_else(|| {
                Refusal::not_found(format!(
                    "Device {device} is no NVMe drive of the appliance's own: ask the kernel that \
                     has it."
                ))
            })
        })?;
        let device = device.clone();
        self.0.change(format!("asking device {device} for its health"), Vec::new(), move |_| {
            drive.tell_health(place.nsid).map_err(|why| {
                Refusal::device(format!("The drive of device {device} does not tell: {why}."))
            })
        })
    }

    pub(super) fn format(
        self,
        drive: &DriveAddress,
        request: &DriveFormat,
    ) -> Result<Job, Refusal> {
        let erase = match request.erase {
            webui_model::SecureErase::None => SecureErase::None,
            webui_model::SecureErase::UserData => SecureErase::UserData,
            webui_model::SecureErase::Cryptographic => SecureErase::Cryptographic,
        };
        let (nsid, block_bytes) = (request.namespace, request.block_bytes);
        let what = Erase::Format { nsid, block_bytes, erase };
        self.erase(drive, JobKind::Format, &what, request.force)
    }

    pub(super) fn sanitize(
        self,
        drive: &DriveAddress,
        request: &DriveSanitize,
    ) -> Result<Job, Refusal> {
        let action = match request.action {
            SanitizeAction::BlockErase => Sanitize::BlockErase,
            SanitizeAction::CryptoErase => Sanitize::CryptoErase,
            SanitizeAction::Overwrite => Sanitize::Overwrite(0),
        };
        self.erase(drive, JobKind::Sanitize, &Erase::Sanitize(action), request.force)
    }

    fn erase(
        self,
        drive: &DriveAddress,
        kind: JobKind,
        what: &Erase,
        force: bool,
    ) -> Result<Job, Refusal> {
        let address: PciAddress = drive.as_str().parse().map_err(Refusal::invalid)?;
        let claims = vec![Claim::sole(Key::Drive(address.to_string()))];
        let what = *what;
        self.0.change(format!("erasing drive {address}"), claims, move |plane| {
            let bdevs = &plane.node.bdevs;
            let there = bdevs.drives().is_there(address);
            there.map_err(|why| Refusal::not_found(format!("No drive: {why}.")))?;
            let devices = bdevs.places().into_iter();
            let devices = devices.filter(|(_, place)| place.address == address);
            let devices: Vec<String> = devices.map(|(name, _)| name).collect();
            if !devices.is_empty() {
                let devices = devices.join(" and ");
                return Err(Refusal::in_use(format!(
                    "Drive {address} is attached as {devices}: detach it first."
                )));
            }
            let begun = bdevs.drives().erase(address, &what, force);
            let (number, bytes) = begun.map_err(Refusal::refused)?;
            let reason = format!("the drive does it by itself, to {}", Size(bytes).rounded());
            let name = address.to_string();
            let job = locked(&plane.seen).jobs.erase(kind, number, &name, bytes, reason);
            let object = Object::new(ObjectKind::Drive, name);
            let doing = match kind {
                JobKind::Sanitize => "sanitized",
                _ => "formatted",
            };
            let message = format!("Drive {address} is being {doing}: job {}.", job.id);
            plane.publish(webui_model::EventKind::Changed, Severity::Warning, object, message);
            Ok(job)
        })
    }
}
