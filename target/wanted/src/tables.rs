//! Everything that is wanted, in tables.

use crate::change::{Change, Item, Key, Step};
use crate::item::{Declared, Device, GonePool, ListenAt, Listener, Namespace, Pool, Subsystem};
use crate::limits::NAMESPACES;
use crate::source::Source;
use crate::source::SourceKey;
use rpds::RedBlackTreeMapSync as Map;
use std::hash::Hash;
use uuid::Uuid;
use webui_model::{DiscardMode, Export, Nqn, Refusal, RefusalKind};

/// The place of a namespace: its subsystem and its number.
type Place = (String, u32);

/// Everything that is wanted. A copy shares what both have in common, so that it costs nothing; a
/// look-up or a change costs the logarithm of what is there. No two namespaces show the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    devices: Map<String, Declared<Device>>,
    pools: Map<String, Declared<Pool>>,
    subsystems: Map<String, Declared<Subsystem>>,
    namespaces: Map<Place, Declared<Namespace>>,
    listeners: Map<ListenAt, Declared<Listener>>,
    gone: Map<Uuid, Declared<GonePool>>,
    /// Where each source is shown.
    shown: Map<SourceKey, Place>,
}

/// Carries a step out in a table.
fn set<K: Ord + Hash + Clone, T: Clone>(table: &mut Map<K, Declared<T>>, key: K, step: &Step<T>) {
    match &step.to {
        Some(item) => table.insert_mut(key, Declared { by: step.by, item: item.clone() }),
        None => {
            table.remove_mut(&key);
        }
    }
}

