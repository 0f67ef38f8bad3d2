//! `forebay ui`.

use crate::flags::Api;
use crate::print::value;
use clap::Args;
use webui_client::path::path;
use webui_client::{Failure, Method};
use webui_model::SessionCode;

/// Whose page.
#[derive(Args)]
pub struct UiArgs {
    #[command(flatten)]
    api: Api,
}

/// `forebay ui`: a link into a browser. The code stands behind the `#`, which no browser sends to
/// anybody and no server logs.
pub fn run(args: UiArgs) -> Result<(), Failure> {
    let page = args.api.page()?;
    let c = args.api.open()?;
    let answer = c.ask(Method::POST, &path(&[&"session", &"codes"]))?;
    c.print(&answer, |made: &SessionCode| {
        crate::line!("{page}/#/code/{}", made.code);
        let until = value::moment(made.ends_at_ms);
        crate::note!(
            "forebay: Whoever opens this link first is signed in. It is good until {until}."
        );
    })
}
