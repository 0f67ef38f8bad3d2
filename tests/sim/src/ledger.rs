//! Exactly one end for each command.

use crate::{Failure, Kind};
use std::collections::BTreeMap;

/// The commands under way: each was issued once and ends once.
#[derive(Default)]
pub struct Ledger {
    open: BTreeMap<u64, String>,
    issued: u64,
    ended: u64,
}

impl Ledger {
    /// A command is issued. `what`: for a person.
    pub fn issue(&mut self, command: u64, what: String) {
        let before = self.open.insert(command, what);
        assert!(before.is_none(), "commands are numbered");
        self.issued += 1;
    }

    /// A command has ended: answered, or given up with its connection.
    ///
    /// # Errors
    /// It had ended before, or was never issued.
    pub fn end(&mut self, command: u64) -> Result<(), Failure> {
        self.ended += 1;
        match self.open.remove(&command) {
            Some(_) => Ok(()),
            None => {
                let what = format!("command {command} ended, but was not under way");
                Err(Failure::new(Kind::AnsweredTwice, what))
            }
        }
    }

    /// Commands that have ended.
    pub fn ended(&self) -> u64 {
        self.ended
    }

    /// At the end of a run: every command has ended.
    ///
    /// # Errors
    /// One has not.
    pub fn close(&self) -> Result<(), Failure> {
        match self.open.iter().next() {
            None if self.issued == self.ended => Ok(()),
            None => Err(Failure::new(Kind::AnsweredTwice, "more ends than commands")),
            Some((command, what)) => {
                let count = self.open.len();
                let what = format!("{count} commands have no end, {what} ({command}) among them");
                Err(Failure::new(Kind::Unanswered, what))
            }
        }
    }
}