impl Wanted {
    /// The device of this name.
    pub fn device(&self, name: &str) -> Option<&Declared<Device>> {
        self.devices.get(name)
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&Declared<Pool>> {
        self.pools.get(name)
    }

    /// The pool with this UUID.
    pub fn pool_by_uuid(&self, uuid: Uuid) -> Option<&Declared<Pool>> {
        self.pools().find(|pool| pool.uuid == uuid)
    }

    /// The subsystem of this name.
    pub fn subsystem(&self, nqn: &str) -> Option<&Declared<Subsystem>> {
        self.subsystems.get(nqn)
    }

    /// The namespace of this number in a subsystem.
    pub fn namespace(&self, nqn: &str, nsid: u32) -> Option<&Declared<Namespace>> {
        self.namespaces.get(&(nqn.to_owned(), nsid))
    }

    /// The listener there.
    pub fn listener(&self, at: ListenAt) -> Option<&Declared<Listener>> {
        self.listeners.get(&at)
    }

    /// How a pool that is not here was exported.
    pub fn gone(&self, uuid: Uuid) -> Option<&Declared<GonePool>> {
        self.gone.get(&uuid)
    }

    /// Devices by name.
    pub fn devices(&self) -> impl Iterator<Item = &Declared<Device>> {
        self.devices.values()
    }

    /// Pools by name.
    pub fn pools(&self) -> impl Iterator<Item = &Declared<Pool>> {
        self.pools.values()
    }

    /// Subsystems by name.
    pub fn subsystems(&self) -> impl Iterator<Item = &Declared<Subsystem>> {
        self.subsystems.values()
    }

    /// Namespaces by subsystem and number.
    pub fn namespaces(&self) -> impl Iterator<Item = &Declared<Namespace>> {
        self.namespaces.values()
    }

    /// Listeners by fabric and address.
    pub fn listeners(&self) -> impl Iterator<Item = &Declared<Listener>> {
        self.listeners.values()
    }

    /// Pools that are not here, by UUID.
    pub fn gone_pools(&self) -> impl Iterator<Item = &Declared<GonePool>> {
        self.gone.values()
    }

    /// The namespaces of a subsystem, by number.
    pub fn namespaces_of(&self, nqn: &str) -> impl Iterator<Item = &Declared<Namespace>> {
        let range = (nqn.to_owned(), 0)..=(nqn.to_owned(), u32::MAX);
        self.namespaces.range(range).map(|(_, namespace)| namespace)
    }

    /// The namespace that shows `source`.
    pub fn namespace_of(&self, source: &Source) -> Option<&Declared<Namespace>> {
        self.namespaces.get(self.shown.get(&source.key())?)
    }

    /// The namespaces that show what lies in a pool.
    pub fn exports_of(&self, pool: &str) -> impl Iterator<Item = &Declared<Namespace>> {
        self.shown_from(pool, Uuid::nil()).map(|(_, namespace)| namespace)
    }

    /// The namespaces that show a volume, by its UUID, and its snapshots.
    pub fn exports_of_volume(
        &self,
        pool: &str,
        volume: Uuid,
    ) -> impl Iterator<Item = &Declared<Namespace>> {
        let of_it = move |of: &Uuid| *of == volume;
        self.shown_from(pool, volume)
            .take_while(move |(of, _)| of_it(of))
            .map(|(_, namespace)| namespace)
    }

    /// What lies in a pool and is shown, from the volume `from` on, with the UUID of the volume.
    fn shown_from(
        &self,
        pool: &str,
        from: Uuid,
    ) -> impl Iterator<Item = (Uuid, &Declared<Namespace>)> {
        let start = SourceKey::InPool { pool: pool.to_owned(), volume: from, snapshot: None };
        let pool = pool.to_owned();
        self.shown.range(start..).map_while(move |(key, place)| match key {
            SourceKey::InPool { pool: of, volume, .. } if *of == pool => {
                Some((*volume, self.namespaces.get(place)?))
            }
            _ => None,
        })
    }

    /// The first number that is free in a subsystem, if one is.
    pub fn free_nsid(&self, nqn: &str) -> Option<u32> {
        let mut free = 1;
        for namespace in self.namespaces_of(nqn) {
            if namespace.nsid > free {
                break;
            }
            free = namespace.nsid.saturating_add(1);
        }
        (free <= NAMESPACES).then_some(free)
    }

    /// Whether the devices of a pool that is or was here are given back what nobody needs.
    pub fn discard_of(&self, uuid: Uuid) -> DiscardMode {
        let here = self.pool_by_uuid(uuid).map(|pool| pool.discard);
        here.or_else(|| Some(self.gone(uuid)?.discard)).unwrap_or_default()
    }

    /// How something is exported, but for the hosts that are connected.
    ///
    /// # Errors
    /// The subsystem has a name that the API does not know.
    pub fn export_of(&self, source: &Source) -> Result<Option<Export>, Refusal> {
        let Some(namespace) = self.namespace_of(source) else { return Ok(None) };
        let Some(subsystem) = self.subsystem(&namespace.subsystem) else { return Ok(None) };
        let nqn: Nqn = namespace
            .subsystem
            .parse()
            .map_err(|error| Refusal::new(RefusalKind::Internal, format!("{error}")))?;
        Ok(Some(Export {
            subsystem: nqn,
            nsid: namespace.nsid,
            own: subsystem.own,
            hosts: subsystem.host_nqns(),
            allow_any_host: subsystem.allow_any_host,
            controllers: 0,
        }))
    }

    /// The device's user, as far as that is wanted: a namespace, a pool, or a layer over it.
    pub fn user_of(&self, device: &str) -> Option<String> {
        if let Some(shown) = self.namespace_of(&Source::Device { name: device.to_owned() }) {
            return Some(format!("namespace {} of {}", shown.nsid, shown.subsystem));
        }
        let mut layers = self.devices().filter(|other| other.spec.base() == Some(device));
        layers.next().map(|layer| format!("bdev \"{}\"", layer.name))
    }

    /// This with changes carried out.
    #[must_use]
    pub fn with(&self, changes: &[Change]) -> Wanted {
        let mut next = self.clone();
        changes.iter().for_each(|change| next.carry_out(change));
        next
    }

    /// Carries a change out.
    pub fn carry_out(&mut self, change: &Change) {
        match change {
            Change::Device(step) => set(&mut self.devices, step.item().name.clone(), step),
            Change::Pool(step) => set(&mut self.pools, step.item().name.clone(), step),
            Change::Subsystem(step) => set(&mut self.subsystems, step.item().nqn.clone(), step),
            Change::Listener(step) => set(&mut self.listeners, step.item().at(), step),
            Change::Gone(step) => set(&mut self.gone, step.item().uuid, step),
            Change::Namespace(step) => self.set_namespace(step),
        }
    }

    fn set_namespace(&mut self, step: &Step<Namespace>) {
        let place = (step.item().subsystem.clone(), step.item().nsid);
        if let Some(before) = self.namespaces.get(&place) {
            let key = before.source.key();
            if self.shown.get(&key) == Some(&place) {
                self.shown.remove_mut(&key);
            }
        }
        if let Some(now) = &step.to {
            self.shown.insert_mut(now.source.key(), place.clone());
        }
        set(&mut self.namespaces, place, step);
    }

    /// Every item, in the order of their kinds, with where it is declared.
    pub fn items(&self) -> impl Iterator<Item = Declared<Item>> {
        fn each<'a, T: Clone + 'a>(
            items: impl Iterator<Item = &'a Declared<T>> + 'a,
            wrap: fn(T) -> Item,
        ) -> impl Iterator<Item = Declared<Item>> + 'a {
            items.map(move |one| Declared { by: one.by, item: wrap(one.item.clone()) })
        }
        each(self.devices(), Item::Device)
            .chain(each(self.pools(), Item::Pool))
            .chain(each(self.subsystems(), Item::Subsystem))
            .chain(each(self.namespaces(), Item::Namespace))
            .chain(each(self.listeners(), Item::Listener))
            .chain(each(self.gone_pools(), Item::Gone))
    }

