//! Devices become a pool's: their superblocks are read, and the pool is claimed for its owner
//! (`FORMAT.md`, "One owner").

use crate::error::{Kind, PoolError};
use crate::journal::PoolJournals;
use crate::keeper::{Member, NewMember};
use crate::session::unusable;
use crate::store::Contents;
use crate::superblock::{EXTENT_BYTES, FORMAT_1, Superblock};
use crate::tenure::{Held, Owner, Tenure};
use bdev_redb::Label;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Gives a new UUID each time.
pub type Uuids = Box<dyn FnMut() -> Uuid + Send>;

/// By whom a pool is opened or made, and how.
#[derive(Default)]
pub struct Opening {
    /// Who has it from then on. Only what is of format 2 knows.
    pub owner: Owner,
    /// Now, in seconds since 1970.
    pub now_s: u64,
    /// Devices that hold something are overwritten when a pool is made. A pool is opened though another
    /// machine has not let go of it, or a process that was killed knew more of other devices that say
    /// that they are these.
    pub force: bool,
    /// How long a claim is waited with before it is read again: longer than another machine takes from
    /// reading a superblock to writing it, where one reaches these devices.
    pub settle: Duration,
    /// The pool gets this name.
    pub name: Option<String>,
    /// Where snapshots get their UUIDs from: without, they get none.
    pub uuids: Option<Uuids>,
}

/// Who a pool is open for.
pub(crate) struct Who {
    pub owner: Owner,
    /// Since when, in seconds since 1970.
    pub opened_s: u64,
    pub uuids: Option<Uuids>,
}

impl Opening {
    pub(crate) fn who(self) -> Who {
        Who { owner: self.owner, opened_s: self.now_s, uuids: self.uuids }
    }

    /// Who has a pool that is made.
    pub(crate) fn first_tenure(&self, journals: bool) -> Tenure {
        let held = Held::By { owner: self.owner.clone(), since_s: self.now_s, journals };
        Tenure { held, durable_s: self.now_s, ..Tenure::default() }
    }
}

/// What a claim found, for who goes on and for who has to give it back.
#[derive(Debug)]
pub(crate) struct Claim {
    /// Who had the pool; none in format 1.
    before: Option<Held>,
    /// Who has claimed it.
    by: Owner,
    /// A loss was counted.
    pub counted: bool,
}

impl Claim {
    /// Whether what the store tells may be a loss: the last owner did not let go of it.
    pub(crate) fn was_held(&self) -> bool {
        matches!(self.before, Some(Held::By { .. }))
    }
}

fn cannot_write(member: &Member, error: &std::io::Error) -> PoolError {
    let why = format!("Device {} cannot be written: {error}.", member.name);
    PoolError::new(Kind::Device, why)
}

/// Says that the pool is somebody's, on the device that has its metadata.
pub(crate) fn claim(
    member: &mut Member,
    opening: &Opening,
    journals: Option<&dyn PoolJournals>,
) -> Result<Claim, PoolError> {
    let superblock = &member.superblock;
    if superblock.format == FORMAT_1 || superblock.metadata_generation == 0 {
        return Ok(Claim { before: None, by: Owner::default(), counted: false });
    }
    let before = superblock.tenure.clone();
    if !opening.force {
        before.may_take(&opening.owner, &superblock.name)?;
    }
    let was_out = journals.map_or(Ok(false), |journals| journals.lost()).map_err(unusable)?;
    let cause = before.lost_before(&opening.owner, journals.is_some(), was_out);
    let mut tenure = before.clone();
    cause.into_iter().for_each(|cause| tenure.lose(cause, opening.now_s));
    if cause.is_some() || !matches!(before.held, Held::By { .. }) {
        tenure.durable_s = opening.now_s;
    }
    let (owner, since_s) = (opening.owner.clone(), opening.now_s);
    tenure.held = Held::By { owner, since_s, journals: journals.is_some() };
    member.superblock.tenure = tenure;
    let written = member.superblock.write_next(&*member.medium);
    written.map_err(|error| cannot_write(member, &error))?;
    std::thread::sleep(opening.settle);
    stays(member, opening)?;
    let by = opening.owner.clone();
    Ok(Claim { before: Some(before.held), by, counted: cause.is_some() })
}

/// Whether nobody else has claimed the pool since.
fn stays(member: &Member, opening: &Opening) -> Result<(), PoolError> {
    let failed = |error| PoolError::new(Kind::Device, format!("Device {}: {error}.", member.name));
    let now = Superblock::read(&*member.medium).map_err(failed)?;
    if now == member.superblock {
        return Ok(());
    }
    now.tenure.may_take(&opening.owner, &now.name)?;
    let why = format!("Pool \"{}\" was opened by another process at the same time.", now.name);
    Err(PoolError::new(Kind::InUse, why))
}

