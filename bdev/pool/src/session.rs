//! A pool is opened: nobody else has it, and what a process that was killed knew is dealt with
//! (`FORMAT.md`, "The journal").

use crate::error::{Kind, PoolError};
use crate::journal::{Identities, Journals, PoolJournals, replay, speaks};
use crate::keeper::Member;
use crate::opening::{Claim, Opening};
use crate::record::DeviceRecord;
use crate::store::{Contents, Store, StoreError, Update};
use crate::tenure::Cause;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use uuid::Uuid;

/// What keeps a pool from being opened, where its store is what keeps it.
pub(crate) fn store_error(error: &StoreError) -> PoolError {
    PoolError::new(Kind::Device, format!("{error}."))
}

/// What keeps a pool from being opened, where journals are what keeps it.
pub(crate) fn unusable(error: io::Error) -> PoolError {
    let why = format!("What the process before left in memory cannot be used: {error}.");
    PoolError::new(Kind::Device, why)
}

/// Takes the pool for this process, and for one [`crate::Pool`] of it.
pub(crate) fn claim(
    journals: Option<&dyn Journals>,
    (pool, name): (Uuid, &str),
) -> Result<Option<Arc<dyn PoolJournals>>, PoolError> {
    let Some(journals) = journals else { return Ok(None) };
    journals.claim(pool).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => PoolError::new(
            Kind::InUse,
            format!(
                "Pool \"{name}\" ({pool}) is open already on this machine, and these devices say \
                 that they are it: they are a copy. Export the pool where it is open, or leave \
                 these alone."
            ),
        ),
        _ => unusable(error),
    })
}

/// What tells these devices from copies of them.
pub(crate) fn identities(members: &BTreeMap<u16, Member>) -> Identities {
    let identity = |member: &Member| (member.superblock.uuid, member.bdev.identity());
    members.values().map(identity).collect()
}

/// From now on journals speak of these devices.
pub(crate) fn take_over(
    journals: &dyn PoolJournals,
    members: &BTreeMap<u16, Member>,
) -> io::Result<()> {
    journals.discard()?;
    journals.set_devices(&identities(members))?;
    // It is counted.
    journals.set_lost(false)
}

/// What a process that was killed knew becomes durable, and its journals are no one's any more.
/// Whether volumes may write journals: not where others' are left.
pub(crate) fn begin(
    members: &BTreeMap<u16, Member>,
    store: &mut Store,
    contents: &mut Contents,
    journals: Option<&dyn PoolJournals>,
    (opening, claim): (&Opening, &Claim),
) -> Result<bool, PoolError> {
    let left = journals.map_or(Ok(Vec::new()), |journals| journals.left()).map_err(unusable)?;
    let others = match journals.filter(|_| left.iter().any(|words| speaks(words))) {
        Some(journals) => stranger(members, journals).map_err(unusable)?,
        None => None,
    };
    let mut lose = |store: &Store, cause| count(store, cause, opening, claim);
    match others {
        Some(why) if !opening.force => Err(PoolError::new(Kind::Refused, why)),
        Some(why) => {
            tracing::warn!("{why} It is opened without.");
            lose(store, Cause::Copy)?;
            commit(members, store, contents, Vec::new(), &mut |_, _| Ok(()))?;
            Ok(false)
        }
        None => {
            commit(members, store, contents, left, &mut lose)?;
            let taken = journals.map_or(Ok(()), |journals| take_over(journals, members));
            taken.map_err(unusable)?;
            Ok(true)
        }
    }
}

/// A device that is not the one that journals speak of, in a sentence.
fn stranger(
    members: &BTreeMap<u16, Member>,
    journals: &dyn PoolJournals,
) -> io::Result<Option<String>> {
    let Some(known) = journals.devices()? else { return Ok(None) };
    let now = identities(members);
    let is_it = |member: &&Member| {
        let uuid = &member.superblock.uuid;
        known.get(uuid) != now.get(uuid)
    };
    Ok(members.values().find(is_it).map(|member| {
        let nobody = || "another".to_owned();
        let uuid = &member.superblock.uuid;
        let before = known.get(uuid).cloned().flatten().unwrap_or_else(nobody);
        let now = now.get(uuid).cloned().flatten().unwrap_or_else(nobody);
        format!(
            "A process that was killed had answered writes to pool \"{}\" that are not on its \
             devices yet, and device {} is not the one that it had ({now}; it had {before}): it is \
             a copy, or was moved. Import the pool from the devices that it was on; or with \
             --force, without those writes.",
            member.superblock.name, member.name
        )
    }))
}

/// Counts a loss that only the store or the journals tell, unless one was counted with the claim.
fn count(store: &Store, cause: Cause, opening: &Opening, claim: &Claim) -> Result<(), PoolError> {
    if claim.counted || !claim.was_held() {
        return Ok(());
    }
    let counted = store.change_superblock(|superblock| {
        superblock.tenure.lose(cause, opening.now_s);
        superblock.tenure.durable_s = opening.now_s;
    });
    counted.map(drop).map_err(|error| store_error(&StoreError::Device(error)))
}

/// Begins the next session, with what journals of the last one say. `lose` is told what may be lost.
fn commit(
    members: &BTreeMap<u16, Member>,
    store: &mut Store,
    contents: &mut Contents,
    mut left: Vec<Vec<u64>>,
    lose: &mut dyn FnMut(&Store, Cause) -> Result<(), PoolError>,
) -> Result<(), PoolError> {
    let powers = new_powers(members, contents);
    if !powers.is_empty() {
        lose(store, Cause::DevicePower)?;
    }
    if !powers.is_empty() && !left.is_empty() {
        // They speak of blocks that may have been lost with a cache: what lay in their slots before
        // would be seen.
        tracing::warn!("a device was without power: what was not flushed before that is lost");
        left.clear();
    }
    let mut updates = replay(contents, &left).map_err(|error| store_error(&error))?;
    if !updates.is_empty() {
        tracing::info!(
            records = updates.len(),
            "the process before was killed: its journals count"
        );
        // What the journals speak of may be in the devices' caches.
        for member in members.values() {
            member.medium.flush().map_err(|error| {
                let why = format!("Device {} cannot be flushed: {error}.", member.name);
                PoolError::new(Kind::Device, why)
            })?;
        }
    }
    updates.extend(powers);
    updates.push(Update::Session(contents.session + 1));
    store.commit(&updates).map_err(|error| store_error(&error))?;
    updates.iter().for_each(|update| contents.apply(update));
    Ok(())
}

/// Devices that say something else of their power than when the pool was opened last.
fn new_powers(members: &BTreeMap<u16, Member>, contents: &Contents) -> Vec<Update> {
    let known = contents.devices.iter().filter_map(|(number, record)| {
        let power = members.get(&u16::try_from(*number).ok()?)?.bdev.power_session();
        let record = DeviceRecord { power, ..record.clone() };
        Some((*number, record))
    });
    let changed = known.filter(|(number, record)| contents.devices[number] != *record);
    changed.map(|(number, record)| Update::Device(number, Some(record))).collect()
}
