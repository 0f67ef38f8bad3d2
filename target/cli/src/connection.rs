//! An appliance that is asked, and its answers as JSON or for people.

use crate::print::Table;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::ops::Deref;
use webui_client::{Answer, Client, Failure, List, Method, path::path};
use webui_model::RefusalKind;

/// An appliance, and how its answers are printed.
pub struct Connection {
    client: Client,
    json: bool,
}

/// Objects as a table: its headings, and the row of each.
pub struct Columns<'a, T> {
    /// The headings.
    pub headings: &'a [&'a str],
    /// The row of an object.
    pub row: fn(&T) -> Vec<String>,
    /// What is said when there is none.
    pub none: &'a str,
}

impl<T> Columns<'_, T> {
    /// Prints these objects.
    pub fn print(&self, objects: &[T]) {
        if objects.is_empty() {
            crate::line!("{}", self.none);
            return;
        }
        let mut table = Table::new(self.headings);
        for object in objects {
            table.row((self.row)(object));
        }
        table.print_bare();
    }
}

impl Deref for Connection {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Connection {
    /// An appliance, and whether its answers are printed as they come.
    pub fn new(client: Client, json: bool) -> Connection {
        Connection { client, json }
    }

    /// Whether answers are printed for programs.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Asks for something that may disturb hosts; `force`: though it does.
    pub fn ask_with_force(
        &self,
        method: Method,
        parts: &[&dyn Display],
        force: bool,
    ) -> Result<Answer, Failure> {
        if force {
            return self.ask(method, &format!("{}?force=true", path(parts)));
        }
        self.ask(method, &path(parts)).map_err(|failure| {
            failure.hint(RefusalKind::InUse, "(Where hosts are connected, --force goes on.)")
        })
    }

    /// Prints a list.
    pub fn list<T: DeserializeOwned>(
        &self,
        parts: &[&dyn Display],
        columns: &Columns<'_, T>,
    ) -> Result<(), Failure> {
        let answer = self.look(parts)?;
        self.print(&answer, |list: &List<T>| columns.print(&list.items))
    }

    /// Prints an object.
    pub fn show<T: DeserializeOwned>(
        &self,
        parts: &[&dyn Display],
        people: impl FnOnce(&T),
    ) -> Result<(), Failure> {
        let answer = self.look(parts)?;
        self.print(&answer, people)
    }

    /// Prints an answer as it came for programs, or its object for people.
    pub fn print<T: DeserializeOwned>(
        &self,
        answer: &Answer,
        people: impl FnOnce(&T),
    ) -> Result<(), Failure> {
        if self.json {
            self.print_raw(answer);
        } else {
            people(&answer.read()?);
        }
        Ok(())
    }

    /// Prints the answer as it came, with a line's end; nothing of an empty one.
    pub fn print_raw(&self, answer: &Answer) {
        let text = String::from_utf8_lossy(&answer.body);
        if !text.is_empty() {
            crate::line!("{}", text.trim_end());
        }
    }

    /// Says what was done, to people only: programs see it in the exit code.
    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        if !self.json {
            crate::print::line(what);
        }
    }
}
