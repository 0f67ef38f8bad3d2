//! Who has a pool, and how often it may have lost what it had answered (`FORMAT.md`, "Tenure").

use crate::error::{Kind, PoolError};
use uuid::Uuid;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const NAME_BYTES: usize = 64;
const NOBODY: u32 = 0;
const HAS_IT: u32 = 1;
const LET_GO: u32 = 2;
const WRITES_JOURNALS: u32 = 1;

/// Part of a superblock (`FORMAT.md`, "Tenure").
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Layout {
    losses: U64,
    state: U32,
    flags: U32,
    machine: [u8; 16],
    boot: [u8; 16],
    process: [u8; 16],
    since_s: U64,
    durable_s: U64,
    noticed_s: U64,
    missing_s: U64,
    why: U32,
    zeros: U32,
    name: [u8; NAME_BYTES],
}

const _: () = assert!(size_of::<Layout>() == 168);
const _: () = assert!(std::mem::offset_of!(Layout, machine) == 16);
const _: () = assert!(std::mem::offset_of!(Layout, since_s) == 64);
const _: () = assert!(std::mem::offset_of!(Layout, name) == 104);

/// Who opens pools: written to their devices, for others to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The machine, for ever.
    pub machine: Uuid,
    /// The machine as people call it. At most 64 bytes of it are kept.
    pub name: String,
    /// The boot of the machine: another one after each start of its kernel.
    pub boot: Uuid,
    /// The process.
    pub process: Uuid,
}

/// Whether somebody has a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Held {
    /// Nobody has had it yet.
    #[default]
    Nobody,
    /// This one has it, or ended without letting go of it.
    By {
        /// Who.
        owner: Owner,
        /// Since when, in seconds since 1970.
        since_s: u64,
        /// Its volumes write journals.
        journals: bool,
    },
    /// Its last owner let go of it in order.
    LetGo {
        /// Who.
        owner: Owner,
    },
}

/// Why something may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The machine was without power, or its kernel ended.
    Restart,
    /// A device was without power while the machine was not.
    DevicePower,
    /// Another machine took the pool from its owner.
    OtherMachine,
    /// A device was out while the pool was open.
    DeviceOut,
    /// What a process that was killed had left in memory is gone.
    Journals,
    /// The devices are not those that the last owner had.
    Copy,
}

const CAUSES: [Cause; 6] = [
    Cause::Restart,
    Cause::DevicePower,
    Cause::OtherMachine,
    Cause::DeviceOut,
    Cause::Journals,
    Cause::Copy,
];

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Cause::Restart => "the machine was without power or started anew",
            Cause::DevicePower => "a device was without power",
            Cause::OtherMachine => "another machine took the pool",
            Cause::DeviceOut => "a device was out while the pool was open",
            Cause::Journals => "what a killed process had left in memory was gone",
            Cause::Copy => "the devices are a copy of those that the pool was on",
        })
    }
}

/// Writes that were answered and not flushed may have been lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub cause: Cause,
    /// When it was noticed, in seconds since 1970.
    pub noticed_s: u64,
    /// What was answered before is there, in seconds since 1970; 0 where nobody can tell.
    pub since_s: u64,
}

impl std::fmt::Display for Loss {
    /// What may be missing, and why, for a person.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Loss { cause, noticed_s, since_s } = self;
        f.write_str("what was written ")?;
        if *since_s > 0 {
            write!(f, "since {} ", utc(*since_s))?;
        }
        write!(f, "and not flushed may be missing: {cause} (noticed {})", utc(*noticed_s))
    }
}

/// Who has a pool, and what may have been lost of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenure {
    /// Who has it.
    pub held: Held,
    /// How often something may have been lost.
    pub losses: u64,
    /// The last time.
    pub last: Option<Loss>,
    /// What was answered before this time is durable, in seconds since 1970.
    pub durable_s: u64,
}