    /// The item with this key.
    pub fn item(&self, key: &Key) -> Option<Declared<Item>> {
        fn of<T: Clone>(one: &Declared<T>, wrap: fn(T) -> Item) -> Declared<Item> {
            Declared { by: one.by, item: wrap(one.item.clone()) }
        }
        Some(match key {
            Key::Device(name) => of(self.device(name)?, Item::Device),
            Key::Pool(name) => of(self.pool(name)?, Item::Pool),
            Key::Subsystem(nqn) => of(self.subsystem(nqn)?, Item::Subsystem),
            Key::Namespace(nqn, nsid) => of(self.namespace(nqn, *nsid)?, Item::Namespace),
            Key::Listener(at) => of(self.listener(*at)?, Item::Listener),
            Key::Gone(uuid) => of(self.gone(*uuid)?, Item::Gone),
        })
    }

    /// Takes the item with this key away, if it is there.
    pub fn remove(&mut self, key: &Key) {
        if let Some(there) = self.item(key) {
            self.carry_out(&there.item.appears(there.by).undone());
        }
    }

    /// Adds an item, unless something has its place: another item of its name, or, of a namespace,
    /// one that shows the same. Returns whether it was added.
    pub fn add(&mut self, item: Declared<Item>) -> bool {
        let is_free = match &item.item {
            Item::Device(device) => self.device(&device.name).is_none(),
            Item::Pool(pool) => self.pool(&pool.name).is_none(),
            Item::Subsystem(subsystem) => self.subsystem(&subsystem.nqn).is_none(),
            Item::Namespace(namespace) => {
                self.namespace(&namespace.subsystem, namespace.nsid).is_none()
                    && self.namespace_of(&namespace.source).is_none()
            }
            Item::Listener(listener) => self.listener(listener.at()).is_none(),
            Item::Gone(gone) => self.gone(gone.uuid).is_none(),
        };
        if is_free {
            self.carry_out(&item.item.appears(item.by));
        }
        is_free
    }
}
