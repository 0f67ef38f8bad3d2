//! The devices of a pool: added, grown, and where its metadata is.

use super::{Keeper, Member};
use crate::devices::{Child, DEVICES, atomic_bytes};
use crate::error::{Kind, PoolError};
use crate::journal::Source;
use crate::opening::metadata_device;
use crate::record::{DeviceRecord, DeviceState, NodeRecord, NodeState};
use crate::session;
use crate::store::Update;
use crate::superblock::{
    EXTENT_BYTES, FORMAT_1, FORMAT_2, Superblock, SuperblockError, holds_data,
};
use crate::tenure::{Held, Tenure};
use bdev::Bdev;
use bdev_redb::{Label, Medium};
use std::sync::Arc;
use uuid::Uuid;

/// The metadata region of a device is at least so large, and 1/2048 of it.
const LEAST_METADATA_BYTES: u64 = 16 << 20;
const METADATA_SHARE: u64 = 2048;

/// A device that is to be part of a pool.
pub struct NewMember {
    /// As the operator calls it.
    pub name: String,
    /// For volumes: opened on each reactor.
    pub bdev: Arc<dyn Bdev>,
    /// The same device, for the metadata.
    pub medium: Arc<dyn Medium>,
}

/// Size of the metadata region of a device.
pub(crate) fn metadata_bytes(device_bytes: u64) -> u64 {
    (device_bytes / METADATA_SHARE).max(LEAST_METADATA_BYTES).next_multiple_of(EXTENT_BYTES)
}

/// The superblock of a device that becomes one of a pool's.
pub(crate) fn new_superblock(
    member: &NewMember,
    pool: (Uuid, &str, u32),
    number: u16,
    uuid: Uuid,
) -> Result<Superblock, PoolError> {
    let bytes = member.medium.bytes();
    let metadata_bytes = metadata_bytes(bytes);
    let data_offset = EXTENT_BYTES + metadata_bytes;
    let slots = bytes.saturating_sub(data_offset) / EXTENT_BYTES;
    if slots == 0 {
        return Err(PoolError::new(
            Kind::Invalid,
            format!(
                "Device {} has {} MiB: a device of a pool has {} MiB or more.",
                member.name,
                bytes >> 20,
                (data_offset + EXTENT_BYTES) >> 20
            ),
        ));
    }
    Ok(Superblock {
        format: pool.2,
        device: number.into(),
        pool: pool.0,
        uuid,
        sequence: 0,
        data_offset,
        slots,
        metadata_bytes,
        metadata_generation: 0,
        metadata_length: 0,
        name: pool.1.to_owned(),
        tenure: Tenure::default(),
    })
}

/// Whether a device may be taken: one that holds something is taken with `force` only.
pub(crate) fn may_take(member: &NewMember, force: bool) -> Result<(), PoolError> {
    let block = member.bdev.geometry().block_bytes;
    if ![512, 4096].contains(&block) {
        let why =
            format!("Device {} has blocks of {block} bytes: 512 or 4096 are needed.", member.name);
        return Err(PoolError::new(Kind::Invalid, why));
    }
    let what = match Superblock::read(&*member.medium) {
        Err(SuperblockError::Empty) if force => return Ok(()),
        Err(SuperblockError::Empty) => match holds_data(&*member.medium) {
            Ok(false) => return Ok(()),
            Ok(true) => "is empty at its beginning, and holds data behind that".to_owned(),
            Err(error) => {
                let why = format!("Device {} cannot be read: {error}.", member.name);
                return Err(PoolError::new(Kind::Device, why));
            }
        },
        Err(SuperblockError::Device(error)) => {
            let why = format!("Device {} cannot be read: {error}.", member.name);
            return Err(PoolError::new(Kind::Device, why));
        }
        Ok(found) => format!("is part of pool \"{}\" ({})", found.name, found.pool),
        Err(SuperblockError::Foreign) => "holds data that is not a pool's".to_owned(),
        Err(SuperblockError::Format(_)) => "is part of a pool of a newer version".to_owned(),
    };
    if force {
        return Ok(());
    }
    Err(PoolError::new(
        Kind::Refused,
        format!(
            "Device {} {what}: it would be overwritten. Take another one, or use --force if \
             nobody needs what is on it.",
            member.name
        ),
    ))
}

impl Member {
    pub(crate) fn new(new: NewMember, superblock: Superblock) -> Member {
        let NewMember { name, bdev, medium } = new;
        Member { name, bdev, medium, superblock }
    }

    /// The same device, to be taken once more.
    pub(crate) fn again(&self) -> NewMember {
        let (name, bdev, medium) = (self.name.clone(), self.bdev.clone(), self.medium.clone());
        NewMember { name, bdev, medium }
    }

