//! Asking before data is lost or hosts are disturbed.

use clap::Args;
use std::io::{BufRead, IsTerminal, Write};
use webui_client::Failure;

/// Whether to ask.
#[derive(Args, Clone, Copy)]
pub struct Confirm {
    /// Do it without asking.
    #[arg(long, short)]
    pub yes: bool,
}

impl Confirm {
    /// Goes on if the person says so: `what` is what would happen, a sentence.
    ///
    /// # Errors
    /// The person says no, or there is nobody to ask.
    pub fn ask(self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::Usage(format!(
                "{what} There is no terminal to ask whether you mean it: give --yes."
            )));
        }
        eprint!("{what} Go on? [y/N] ");
        // A prompt that is not seen is answered with nothing, which is no.
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|error| format!("The answer cannot be read: {error}."))?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(Failure::Failed("Nothing was done.".into()))
    }
}
