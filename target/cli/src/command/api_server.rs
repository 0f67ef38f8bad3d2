//! `forebay api`.

use crate::flags::Api;
use clap::{Args, Subcommand};
use webui_client::Failure;
use webui_model::Reloaded;

/// What to do with the API.
#[derive(Args)]
pub struct ApiArgs {
    #[command(subcommand)]
    action: ApiAction,
    #[command(flatten)]
    api: Api,
}

#[derive(Subcommand)]
enum ApiAction {
    /// Have the configuration file and the certificate read again, as SIGHUP does.
    Reload,
}

/// `forebay api`.
pub fn run(args: ApiArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    match args.action {
        ApiAction::Reload => {
            let answer = c.post(&[&"appliance", &"reload"])?;
            c.print(&answer, |told: &Reloaded| {
                told.done.iter().chain(&told.left).for_each(|line| crate::line!("{line}"));
            })
        }
    }
}
