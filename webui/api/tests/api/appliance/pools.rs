//! Devices and pools.

use super::{MIB, MemberDevice, PoolState, State};
use wanted::{DeviceSpec, Pool as Known, Request};
use webui_model::*;

/// Part of a device that holds no data.
const OVERHEAD: u64 = 16 * MIB;

impl State {
    pub fn device(&self, name: &Name) -> Result<Device, Refusal> {
        let known = self.wanted.device(name.as_str()).ok_or_else(|| {
            Refusal::not_found(format!("There is no device \"{name}\": GET /api/v1/devices."))
        })?;
        let path = known.spec.place();
        let pool = self.member_of(name);
        let reason = match &pool {
            Some(member) => format!("In pool {}.", member.pool),
            None => "Free.".into(),
        };
        Ok(Device {
            name: name.clone(),
            kind: if path.is_some() { DeviceKind::File } else { DeviceKind::Memory },
            path,
            drive: None,
            model: None,
            serial: None,
            bytes: self.bytes_of(name.as_str()).unwrap_or(0),
            block_bytes: 4096,
            volatile_cache: false,
            pool,
            status: Status::Ok,
            reason,
        })
    }

    pub fn bytes_of(&self, device: &str) -> Option<u64> {
        match &self.wanted.device(device)?.spec {
            DeviceSpec::Memory { bytes, .. } => Some(*bytes),
            DeviceSpec::File { make_bytes, .. } => Some(make_bytes.unwrap_or(1024 * MIB)),
            _ => Some(1024 * MIB),
        }
    }

    pub fn device_names(&self) -> impl Iterator<Item = Name> {
        self.wanted.devices().map(|device| device.name.parse().expect("a name"))
    }

    /// The pool that is on a device.
    fn member_of(&self, device: &Name) -> Option<PoolMember> {
        self.pools.iter().find_map(|(pool, state)| {
            let number = *state.members.iter().find(|(_, member)| member.device == *device)?.0;
            Some(PoolMember { pool: pool.clone(), number })
        })
    }

    pub fn attach(&mut self, request: DeviceAttach) -> Result<Made<Device>, Refusal> {
        let edited = self.ask(&Request::AttachDevice(request.clone()))?;
        if let Some(name) = edited.device() {
            let name: Name = name.parse().expect("a name");
            self.tell(EventKind::Created, ObjectKind::Device, &name, "is attached");
            return self.device(&name).map(Made::New);
        }
        let there = request.name.map(|name| name.to_string());
        let there = there.or_else(|| wanted::Seen::device_at(self, request.path.as_ref()?));
        let there: Name = there.expect("it is there").parse().expect("a name");
        self.device(&there).map(Made::Existing)
    }

    pub fn detach(&mut self, name: &Name) -> Result<(), Refusal> {
        self.ask(&Request::DetachDevice(name.to_string()))?;
        self.tell(EventKind::Deleted, ObjectKind::Device, name, "is detached");
        Ok(())
    }

    /// The device of a reference: attached by itself if it is a path.
    fn resolve(&mut self, reference: &DeviceRef) -> Result<Name, Refusal> {
        if !reference.is_path() {
            let name: Name = reference.as_str().parse().expect("no path, so a name");
            return self.device(&name).map(|device| device.name);
        }
        let request = DeviceAttach { path: Some(reference.clone()), ..DeviceAttach::default() };
        self.attach(request).map(|made| made.into_inner().name)
    }

    fn take(&self, name: &Name, force: bool) -> Result<MemberDevice, Refusal> {
        let device = self.device(name)?;
        if let Some(member) = &device.pool {
            return Err(Refusal::in_use(format!("{name} is in pool {}.", member.pool)));
        }
        if device.path.is_some_and(|path| path.contains("foreign")) && !force {
            return Err(Refusal::refused(format!(
                "{name} holds data that is not ours: give force to lose it."
            )));
        }
        if device.bytes <= OVERHEAD {
            return Err(Refusal::invalid(format!("{name} is too small for a pool.")));
        }
        let bytes = device.bytes - OVERHEAD;
        Ok(MemberDevice { device: name.clone(), bytes, state: MemberState::Member })
    }

    /// The pools that are imported.
    pub fn imported(&self) -> impl Iterator<Item = &Name> {
        self.pools.keys().filter(|name| self.wanted.pool(name.as_str()).is_some())
    }

