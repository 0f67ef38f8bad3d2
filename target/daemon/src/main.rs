//! The forebay binary: parse, pin, open, run; and the command line.
#![forbid(unsafe_code)]

mod cli;
mod live;
mod out;
mod remote;
mod serve;
mod table;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Serve(args) => serve::serve(&args),
        Command::Stats(args) => live::stats(&args),
        Command::Bdev(args) => live::bdev(&args),
        Command::Subsystem(args) => live::subsystem(&args),
        Command::Namespace(args) => live::namespace(&args),
        Command::Host(args) => live::host(&args),
        Command::Discover(args) => remote::discover::discover(&args),
        Command::Identify(args) => remote::identify::identify(&args),
        Command::Io(args) => remote::io::io(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("forebay: {why}");
            ExitCode::FAILURE
        }
    }
}
