//! Standard output and error that may go away, as in `forebay stats 2>&1 | head`.

use nvme_spec::Shown;
use std::fmt::Arguments;
use std::io::Write;

/// Prints a line. Whoever closed the other end does not want the rest, which is no error.
pub fn print(line: Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{}", plain(line));
}

/// Prints a line to standard error.
pub fn say(line: Arguments<'_>) {
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
macro_rules! line {
    ($($arg:tt)*) => { $crate::out::print(format_args!($($arg)*)) };
}

/// `eprintln!` that does not panic when nobody reads.
macro_rules! note {
    ($($arg:tt)*) => { $crate::out::say(format_args!($($arg)*)) };
}

pub(crate) use {line, note};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_nothing_that_a_terminal_acts_on() {
        let (model, title) = ("\x1b]0;owned\x07", "model");
        assert_eq!(plain(format_args!("{title}\n{model}\n")), "model\n\\u{1b}]0;owned\\u{7}\n");
    }
}
