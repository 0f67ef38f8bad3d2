//! `forebay stats`: the counters of a running target, over its control socket.

use crate::arguments::StatsArgs;
use cli::print::Table;
use control::{Report, Request, ask};

/// `forebay stats`.
pub fn stats(args: &StatsArgs) -> Result<(), String> {
    let report = ask(&args.target.path(), &Request::Stats)?;
    if !args.json {
        print(&report);
        return Ok(());
    }
    let text = serde_json::to_string_pretty(&report).map_err(|error| error.to_string())?;
    cli::line!("{text}");
    Ok(())
}

/// The report as tables.
fn print(report: &Report) {
    cli::line!(
        "forebay {}, process {}, up {:.0} s, {} on {}",
        report.version,
        report.pid,
        report.uptime_s,
        report.memory,
        report.listeners.join(", ")
    );
    let c = &report.connections;
    cli::line!("connections: {} open of {}, {} turned away\n", c.open, c.limit, c.refused);
    print_reactors(report);
    print_namespaces(report);
    print_queues(report);
    print_hosts(report);
}

fn count(counts: &control::Counts, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or_default()
}

fn print_reactors(report: &Report) {
    let mut table = Table::new(&[
        "reactor", "core", "busy s", "turns", "sleeps", "commands", "received", "sent", "recvs",
        "sends", "buffers",
    ]);
    for r in &report.reactors {
        table.row([
            r.number.to_string(),
            r.core.map_or("any".into(), |core| core.to_string()),
            format!("{:.3}", count(&r.counts, "busy_ns") as f64 / 1e9),
            count(&r.counts, "turns").to_string(),
            count(&r.counts, "sleeps").to_string(),
            count(&r.tcp, "commands").to_string(),
            count(&r.tcp, "rx_bytes").to_string(),
            count(&r.tcp, "tx_bytes").to_string(),
            count(&r.tcp, "recvs").to_string(),
            count(&r.tcp, "sends").to_string(),
            format!("{:?}", r.buffers_taken),
        ]);
    }
    table.print();
}

/// What every table of I/O shows.
const IO_COLUMNS: [&str; 5] = ["reads", "read_bytes", "writes", "write_bytes", "errors"];

fn io_columns(counts: &control::Counts) -> impl Iterator<Item = String> {
    IO_COLUMNS.map(|name| count(counts, name).to_string()).into_iter()
}

fn print_namespaces(report: &Report) {
    let mut table =
        Table::new(&[&["subsystem", "nsid", "bdev", "bytes", "block"], &IO_COLUMNS[..]].concat());
    for subsystem in &report.subsystems {
        for n in &subsystem.namespaces {
            let bytes = n.blocks * u64::from(n.block_bytes);
            let first = [
                subsystem.nqn.clone(),
                n.nsid.to_string(),
                n.bdev.clone(),
                bytes.to_string(),
                n.block_bytes.to_string(),
            ];
            table.row(first.into_iter().chain(io_columns(&n.counts)));
        }
    }
    table.print();
}

fn print_queues(report: &Report) {
    let first = ["controller", "subsystem", "host", "queue", "reactor", "entries"];
    let mut table = Table::new(&[&first, &IO_COLUMNS[..]].concat());
    for subsystem in &report.subsystems {
        for controller in &subsystem.controllers {
            for queue in &controller.queues {
                let first = [
                    controller.cntlid.to_string(),
                    subsystem.nqn.clone(),
                    controller.host.clone(),
                    queue.qid.to_string(),
                    queue.reactor.to_string(),
                    queue.entries.to_string(),
                ];
                table.row(first.into_iter().chain(io_columns(&queue.counts)));
            }
        }
    }
    table.print();
}

fn print_hosts(report: &Report) {
    let mut table = Table::new(&[&["host"], &IO_COLUMNS[..]].concat());
    for (host, counts) in &report.hosts {
        table.row(std::iter::once(host.clone()).chain(io_columns(counts)));
    }
    table.print();
}
