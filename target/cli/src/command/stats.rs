//! `forebay stats`.

use crate::flags::Api;
use crate::print::Table;
use clap::Args;
use std::collections::BTreeMap;
use webui_client::Failure;
use webui_model::Counters;

/// Whom to ask for counters.
#[derive(Args)]
pub struct StatsArgs {
    #[command(flatten)]
    api: Api,
}

/// `forebay stats`: the counters of reactors, transports and queues.
pub fn run(args: StatsArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    c.show(&[&"counters"], print)
}

/// The counters as tables.
fn print(counters: &Counters) {
    crate::line!(
        "forebay {}, process {}, up {:.0} s, {} on {}",
        counters.version,
        counters.pid,
        counters.uptime_s,
        counters.memory,
        counters.listeners.join(", ")
    );
    let c = &counters.connections;
    crate::line!("connections: {} open of {}, {} turned away\n", c.open, c.limit, c.refused);
    print_reactors(counters);
    print_namespaces(counters);
    print_queues(counters);
    print_hosts(counters);
}

fn count(counts: &BTreeMap<String, u64>, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or_default()
}

fn print_reactors(counters: &Counters) {
    let mut table = Table::new(&[
        "reactor", "core", "busy s", "turns", "sleeps", "commands", "received", "sent", "recvs",
        "sends", "buffers",
    ]);
    for r in &counters.reactors {
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

fn io_columns(counts: &BTreeMap<String, u64>) -> impl Iterator<Item = String> {
    IO_COLUMNS.map(|name| count(counts, name).to_string()).into_iter()
}

fn print_namespaces(counters: &Counters) {
    let mut table =
        Table::new(&[&["subsystem", "nsid", "bdev", "bytes", "block"], &IO_COLUMNS[..]].concat());
    for subsystem in &counters.subsystems {
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

fn print_queues(counters: &Counters) {
    let first = ["controller", "subsystem", "host", "queue", "reactor", "entries"];
    let mut table = Table::new(&[&first, &IO_COLUMNS[..]].concat());
    for subsystem in &counters.subsystems {
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

fn print_hosts(counters: &Counters) {
    let mut table = Table::new(&[&["host"], &IO_COLUMNS[..]].concat());
    for (host, counts) in &counters.hosts {
        table.row(std::iter::once(host.clone()).chain(io_columns(counts)));
    }
    table.print();
}
