//! `forebay audit`.

use crate::connection::Columns;
use crate::flags::Api;
use crate::print::value;
use clap::Args;
use webui_client::{Failure, List, Method, path::path};
use webui_model::AuditRecord;

/// How much of the audit log to show.
#[derive(Args)]
pub struct AuditArgs {
    /// At most so many of the newest.
    #[arg(long, value_name = "NUMBER", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    api: Api,
}

/// `forebay audit`.
pub fn run(args: AuditArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    let answer = c.ask(Method::GET, &format!("{}?limit={}", path(&[&"audit"]), args.limit))?;
    c.print(&answer, |list: &List<AuditRecord>| COLUMNS.print(&list.items))
}

const COLUMNS: Columns<'static, AuditRecord> = Columns {
    headings: &["when", "who", "role", "from", "what", "path", "status"],
    row: |r| {
        vec![
            value::moment(r.at_ms),
            value::or_none(&r.who),
            value::or_none(&r.role),
            r.address.clone(),
            r.operation.replace('_', " "),
            r.path.clone(),
            r.status.to_string(),
        ]
    },
    none: "Nobody has changed anything.",
};
