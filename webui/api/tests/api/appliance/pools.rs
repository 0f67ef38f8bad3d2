//! Devices and pools.

use super::{DeviceState, MIB, MemberDevice, PoolState, State};
use webui_model::*;

/// Part of a device that holds no data.
const OVERHEAD: u64 = 16 * MIB;

impl State {
    pub fn device(&self, name: &Name) -> Result<Device, Refusal> {
        let state = self.devices.get(name).ok_or_else(|| {
            Refusal::not_found(format!("There is no device \"{name}\": GET /api/v1/devices."))
        })?;
        let reason = match &state.pool {
            Some(member) => format!("In pool {}.", member.pool),
            None => "Free.".into(),
        };
        Ok(Device {
            name: name.clone(),
            kind: state.kind,
            path: state.path.clone(),
            drive: None,
            model: None,
            serial: None,
            bytes: state.bytes,
            block_bytes: 4096,
            volatile_cache: false,
            pool: state.pool.clone(),
            status: Status::Ok,
            reason,
        })
    }

    pub fn attach(&mut self, request: DeviceAttach) -> Result<Made<Device>, Refusal> {
        let path = request.path.as_ref().map(ToString::to_string);
        let last = path.as_deref().and_then(|p| p.rsplit('/').next()).unwrap_or("");
        let name = match request.name {
            Some(name) => name,
            None => last.parse().map_err(|_| {
                Refusal::invalid(format!("\"{last}\" makes no name: give one in name."))
            })?,
        };
        if let Some(there) = self.devices.get(&name) {
            let same = there.path == path && request.bytes.is_none_or(|n| n == there.bytes);
            return match same {
                true => self.device(&name).map(Made::Existing),
                false => Err(Refusal::exists(format!("Another device is called \"{name}\"."))),
            };
        }
        let kind = if path.is_some() { DeviceKind::File } else { DeviceKind::Memory };
        let foreign = path.as_deref().is_some_and(|p| p.contains("foreign"));
        let bytes = request.bytes.unwrap_or(1024 * MIB);
        self.devices.insert(name.clone(), DeviceState { kind, path, bytes, foreign, pool: None });
        self.tell(EventKind::Created, ObjectKind::Device, &name, "is attached");
        self.device(&name).map(Made::New)
    }

    pub fn detach(&mut self, name: &Name) -> Result<(), Refusal> {
        if let Some(member) = self.device(name)?.pool {
            return Err(Refusal::in_use(format!("{name} is in pool {}.", member.pool)));
        }
        let source = NamespaceSource::Device(name.clone());
        if let Some(export) = self.export_of(&source) {
            return Err(Refusal::in_use(format!("{name} is exported in {}.", export.subsystem)));
        }
        self.devices.remove(name);
        self.tell(EventKind::Deleted, ObjectKind::Device, name, "is detached");
        Ok(())
    }

    /// The device of a reference: attached by itself if it is a path.
    fn resolve(&mut self, reference: &DeviceRef) -> Result<Name, Refusal> {
        if !reference.is_path() {
            let name: Name = reference.as_str().parse().expect("no path, so a name");
            return self.device(&name).map(|device| device.name);
        }
        let path = reference.as_str();
        let known = self.devices.iter().find(|(_, d)| d.path.as_deref() == Some(path));
        if let Some((name, _)) = known {
            return Ok(name.clone());
        }
        let request = DeviceAttach { path: Some(reference.clone()), ..DeviceAttach::default() };
        self.attach(request).map(|made| made.into_inner().name)
    }

    fn take(
        &mut self,
        pool: &Name,
        number: u32,
        name: &Name,
        force: bool,
    ) -> Result<MemberDevice, Refusal> {
        let device = self.devices.get_mut(name).expect("it was resolved");
        if let Some(member) = &device.pool {
            return Err(Refusal::in_use(format!("{name} is in pool {}.", member.pool)));
        }
        if device.foreign && !force {
            return Err(Refusal::refused(format!(
                "{name} holds data that is not ours: give force to lose it."
            )));
        }
        if device.bytes <= OVERHEAD {
            return Err(Refusal::invalid(format!("{name} is too small for a pool.")));
        }
        device.foreign = false;
        device.pool = Some(PoolMember { pool: pool.clone(), number });
        let bytes = device.bytes - OVERHEAD;
        Ok(MemberDevice { device: name.clone(), bytes, state: MemberState::Member })
    }

