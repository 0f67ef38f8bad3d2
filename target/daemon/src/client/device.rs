//! `forebay device`.

use super::access::Api;
use super::confirm::Confirm;
use super::connection::{Columns, Connection};
use super::fields::Fields;
use super::show;
use crate::drives::DrivesAction;
use crate::failure::Failure;
use clap::{Args, Subcommand};
use control::config::Size;
use webui_api::model::{Device, DeviceAttach, DeviceRef, Name};

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
    #[command(flatten)]
    Drives(DrivesAction),
}

#[derive(Args)]
struct AttachArgs {
    /// The path of a file or block device.
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
}

/// `forebay device`.
pub fn run(args: DeviceArgs) -> Result<(), Failure> {
    if let DeviceAction::Drives(action) = &args.action {
        return crate::drives::run(action);
    }
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        DeviceAction::Drives(_) => unreachable!("done above"),
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
                crate::out::line!("Device {name} has {}.", show::bytes(now.bytes));
            })
        }
    }
}

fn attach(c: &Connection, args: AttachArgs) -> Result<(), Failure> {
    let path = args.path.as_deref().map(absolute).transpose()?;
    let path = path.map(|text| text.parse::<DeviceRef>()).transpose();
    let path = path.map_err(|error| Failure::Usage(error.to_string()))?;
    let bytes = args.memory.or(args.size).map(|size| size.0);
    let request = DeviceAttach { name: args.name, path, bytes };
    let answer = c.create(&[&"devices"], &request)?;
    c.print(&answer, |d: &Device| match answer.is_new() {
        true => crate::out::line!("Device {} is attached, with {}.", d.name, show::bytes(d.bytes)),
        false => crate::out::line!("Device {} was attached already.", d.name),
    })
}

/// A device as a person names it: what has a slash is a path, which the appliance wants absolute.
pub fn reference(text: &str) -> Result<DeviceRef, Failure> {
    let text = if text.contains('/') { absolute(text)? } else { text.to_owned() };
    text.parse().map_err(|error: webui_api::model::NameError| Failure::Usage(error.to_string()))
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
            show::word(&d.kind),
            show::or_none(&d.path),
            show::bytes(d.bytes),
            d.block_bytes.to_string(),
            show::or_none(&d.pool.as_ref().map(|member| &member.pool)),
            show::status(d.status, &d.reason),
        ]
    },
    none: "There are no devices: `forebay device attach` attaches one, and so does \
           `forebay pool create`.",
};

fn print(d: &Device) {
    let mut fields = Fields::default();
    fields.add("device", &d.name);
    fields.add("status", show::word(&d.status));
    fields.add("reason", &d.reason);
    fields.add("kind", show::word(&d.kind));
    fields.add_if("path", &d.path);
    fields.add_if("model", &d.model);
    fields.add_if("serial", &d.serial);
    fields.add("size", format!("{} ({} bytes)", show::bytes(d.bytes), d.bytes));
    fields.add("block", format!("{} bytes", d.block_bytes));
    fields.add("volatile cache", show::yes(d.volatile_cache));
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
        assert!(matches!(reference("a b"), Err(Failure::Usage(_))));
    }
}
