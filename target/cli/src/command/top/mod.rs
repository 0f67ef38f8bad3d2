//! `forebay top`: what the appliance does, live.

mod frame;

use crate::flags::Api;
use clap::Args;
use console::Term;
use frame::Frame;
use std::time::Duration;
use webui_client::{Failure, Method, path::path};
use webui_model::Statistics;

/// How to watch.
#[derive(Args)]
pub struct TopArgs {
    /// Seconds between two looks.
    #[arg(long, short, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
    /// End after so many looks; without: when interrupted.
    #[arg(long, short = 'n', value_name = "NUMBER")]
    count: Option<u64>,
    #[command(flatten)]
    api: Api,
}

/// `forebay top`: on a terminal, in place; elsewhere, one table after the other.
pub fn run(args: TopArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    let at = path(&[&"statistics"]);
    let terminal = Term::stdout();
    let mut before: Option<Statistics> = None;
    for look in 0..args.count.unwrap_or(u64::MAX) {
        if look > 0 {
            std::thread::sleep(Duration::from_secs(args.interval));
        }
        let answer = c.ask(Method::GET, &at)?;
        if c.json() {
            c.print_raw(&answer);
            continue;
        }
        let now: Statistics = answer.read()?;
        let lines = Frame::new(before.as_ref(), &now).lines();
        if terminal.is_term() {
            draw(&terminal, &lines)?;
        } else {
            lines.iter().for_each(|line| crate::line!("{line}"));
            crate::line!("");
        }
        before = Some(now);
    }
    Ok(())
}

/// Draws the lines that fit.
fn draw(terminal: &Term, lines: &[String]) -> Result<(), Failure> {
    let (height, width) = terminal.size();
    let rows = usize::from(height).saturating_sub(1).max(1);
    let columns = usize::from(width).max(20);
    let lines = lines.iter().take(rows);
    let cut: Vec<String> = lines.map(|line| line.chars().take(columns).collect()).collect();
    let drawn = terminal.clear_screen().and_then(|()| terminal.write_line(&cut.join("\n")));
    drawn.map_err(|error| Failure::Failed(format!("The terminal cannot be drawn on: {error}.")))
}
