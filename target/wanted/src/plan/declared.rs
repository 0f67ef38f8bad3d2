//! Volumes of a declaration.

use super::steps::{Act, Plan, Said};
use super::words;
use crate::request::{Request, Shown};
use crate::seen::{Seen, SeenVolume};
use crate::source::Source;
use webui_model::{
    ChangeAction, DeclaredVolume, Limits, ObjectKind, Refusal, Resize, Size, VolumeRef,
};

/// Bytes in a block of a volume that does not say.
const BLOCK_BYTES: u32 = 4096;

/// A volume of which nothing is known but that it would be made.
pub(super) fn made(plan: &mut Plan<'_>, at: &VolumeRef, declared: &DeclaredVolume) {
    let said = Said::made(format!("Volume {at} of {} is made.", declared.bytes));
    let create = declared.to_create();
    let act = Act::CreateVolume(at.pool.clone(), create, declared.exported);
    plan.step((ObjectKind::Volume, at), said, act);
}

pub(super) fn volume(
    plan: &mut Plan<'_>,
    at: &VolumeRef,
    declared: &DeclaredVolume,
) -> Result<(), Refusal> {
    let (pool, name) = (at.pool.to_string(), at.volume.to_string());
    if let Some(why) = plan.then.pool_away(&pool) {
        return Err(Refusal::unavailable(format!("Pool {pool} is not imported: {why}")));
    }
    let Some(there) = plan.then.volume(&pool, &name) else {
        let (create, uuid) = (declared.to_create(), plan.uuid());
        plan.ask(&Request::CreateVolume { pool: pool.clone(), create, uuid })?;
        let new = SeenVolume {
            uuid,
            bytes: declared.bytes.0,
            block_bytes: declared.block_bytes.unwrap_or(BLOCK_BYTES),
            thick: declared.thick,
            limits: declared.limits,
            origin: None,
        };
        plan.then.volumes.insert((pool, name), new);
        made(plan, at, declared);
        if !declared.exported {
            plan.ask(&Request::Unexport(Shown::Volume(at.clone())))?;
        }
        return Ok(());
    };
    properties(plan, at, declared, &there)?;
    export(plan, at, declared, &there)
}

fn properties(
    plan: &mut Plan<'_>,
    at: &VolumeRef,
    declared: &DeclaredVolume,
    there: &SeenVolume,
) -> Result<(), Refusal> {
    let other_blocks = declared.block_bytes.is_some_and(|bytes| there.block_bytes != bytes);
    if other_blocks || there.thick != declared.thick {
        return Err(Refusal::exists(format!(
            "Volume {at} is there, {} and with blocks of {} bytes, and that never changes.",
            if there.thick { "thick" } else { "thin" },
            there.block_bytes
        )));
    }
    let Size(bytes) = declared.bytes;
    if bytes < there.bytes && !declared.may_shrink {
        return Err(Refusal::refused(format!(
            "Volume {at} has {} bytes and would lose what lies behind {bytes}: say may_shrink if \
             that is meant.",
            there.bytes
        )));
    }
    if bytes != there.bytes {
        let how = if bytes < there.bytes { "shrinks" } else { "grows" };
        let said = Said::changed(format!("Volume {at} {how}"), Size(there.bytes), declared.bytes);
        let resize = Resize { bytes, may_shrink: declared.may_shrink };
        plan.step((ObjectKind::Volume, at), said, Act::ResizeVolume(at.clone(), resize));
    }
    if there.limits != declared.limits {
        let (from, to): (Limits, Limits) = (there.limits, declared.limits);
        let what = format!("The limits of volume {at} change");
        let said = Said::changed(what, words::limits(from), words::limits(to));
        plan.step((ObjectKind::Volume, at), said, Act::SetLimits(at.clone(), to));
    }
    Ok(())
}

fn export(
    plan: &mut Plan<'_>,
    at: &VolumeRef,
    declared: &DeclaredVolume,
    there: &SeenVolume,
) -> Result<(), Refusal> {
    let (pool, name) = (at.pool.to_string(), at.volume.to_string());
    let source = Source::Volume { pool, uuid: there.uuid, name };
    let from = words::export(&plan.wanted, &source);
    let what = Shown::Volume(at.clone());
    if !declared.exported {
        if plan.wanted.namespace_of(&source).is_none() {
            return Ok(());
        }
        plan.ask(&Request::Unexport(what))?;
        let message = format!("Volume {at} is not exported any more; it was {from}.");
        let said = Said { from: Some(from), ..Said::new(ChangeAction::Change, message) };
        plan.step((ObjectKind::Volume, at), said, Act::UnexportVolume(at.clone()));
        return Ok(());
    }
    let set = declared.to_create().export();
    let there = plan.wanted.export_of(&source)?;
    if set.differences(there.as_ref()).is_empty() {
        return Ok(());
    }
    let uuid = plan.uuid();
    plan.ask(&Request::Export { what, set: set.clone(), uuid })?;
    let to = words::export(&plan.wanted, &source);
    let said = Said::changed(format!("The export of volume {at} changes"), from, to);
    plan.step((ObjectKind::Volume, at), said, Act::ExportVolume(at.clone(), set));
    Ok(())
}
