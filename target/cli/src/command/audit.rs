//! `forebay audit`.

use crate::connection::Columns;
use crate::flags::Api;
use crate::print::value;
use clap::{Args, Subcommand};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use webui_audit::Verified;
use webui_client::{Failure, List, Method, path::path};
use webui_model::AuditRecord;
use webui_model::data_dir::{self, ACCESS_LOG_FILE, AUDIT_LOG_FILE};

/// How much of the audit log to show.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    action: Option<AuditAction>,
    /// At most so many of the newest.
    #[arg(long, value_name = "NUMBER", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Show who was let in and who was refused instead: a line a minute for each caller.
    #[arg(long)]
    access: bool,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum AuditAction {
    /// Say whether the log's files are as they were written. Reads the files, and asks nobody.
    Verify {
        /// The log, or a copy of it, with its older files beside it; the logs of the data directory
        /// unless given.
        file: Vec<PathBuf>,
    },
}

/// `forebay audit`.
pub fn run(args: AuditArgs) -> Result<(), Failure> {
    if let Some(AuditAction::Verify { file }) = args.action {
        return verify(file, args.api);
    }
    let c = args.api.open()?;
    let access = if args.access { "&access=true" } else { "" };
    let asked = format!("{}?limit={}{access}", path(&[&"audit"]), args.limit);
    let answer = c.ask(Method::GET, &asked)?;
    c.print(&answer, |list: &List<AuditRecord>| match args.access {
        true => ACCESS.print(&list.items),
        false => CHANGES.print(&list.items),
    })
}

const CHANGES: Columns<'static, AuditRecord> = Columns {
    headings: &["when", "who", "role", "from", "what", "path", "with", "status"],
    row: |r| {
        let mut row = shown(r);
        row.push(body(r));
        row.push(value::or_none(&r.status));
        row
    },
    none: "Nobody has changed anything.",
};

const ACCESS: Columns<'static, AuditRecord> = Columns {
    headings: &["when", "who", "role", "from", "what", "path", "status", "times"],
    row: |r| {
        let mut row = shown(r);
        row.push(value::or_none(&r.status));
        row.push(r.count.to_string());
        row
    },
    none: "Nobody has logged in or was refused.",
};

fn shown(r: &AuditRecord) -> Vec<String> {
    vec![
        value::moment(r.at_ms),
        value::or_none(&r.who),
        value::or_none(&r.role),
        r.address.clone(),
        r.operation.replace('_', " "),
        r.path.clone(),
    ]
}

/// Characters of a body that are shown; `--json` has all of it.
const BODY: usize = 60;

fn body(r: &AuditRecord) -> String {
    let Some(body) = &r.body else { return "-".into() };
    let text = body.to_string();
    match text.char_indices().nth(BODY) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// `forebay audit verify`.
fn verify(files: Vec<PathBuf>, api: Api) -> Result<(), Failure> {
    let folder = api.data_dir.unwrap_or_else(data_dir::default);
    let named = !files.is_empty();
    let files = match named {
        true => files,
        false => [AUDIT_LOG_FILE, ACCESS_LOG_FILE].map(|name| folder.join(name)).into(),
    };
    let mut faults = 0;
    for file in files {
        match webui_audit::verify(&file) {
            Ok(found) => {
                faults += found.faults.len();
                tell(&file, &found);
            }
            Err(error) => {
                let why = match error.kind() {
                    ErrorKind::NotFound => "there is none".to_owned(),
                    _ => error.to_string(),
                };
                return Err(Failure::Failed(format!(
                    "The audit log {} cannot be verified: {why}.",
                    file.display()
                )));
            }
        }
    }
    match faults {
        0 => Ok(()),
        _ => Err(Failure::Failed("The audit log is not as it was written.".into())),
    }
}

fn tell(file: &Path, found: &Verified) {
    let file = file.display();
    match (found.first, &found.last) {
        (Some(first), Some((last, link))) => {
            let how = if found.faults.is_empty() {
                "as they were written"
            } else {
                "NOT as they were written"
            };
            crate::line!("{file}: lines {first} to {last} are {how}.");
            crate::line!("  The last one has the SHA-256 {link}.");
        }
        _ => crate::line!("{file}: it has no lines that are chained."),
    }
    found.faults.iter().for_each(|fault| crate::line!("  {fault}"));
    if found.unchained > 0 {
        crate::line!("  {} lines are older than the chain.", found.unchained);
    }
    if found.torn > 0 {
        crate::line!("  {} lines were torn as the machine or the appliance ended.", found.torn);
    }
}
