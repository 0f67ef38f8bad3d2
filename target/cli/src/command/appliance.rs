//! `forebay appliance`.

use crate::connection::{Columns, Connection};
use crate::flags::{Api, Confirm};
use crate::print::{Table, value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use webui_client::Failure;
use webui_model::{Certificate, Interface, SlotState, Slots, UpdateInstall, UpdatePiece};

/// Bytes of an update in one request; as a text they fit its body.
const PIECE: u64 = 2 << 20;

/// What to do with the machine.
#[derive(Args)]
pub struct ApplianceArgs {
    #[command(subcommand)]
    action: ApplianceAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum ApplianceAction {
    /// Show the slots of the image.
    Status,
    /// Show the certificate of the API.
    Certificate,
    /// Show the network interfaces of the machine.
    Interfaces,
    /// Put a signed image into the slot that does not run. It is tried at the next start, and kept
    /// once it works.
    Update {
        /// The image, forebay.efi; its signature is the file beside it with .minisig behind its
        /// name.
        file: PathBuf,
        /// Start the machine again after that.
        #[arg(long)]
        restart: bool,
        /// Go back to an image that is older than the one that runs.
        #[arg(long)]
        allow_older: bool,
    },
    /// Start the machine again.
    Restart {
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Switch the machine off.
    PowerOff {
        #[command(flatten)]
        confirm: Confirm,
    },
}

/// `forebay appliance`.
pub fn run(args: ApplianceArgs) -> Result<(), Failure> {
    let connection = args.api.open()?;
    let c = &connection;
    match args.action {
        ApplianceAction::Status => c.show(&[&"appliance", &"slots"], print),
        ApplianceAction::Certificate => c.list(&[&"appliance", &"certificates"], &CERTIFICATES),
        ApplianceAction::Interfaces => c.list(&[&"appliance", &"interfaces"], &INTERFACES),
        ApplianceAction::Update { file, restart, allow_older } => {
            update(c, &file, allow_older)?;
            if restart { end(c, "restart", "starts again") } else { Ok(()) }
        }
        ApplianceAction::Restart { confirm } => {
            confirm.ask("The machine starts again; its hosts wait until it serves.")?;
            end(c, "restart", "starts again")
        }
        ApplianceAction::PowerOff { confirm } => {
            confirm.ask("The machine is switched off.")?;
            end(c, "power-off", "is switched off")
        }
    }
}

fn end(c: &Connection, how: &str, says: &str) -> Result<(), Failure> {
    c.post(&[&"appliance", &how])?;
    c.say(format_args!("The machine {says}."));
    Ok(())
}

fn update(c: &Connection, file: &Path, allow_older: bool) -> Result<(), Failure> {
    let cannot = |path: &Path, error: std::io::Error| {
        Failure::Failed(format!("{} cannot be read: {error}.", path.display()))
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".minisig");
    let beside = PathBuf::from(beside);
    let signature = std::fs::read_to_string(&beside).map_err(|error| cannot(&beside, error))?;
    let mut image = File::open(file).map_err(|error| cannot(file, error))?;
    let mut offset = 0;
    loop {
        let mut piece = Vec::new();
        let read = (&mut image).take(PIECE).read_to_end(&mut piece);
        if read.map_err(|error| cannot(file, error))? == 0 {
            break;
        }
        let data = STANDARD.encode(&piece);
        c.put(&[&"appliance", &"update"], &UpdatePiece { offset, data })?;
        offset += piece.len() as u64;
    }
    let install = UpdateInstall { signature, allow_older };
    let answer = c.create(&[&"appliance", &"update"], &install)?;
    c.print(&answer, print)
}

const INTERFACES: Columns<'static, Interface> = Columns {
    headings: &["interface", "link", "speed", "mtu", "mac", "addresses"],
    row: |i| {
        let speed = i.speed_mbps.map(|mbps| format!("{mbps} Mbit/s"));
        vec![
            i.name.clone(),
            if i.up { "up" } else { "down" }.to_owned(),
            value::or_none(&speed),
            value::or_none(&i.mtu),
            value::or_none(&i.mac),
            i.addresses.join(" "),
        ]
    },
    none: "The machine has no network interface.",
};

const CERTIFICATES: Columns<'static, Certificate> = Columns {
    headings: &["for", "names", "good until", "made here", "sha-256"],
    row: |c| {
        vec![
            c.subject.clone(),
            c.names.join(" "),
            value::moment(c.valid_until_ms),
            value::yes(c.own),
            c.fingerprint.clone(),
        ]
    },
    none: "The API is served without TLS: it has no certificate.",
};

fn print(slots: &Slots) {
    if !slots.slots.is_empty() {
        let mut table = Table::new(&["SLOT", "IMAGE", "STATE", ""]);
        for slot in &slots.slots {
            let runs = slots.running.as_ref() == Some(&slot.slot);
            let state = match slot.state {
                SlotState::Empty => "empty",
                SlotState::Good => "good",
                SlotState::Trial => "on trial",
                SlotState::Failed => "failed",
            };
            table.row(vec![
                slot.slot.clone(),
                slot.title.clone().unwrap_or_else(|| "-".to_owned()),
                state.to_owned(),
                if runs { "runs" } else { "" }.to_owned(),
            ]);
        }
        table.print_bare();
    }
    crate::line!("{}", slots.reason);
}
