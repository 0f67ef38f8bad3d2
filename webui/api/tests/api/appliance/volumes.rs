//! Volumes.

use super::{MIB, State, VolumeState};
use wanted::{Request, Uuid};
use webui_model::*;

impl State {
    pub fn volume_state(&self, volume: &VolumeRef) -> Result<&VolumeState, Refusal> {
        self.pool_state(&volume.pool)?.volumes.get(&volume.volume).ok_or_else(|| {
            Refusal::not_found(format!("There is no volume {volume}: GET /api/v1/volumes."))
        })
    }

    pub fn volume_mut(&mut self, volume: &VolumeRef) -> Result<&mut VolumeState, Refusal> {
        self.volume_state(volume)?;
        let pool = self.pool_mut(&volume.pool)?;
        Ok(pool.volumes.get_mut(&volume.volume).expect("it was found"))
    }

    pub fn volume(&self, volume: &VolumeRef) -> Result<Volume, Refusal> {
        let state = self.volume_state(volume)?;
        let origin = state.origin.clone().map(|(origin, snapshot)| SnapshotRef {
            pool: volume.pool.clone(),
            volume: origin,
            snapshot,
        });
        let reserved_bytes = if state.thick { state.bytes.next_multiple_of(MIB) } else { 0 };
        Ok(Volume {
            pool: volume.pool.clone(),
            name: volume.volume.clone(),
            uuid: state.uuid.to_string(),
            bytes: state.bytes,
            block_bytes: state.block_bytes,
            atomic_write_bytes: 4096,
            thick: state.thick,
            limits: state.limits,
            space: VolumeSpace { reserved_bytes, ..VolumeSpace::default() },
            origin,
            snapshots: state.snapshots.len() as u32,
            export: self.export_of(&NamespaceSource::Volume(volume.clone())),
            created_at_ms: 0,
            status: Status::Ok,
            reason: "It serves.".into(),
        })
    }

    pub fn volumes(&self, pool: Option<&Name>) -> Result<Vec<Volume>, Refusal> {
        let pools: Vec<Name> = match pool {
            Some(pool) => self.pool_state(pool).map(|_| vec![pool.clone()])?,
            None => self.imported().cloned().collect(),
        };
        let mut found = Vec::new();
        for pool in pools {
            for volume in self.pool_state(&pool)?.volumes.keys() {
                let volume = VolumeRef { pool: pool.clone(), volume: volume.clone() };
                found.push(self.volume(&volume)?);
            }
        }
        Ok(found)
    }

    /// Room for so many more bytes that are promised.
    fn room(&self, pool: &Name, bytes: u64) -> Result<(), Refusal> {
        let free = Self::space(self.pool_state(pool)?).free_bytes;
        if bytes.next_multiple_of(MIB) > free {
            return Err(Refusal::full(format!("Pool {pool} has {free} bytes left.")));
        }
        Ok(())
    }

    pub fn create_volume(
        &mut self,
        pool: &Name,
        request: &VolumeCreate,
    ) -> Result<Made<Volume>, Refusal> {
        let volume = VolumeRef { pool: pool.clone(), volume: request.name.clone() };
        let (uuid, create, pool) = (self.uuid(), request.clone(), pool.to_string());
        if self.ask(&Request::CreateVolume { pool, create, uuid })?.is_as_before() {
            return self.volume(&volume).map(Made::Existing);
        }
        if request.thick {
            self.room(&volume.pool, request.bytes)?;
        }
        let state = VolumeState {
            uuid,
            bytes: request.bytes,
            block_bytes: request.block_bytes.unwrap_or(4096),
            thick: request.thick,
            limits: request.limits,
            origin: None,
            snapshots: Default::default(),
        };
        self.add_volume(&volume, state).map(Made::New)
    }

    pub fn add_volume(
        &mut self,
        volume: &VolumeRef,
        state: VolumeState,
    ) -> Result<Volume, Refusal> {
        self.pool_mut(&volume.pool)?.volumes.insert(volume.volume.clone(), state);
        self.tell(EventKind::Created, ObjectKind::Volume, volume, "is new");
        self.volume(volume)
    }

    pub fn delete_volume(&mut self, volume: &VolumeRef, force: bool) -> Result<(), Refusal> {
        self.ask(&Request::DeleteVolume { volume: volume.clone(), force })?;
        self.pool_mut(&volume.pool)?.volumes.remove(&volume.volume);
        self.tell(EventKind::Deleted, ObjectKind::Volume, volume, "is deleted");
        Ok(())
    }

    /// The volumes of a pool have other names.
    fn learn_names(&mut self, pool: &Name) -> Result<(), Refusal> {
        let volumes = self.pool_state(pool)?.volumes.iter();
        let names = volumes.map(|(name, volume)| (volume.uuid, name.to_string()));
        let names: std::collections::BTreeMap<Uuid, String> = names.collect();
        self.ask(&Request::LearnNames { pool: pool.to_string(), names }).map(drop)
    }

    pub fn rename_volume(&mut self, volume: &VolumeRef, new: &Name) -> Result<Volume, Refusal> {
        self.volume_state(volume)?;
        if volume.volume == *new {
            return self.volume(volume);
        }
        let pool = self.pool_mut(&volume.pool)?;
        if pool.volumes.contains_key(new) {
            return Err(Refusal::exists(format!("{}/{new} is there already.", volume.pool)));
        }
        let state = pool.volumes.remove(&volume.volume).expect("it was found");
        pool.volumes.insert(new.clone(), state);
        for other in pool.volumes.values_mut() {
            if let Some((origin, _)) = other.origin.as_mut().filter(|(o, _)| *o == volume.volume) {
                *origin = new.clone();
            }
        }
        let renamed = VolumeRef { pool: volume.pool.clone(), volume: new.clone() };
        self.learn_names(&volume.pool)?;
        self.tell(EventKind::Changed, ObjectKind::Volume, &renamed, "has a new name");
        self.volume(&renamed)
    }

    pub fn resize_volume(
        &mut self,
        volume: &VolumeRef,
        request: Resize,
    ) -> Result<Volume, Refusal> {
        let state = self.volume_state(volume)?;
        let now = state.bytes;
        if request.bytes < now && !request.may_shrink {
            return Err(Refusal::refused(format!(
                "{volume} has {now} bytes: give may_shrink to lose what lies behind {}.",
                request.bytes
            )));
        }
        if state.thick {
            let more =
                request.bytes.next_multiple_of(MIB).saturating_sub(now.next_multiple_of(MIB));
            self.room(&volume.pool, more)?;
        }
        self.volume_mut(volume)?.bytes = request.bytes;
        self.tell(EventKind::Changed, ObjectKind::Volume, volume, "has a new size");
        self.volume(volume)
    }

    pub fn set_limits(&mut self, volume: &VolumeRef, limits: Limits) -> Result<Volume, Refusal> {
        self.volume_mut(volume)?.limits = limits;
        self.tell(EventKind::Changed, ObjectKind::Volume, volume, "has new limits");
        self.volume(volume)
    }
}
