//! Text of others, fit to be shown.

use core::fmt::{self, Write};

/// Text from a host, a foreign target, a drive or a file, for tables, events, logs and errors: what
/// is no printable character is written as an escape (`\u{1b}`, `\n`), so that it cannot move the
/// cursor, colour a terminal, or begin a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '"' | '\'' | '\\' => f.write_char(character)?,
                // Printable ones, and those only, are left as they are.
                other => write!(f, "{}", other.escape_debug())?,
            }
        }
        Ok(())
    }
}
