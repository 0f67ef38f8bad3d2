//! The rules: what may be asked for, and what is wanted afterwards.

mod devices;
mod draft;
mod exports;
mod found;
mod listeners;
mod pools;
mod subsystems;
mod volumes;

pub use draft::Edited;

use crate::request::Request;
use crate::seen::Seen;
use crate::tables::Wanted;
use draft::Edit;
use webui_model::Refusal;

/// What is wanted after `request`.
///
/// # Errors
/// Why it is refused. As nothing is changed in place, nothing of it is done then.
pub fn edit(wanted: &Wanted, request: &Request, seen: &dyn Seen) -> Result<Edited, Refusal> {
    let mut edit = Edit { wanted: wanted.clone(), changes: Vec::new(), seen };
    take(&mut edit, request)?;
    Ok(Edited { wanted: edit.wanted, changes: edit.changes })
}

fn take(edit: &mut Edit<'_>, request: &Request) -> Result<(), Refusal> {
    match request {
        Request::AttachDevice(attach) => devices::attach(edit, attach),
        Request::KeepDevice(device) => devices::keep(edit, device),
        Request::DetachDevice(name) => devices::detach(edit, name),
        Request::CreatePool { create, devices, uuid } => {
            pools::create(edit, create, devices, *uuid)
        }
        Request::KeepPool(pool) => pools::keep(edit, pool),
        Request::AddDevice { pool, device } => pools::add_device(edit, pool, device),
        Request::ExportPool { pool, force } => pools::export(edit, pool, *force),
        Request::DeletePool(pool) => pools::delete(edit, pool),
        Request::SetDiscard { pool, mode } => pools::set_discard(edit, pool, *mode),
        Request::CreateVolume { pool, create, uuid } => volumes::create(edit, pool, create, *uuid),
        Request::CloneSnapshot { snapshot, clone, uuid } => {
            volumes::clone_snapshot(edit, snapshot, clone, *uuid)
        }
        Request::DeleteVolume { volume, force } => volumes::delete(edit, volume, *force),
        Request::RollBack { volume, snapshot, force } => {
            volumes::roll_back(edit, volume, snapshot, *force)
        }
        Request::Promote(volume) => volumes::promote(edit, volume),
        Request::MoveSnapshots { pool, from, to, snapshots } => {
            volumes::move_snapshots(edit, pool, *from, to, snapshots);
            Ok(())
        }
        Request::LearnNames { pool, names } => {
            volumes::learn_names(edit, pool, names);
            Ok(())
        }
        Request::DeleteSnapshot(snapshot) => volumes::delete_snapshot(edit, snapshot),
        Request::Export { what, set, uuid } => exports::export(edit, what, set, *uuid),
        Request::Unexport(what) => exports::unexport(edit, what),
        Request::Forget(source) => {
            edit.unshow(source);
            Ok(())
        }
        other => take_of_subsystems(edit, other),
    }
}

fn take_of_subsystems(edit: &mut Edit<'_>, request: &Request) -> Result<(), Refusal> {
    match request {
        Request::CreateSubsystem(create) => subsystems::create(edit, create),
        Request::SetHosts(set) => subsystems::set_hosts(edit, set),
        Request::SetConfiguredHosts { nqn, hosts, allow_any_host } => {
            subsystems::set_configured_hosts(edit, nqn, hosts, *allow_any_host);
            Ok(())
        }
        Request::DeleteSubsystem(nqn) => subsystems::delete(edit, nqn),
        Request::AddHost { nqn, host } => subsystems::add_host(edit, nqn, host),
        Request::RemoveHost { nqn, host } => subsystems::remove_host(edit, nqn, host),
        Request::AddNamespace { nqn, add, uuid } => {
            subsystems::add_namespace(edit, nqn, add, *uuid)
        }
        Request::RemoveNamespace { nqn, nsid } => subsystems::remove_namespace(edit, nqn, *nsid),
        Request::CreateListener(create) => listeners::create(edit, create),
        Request::DeleteListener { transport, address } => {
            listeners::delete(edit, *transport, *address)
        }
        _ => unreachable!("every other request is taken before"),
    }
}