/// A time as people read it, of seconds since 1970.
pub(crate) fn utc(seconds: u64) -> String {
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Days of the Gregorian calendar, from March on, in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (date, month) = (day - (153 * month + 2) / 5 + 1, (month + 2) % 12 + 1);
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{date:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn text(name: &[u8; NAME_BYTES]) -> String {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// As much of a name as fits, in whole characters.
fn bytes(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    let end = name.floor_char_boundary(NAME_BYTES);
    bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
    bytes
}

impl Tenure {
    pub(crate) fn encode(&self) -> Layout {
        let nobody = (Owner::default(), 0, false);
        let (state, (owner, since_s, journals)) = match &self.held {
            Held::Nobody => (NOBODY, nobody),
            Held::By { owner, since_s, journals } => (HAS_IT, (owner.clone(), *since_s, *journals)),
            Held::LetGo { owner } => (LET_GO, (owner.clone(), 0, false)),
        };
        let (noticed_s, missing_s) =
            self.last.map_or((0, 0), |loss| (loss.noticed_s, loss.since_s));
        let number = |loss: Loss| CAUSES.iter().position(|cause| *cause == loss.cause);
        let why = self.last.and_then(number).map_or(0, |at| at as u32 + 1);
        Layout {
            losses: self.losses.into(),
            state: state.into(),
            flags: if journals { WRITES_JOURNALS } else { 0 }.into(),
            machine: owner.machine.into_bytes(),
            boot: owner.boot.into_bytes(),
            process: owner.process.into_bytes(),
            since_s: since_s.into(),
            durable_s: self.durable_s.into(),
            noticed_s: noticed_s.into(),
            missing_s: missing_s.into(),
            why: why.into(),
            zeros: 0.into(),
            name: bytes(&owner.name),
        }
    }

    /// What a superblock says; none if it cannot be.
    pub(crate) fn decode(layout: &Layout) -> Option<Tenure> {
        let owner = Owner {
            machine: Uuid::from_bytes(layout.machine),
            name: text(&layout.name),
            boot: Uuid::from_bytes(layout.boot),
            process: Uuid::from_bytes(layout.process),
        };
        let since_s = layout.since_s.get();
        let held = match layout.state.get() {
            NOBODY => Held::Nobody,
            HAS_IT => {
                let journals = layout.flags.get() & WRITES_JOURNALS != 0;
                Held::By { owner, since_s, journals }
            }
            LET_GO => Held::LetGo { owner },
            _ => return None,
        };
        let last = match layout.why.get() {
            0 => None,
            why => Some(Loss {
                cause: *CAUSES.get(why as usize - 1)?,
                noticed_s: layout.noticed_s.get(),
                since_s: layout.missing_s.get(),
            }),
        };
        let (losses, durable_s) = (layout.losses.get(), layout.durable_s.get());
        Some(Tenure { held, losses, last, durable_s })
    }

    /// One more loss.
    pub(crate) fn lose(&mut self, cause: Cause, now_s: u64) {
        self.losses += 1;
        self.last = Some(Loss { cause, noticed_s: now_s, since_s: self.durable_s });
    }

    /// Another machine has it.
    ///
    /// # Errors
    /// Which one, in a sentence.
    pub(crate) fn may_take(&self, by: &Owner, pool: &str) -> Result<(), PoolError> {
        match &self.held {
            Held::By { owner, since_s, .. } if owner.machine != by.machine => {
                let machine = match &owner.name[..] {
                    "" => owner.machine.to_string(),
                    name => format!("\"{}\" ({})", name.escape_debug(), owner.machine),
                };
                Err(PoolError::new(
                    Kind::InUse,
                    format!(
                        "Pool \"{pool}\" is open on machine {machine} since {}, which has not let \
                         go of it. Export it there; or, if that machine is off and will not use \
                         these devices again, use --force.",
                        utc(*since_s)
                    ),
                ))
            }
            _ => Ok(()),
        }
    }

    /// What the last owner may have lost, as far as the tenure alone tells: `by` takes the pool, with
    /// or without the journals of this machine, which may say that a device was out.
    pub(crate) fn lost_before(
        &self,
        by: &Owner,
        has_journals: bool,
        was_out: bool,
    ) -> Option<Cause> {
        match &self.held {
            Held::Nobody | Held::LetGo { .. } => None,
            Held::By { owner, .. } if owner.machine != by.machine => Some(Cause::OtherMachine),
            // Who does not know its boot cannot tell.
            Held::By { owner, .. } if owner.boot != by.boot || by.boot.is_nil() => {
                Some(Cause::Restart)
            }
            Held::By { journals: true, .. } if !has_journals => Some(Cause::Journals),
            Held::By { .. } => was_out.then_some(Cause::DeviceOut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(4_107_542_400), "2100-03-01 00:00:00 UTC");
        assert_eq!(utc(1_796_083_200 + 3_661), "2026-12-01 01:01:01 UTC");
        // Whatever a device says.
        (0..64).for_each(|shift| drop(utc(u64::MAX >> shift)));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else_panics(
            bytes in proptest::collection::vec(any::<u8>(), 168),
            (losses, times) in (any::<u64>(), any::<[u64; 4]>()),
            name in "\\PC{0,40}",
            (which, why) in (0..3, 0..7usize),
        ) {
            if let Some(tenure) = Tenure::decode(Layout::ref_from_bytes(&bytes).unwrap()) {
                let again = Tenure::decode(&tenure.encode());
                prop_assert_eq!(again.map(|t| t.losses), Some(tenure.losses));
            }
            let end = name.floor_char_boundary(64);
            let ids = [1, 2, 3].map(|id| Uuid::from_u128(u128::from(losses) << 8 | id));
            let (machine, boot, process) = (ids[0], ids[1], ids[2]);
            let owner = Owner { machine, name: name[..end].to_owned(), boot, process };
            let held = match which {
                0 => Held::Nobody,
                1 => Held::By { owner, since_s: times[0], journals: losses % 2 == 0 },
                _ => Held::LetGo { owner },
            };
            let loss = |cause: &Cause| Loss { cause: *cause, noticed_s: times[1], since_s: times[2] };
            let last = CAUSES.get(why).map(loss);
            let tenure = Tenure { held, losses, last, durable_s: times[3] };
            prop_assert_eq!(Tenure::decode(&tenure.encode()), Some(tenure));
        }
    }
}