    /// As the volumes see it.
    pub(crate) fn child(&self) -> Child {
        Child {
            number: self.superblock.device as u16,
            bdev: self.bdev.clone(),
            data_offset: self.superblock.data_offset,
        }
    }

    /// As the store knows it.
    pub(crate) fn record(&self) -> DeviceRecord {
        let (uuid, slots) = (self.superblock.uuid, self.superblock.slots);
        let power = self.bdev.power_session();
        DeviceRecord { uuid, slots, power, state: DeviceState::Member }
    }
}

impl Keeper {
    /// A device in words, or that there is none.
    pub(super) fn member(&self, name: &str) -> Result<u16, PoolError> {
        let found = self.members.iter().find(|(_, member)| member.name == name);
        found.map(|(number, _)| *number).ok_or_else(|| {
            let name = name.escape_debug();
            PoolError::new(Kind::NotFound, format!("The pool has no device \"{name}\"."))
        })
    }

    /// Whether a device writes the blocks of all volumes atomically.
    fn is_atomic_enough(&self, new: &NewMember) -> Result<(), PoolError> {
        let atomic = atomic_bytes(&new.bdev.geometry());
        match self.records.volumes.values().find(|volume| volume.block_bytes > atomic) {
            None => Ok(()),
            Some(volume) => Err(PoolError::new(
                Kind::Invalid,
                format!(
                    "Device {} writes {atomic} bytes atomically, and volume \"{}\" has blocks of \
                     {}: a power cut could leave half of one. Take another device.",
                    new.name, volume.name, volume.block_bytes
                ),
            )),
        }
    }

    /// Adds a device: its superblock first, then its row.
    pub(crate) fn add_device(
        &mut self,
        new: NewMember,
        uuid: Uuid,
        force: bool,
    ) -> Result<(), PoolError> {
        if self.member(&new.name).is_ok() {
            let why = format!("Device \"{}\" is part of the pool already.", new.name);
            return Err(PoolError::new(Kind::Exists, why));
        }
        self.is_atomic_enough(&new)?;
        if self.members.len() >= DEVICES as usize {
            let why = format!("A pool has at most {DEVICES} devices.");
            return Err(PoolError::new(Kind::Invalid, why));
        }
        may_take(&new, force)?;
        let number =
            (0..).find(|number| !self.members.contains_key(number)).expect("below DEVICES");
        let Superblock { pool, name, format, .. } = self.superblock().clone();
        let mut superblock = new_superblock(&new, (pool, &name, format), number, uuid)?;
        self.journals_speak_of(&new, uuid)?;
        superblock.write_both(&*new.medium).map_err(|error| {
            let why = format!("Device {} cannot be written: {error}.", new.name);
            PoolError::new(Kind::Device, why)
        })?;
        let member = Member::new(new, superblock);
        self.commit(vec![Update::Device(number.into(), Some(member.record()))])?;
        self.devices.add(member.child());
        let opened = self.reactors.add_child(&self.devices_bdev, &member.bdev);
        self.slots.add_device(number, member.superblock.slots);
        self.members.insert(number, member);
        self.describe_devices();
        opened.map_err(|why| {
            // It is part of the pool now; what cannot reach it must not use it.
            self.slots.close_device(number);
            PoolError::new(
                Kind::Device,
                format!("The device was added, but cannot be used: {why}."),
            )
        })
    }

    /// Before anything of it is in a journal.
    fn journals_speak_of(&self, new: &NewMember, uuid: Uuid) -> Result<(), PoolError> {
        let Some(Source { journals, .. }) = &self.journals else { return Ok(()) };
        let mut devices = session::identities(&self.members);
        devices.insert(uuid, new.bdev.identity());
        journals.set_devices(&devices).map_err(session::unusable)
    }

    /// Uses what a device has grown by. Returns its slots.
    pub(crate) fn grow_device(&mut self, name: &str) -> Result<u64, PoolError> {
        let number = self.member(name)?;
        let member = &self.members[&number];
        let room = member.medium.bytes().saturating_sub(member.superblock.data_offset);
        let slots = room / EXTENT_BYTES;
        let before = member.superblock.slots;
        if slots <= before {
            return Ok(before);
        }
        self.change_superblock(number, |superblock| superblock.slots = slots)?;
        let record = DeviceRecord { slots, ..self.records.devices[&u32::from(number)].clone() };
        self.commit(vec![Update::Device(number.into(), Some(record))])?;
        self.slots.grow_device(number, slots);
        Ok(slots)
    }

