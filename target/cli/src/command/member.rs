//! Devices of a pool.

use crate::command::device;
use crate::connection::Connection;
use crate::flags::Confirm;
use crate::print::{progress, value};
use std::convert::Infallible;
use std::str::FromStr;
use webui_client::Failure;
use webui_model::{DeviceAdd, Job, Name, Pool, PoolDevice, RefusalKind};

/// A device of a pool, by its number there, its name or its path.
#[derive(Clone)]
pub struct MemberPlace(String);

impl FromStr for MemberPlace {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl MemberPlace {
    /// Its number.
    fn find(&self, c: &Connection, pool: &Name) -> Result<u32, Failure> {
        if let Ok(number) = self.0.parse() {
            return Ok(number);
        }
        let there: Pool = c.get(&[&"pools", pool])?;
        let is_it = |device: &&PoolDevice| {
            device.device.as_ref().is_some_and(|name| name.as_str() == self.0)
                || device.path.as_ref() == Some(&self.0)
        };
        there.devices.iter().find(is_it).map(|device| device.number).ok_or_else(|| {
            Failure::Failed(format!(
                "Pool {pool} has no device \"{}\": see `forebay pool show {pool}`.",
                self.0
            ))
        })
    }
}

/// Adds a device.
pub fn add(
    c: &Connection,
    pool: &Name,
    text: &str,
    force: bool,
    confirm: Confirm,
) -> Result<(), Failure> {
    if force {
        confirm.ask(&format!("Whatever {text} held is lost."))?;
    }
    let request = DeviceAdd { device: device::reference(text)?, force };
    let answer = c.create(&[&"pools", pool, &"devices"], &request);
    let answer = answer.map_err(|failure| {
        failure.hint(RefusalKind::Refused, "(--force takes it all the same; its data is lost.)")
    })?;
    c.print(&answer, |added: &PoolDevice| match answer.is_new() {
        true => crate::line!(
            "Device {text} is number {} of pool {pool}, with {}.",
            added.number,
            value::bytes(added.total_bytes)
        ),
        false => crate::line!("Device {text} was in pool {pool} already."),
    })
}

/// Moves a device's data away; returns when it has begun, or when it is done.
pub fn drain(c: &Connection, pool: &Name, place: &MemberPlace, wait: bool) -> Result<(), Failure> {
    let number = place.find(c, pool)?;
    let answer = c.post(&[&"pools", pool, &"devices", &number, &"drain"])?;
    if wait {
        let job: Job = answer.read()?;
        progress::for_job(c, job.id)?;
        return c.show(&[&"jobs", &job.id], |_: &Job| {
            crate::line!(
                "Device {number} is drained, and no part of pool {pool} any more: `forebay device \
                 detach` lets go of it."
            );
        });
    }
    c.print(&answer, |job: &Job| {
        crate::line!(
            "Job {} moves {} away: `forebay jobs wait {}` waits for it.",
            job.id,
            value::bytes(job.total_bytes),
            job.id
        );
    })
}

/// Takes a device out.
pub fn remove(
    c: &Connection,
    pool: &Name,
    place: &MemberPlace,
    confirm: Confirm,
) -> Result<(), Failure> {
    let number = place.find(c, pool)?;
    confirm.ask(&format!("Device {number} leaves pool {pool}."))?;
    c.delete(&[&"pools", pool, &"devices", &number])?;
    c.say(format_args!("Device {number} is no part of pool {pool} any more."));
    Ok(())
}

/// Takes in what a device has grown.
pub fn grow(c: &Connection, pool: &Name, place: &MemberPlace) -> Result<(), Failure> {
    let number = place.find(c, pool)?;
    let answer = c.post(&[&"pools", pool, &"devices", &number, &"grow"])?;
    c.print(&answer, |now: &PoolDevice| {
        crate::line!("Device {number} has {} now.", value::bytes(now.total_bytes));
    })
}