    pub fn pool_state(&self, pool: &Name) -> Result<&PoolState, Refusal> {
        self.pools.get(pool).filter(|p| p.imported).ok_or_else(|| {
            Refusal::not_found(format!("There is no pool \"{pool}\": GET /api/v1/pools."))
        })
    }

    pub fn pool_mut(&mut self, pool: &Name) -> Result<&mut PoolState, Refusal> {
        self.pool_state(pool)?;
        Ok(self.pools.get_mut(pool).expect("it was found"))
    }

    pub fn pool_devices(&self, pool: &Name) -> Result<Vec<PoolDevice>, Refusal> {
        let state = self.pool_state(pool)?;
        let shown = |(number, member): (&u32, &MemberDevice)| PoolDevice {
            number: *number,
            device: Some(member.device.clone()),
            path: self.devices.get(&member.device).and_then(|d| d.path.clone()),
            uuid: format!("{}-{number}", state.uuid),
            state: member.state,
            metadata: state.members.keys().next() == Some(number),
            total_bytes: member.bytes,
            used_bytes: 0,
            discard: DeviceDiscard {
                on: true,
                reason: "It is sparse.".into(),
                ..Default::default()
            },
            status: Status::Ok,
            reason: "It serves.".into(),
        };
        Ok(state.members.iter().map(shown).collect())
    }

    pub fn pool_device(&self, pool: &Name, number: u32) -> Result<PoolDevice, Refusal> {
        let found = self.pool_devices(pool)?.into_iter().find(|d| d.number == number);
        found.ok_or_else(|| Refusal::not_found(format!("Pool {pool} has no device {number}.")))
    }

    pub fn space(state: &PoolState) -> Space {
        let total = state.members.values().map(|m| m.bytes).sum();
        let thick = state.volumes.values().filter(|v| v.thick);
        let reserved = thick.map(|v| v.bytes.next_multiple_of(MIB)).sum::<u64>();
        Space {
            total_bytes: total,
            free_bytes: total.saturating_sub(reserved),
            reserved_bytes: reserved,
            ..Space::default()
        }
    }

    pub fn pool(&self, pool: &Name) -> Result<Pool, Refusal> {
        let state = self.pool_state(pool)?;
        let snapshots: usize = state.volumes.values().map(|v| v.snapshots.len()).sum();
        Ok(Pool {
            name: pool.clone(),
            uuid: state.uuid.clone(),
            devices: self.pool_devices(pool)?,
            space: Self::space(state),
            volumes: state.volumes.len() as u32,
            snapshots: snapshots as u32,
            extent_bytes: MIB,
            discard: state.discard,
            status: Status::Ok,
            reason: "It serves.".into(),
        })
    }

    pub fn create_pool(&mut self, request: PoolCreate) -> Result<Made<Pool>, Refusal> {
        let mut names = Vec::new();
        for reference in &request.devices {
            names.push(self.resolve(reference)?);
        }
        if let Some(there) = self.pools.get(&request.name) {
            let has = |n: &Name| there.members.values().any(|m| m.device == *n);
            if request.discard.is_some_and(|mode| mode != there.discard) {
                let why = format!("Discard of pool {} is {}.", request.name, there.discard);
                return Err(Refusal::exists(why));
            }
            if there.imported && names.len() == there.members.len() && names.iter().all(has) {
                return self.pool(&request.name).map(Made::Existing);
            }
            return Err(Refusal::exists(format!("Another pool is called \"{}\".", request.name)));
        }
        let mut members = std::collections::BTreeMap::new();
        for (number, name) in (0..).zip(&names) {
            members.insert(number, self.take(&request.name, number, name, request.force)?);
        }
        let (uuid, next_number) = (self.uuid(), members.len() as u32);
        let volumes = Default::default();
        let discard = request.discard.unwrap_or_default();
        let pool = PoolState { uuid, imported: true, members, next_number, discard, volumes };
        self.pools.insert(request.name.clone(), pool);
        self.tell(EventKind::Created, ObjectKind::Pool, &request.name, "is new");
        self.pool(&request.name).map(Made::New)
    }

