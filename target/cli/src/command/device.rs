//! `forebay device`.

use crate::command::drive::{self, BindAction, FormatArgs, SanitizeArgs};
use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm};
use crate::print::{Fields, value};
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::{Device, DeviceAttach, DeviceRef, Name, Size};

/// What to do with devices.
#[derive(Args)]
pub struct DeviceArgs {
    #[command(subcommand)]
    action: DeviceAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum DeviceAction {
    /// Attach a file or block device, or memory.
    Attach(AttachArgs),
    /// Let go of a device that nobody uses. Its data stays.
    Detach {
        /// Its name.
        name: Name,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Show all devices.
    List,
    /// Show one device.
    Show {
        /// Its name.
        name: Name,
    },
    /// Look at a device's size again.
    Rescan {
        /// Its name.
        name: Name,
    },
    /// Show what the NVMe drive below a device says of its health.
    Health {
        /// The device's name.
        name: Name,
    },
    /// Show the NVMe drives of this machine, who has them and what is on them; with --api, those of
    /// that appliance's.
    Drives,
    /// Format a namespace of an NVMe drive that is not attached: everything on it is lost.
    Format(FormatArgs),
    /// Sanitize an NVMe drive that is not attached: everything on it is lost, in its caches and
    /// spare blocks, too.
    Sanitize(SanitizeArgs),
    #[command(flatten)]
    Here(BindAction),
}

#[derive(Args)]
struct AttachArgs {
    /// The path of a file or block device, or pci: and the address of an NVMe drive, which is taken
    /// from the kernel: pci:0000:03:00.0, or pci:0000:03:00.0/2 for its namespace 2.
    #[arg(required_unless_present = "memory")]
    path: Option<String>,
    /// Its name; from the path's last part unless given.
    #[arg(long)]
    name: Option<Name>,
    /// Size of a file that is to be made.
    #[arg(long, requires = "path")]
    size: Option<Size>,
    /// Attach memory of this size instead, gone when the appliance ends.
    #[arg(long, value_name = "SIZE", conflicts_with = "path", requires = "name")]
    memory: Option<Size>,
    /// Take an NVMe drive whatever is on it, and whoever uses it.
    #[arg(long, requires = "path")]
    force: bool,
    /// Take an NVMe drive without an IOMMU: it can then overwrite any memory. For labs.
    #[arg(long, requires = "path")]
    unsafe_no_iommu: bool,
}

/// `forebay device`.
pub fn run(args: DeviceArgs) -> Result<(), Failure> {
    match &args.action {
        DeviceAction::Here(action) => return drive::bind(action),
        DeviceAction::Drives if args.api.api.is_none() => return drive::here(args.api.json),
        _ => {}
    }
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        DeviceAction::Here(_) => unreachable!("done above"),
        DeviceAction::Drives => drive::list(c),
        DeviceAction::Health { name } => drive::health(c, &name),
        DeviceAction::Format(args) => drive::format(c, &args),
        DeviceAction::Sanitize(args) => drive::sanitize(c, &args),
        DeviceAction::Attach(args) => attach(c, args),
        DeviceAction::Detach { name, confirm } => {
            confirm.ask(&format!("The appliance lets go of device {name}."))?;
            c.delete(&[&"devices", &name])?;
            c.say(format_args!("Device {name} is detached."));
            Ok(())
        }
        DeviceAction::List => c.list(&[&"devices"], &COLUMNS),
        DeviceAction::Show { name } => c.show(&[&"devices", &name], print),
        DeviceAction::Rescan { name } => {
            let answer = c.post(&[&"devices", &name, &"rescan"])?;
            c.print(&answer, |now: &Device| {
                crate::line!("Device {name} has {}.", value::bytes(now.bytes));
            })
        }
    }
}

fn attach(c: &Connection, args: AttachArgs) -> Result<(), Failure> {
    let path = args.path.as_deref().map(|text| match text.starts_with("pci:") {
        true => Ok(text.to_owned()),
        false => absolute(text),
    });
    let path = path.transpose()?.map(|text| text.parse::<DeviceRef>()).transpose();
    let path = path.map_err(|error| Failure::Usage(error.to_string()))?;
    let bytes = args.memory.or(args.size).map(|size| size.0);
    let AttachArgs { name, force, unsafe_no_iommu, .. } = args;
    let request = DeviceAttach { name, path, bytes, force, unsafe_no_iommu };
    let answer = c.create(&[&"devices"], &request)?;
    c.print(&answer, |d: &Device| match answer.is_new() {
        true => crate::line!("Device {} is attached, with {}.", d.name, value::bytes(d.bytes)),
        false => crate::line!("Device {} was attached already.", d.name),
    })
}

/// A device as a person names it: what has a slash is a path, which the appliance wants absolute.
pub fn reference(text: &str) -> Result<DeviceRef, Failure> {
    let is_path = text.contains('/') && !text.starts_with("pci:");
    let text = if is_path { absolute(text)? } else { text.to_owned() };
    text.parse().map_err(|error: webui_model::NameError| Failure::Usage(error.to_string()))
}

fn absolute(text: &str) -> Result<String, Failure> {
    let path = std::path::absolute(text)
        .map_err(|error| Failure::Usage(format!("\"{text}\" is no path: {error}.")))?;
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| Failure::Usage(format!("The path of {text} is not UTF-8.")))
}

const COLUMNS: Columns<'static, Device> = Columns {
    headings: &["device", "kind", "path", "size", "block", "pool", "status"],
    row: |d| {
        vec![
            d.name.to_string(),
            value::word(&d.kind),
            value::or_none(&d.path),
            value::bytes(d.bytes),
            d.block_bytes.to_string(),
            value::or_none(&d.pool.as_ref().map(|member| &member.pool)),
            value::status(d.status, &d.reason),
        ]
    },
    none: "There are no devices: `forebay device attach` attaches one, and so does \
           `forebay pool create`.",
};

fn print(d: &Device) {
    let mut fields = Fields::default();
    fields.add("device", &d.name);
    fields.add("status", value::word(&d.status));
    fields.add("reason", &d.reason);
    fields.add("kind", value::word(&d.kind));
    fields.add_if("path", &d.path);
    fields.add_if("model", &d.model);
    fields.add_if("serial", &d.serial);
    if let Some(drive) = &d.drive {
        fields.add("firmware", &drive.firmware);
        fields.add("driver", &drive.driver);
        fields.add_if("NUMA node", &drive.numa_node);
        fields.add_if("health", &drive.health);
        let counts = (drive.resets, drive.timeouts, drive.errors);
        fields.add(
            "events",
            format!("{} resets, {} time-outs, {} errors", counts.0, counts.1, counts.2),
        );
    }
    fields.add("size", format!("{} ({} bytes)", value::bytes(d.bytes), d.bytes));
    fields.add("block", format!("{} bytes", d.block_bytes));
    fields.add("volatile cache", value::yes(d.volatile_cache));
    fields.add_if("pool", &d.pool.as_ref().map(|m| format!("{}, number {}", m.pool, m.number)));
    fields.print();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_and_names_stay() {
        assert_eq!(reference("nvme0").unwrap().as_str(), "nvme0");
        assert_eq!(reference("/dev/nvme0n1").unwrap().as_str(), "/dev/nvme0n1");
        assert!(reference("./disk.img").unwrap().is_path());
        assert_eq!(reference("pci:03:00.0/2").unwrap().as_str(), "pci:03:00.0/2");
        assert!(matches!(reference("a b"), Err(Failure::Usage(_))));
    }
}
