//! What layers above keep with a pool and its volumes, kinds of volumes, and what is asked for from a
//! reactor.

use crate::error::PoolError;
use crate::keeper::{Keeper, NewVolume};
use crate::pool::Pool;
use crate::record::VolumeKind;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Something that may be asked for on a reactor, which does not wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// As [`Pool::snapshot_as`].
    Snapshot {
        /// The volumes, and the UUID of each one's snapshot.
        volumes: Vec<(String, Uuid)>,
        /// Of the snapshots.
        name: String,
        /// Now, in seconds since 1970.
        now_s: u64,
    },
    /// As [`Pool::resize_volume`].
    Resize {
        /// The volume.
        volume: String,
        /// Its new size, in bytes.
        bytes: u64,
        /// It may become smaller.
        may_shrink: bool,
    },
    /// As [`Pool::delete_volume`].
    Delete {
        /// The volume.
        volume: String,
        /// Its snapshots go with it.
        snapshots: bool,
    },
}

impl Order {
    fn carry_out(self, keeper: &mut Keeper) -> Result<(), PoolError> {
        match self {
            Order::Snapshot { volumes, name, now_s } => {
                keeper.needs_format_2("A snapshot with a UUID of its own")?;
                let volumes: Vec<_> =
                    volumes.into_iter().map(|(v, uuid)| (v, Some(uuid))).collect();
                keeper.snapshot(&volumes, &name, now_s)
            }
            Order::Resize { volume, bytes, may_shrink } => {
                keeper.resize_volume(&volume, bytes, may_shrink).map(drop)
            }
            Order::Delete { volume, snapshots } => keeper.delete_volume(&volume, snapshots),
        }
    }
}

impl Pool {
    /// Has something done that `answer` is told the end of, on the pool's thread. Does not wait.
    pub fn order(&self, order: Order, answer: impl FnOnce(Result<(), PoolError>) + Send + 'static) {
        self.send(move |keeper| answer(order.carry_out(keeper)));
    }

    /// Takes a snapshot of each of `volumes`, all at one instant, at `now_s` seconds since 1970, with a
    /// UUID for each.
    ///
    /// # Errors
    /// As of [`Pool::snapshot`]; and that the pool is of format 1.
    pub fn snapshot_as(
        &self,
        volumes: &[(String, Uuid)],
        name: &str,
        now_s: u64,
    ) -> Result<(), PoolError> {
        let order = Order::Snapshot { volumes: volumes.to_vec(), name: name.to_owned(), now_s };
        self.call(move |keeper| order.carry_out(keeper))
    }

    /// Makes a volume of a kind.
    ///
    /// # Errors
    /// As of [`Pool::create_volume`]; and that the pool is of format 1 and the kind is not plain, or that
    /// one to be filled is large.
    pub fn create_volume_of(&self, new: NewVolume, kind: VolumeKind) -> Result<(), PoolError> {
        self.call(move |keeper| keeper.create_volume(new, kind).map(drop))
    }

    /// What layers above keep with a volume, or with the pool where none is named: by name.
    ///
    /// # Errors
    /// The volume is not there.
    pub fn records(&self, volume: Option<&str>) -> Result<BTreeMap<String, Vec<u8>>, PoolError> {
        let volume = volume.map(str::to_owned);
        self.ask(move |keeper| keeper.records_of(volume.as_deref()))
    }

    /// Changes what layers above keep, all of it or nothing, durably: names, and bytes or nothing.
    ///
    /// # Errors
    /// The volume is not there, the pool is of format 1, it would be too much, or it cannot be written.
    pub fn set_records(
        &self,
        volume: Option<&str>,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<(), PoolError> {
        let volume = volume.map(str::to_owned);
        self.call(move |keeper| keeper.set_records(volume.as_deref(), changes))
    }
}
