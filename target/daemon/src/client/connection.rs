//! Questions to the appliance, and its answers as JSON or for people.

use super::http::{Answer, Http};
use super::path::path;
use crate::failure::Failure;
use crate::table::Table;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::BufRead;
use ureq::http::Method;
use webui_model::RefusalKind;

/// An appliance, and how its answers are printed.
pub struct Connection {
    http: Http,
    json: bool,
}

/// What lists look like.
#[derive(serde::Deserialize)]
pub struct List<T> {
    /// The objects.
    pub items: Vec<T>,
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
            crate::out::line!("{}", self.none);
            return;
        }
        let mut table = Table::new(self.headings);
        for object in objects {
            table.row((self.row)(object));
        }
        table.print_bare();
    }
}

impl Answer {
    /// The object in the answer.
    ///
    /// # Errors
    /// It is not what this version of the program knows.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::Failed(format!(
                "The appliance answers in a way that this program does not know ({error}): use the \
                 one of its version."
            ))
        })
    }

    /// Whether the object is new, of a create.
    pub fn is_new(&self) -> bool {
        self.status == 201
    }
}

impl Connection {
    /// An appliance, and whether its answers are printed as they come.
    pub fn new(http: Http, json: bool) -> Connection {
        Connection { http, json }
    }

    /// Whether answers are printed for programs.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Looks at an object.
    pub fn get<T: DeserializeOwned>(&self, parts: &[&dyn Display]) -> Result<T, Failure> {
        self.look(parts)?.read()
    }

    /// Looks at a list of objects.
    pub fn items<T: DeserializeOwned>(&self, parts: &[&dyn Display]) -> Result<Vec<T>, Failure> {
        self.get::<List<T>>(parts).map(|list| list.items)
    }

    /// Looks at something.
    pub fn look(&self, parts: &[&dyn Display]) -> Result<Answer, Failure> {
        self.ask(Method::GET, &path(parts))
    }

    /// Asks without a body.
    pub fn ask(&self, method: Method, path: &str) -> Result<Answer, Failure> {
        self.http.call(method, path, None)
    }

    /// Asks with a body.
    pub fn send(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Answer, Failure> {
        let body = serde_json::to_vec(body).expect("our types have texts for keys");
        self.http.call(method, path, Some(body))
    }

    /// Asks without a body for something to be done.
    pub fn post(&self, parts: &[&dyn Display]) -> Result<Answer, Failure> {
        self.ask(Method::POST, &path(parts))
    }

    /// Asks for something to be made.
    pub fn create(&self, parts: &[&dyn Display], body: &impl Serialize) -> Result<Answer, Failure> {
        self.send(Method::POST, &path(parts), body)
    }

    /// Asks for something to be set.
    pub fn put(&self, parts: &[&dyn Display], body: &impl Serialize) -> Result<Answer, Failure> {
        self.send(Method::PUT, &path(parts), body)
    }

    /// Asks for something to be taken away.
    pub fn delete(&self, parts: &[&dyn Display]) -> Result<Answer, Failure> {
        self.ask(Method::DELETE, &path(parts))
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

    /// Opens the stream of events.
    pub fn stream(&self, path: &str) -> Result<impl BufRead + use<>, Failure> {
        self.http.stream(path)
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
            crate::out::line!("{}", text.trim_end());
        }
    }

    /// Says what was done, to people only: programs see it in the exit code.
    pub fn say(&self, what: std::fmt::Arguments<'_>) {
        if !self.json {
            crate::out::print(what);
        }
    }
}
