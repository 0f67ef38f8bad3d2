//! The forebay binary: parse, pin, open, run; and the command line.
#![forbid(unsafe_code)]

mod appliance;
mod arguments;
mod configuration;
mod log;
mod panics;
mod serve;
mod signals;

use arguments::{Cli, Command, ShellArg};
use clap::{CommandFactory, Parser};
use std::io::Write;
use std::process::ExitCode;
use webui_client::Failure;

fn main() -> ExitCode {
    panics::end_the_process();
    // What this process makes is for its user alone, also what says nothing of its mode.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    if init::is_first_process() {
        init::run(appliance::health);
    }
    // The kernel of the image asks for modules under this name.
    if std::env::args().next().is_some_and(|name| name.ends_with("/modprobe")) {
        return ExitCode::from(init::modprobe(std::env::args().skip(1)));
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => cli::print::report(&failure),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => Ok(serve::serve(&args)?),
        Command::Ask(command) => command.run(),
        Command::Completion { shell } => complete(shell),
    }
}

/// `forebay completion`.
fn complete(shell: ShellArg) -> Result<(), Failure> {
    let mut script = Vec::new();
    let mut command = Cli::command();
    clap_complete::generate(
        clap_complete::Shell::from(shell),
        &mut command,
        "forebay",
        &mut script,
    );
    // Whoever reads only its beginning has what was wanted.
    let written = std::io::stdout().lock().write_all(&script);
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::Failed(format!("The script cannot be written: {error}.")))
        }
        _ => Ok(()),
    }
}
