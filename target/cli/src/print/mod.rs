//! What people and programs read: lines, tables, values, progress. Standard output and error may go
//! away, as in `forebay stats 2>&1 | head`.

mod fields;
pub(crate) mod progress;
mod table;
pub(crate) mod value;

pub(crate) use fields::Fields;
pub use table::Table;

use nvme_spec::Shown;
use std::fmt::Arguments;
use std::io::Write;
use std::process::ExitCode;
use webui_client::Failure;

/// Prints a line. Whoever closed the other end does not want the rest, which is no error.
pub fn line(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", plain(line));
}

/// Prints a line to standard error.
pub fn note(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{}", plain(line));
}

/// The text, line by line, with nothing that a terminal acts on. Where a name of somebody else's
/// stands in it, [`Shown`] has taken line breaks out of that before.
fn plain(text: Arguments<'_>) -> String {
    let text = text.to_string();
    let lines: Vec<String> = text.split('\n').map(|line| Shown(line).to_string()).collect();
    lines.join("\n")
}

/// `println!` that does not panic when nobody reads.
#[macro_export]
macro_rules! line {
    ($($arg:tt)*) => { $crate::print::line(format_args!($($arg)*)) };
}

/// `eprintln!` that does not panic when nobody reads.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => { $crate::print::note(format_args!($($arg)*)) };
}

/// Tells the person on standard error why a command did not do what it was asked; what to tell the
/// shell: 2 for a command line that asks for something that cannot be, as for flags not known.
pub fn report(failure: &Failure) -> ExitCode {
    note!("{}", shown(failure));
    match failure {
        Failure::Usage(_) => ExitCode::from(2),
        Failure::Failed(_) | Failure::Refused(_) => ExitCode::FAILURE,
    }
}

/// Its sentence as it is printed: what further lines it has (the place of an error in a file) are
/// indented, so that none of them passes for another message.
fn shown(failure: &Failure) -> String {
    let lines: Vec<_> = failure.sentence().lines().map(|line| Shown(line).to_string()).collect();
    format!("forebay: {}", lines.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_nothing_that_a_terminal_acts_on() {
        let (model, title) = ("\x1b]0;owned\x07", "model");
        assert_eq!(plain(format_args!("{title}\n{model}\n")), "model\n\\u{1b}]0;owned\\u{7}\n");
    }

    #[test]
    fn nothing_in_a_sentence_passes_for_another_message() {
        let failure = Failure::Failed("host \x1b[1mx\u{9b}\nforebay: all is well".into());
        assert_eq!(shown(&failure), "forebay: host \\u{1b}[1mx\\u{9b}\n  forebay: all is well");
    }
}