    pub fn pool_state(&self, pool: &Name) -> Result<&PoolState, Refusal> {
        let here = self.wanted.pool(pool.as_str()).and_then(|_| self.pools.get(pool));
        here.ok_or_else(|| {
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
            path: self.device(&member.device).ok().and_then(|device| device.path),
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
            uuid: state.uuid.to_string(),
            devices: self.pool_devices(pool)?,
            space: Self::space(state),
            volumes: state.volumes.len() as u32,
            snapshots: snapshots as u32,
            extent_bytes: MIB,
            format: if state.upgraded { 2 } else { 1 },
            losses: 0,
            discard: self.wanted.discard_of(state.uuid),
            status: Status::Ok,
            reason: "It serves.".into(),
        })
    }

    pub fn create_pool(&mut self, request: PoolCreate) -> Result<Made<Pool>, Refusal> {
        let mut names = Vec::new();
        for reference in &request.devices {
            names.push(self.resolve(reference)?);
        }
        let (create, uuid) = (request.clone(), self.uuid());
        let devices = names.iter().map(ToString::to_string).collect();
        if self.ask(&Request::CreatePool { create, devices, uuid })?.is_as_before() {
            return self.pool(&request.name).map(Made::Existing);
        }
        let taken = names.iter().map(|name| self.take(name, request.force));
        let members: std::collections::BTreeMap<u32, MemberDevice> =
            (0..).zip(taken).map(|(n, taken)| Ok((n, taken?))).collect::<Result<_, Refusal>>()?;
        let next_number = members.len() as u32;
        let volumes = Default::default();
        let pool = PoolState { uuid, members, next_number, volumes, upgraded: false };
        self.pools.insert(request.name.clone(), pool);
        self.tell(EventKind::Created, ObjectKind::Pool, &request.name, "is new");
        self.pool(&request.name).map(Made::New)
    }

    /// A pool is here, on the devices that it has.
    fn keep(&mut self, pool: &Name) -> Result<(), Refusal> {
        let PoolState { uuid, members, .. } = &self.pools[pool];
        let devices = members.values().map(|member| member.device.to_string()).collect();
        let (uuid, discard) = (*uuid, self.wanted.discard_of(*uuid));
        let identities = Default::default();
        let known = Known { name: pool.to_string(), uuid, devices, identities, discard };
        self.ask(&Request::KeepPool(known)).map(drop)
    }

    pub fn export_pool(&mut self, pool: &Name, force: bool) -> Result<(), Refusal> {
        self.ask(&Request::ExportPool { pool: pool.to_string(), force })?;
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "is exported");
        Ok(())
    }

    pub fn set_discard(&mut self, pool: &Name, request: DiscardSet) -> Result<Pool, Refusal> {
        self.ask(&Request::SetDiscard { pool: pool.to_string(), mode: request.mode })?;
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "discards otherwise");
        self.pool(pool)
    }

    pub fn upgrade_pool(&mut self, pool: &Name) -> Result<Pool, Refusal> {
        self.pool_state(pool)?;
        self.pools.get_mut(pool).expect("just looked for").upgraded = true;
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "is upgraded");
        self.pool(pool)
    }

    pub fn importable(&self) -> Vec<ImportablePool> {
        let here = |name: &Name| self.wanted.pool(name.as_str()).is_some();
        let free = self.pools.iter().filter(|(name, _)| !here(name));
        let shown = |(name, state): (&Name, &PoolState)| ImportablePool {
            name: name.clone(),
            uuid: state.uuid.to_string(),
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
        self.keep(&name)?;
        self.tell(EventKind::Changed, ObjectKind::Pool, &name, "is imported");
        self.pool(&name).map(Made::New)
    }

    pub fn delete_pool(&mut self, pool: &Name) -> Result<(), Refusal> {
        self.ask(&Request::DeletePool(pool.to_string()))?;
        self.pools.remove(pool);
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
        let member = self.take(&name, request.force)?;
        let state = self.pool_mut(pool)?;
        state.next_number += 1;
        state.members.insert(number, member);
        self.keep(pool)?;
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
        self.keep(pool)?;
        self.tell(EventKind::Changed, ObjectKind::Pool, pool, "has a device less");
        Ok(())
    }
}
