//! `forebay alerts`.

use super::access::Api;
use super::connection::Columns;
use super::show;
use crate::failure::Failure;
use clap::Args;
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
            show::moment(a.since_ms),
            show::word(&a.severity),
            a.object.to_string(),
            a.message.clone(),
            a.advice.clone(),
        ]
    },
    none: "There are no alerts.",
};