    /// Writes the superblock of a device anew.
    fn change_superblock(
        &mut self,
        number: u16,
        change: impl FnOnce(&mut Superblock),
    ) -> Result<(), PoolError> {
        let holds_metadata = Some(number) == self.metadata_device();
        let member = self.members.get_mut(&number).expect("looked for before");
        let written = match (holds_metadata, &self.store) {
            // The store writes it too.
            (true, Some(store)) => {
                store.change_superblock(change).map(|now| member.superblock = now)
            }
            _ => {
                change(&mut member.superblock);
                member.superblock.write_next(&*member.medium)
            }
        };
        written.map_err(|error| {
            let why = format!("Device {} cannot be written: {error}.", member.name);
            PoolError::new(Kind::Device, why)
        })
    }

    /// The device that has the metadata.
    pub(super) fn metadata_device(&self) -> Option<u16> {
        metadata_device(&self.members)
    }

    /// The superblock that counts.
    pub(super) fn superblock(&self) -> &Superblock {
        let number = self.metadata_device().expect("an open pool has its metadata");
        &self.members[&number].superblock
    }

    /// What is only in format 2, in words, in a pool that is not.
    ///
    /// # Errors
    /// What to do.
    pub(crate) fn needs_format_2(&self, what: &str) -> Result<(), PoolError> {
        let Superblock { format, name, .. } = self.superblock();
        if *format >= FORMAT_2 {
            return Ok(());
        }
        Err(PoolError::new(
            Kind::Refused,
            format!(
                "{what} needs a pool of format {FORMAT_2}, and pool \"{name}\" is of format \
                 {format}: run `forebay pool upgrade {name}`. Releases that know format {FORMAT_1} \
                 only do not open it then."
            ),
        ))
    }

    /// Changes what the superblock that counts says of who has the pool.
    fn change_tenure(&mut self, change: impl FnOnce(&mut Tenure)) -> Result<(), PoolError> {
        let number = self.metadata_device().expect("an open pool has its metadata");
        self.change_superblock(number, |superblock| change(&mut superblock.tenure))?;
        self.publish_tenure();
        Ok(())
    }

    /// Makes the pool one of format 2 (`FORMAT.md`, "Versions").
    pub(crate) fn upgrade(
        &mut self,
        now_s: u64,
        mut uuid: Box<dyn FnMut() -> Uuid + Send>,
    ) -> Result<(), PoolError> {
        if let Some(why) = &self.failed {
            return Err(PoolError::new(Kind::Device, why.clone()));
        }
        if self.superblock().format == FORMAT_1 {
            let with = self.metadata_device().expect("an open pool has its metadata");
            let others = self.members.keys().copied().filter(|number| *number != with);
            for number in others.collect::<Vec<_>>() {
                // Both copies.
                self.change_superblock(number, |superblock| superblock.format = FORMAT_2)?;
                self.change_superblock(number, |superblock| superblock.format = FORMAT_2)?;
            }
            let (owner, journals) = (self.owner.clone(), self.journals.is_some());
            let held = Held::By { owner, since_s: now_s, journals };
            let tenure = Tenure { held, durable_s: self.opened_s, ..Tenure::default() };
            let upgrade = |superblock: &mut Superblock| {
                (superblock.format, superblock.tenure) = (FORMAT_2, tenure);
            };
            self.change_superblock(with, upgrade)?;
            self.change_superblock(with, |_| ())?;
            self.publish_tenure();
        }
        let mut updates = Vec::new();
        for (number, node) in &self.records.nodes {
            if let NodeState::Snapshot { volume, name, taken_s, uuid: None } = &node.state {
                let (volume, name, taken_s) = (*volume, name.clone(), *taken_s);
                let state = NodeState::Snapshot { volume, name, taken_s, uuid: Some(uuid()) };
                updates.push(Update::Node(*number, Some(NodeRecord { state, ..node.clone() })));
            }
        }
        match updates.is_empty() {
            true => Ok(()),
            false => self.commit(updates),
        }
    }

    /// Makes durable what was answered by now, and notes when that was.
    pub(crate) fn checkpoint(&mut self, now_s: u64) -> Result<(), PoolError> {
        let views = self.views.all();
        for id in views {
            self.with(id, |state| {
                if state.map.is_dirty() {
                    state.commit();
                }
            })?;
        }
        self.commit(Vec::new())?;
        match self.superblock().format {
            FORMAT_1 => Ok(()),
            _ => self.change_tenure(|tenure| tenure.durable_s = now_s),
        }
    }

    /// Lets go of the pool in order: everything is durable, and its store is closed.
    pub(super) fn let_go(&mut self) {
        let Some(number) = self.metadata_device() else { return };
        let owner = self.owner.clone();
        let member = self.members.get_mut(&number).expect("it has the metadata");
        if member.superblock.format == FORMAT_1 {
            return;
        }
        member.superblock.tenure.held = Held::LetGo { owner };
        if let Err(error) = member.superblock.write_next(&*member.medium) {
            // Nothing is lost; whoever opens it next cannot know that.
            tracing::warn!(device = member.name, %error, "it is not noted that the pool was closed");
        }
        self.publish_tenure();
    }
}
