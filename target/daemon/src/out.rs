//! Standard output and error that may go away, as in `forebay stats 2>&1 | head`.

use std::io::Write;

/// Prints a line. Whoever closed the other end does not want the rest, which is no error.
pub fn print(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// Prints a line to standard error.
pub fn say(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
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
