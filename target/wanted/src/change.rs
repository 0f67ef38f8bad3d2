//! Changes of what is wanted, item by item.

use crate::item::{DeclaredBy, Device, GonePool, ListenAt, Listener, Namespace, Pool, Subsystem};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// From what to what one item changes. One of both is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step<T> {
    /// Where the item is declared.
    pub by: DeclaredBy,
    /// Before; nothing: it is new.
    pub from: Option<T>,
    /// After; nothing: it goes.
    pub to: Option<T>,
}

impl<T> Step<T> {
    /// The item as it is after; as it was, if it goes.
    pub fn item(&self) -> &T {
        self.to.as_ref().or(self.from.as_ref()).expect("a step has one of both")
    }

    /// Whether the item goes.
    pub fn is_end(&self) -> bool {
        self.to.is_none()
    }

    /// Whether the item is new.
    pub fn is_new(&self) -> bool {
        self.from.is_none()
    }

    fn undone(self) -> Step<T> {
        Step { by: self.by, from: self.to, to: self.from }
    }
}

/// A change of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A device.
    Device(Step<Device>),
    /// A pool.
    Pool(Step<Pool>),
    /// A subsystem.
    Subsystem(Step<Subsystem>),
    /// A namespace.
    Namespace(Step<Namespace>),
    /// A listener.
    Listener(Step<Listener>),
    /// How a pool that is not here was exported. Nothing runs of it.
    Gone(Step<GonePool>),
}

/// What tells an item from all others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Key {
    /// By name.
    Device(String),
    /// By name.
    Pool(String),
    /// By NQN.
    Subsystem(String),
    /// By its subsystem's NQN and its number.
    Namespace(String, u32),
    /// By fabric and address.
    Listener(ListenAt),
    /// By the pool's UUID.
    Gone(Uuid),
}

/// An item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// A device.
    Device(Device),
    /// A pool.
    Pool(Pool),
    /// A subsystem.
    Subsystem(Subsystem),
    /// A namespace.
    Namespace(Namespace),
    /// A listener.
    Listener(Listener),
    /// How a pool that is not here was exported.
    Gone(GonePool),
}

impl Item {
    /// What tells it from all others.
    pub fn key(&self) -> Key {
        match self {
            Item::Device(device) => Key::Device(device.name.clone()),
            Item::Pool(pool) => Key::Pool(pool.name.clone()),
            Item::Subsystem(subsystem) => Key::Subsystem(subsystem.nqn.clone()),
            Item::Namespace(namespace) => {
                Key::Namespace(namespace.subsystem.clone(), namespace.nsid)
            }
            Item::Listener(listener) => Key::Listener(listener.at()),
            Item::Gone(gone) => Key::Gone(gone.uuid),
        }
    }

    /// That the item is there from now on.
    pub fn appears(self, by: DeclaredBy) -> Change {
        fn new<T>(by: DeclaredBy, item: T) -> Step<T> {
            Step { by, from: None, to: Some(item) }
        }
        match self {
            Item::Device(item) => Change::Device(new(by, item)),
            Item::Pool(item) => Change::Pool(new(by, item)),
            Item::Subsystem(item) => Change::Subsystem(new(by, item)),
            Item::Namespace(item) => Change::Namespace(new(by, item)),
            Item::Listener(item) => Change::Listener(new(by, item)),
            Item::Gone(item) => Change::Gone(new(by, item)),
        }
    }
}

impl Change {
    /// The change that takes this one back.
    pub fn undone(self) -> Change {
        match self {
            Change::Device(step) => Change::Device(step.undone()),
            Change::Pool(step) => Change::Pool(step.undone()),
            Change::Subsystem(step) => Change::Subsystem(step.undone()),
            Change::Namespace(step) => Change::Namespace(step.undone()),
            Change::Listener(step) => Change::Listener(step.undone()),
            Change::Gone(step) => Change::Gone(step.undone()),
        }
    }

    /// Where the item is declared.
    pub fn by(&self) -> DeclaredBy {
        match self {
            Change::Device(step) => step.by,
            Change::Pool(step) => step.by,
            Change::Subsystem(step) => step.by,
            Change::Namespace(step) => step.by,
            Change::Listener(step) => step.by,
            Change::Gone(step) => step.by,
        }
    }

    /// The item before and after.
    pub fn items(&self) -> (Option<Item>, Option<Item>) {
        fn both<T: Clone>(step: &Step<T>, wrap: fn(T) -> Item) -> (Option<Item>, Option<Item>) {
            (step.from.clone().map(wrap), step.to.clone().map(wrap))
        }
        match self {
            Change::Device(step) => both(step, Item::Device),
            Change::Pool(step) => both(step, Item::Pool),
            Change::Subsystem(step) => both(step, Item::Subsystem),
            Change::Namespace(step) => both(step, Item::Namespace),
            Change::Listener(step) => both(step, Item::Listener),
            Change::Gone(step) => both(step, Item::Gone),
        }
    }

    /// Which item changes.
    pub fn key(&self) -> Key {
        let (from, to) = self.items();
        to.or(from).expect("a step has one of both").key()
    }
}
