//! `forebay alerts`.

use crate::connection::Columns;
use crate::flags::Api;
use crate::print::value;
use clap::Args;
use webui_client::Failure;
use webui_model::Alert;

/// Whose alerts to show.
#[derive(Args)]
pub struct AlertsArgs {
    #[command(flatten)]
    api: Api,
}

/// `forebay alerts`.
pub fn run(args: AlertsArgs) -> Result<(), Failure> {
    args.api.open()?.list(&[&"alerts"], &COLUMNS)
}

/// Alerts as a table.
pub const COLUMNS: Columns<'static, Alert> = Columns {
    headings: &["since", "severity", "about", "what is wrong", "what to do"],
    row: |a| {
        vec![
            value::moment(a.since_ms),
            value::word(&a.severity),
            a.object.to_string(),
            a.message.clone(),
            a.advice.clone(),
        ]
    },
    none: "There are no alerts.",
};