/// Who has a pool that is given back: who had it before. What this machine lost with its last boot is
/// counted, and not once more with each attempt.
fn held_before(before: &Held, claim: &Claim) -> Held {
    match before {
        Held::By { owner, since_s, journals }
            if claim.counted && owner.machine == claim.by.machine =>
        {
            Held::By { owner: claim.by.clone(), since_s: *since_s, journals: *journals }
        }
        other => other.clone(),
    }
}

/// The pool is not opened after all: it is whose it was before. What was counted stays.
pub(crate) fn give_back(member: NewMember, claim: &Claim) {
    let Some(before) = &claim.before else { return };
    let given = Superblock::read(&*member.medium).map(|mut superblock| {
        superblock.tenure.held = held_before(before, claim);
        superblock.write_next(&*member.medium)
    });
    match given {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(device = member.name, %error, "a claim stays"),
        Err(error) => tracing::warn!(device = member.name, %error, "a claim stays"),
    }
}

/// Devices that say that they are of one pool, each of them once: the pool, and which of them has its
/// metadata.
pub(crate) fn read_superblocks(
    devices: Vec<NewMember>,
) -> Result<(Uuid, usize, Vec<Member>), PoolError> {
    let mut found: Vec<Member> = Vec::new();
    for new in devices {
        let superblock = Superblock::read(&*new.medium).map_err(|error| {
            PoolError::new(Kind::Device, format!("Device {}: {error}.", new.name))
        })?;
        let first = found.first().map_or(&superblock, |member| &member.superblock);
        if superblock.pool != first.pool {
            let why = format!(
                "Device {} is part of pool \"{}\" ({}), not of \"{}\" ({}): leave it out.",
                new.name, superblock.name, superblock.pool, first.name, first.pool
            );
            return Err(PoolError::new(Kind::Invalid, why));
        }
        if let Some(other) = found.iter().find(|other| other.superblock.uuid == superblock.uuid) {
            let why = format!(
                "Devices {} and {} both are device {} of the pool: one is a copy of the other, \
                 leave it out.",
                other.name, new.name, superblock.uuid
            );
            return Err(PoolError::new(Kind::Invalid, why));
        }
        found.push(Member::new(new, superblock));
    }
    let generation = |at: &usize| found[*at].superblock.metadata_generation;
    match (0..found.len()).max_by_key(generation) {
        Some(with) => Ok((found[with].superblock.pool, with, found)),
        None => Err(PoolError::new(Kind::Invalid, "No device was named.")),
    }
}

/// The devices that the pool has, by number; all of them are there. One whose adding or draining was
/// interrupted has a superblock and no row: it is none of them.
pub(crate) fn complete(
    mut found: Vec<Member>,
    contents: &Contents,
) -> Result<BTreeMap<u16, Member>, PoolError> {
    let mut members = BTreeMap::new();
    for (number, record) in &contents.devices {
        let is_it = |member: &Member| {
            (member.superblock.uuid, member.superblock.device) == (record.uuid, *number)
        };
        let (Some(at), Ok(place)) = (found.iter().position(is_it), u16::try_from(*number)) else {
            let why =
                format!("The pool's device {number} ({}) is missing: name it too.", record.uuid);
            return Err(PoolError::new(Kind::NotFound, why));
        };
        let member = found.swap_remove(at);
        let room = member.medium.bytes().saturating_sub(member.superblock.data_offset);
        if record.slots > room / EXTENT_BYTES {
            let why = format!("Device {} is smaller than it was: its end is missing.", member.name);
            return Err(PoolError::new(Kind::Device, why));
        }
        members.insert(place, member);
    }
    Ok(members)
}

/// The pool gets another name: its other devices first, then the one whose name counts.
pub(crate) fn rename(
    members: &mut BTreeMap<u16, Member>,
    store: &crate::store::Store,
    name: &str,
) -> Result<(), PoolError> {
    let with = metadata_device(members);
    let last = members.len();
    let mut order: Vec<u16> = members.keys().copied().collect();
    order.sort_by_key(|number| (Some(*number) == with).then_some(last));
    for number in order {
        let member = members.get_mut(&number).expect("one of them");
        let written = match Some(number) == with {
            // The store writes it, too.
            true => store
                .change_superblock(|superblock| superblock.name = name.to_owned())
                .map(|now| member.superblock = now),
            false => {
                member.superblock.name = name.to_owned();
                member.superblock.write_next(&*member.medium)
            }
        };
        written.map_err(|error| cannot_write(member, &error))?;
    }
    Ok(())
}

/// The device that has the metadata.
pub(crate) fn metadata_device(members: &BTreeMap<u16, Member>) -> Option<u16> {
    let generation = |member: &Member| member.superblock.metadata_generation;
    let with = members.iter().filter(|(_, member)| generation(member) > 0);
    with.max_by_key(|(_, member)| generation(member)).map(|(number, _)| *number)
}
