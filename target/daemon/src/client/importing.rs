//! Pools that are on devices and not in use.

use super::connection::{Columns, Connection};
use super::{device, show};
use crate::failure::Failure;
use webui_model::{ImportablePool, Name, Pool, PoolImport};

/// Brings in a pool.
pub fn import(
    c: &Connection,
    name: Option<Name>,
    devices: &[String],
    force: bool,
) -> Result<(), Failure> {
    let devices = devices.iter().map(|text| device::reference(text));
    let devices = devices.collect::<Result<Vec<_>, _>>()?;
    let answer = c.create(&[&"pool-imports"], &PoolImport { name, devices, force })?;
    c.print(&answer, |pool: &Pool| match answer.is_new() {
        true => crate::out::line!(
            "Pool {} is back, with {} volumes and {} snapshots.",
            pool.name,
            pool.volumes,
            pool.snapshots
        ),
        false => crate::out::line!("Pool {} was imported already.", pool.name),
    })
}

/// Shows pools that could be imported.
pub fn list(c: &Connection) -> Result<(), Failure> {
    c.list(&[&"pool-imports"], &COLUMNS)
}

const COLUMNS: Columns<'static, ImportablePool> = Columns {
    headings: &["pool", "uuid", "devices", "status"],
    row: |p| {
        let devices: Vec<_> = p.devices.iter().map(Name::as_str).collect();
        vec![
            p.name.to_string(),
            p.uuid.clone(),
            devices.join(", "),
            show::status(p.status, &p.reason),
        ]
    },
    none: "There is no pool to import on the devices that are attached: `forebay device attach` \
           attaches one, or name it with `forebay pool import --device`.",
};