    pub fn export_pool(&mut self, pool: &Name, force: bool) -> Result<(), Refusal> {
        let volumes: Vec<Name> = self.pool_state(pool)?.volumes.keys().cloned().collect();
        for volume in &volumes {
            self.disconnect(&VolumeRef { pool: pool.clone(), volume: volume.clone() }, force)?;
        }
        self.pool_mut(pool)?.imported = false;
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "is exported");
        Ok(())
    }

    pub fn set_discard(&mut self, pool: &Name, request: DiscardSet) -> Result<Pool, Refusal> {
        self.pool_mut(pool)?.discard = request.mode;
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "discards otherwise");
        self.pool(pool)
    }

    pub fn importable(&self) -> Vec<ImportablePool> {
        let free = self.pools.iter().filter(|(_, state)| !state.imported);
        let shown = |(name, state): (&Name, &PoolState)| ImportablePool {
            name: name.clone(),
            uuid: state.uuid.clone(),
            devices: state.members.values().map(|m| m.device.clone()).collect(),
            status: Status::Ok,
            reason: "All its devices are there.".into(),
        };
        free.map(shown).collect()
    }

    pub fn import_pool(&mut self, request: &PoolImport) -> Result<Made<Pool>, Refusal> {
        if let Some(name) = request.name.as_ref().filter(|n| self.pool_state(n).is_ok()) {
            return self.pool(name).map(Made::Existing);
        }
        let found = self.importable();
        let wanted = |p: &&ImportablePool| request.name.as_ref().is_none_or(|n| *n == p.name);
        let found: Vec<&ImportablePool> = found.iter().filter(wanted).collect();
        let name = match found.as_slice() {
            [one] => one.name.clone(),
            [] => return Err(Refusal::not_found("No such pool is on the devices.")),
            _ => return Err(Refusal::invalid("There are several pools: name one.")),
        };
        self.pools.get_mut(&name).expect("it was found").imported = true;
        self.tell(EventKind::Changed, ObjectKind::Pool, &name, "is imported");
        self.pool(&name).map(Made::New)
    }

    pub fn delete_pool(&mut self, pool: &Name) -> Result<(), Refusal> {
        if let Some(volume) = self.pool_state(pool)?.volumes.keys().next() {
            return Err(Refusal::in_use(format!("Pool {pool} has volumes, {volume} for one.")));
        }
        self.pools.remove(pool);
        for device in self.devices.values_mut() {
            device.pool.take_if(|member| member.pool == *pool);
        }
        self.tell(EventKind::Deleted, ObjectKind::Pool, pool, "is deleted");
        Ok(())
    }

    pub fn add_device(
        &mut self,
        pool: &Name,
        request: &DeviceAdd,
    ) -> Result<Made<PoolDevice>, Refusal> {
        self.pool_state(pool)?;
        let name = self.resolve(&request.device)?;
        let there = self.pool_devices(pool)?.into_iter().find(|d| d.device.as_ref() == Some(&name));
        if let Some(there) = there {
            return Ok(Made::Existing(there));
        }
        let number = self.pool_state(pool)?.next_number;
        let member = self.take(pool, number, &name, request.force)?;
        let state = self.pool_mut(pool)?;
        state.next_number += 1;
        state.members.insert(number, member);
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "has another device");
        self.pool_device(pool, number).map(Made::New)
    }

    pub fn drain(&mut self, pool: &Name, number: u32) -> Result<Job, Refusal> {
        self.pool_device(pool, number)?;
        let id = self.next();
        let state = self.pool_mut(pool)?;
        let others =
            state.members.iter().filter(|(n, m)| **n != number && m.state == MemberState::Member);
        if others.count() == 0 {
            return Err(Refusal::full(format!("Pool {pool} has no other device to move data to.")));
        }
        let member = state.members.get_mut(&number).expect("it was found");
        if member.state != MemberState::Member {
            return Err(Refusal::refused(format!("Device {number} is being drained already.")));
        }
        member.state = MemberState::Drained;
        let job = Job {
            id,
            kind: JobKind::Drain,
            object: Object::new(ObjectKind::Device, format!("{pool}/{number}")),
            done_bytes: 0,
            total_bytes: member.bytes,
            bytes_per_second: 0,
            seconds_left: None,
            started_at_ms: id,
            ended_at_ms: None,
            status: JobStatus::Running,
            reason: "It is about to start.".into(),
        };
        self.jobs.insert(id, job.clone());
        self.tell(EventKind::Created, ObjectKind::Job, id, "is under way");
        Ok(job)
    }

    pub fn remove_device(&mut self, pool: &Name, number: u32) -> Result<(), Refusal> {
        let member = self.pool_device(pool, number)?;
        if member.state != MemberState::Drained {
            return Err(Refusal::in_use(format!(
                "Device {number} of {pool} holds data: drain it."
            )));
        }
        self.pool_mut(pool)?.members.remove(&number);
        for device in self.devices.values_mut() {
            device.pool.take_if(|m| m.pool == *pool && m.number == number);
        }
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "has a device less");
        Ok(())
    }
}
