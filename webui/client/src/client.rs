//! Questions to the appliance, and its answers.

use crate::failure::Failure;
use crate::http::{Answer, Http};
use crate::path::path;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Display;
use std::io::BufRead;
use ureq::http::Method;

/// An appliance that is asked through its API.
pub struct Client {
    http: Http,
}

/// What lists look like.
#[derive(serde::Deserialize)]
pub struct List<T> {
    /// The objects.
    pub items: Vec<T>,
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

impl Client {
    /// The one that is asked so.
    pub(crate) fn new(http: Http) -> Client {
        Client { http }
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

    /// Opens the stream of events.
    pub fn stream(&self, path: &str) -> Result<impl BufRead + use<>, Failure> {
        self.http.stream(path)
    }
}
