//! `bench`: the ceiling, the load generator and the harness behind `make bench`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use bench::ceiling::{client, server};
use bench::{load, run, volume};
use clap::{Parser, Subcommand};

/// Measures Forebay against a bare TCP pair in the shape of the protocol.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The answering half of the bare TCP pair.
    CeilingServer(server::Options),
    /// The asking half of the bare TCP pair; prints one JSON line.
    CeilingClient(client::Options),
    /// Loads a namespace of a running target; prints one JSON line.
    ForebayLoad(load::Options),
    /// Connects to a running target and does nothing until standard input ends.
    ForebayHold(load::HoldOptions),
    /// Ceiling and Forebay by turns: medians of ratios, and what an I/O costs.
    Run(run::Options),
    /// One host alone, and beside eight that misbehave, by turns.
    Crowd(run::crowd::Options),
    /// A thin volume and the bare device below it by turns.
    Volume(volume::Options),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::CeilingServer(options) => server::run(&options),
        Command::CeilingClient(options) => client::run(&options),
        Command::ForebayLoad(options) => load::run(&options),
        Command::ForebayHold(options) => load::hold(&options),
        Command::Run(options) => run::run(&options),
        Command::Crowd(options) => run::crowd::crowd(&options),
        Command::Volume(options) => volume::run(&options).map_err(std::io::Error::other),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}
