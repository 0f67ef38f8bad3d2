//! Format NVM and Sanitize (NVM Express Base Specification, "Format NVM command" and "Sanitize
//! command"), on drives that are not attached. A drive is taken for it, and is back with the kernel's
//! driver afterwards if that had it.

use crate::contents::Finding;
use crate::drive::Drive;
use bdev_nvme::{Answer, Health, Identity, NamespaceIdentity, Request, Ticket};
use nvme_spec::Sqe;
use nvme_spec::identify::bits::{fna, oacs};
use nvme_spec::maintenance::{Format, Sanitize, SanitizeLog, SanitizeState, SecureErase};
use reactor::thread;
use vfio::PciAddress;
use zerocopy::FromBytes;

/// What is to be done to a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erase {
    /// Format a namespace: with blocks of this size, or as large as they are.
    Format {
        /// The namespace.
        nsid: u32,
        /// Bytes in a block.
        block_bytes: Option<u32>,
        /// Whether the drive erases the data, too.
        erase: SecureErase,
    },
    /// Sanitize the drive.
    Sanitize(Sanitize),
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Under way: the share that is done, of 65,536. Format NVM does not tell.
    Running(u16),
    /// Ended well.
    Done,
    /// Ended otherwise, with the reason.
    Failed(String),
}

/// Format NVM or Sanitize under way on a drive.
pub(crate) struct Erasure {
    pub(crate) number: u64,
    pub(crate) address: PciAddress,
    /// The kernel's driver gets the drive back.
    pub(crate) gives_back: bool,
    drive: Drive,
    /// Whether the drive goes on by itself after the command has ended.
    pub(crate) sanitizes: bool,
    asked: Asked,
}

/// What an answer is waited for.
#[derive(Clone, Copy)]
enum Asked {
    Command(Ticket),
    Log(Ticket),
}

/// Whether what is known of a drive's contents is in the way of losing them.
pub(crate) fn refusal(driver: Option<&str>, findings: &[Finding], force: bool) -> Option<String> {
    if let Some(used) = findings.iter().find(|finding| finding.is_in_use()) {
        return Some(format!("{used}"));
    }
    if force {
        return None;
    }
    if driver != Some("nvme") {
        let who = driver.unwrap_or("no driver");
        return Some(format!(
            "what is on it cannot be told while {who} has it; say --force to lose it"
        ));
    }
    let found: Vec<String> = findings.iter().map(Finding::to_string).collect();
    let found = (!found.is_empty()).then(|| found.join(", "));
    found.map(|found| format!("the drive is not empty: {found}; say --force to lose it"))
}

/// The command for what is to be done, or why the drive cannot do it.
pub(crate) fn request(
    erase: &Erase,
    identity: &Identity,
    namespaces: &[NamespaceIdentity],
    force: bool,
) -> Result<Request, String> {
    match *erase {
        Erase::Format { nsid, block_bytes, erase } => {
            let format = format(nsid, block_bytes, erase, identity, namespaces)?;
            let scope = match erase {
                SecureErase::None => fna::FORMATS_ALL,
                _ => fna::FORMATS_ALL | fna::ERASES_ALL,
            };
            if identity.format_attributes & scope == 0 {
                return Ok(Request::Format(format));
            }
            if namespaces.len() > 1 && !force {
                return Err(format!(
                    "this drive can only format all of its {} namespaces at once; say --force to \
                     lose them all",
                    namespaces.len()
                ));
            }
            Ok(Request::Format(Format { nsid: Sqe::NSID_ALL, ..format }))
        }
        Erase::Sanitize(action) if identity.sanitize & action.capability() == 0 => {
            Err(format!("this drive cannot do that: it can do {}", actions(identity.sanitize)))
        }
        Erase::Sanitize(action) => Ok(Request::Sanitize(action)),
    }
}

/// What a drive can do to sanitize itself.
fn actions(capabilities: u32) -> String {
    let all = [
        (Sanitize::BlockErase, "block-erase"),
        (Sanitize::CryptoErase, "crypto-erase"),
        (Sanitize::Overwrite(0), "overwrite"),
    ];
    let can = all.iter().filter(|(action, _)| capabilities & action.capability() != 0);
    let can: Vec<&str> = can.map(|(_, name)| *name).collect();
    if can.is_empty() { "no Sanitize at all".to_owned() } else { can.join(", ") }
}

