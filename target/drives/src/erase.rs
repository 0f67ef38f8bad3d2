//! Drives that are formatted or sanitized: begun, looked at, and given back at the end.

use crate::bind::Consent;
use crate::drive::{Drive, Wanted};
use crate::erasure::{Erase, Erasure, Progress, refusal, request};
use crate::place::DrivePlace;
use crate::take::{Drives, lock};
use bdev_nvme::NamespaceIdentity;
use std::sync::atomic::Ordering;
use vfio::{Access, PciAddress};

impl Drives {
    /// Begins to do `erase` to the drive at `address`: its number, and how many bytes it concerns.
    ///
    /// # Errors
    /// A sentence: what is in the way, or what the drive cannot do. It is back with the driver that
    /// had it.
    pub fn erase(
        &self,
        address: PciAddress,
        erase: &Erase,
        force: bool,
    ) -> Result<(u64, u64), String> {
        self.begin(address, erase, force).map_err(|why| format!("Drive {address}: {why}."))
    }

    fn begin(&self, address: PciAddress, erase: &Erase, force: bool) -> Result<(u64, u64), String> {
        if self.drive(address).is_some() {
            return Err("it is attached: detach it first".to_owned());
        }
        self.refuse_while_erased(address)?;
        let before = self.host.drive(address)?;
        let findings = self.host.contents(&before);
        if let Some(why) = refusal(before.driver.as_deref(), &findings, force) {
            return Err(why);
        }
        // What is in the way of losing its data was looked at; now it is only about its use.
        let (access, consent) = (Access::Vfio, Consent::Known);
        let wanted =
            Wanted { place: DrivePlace { address, nsid: 1 }, access, consent, serial: None };
        let order = |drive: &Drive| {
            let identity = drive.controller.identity().expect("it came up");
            request(erase, &identity, &drive.controller.namespaces(), force)
        };
        let (drive, request) = self.take(&wanted, order)?;
        let affected = drive.controller.namespaces().iter().map(bytes).sum();
        let number = self.erasures_begun.fetch_add(1, Ordering::Relaxed) + 1;
        let gives_back = before.driver.as_deref() == Some("nvme");
        lock(&self.erasures).push(Erasure::begin(number, address, gives_back, drive, request));
        Ok((number, affected))
    }

    /// Nothing, unless the drive is just being formatted or sanitized.
    ///
    /// # Errors
    /// That it is.
    pub(crate) fn refuse_while_erased(&self, address: PciAddress) -> Result<(), String> {
        if lock(&self.ending).contains(&address) {
            return Err("it is being given back".to_owned());
        }
        let erasures = lock(&self.erasures);
        let under_way = erasures.iter().find(|erasure| erasure.address == address);
        under_way.map_or(Ok(()), |erasure| {
            let what = if erasure.sanitizes { "sanitized" } else { "formatted" };
            Err(format!("it is being {what}: wait for the job's end"))
        })
    }

    /// Whether a drive is being formatted or sanitized.
    pub fn erases(&self) -> bool {
        !lock(&self.erasures).is_empty()
    }

    /// How far everything is that was begun, by number. What has ended is told once, and its drive is
    /// given back, which may take a while.
    pub fn look_at_erasures(&self) -> Vec<(u64, Progress)> {
        let (mut all, mut ended) = (Vec::new(), Vec::new());
        let mut erasures = lock(&self.erasures);
        for mut erasure in std::mem::take(&mut *erasures) {
            let progress = erasure.look();
            all.push((erasure.number, progress.clone()));
            if let Progress::Running(_) = progress {
                erasures.push(erasure);
            } else {
                tracing::info!(address = %erasure.address, ?progress, "format or sanitize has ended");
                lock(&self.ending).push(erasure.address);
                ended.push(erasure);
            }
        }
        drop(erasures);
        for erasure in ended {
            let (address, gives_back) = (erasure.address, erasure.gives_back);
            drop(erasure);
            if gives_back {
                self.give_back(address);
            }
            lock(&self.ending).retain(|other| *other != address);
        }
        all
    }
}

fn bytes(namespace: &NamespaceIdentity) -> u64 {
    let block_bytes = namespace.format.map_or(0, |format| u64::from(format.block_bytes));
    namespace.blocks.saturating_mul(block_bytes)
}
