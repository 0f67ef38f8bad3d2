//! `forebay apply` and `forebay export`: the state of an appliance as a file.

use crate::flags::Api;
use crate::print::{Table, value};
use clap::Args;
use std::io::Read;
use std::path::{Path, PathBuf};
use webui_client::{Failure, Method, path::path};
use webui_model::{Applied, Declaration};

/// What to make so.
#[derive(Args)]
pub struct ApplyArgs {
    /// The declaration in TOML; - reads standard input.
    #[arg(long, short, value_name = "FILE")]
    file: PathBuf,
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: Api,
}

/// Whose state to print.
#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    api: Api,
}

/// `forebay apply`.
pub fn apply(args: ApplyArgs) -> Result<(), Failure> {
    let declaration = read(&args.file)?;
    let c = args.api.open()?;
    let query = if args.dry_run { "?dry_run=true" } else { "" };
    let answer = c.send(Method::PUT, &format!("{}{query}", path(&[&"config"])), &declaration)?;
    c.print(&answer, print)
}

fn read(file: &Path) -> Result<Declaration, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| format!("{} cannot be read: {error}.", file.display()))?;
    Declaration::from_toml(&text)
        .map_err(|why| Failure::Failed(format!("{}: {}", file.display(), why.trim_end())))
}

fn print(applied: &Applied) {
    if applied.changes.is_empty() {
        crate::line!("All is as declared.");
    } else {
        let did = if applied.dry_run { "would be done" } else { "was done" };
        let mut table = Table::new(&[did, "to", "what"]);
        for change in &applied.changes {
            let object = change.object.to_string();
            table.row([value::word(&change.action), object, change.message.clone()]);
        }
        table.print_bare();
    }
    for object in &applied.undeclared {
        crate::line!("Not declared, stays: {object}.");
    }
}

/// `forebay export`.
pub fn export(args: ExportArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    c.show(&[&"config"], |declaration: &Declaration| {
        crate::line!("{}", declaration.to_toml().trim_end());
        for lack in &declaration.lacks {
            crate::note!("forebay: {lack}");
        }
    })
}
