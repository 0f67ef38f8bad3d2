//! `bench run`: ceiling and Forebay by turns, medians of ratios, and what an I/O costs.

mod costs;
pub mod crowd;
pub mod machine;
pub mod process;
pub mod report;
pub mod shapes;
pub mod sides;
pub mod signals;

use std::io;
use std::path::PathBuf;

use clap::Args;
use machine::Machine;
use report::{Pair, Report, Row, Spread};
use shapes::Shape;
use sides::Bed;

use crate::sample::Span;

/// Flags of `bench run`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The program to measure; beside this one unless given.
    #[arg(long, value_name = "PATH")]
    pub forebay: Option<PathBuf>,
    /// Restarts of each side for each row.
    #[arg(long, default_value_t = 5)]
    pub pairs: usize,
    #[command(flatten)]
    pub(crate) span: Span,
    /// A first look: three restarts of half a second.
    #[arg(long)]
    pub quick: bool,
    /// Only rows whose name contains this, such as "4 KiB read QD 32 x1" (repeatable).
    #[arg(long, value_name = "TEXT")]
    pub only: Vec<String>,
    /// Congestion control of all sockets; the machine's default where empty.
    #[arg(long, default_value = "reno")]
    pub congestion: String,
    /// Run the measured processes in the round-robin real-time class: for a machine with other
    /// work on it. Needs CAP_SYS_NICE.
    #[arg(long)]
    pub realtime: bool,
    /// Leave out what an I/O, an idle target and a connection cost.
    #[arg(long)]
    pub no_costs: bool,
    /// Where to write every figure.
    #[arg(long, value_name = "FILE", default_value = "build/bench.json")]
    pub json: PathBuf,
}

/// Runs everything, prints the table and writes the JSON file. A missed promise is a finding, not
/// an error.
///
/// # Errors
/// What could not be measured; the table of what was is printed first.
pub fn run(options: &Options) -> io::Result<()> {
    let mut machine = Machine::read(&options.congestion, options.realtime);
    let dir = std::env::temp_dir().join(format!("forebay-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let bed = bed(options, dir.clone())?;
    if options.realtime {
        signals::become_realtime()?;
    }
    let shapes: Vec<Shape> = shapes::all().into_iter().filter(|s| is_wanted(options, s)).collect();
    let mut pairs: Vec<Vec<Pair>> = vec![Vec::new(); shapes.len()];
    let rounds = if options.quick { 3 } else { options.pairs };
    let mut outcome = measure(&bed, &shapes, rounds, &mut pairs, &mut machine);
    let mut costs = costs::Costs::default();
    if !options.no_costs && outcome.is_ok() {
        outcome = costs::measure(&bed, &mut costs);
    }
    let rows = shapes.iter().zip(&pairs).filter_map(|(s, pairs)| Row::of(s, pairs)).collect();
    let spread = spread(&shapes, &pairs);
    let report = Report { machine, seconds: bed.span.seconds, rows, spread, costs };
    println!("{report}");
    if let Some(parent) = options.json.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&options.json, serde_json::to_string_pretty(&report)?)?;
    println!("every figure: {}", options.json.display());
    std::fs::remove_dir_all(&dir)?;
    outcome
}

fn bed(options: &Options, dir: PathBuf) -> io::Result<Bed> {
    let bench = std::env::current_exe()?;
    let forebay = options.forebay.clone().unwrap_or_else(|| bench.with_file_name("forebay"));
    if !forebay.exists() {
        let reason = format!("{} does not exist: give --forebay", forebay.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, reason));
    }
    let quick = Span { warmup: 0.2, seconds: 0.5, ios: None };
    let span = if options.quick { quick } else { options.span.clone() };
    Ok(Bed { bench, forebay, dir, congestion: options.congestion.clone(), span })
}

fn is_wanted(options: &Options, shape: &Shape) -> bool {
    options.only.is_empty() || options.only.iter().any(|text| shape.name().contains(text))
}

/// Round by round through all rows, so that a slow hour of the machine meets every row.
fn measure(
    bed: &Bed,
    shapes: &[Shape],
    rounds: usize,
    pairs: &mut [Vec<Pair>],
    machine: &mut Machine,
) -> io::Result<()> {
    for round in 1..=rounds {
        for (shape, pairs) in shapes.iter().zip(pairs.iter_mut()) {
            let (ceiling, pages) = sides::ceiling(bed, &shape.workload)?;
            let forebay = sides::forebay(bed, &shape.workload)?;
            machine.pages = pages;
            let ratio = shape.promise.ratio(&forebay, &ceiling);
            let (figure, unit) = shape.promise.figure(&forebay);
            eprintln!("{round}/{rounds} {:24} {figure:>10.1} {unit:6} {ratio:.2}", shape.name());
            pairs.push(Pair { ceiling, forebay });
        }
    }
    Ok(())
}

fn spread(shapes: &[Shape], pairs: &[Vec<Pair>]) -> Vec<Spread> {
    let mut spread = Vec::new();
    for (four, pairs_of_four) in shapes.iter().zip(pairs) {
        for (one, pairs_of_one) in shapes.iter().zip(pairs) {
            if is_same_but_for_connections(one, four) {
                let name = four.name();
                let name = name.trim_end_matches(" x4");
                spread.extend(Spread::of(name, pairs_of_one, pairs_of_four));
            }
        }
    }
    spread
}

fn is_same_but_for_connections(one: &Shape, four: &Shape) -> bool {
    let (one, four) = (&one.workload, &four.workload);
    (one.connections, four.connections) == (1, 4)
        && (one.op, one.payload, one.depth) == (four.op, four.payload, four.depth)
}
