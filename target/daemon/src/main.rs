//! The forebay binary: parse, pin, open, run; and the command line.
#![forbid(unsafe_code)]

mod appliance;
mod cli;
mod client;
mod drives;
mod failure;
mod live;
mod log;
mod out;
mod remote;
mod serve;
mod signals;
mod table;

use clap::{CommandFactory, Parser};
use cli::{Cli, Command, ShellArg};
use failure::Failure;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    if init::is_first_process() {
        init::run(appliance::health);
    }
    // The kernel of the image asks for modules under this name.
    if std::env::args().next().is_some_and(|name| name.ends_with("/modprobe")) {
        return ExitCode::from(init::modprobe(std::env::args().skip(1)));
    }
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Serve(args) => Ok(serve::serve(&args)?),
        Command::Status(args) => client::status::run(args),
        Command::Pool(args) => client::pool::run(args),
        Command::Volume(args) => client::volume::run(*args),
        Command::Snapshot(args) => client::snapshot::run(args),
        Command::Device(args) => client::device::run(args),
        Command::Subsystem(args) => client::subsystem::run(args),
        Command::Namespace(args) => client::namespace::run(args),
        Command::Host(args) => client::host::run(args),
        Command::Controllers(args) => client::controllers::run(args),
        Command::Listener(args) => client::listener::run(args),
        Command::ConnectInfo(args) => client::connect_info::run(args),
        Command::Top(args) => client::top::run(args),
        Command::Jobs(args) => client::job::run(args),
        Command::Events(args) => client::events::run(args),
        Command::Alerts(args) => client::alerts::run(args),
        Command::Apply(args) => client::apply::apply(args),
        Command::Export(args) => client::apply::export(args),
        Command::Appliance(args) => client::appliance::run(args),
        Command::Token(args) => client::token::run(args),
        Command::Audit(args) => client::audit::run(args),
        Command::Completion { shell } => complete(shell),
        Command::Stats(args) => Ok(live::stats(&args)?),
        Command::Discover(args) => Ok(remote::discover::discover(&args)?),
        Command::Identify(args) => Ok(remote::identify::identify(&args)?),
        Command::Io(args) => Ok(remote::io::io(&args)?),
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
