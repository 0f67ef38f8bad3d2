//! `forebay events`.

use crate::connection::{Columns, Connection};
use crate::flags::Api;
use crate::print::value;
use clap::Args;
use std::io::BufRead;
use std::time::Duration;
use webui_client::{Failure, Method, path::path};
use webui_model::{Event, EventPage};

/// How long to wait before a stream that ended is opened again.
const AGAIN: Duration = Duration::from_secs(1);

/// Which events to show.
#[derive(Args)]
pub struct EventsArgs {
    /// Go on with what happens from now on, until interrupted.
    #[arg(long, short)]
    follow: bool,
    /// Those after this number; 0: from the oldest that is kept.
    #[arg(long, value_name = "ID")]
    after: Option<u64>,
    /// At most so many of the newest.
    #[arg(long, value_name = "NUMBER", default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    api: Api,
}

/// `forebay events`.
pub fn run(args: EventsArgs) -> Result<(), Failure> {
    let c = args.api.open()?;
    if args.follow {
        return follow(&c, args.after);
    }
    let after = args.after.map(|after| format!("&after={after}")).unwrap_or_default();
    let at = format!("{}?limit={}{after}", path(&[&"events"]), args.limit);
    let answer = c.ask(Method::GET, &at)?;
    c.print(&answer, |page: &EventPage| {
        if page.lost {
            crate::note!("forebay: {LOST}");
        }
        COLUMNS.print(&page.items);
    })
}

const LOST: &str = "Events before these are not kept any more.";

const COLUMNS: Columns<'static, Event> = Columns {
    headings: &["when", "number", "severity", "kind", "what happened"],
    row: |e| cells(e).into(),
    none: "Nothing has happened.",
};

fn cells(e: &Event) -> [String; 5] {
    let kind = value::word(&e.kind);
    [value::moment(e.at_ms), e.id.to_string(), value::word(&e.severity), kind, e.message.clone()]
}

/// Prints events as they happen. An appliance that restarts is asked again, from where it stopped.
fn follow(c: &Connection, mut after: Option<u64>) -> Result<(), Failure> {
    let mut reader = open(c, after)?;
    loop {
        after = read(c, reader, after);
        crate::note!("forebay: The stream of events ended; it is opened again.");
        reader = loop {
            std::thread::sleep(AGAIN);
            match open(c, after) {
                Ok(reader) => break reader,
                Err(Failure::Failed(_)) => {}
                Err(refused) => return Err(refused),
            }
        };
    }
}

fn open(c: &Connection, after: Option<u64>) -> Result<impl BufRead + use<>, Failure> {
    let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
    c.stream(&format!("{}{after}", path(&[&"events", &"stream"])))
}

/// Prints what a stream brings until it ends; the number of the last event.
fn read(c: &Connection, reader: impl BufRead, mut after: Option<u64>) -> Option<u64> {
    let mut stream = EventStream::default();
    for line in reader.lines() {
        // A stream that breaks off is one that ends.
        let Ok(line) = line else { break };
        match stream.line(&line) {
            None => {}
            Some(Part::Lost) => crate::note!("forebay: {LOST}"),
            Some(Part::Event(data)) => {
                let event = serde_json::from_str::<Event>(&data).ok();
                after = event.as_ref().map(|event| event.id).or(after);
                match event {
                    Some(event) if !c.json() => {
                        crate::line!("{}", cells(&event).join("  "));
                    }
                    _ => crate::line!("{data}"),
                }
            }
        }
    }
    after
}

/// What a stream brings.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// Events are missing.
    Lost,
    /// An event in JSON.
    Event(String),
}

/// Reads the format of the HTML Standard, Server-sent events, line by line.
#[derive(Default)]
struct EventStream {
    kind: String,
    data: String,
}

impl EventStream {
    /// Takes a line without its end; what it completes.
    fn line(&mut self, line: &str) -> Option<Part> {
        if line.is_empty() {
            let EventStream { kind, data } = std::mem::take(self);
            return match (kind.as_str(), data.is_empty()) {
                (_, true) => None,
                ("lost", false) => Some(Part::Lost),
                (_, false) => Some(Part::Event(data)),
            };
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.kind = value.to_owned(),
            "data" if self.data.is_empty() => self.data = value.to_owned(),
            "data" => self.data = format!("{}\n{value}", self.data),
            // A comment, or a field that is not needed here.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<Part> {
        let mut stream = EventStream::default();
        text.lines().filter_map(|line| stream.line(line)).collect()
    }

    #[test]
    fn a_stream_is_read_part_by_part() {
        let text = ": events follow\n\nid: 7\nevent: created\ndata: {\"a\":1}\n\n: still here\n\n\
                    event: lost\ndata: {}\n\ndata:x\ndata: y\n\ndata: cut off";
        let event = |text: &str| Part::Event(text.into());
        assert_eq!(parts(text), [event("{\"a\":1}"), Part::Lost, event("x\ny")]);
    }
}
