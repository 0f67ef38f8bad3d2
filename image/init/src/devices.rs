//! Devices of the machine and the modules that drive them: those that are there at the start, and
//! those that come later, by the kernel's events.

use crate::kmsg;
use crate::modules::Modules;
use netlink_sys::protocols::NETLINK_KOBJECT_UEVENT;
use netlink_sys::{Socket, SocketAddr};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

/// The multicast group of the kernel's own events.
const KERNEL_EVENTS: u32 = 1;

/// Loads modules for devices that come, on a thread of its own, from now on.
///
/// # Errors
/// A sentence: the kernel's events cannot be heard.
pub fn watch(modules: Arc<Modules>) -> Result<(), String> {
    let cannot = |error: std::io::Error| format!("Events of devices cannot be heard: {error}.");
    let mut socket = Socket::new(NETLINK_KOBJECT_UEVENT).map_err(cannot)?;
    socket.bind(&SocketAddr::new(0, KERNEL_EVENTS)).map_err(cannot)?;
    // Thousands come at once, at the start; what is lost then is found by looking.
    let _ = socket.set_rx_buf_sz(4_u32 << 20);
    let listen = move || {
        loop {
            match socket.recv_from_full() {
                Ok((event, from)) if from.port_number() == 0 => {
                    if let Some(alias) = alias_of(&event) {
                        load(&modules, &alias);
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Some were lost (ENOBUFS).
                Err(_) => drop(look(&modules, &mut BTreeSet::new())),
            }
        }
    };
    std::thread::Builder::new().name("devices".into()).spawn(listen).map_err(cannot)?;
    Ok(())
}

/// What an event asks for: `add@...` with a `MODALIAS=` among its fields, each ended by a zero.
fn alias_of(event: &[u8]) -> Option<String> {
    let mut fields = event.split(|&byte| byte == 0);
    if !fields.next()?.starts_with(b"add@") {
        return None;
    }
    let alias = fields.find_map(|field| field.strip_prefix(b"MODALIAS=".as_slice()))?;
    String::from_utf8(alias.to_vec()).ok()
}

/// Loads modules for all devices that are there, and for those that these bring.
pub fn settle(modules: &Modules) {
    let mut seen = BTreeSet::new();
    // A bus brings a controller, it brings a disk: no machine is nested deeper.
    for _ in 0..8 {
        if look(modules, &mut seen) == 0 {
            return;
        }
    }
}

/// Loads modules for devices whose alias is not in `seen`: how many aliases that were.
fn look(modules: &Modules, seen: &mut BTreeSet<String>) -> usize {
    let mut aliases = BTreeSet::new();
    gather(Path::new("/sys/devices"), 0, &mut aliases);
    let new: Vec<String> = aliases.into_iter().filter(|alias| seen.insert(alias.clone())).collect();
    for alias in &new {
        load(modules, alias);
    }
    new.len()
}

fn gather(folder: &Path, depth: u32, aliases: &mut BTreeSet<String>) {
    if let Ok(alias) = std::fs::read_to_string(folder.join("modalias")) {
        let alias = alias.trim();
        if !alias.is_empty() {
            aliases.insert(alias.to_owned());
        }
    }
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Links lead back up.
        if depth < 24 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            gather(&entry.path(), depth + 1, aliases);
        }
    }
}

fn load(modules: &Modules, alias: &str) {
    if let Err(why) = modules.load(alias) {
        // Drivers say ENODEV where they drive another revision.
        kmsg::write(kmsg::DEBUG, &format!("module for {alias}: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_name_aliases() {
        let event =
            b"add@/devices/pci0000:00/0000:00:03.0\0ACTION=add\0MODALIAS=pci:v1\0SEQNUM=1\0";
        assert_eq!(alias_of(event).as_deref(), Some("pci:v1"));
        assert_eq!(alias_of(b"remove@/devices/x\0MODALIAS=pci:v1\0"), None);
        assert_eq!(alias_of(b""), None);
    }
}