fn format(
    nsid: u32,
    block_bytes: Option<u32>,
    erase: SecureErase,
    identity: &Identity,
    namespaces: &[NamespaceIdentity],
) -> Result<Format, String> {
    if identity.admin_commands & oacs::FORMAT == 0 {
        return Err("this drive has no Format NVM command".to_owned());
    }
    if erase == SecureErase::Cryptographic && identity.format_attributes & fna::CRYPTO_ERASE == 0 {
        return Err("this drive cannot erase by forgetting its key: erase its data".to_owned());
    }
    let namespace = namespaces.iter().find(|namespace| namespace.nsid == nsid);
    let namespace = namespace.ok_or_else(|| format!("the drive has no namespace {nsid}"))?;
    let now = namespace.format.map_or(4096, |format| format.block_bytes);
    let wanted = block_bytes.unwrap_or(now);
    // Of formats with the same blocks the drive ranks the one that is fastest lowest.
    let fitting = namespace.formats.iter().zip(0u8..);
    let fitting = fitting.filter(|(f, _)| (f.block_bytes, f.metadata_bytes) == (wanted, 0));
    let best = fitting.min_by_key(|(f, _)| f.rank);
    let (_, lbaf) = best.ok_or_else(|| {
        let list: Vec<String> = namespace.formats.iter().map(ToString::to_string).collect();
        format!(
            "it has no format with blocks of {wanted} bytes and no metadata: it has {}",
            list.join(", ")
        )
    })?;
    Ok(Format { nsid, lbaf, erase })
}

/// What the log of a drive that sanitizes itself says.
fn sanitized(answer: &Answer) -> Progress {
    let log = match answer {
        Ok(data) => SanitizeLog::read_from_bytes(data).ok(),
        Err(why) => return Progress::Failed(format!("its log cannot be read: {why}")),
    };
    let Some(log) = log else { return Progress::Failed("its log is too short".to_owned()) };
    match log.state() {
        SanitizeState::Running => Progress::Running(log.progress.get()),
        SanitizeState::Done | SanitizeState::DoneAllocated => Progress::Done,
        SanitizeState::Failed => {
            Progress::Failed("the drive says that it failed: sanitize it again".to_owned())
        }
        state => Progress::Failed(format!("the drive says {state:?} instead of how far it is")),
    }
}

impl Erasure {
    /// Asks the drive for it.
    pub(crate) fn begin(
        number: u64,
        address: PciAddress,
        gives_back: bool,
        drive: Drive,
        request: Request,
    ) -> Erasure {
        let sanitizes = matches!(request, Request::Sanitize(_));
        let asked = Asked::Command(drive.controller.ask(request));
        drive.controller.poll(thread::clock_ns());
        Erasure { number, address, gives_back, drive, sanitizes, asked }
    }

    /// Does what is due; how far it is.
    pub(crate) fn look(&mut self) -> Progress {
        let controller = &self.drive.controller;
        controller.poll(thread::clock_ns());
        let (ticket, is_log) = match self.asked {
            Asked::Command(ticket) => (ticket, false),
            Asked::Log(ticket) => (ticket, true),
        };
        let Some(answer) = controller.answer(ticket) else {
            return match controller.health() {
                Health::Dead(why) => Progress::Failed(why.to_string()),
                _ => Progress::Running(0),
            };
        };
        let progress = match answer {
            answer if is_log => sanitized(&answer),
            Err(why) => Progress::Failed(why.to_string()),
            Ok(_) if self.sanitizes => Progress::Running(0),
            Ok(_) => Progress::Done,
        };
        if let Progress::Running(_) = progress {
            self.asked = Asked::Log(controller.ask(Request::sanitize_log()));
            controller.poll(thread::clock_ns());
        }
        progress
    }
}

impl Drive {
    /// Nothing, unless the drive sanitizes itself, or could not: it does no I/O then.
    pub(crate) fn refuse_while_sanitized(&self) -> Result<(), String> {
        if self.controller.identity().is_none_or(|identity| identity.sanitize == 0) {
            return Ok(());
        }
        let Ok(data) = self.ask(Request::sanitize_log()) else { return Ok(()) };
        match SanitizeLog::read_from_bytes(&data).map(|log| (log.state(), log.progress.get())) {
            Ok((SanitizeState::Running, share)) => Err(format!(
                "drive {} is being sanitized, {}% are done: wait until it has ended",
                self.address,
                u32::from(share) * 100 / 65536
            )),
            Ok((SanitizeState::Failed, _)) => Err(format!(
                "drive {} could not be sanitized and does nothing until it is: sanitize it again",
                self.address
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
