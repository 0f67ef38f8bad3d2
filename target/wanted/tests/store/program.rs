//! Random changes.

use std::collections::BTreeMap;
use uuid::Uuid;
use wanted::{
    Change, DeclaredBy, Device, DeviceSpec, FileStore, Files, Item, Key, Namespace, Revision,
    Source, Store, StoreError, Subsystem,
};

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub type Items = BTreeMap<Key, Item>;

pub fn subsystem(number: u64, hosts: u64) -> Item {
    Item::Subsystem(Subsystem {
        nqn: format!("nqn.2026-01.io.forebay:tank:v{number}"),
        serial: None,
        own: true,
        hosts: (0..hosts).map(|host| format!("nqn.2014-08.org.example:h{host}")).collect(),
        allow_any_host: false,
    })
}

pub fn namespace(number: u64) -> Item {
    let uuid = Uuid::from_u128(u128::from(number) + 1);
    let (pool, name) = ("tank".to_owned(), format!("v{number}"));
    Item::Namespace(Namespace {
        subsystem: format!("nqn.2026-01.io.forebay:tank:v{number}"),
        nsid: 1,
        uuid,
        source: Source::Volume { pool, uuid, name },
    })
}

fn device(number: u64, bytes: u64) -> Item {
    let spec = DeviceSpec::Memory { bytes, block_bytes: 4096 };
    Item::Device(Device { name: format!("d{number}"), spec })
}

/// The change from one item to another.
pub fn change(from: Option<Item>, to: Option<Item>) -> Change {
    let new = |item: Item| item.appears(DeclaredBy::Api);
    match (from, to) {
        (None, Some(to)) => new(to),
        (Some(from), None) => new(from).undone(),
        (Some(from), Some(to)) => match (new(from), new(to)) {
            (Change::Device(from), Change::Device(to)) => {
                Change::Device(wanted::Step { from: from.to, ..to })
            }
            (Change::Subsystem(from), Change::Subsystem(to)) => {
                Change::Subsystem(wanted::Step { from: from.to, ..to })
            }
            (_, to) => to,
        },
        (None, None) => unreachable!("something changes"),
    }
}

/// Some changes of what is there.
pub fn changes(random: &mut Random, items: &Items) -> Vec<Change> {
    let mut now = items.clone();
    let mut changes = Vec::new();
    for _ in 0..=random.below(3) {
        let number = random.below(4);
        let item = match random.below(3) {
            0 => device(number, 4096 * (1 + random.below(3))),
            1 => subsystem(number, random.below(30)),
            _ => namespace(number),
        };
        let (key, there) = (item.key(), now.get(&item.key()).cloned());
        let to = (there.is_none() || random.below(2) == 0).then_some(item);
        if there == to {
            continue;
        }
        match &to {
            Some(item) => drop(now.insert(key, item.clone())),
            None => drop(now.remove(&key)),
        }
        changes.push(change(there, to));
    }
    changes
}

pub fn carry_out(items: &mut Items, changes: &[Change]) {
    for change in changes {
        match change.items() {
            (_, Some(to)) => drop(items.insert(to.key(), to)),
            (_, None) => drop(items.remove(&change.key())),
        }
    }
}

/// What a store has.
pub fn load<F: Files>(store: &mut FileStore<F>) -> Result<(Revision, Items), StoreError> {
    let (revision, items) = store.load()?;
    Ok((revision, items.into_iter().map(|item| (item.key(), item)).collect()))
}
