//! The operations of the API: one row each, from which the routes, the roles and the OpenAPI
//! document are made. What has no row is not there; what has a row has a role.

mod answer;
mod document;
mod input;
mod rows;
mod strict;

pub(crate) use answer::{Answer, Document, Gone, List, Metrics, Reply, Shown, Started, WithCookie};
pub(crate) use document::document;
pub(crate) use input::{Check, Input, NoPath, NoQuery, Schemas};
pub(crate) use rows::{After, all};

use crate::app::{App, Credential};
use crate::peer::Peer;
use crate::security::Identity;
use axum::http::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use utoipa::ToSchema;
use webui_model::{Control, Refusal, RefusalKind, Role};

/// Who may use an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anyone: no token is asked for.
    Anyone,
    /// Who shows a token of this role or a stronger one.
    Role(Role),
}

/// Where a request comes from and who sent it.
pub(crate) struct Caller {
    /// Who; nothing where anyone may ask.
    pub(crate) identity: Option<Identity>,
    /// What the request shows of itself.
    pub(crate) shown: Credential,
    /// From where.
    pub(crate) peer: Peer,
    /// Who a log-in found out that it is.
    pub(crate) became: OnceLock<Identity>,
}

impl Caller {
    pub(crate) fn new(identity: Option<Identity>, shown: Credential, peer: Peer) -> Self {
        Self { identity, shown, peer, became: OnceLock::new() }
    }

    /// Refuses whoever has a weaker role than this for what is asked for beyond the operation itself.
    fn needs(&self, role: Role, what: &str) -> Result<(), Refusal> {
        match &self.identity {
            Some(who) if who.role >= role => Ok(()),
            Some(who) => Err(Refusal::new(
                RefusalKind::Forbidden,
                format!(
                    "{what} needs the role {role}, and \"{}\" has the role {}.",
                    who.name, who.role
                ),
            )),
            None => {
                Err(Refusal::new(RefusalKind::Unauthenticated, format!("{what} needs a token.")))
            }
        }
    }
}

/// A request, read.
pub(crate) struct Call<'a, P = NoPath, Q = NoQuery, B = ()> {
    pub(crate) app: &'a App,
    pub(crate) caller: &'a Caller,
    pub(crate) path: P,
    pub(crate) query: Q,
    pub(crate) body: B,
}

impl<P, Q, B> Call<'_, P, Q, B> {
    pub(crate) fn control(&self) -> &dyn Control {
        &*self.app.control
    }
}

/// A request that was read: what is left is to do it.
pub(crate) type Prepared = Box<dyn FnOnce(&App, &Caller) -> Result<Reply, Refusal>>;

/// Reads a request. What cannot be read, or is not for whoever asks, is refused before anything is
/// written down of it.
type Prepare = dyn Fn(&Caller, Input<'_>) -> Result<Prepared, Refusal> + Send + Sync;

/// What answers an operation.
pub(crate) enum Action {
    /// A call that may block, on a thread of its own.
    Call(Box<Prepare>),
    /// Events as they happen, until the client goes.
    Stream,
}

/// What an operation answers with when it does what was asked.
pub(crate) struct Success {
    pub(crate) status: u16,
    pub(crate) says: &'static str,
    pub(crate) content_type: &'static str,
    /// Nothing: no body.
    pub(crate) schema: Option<Value>,
}

/// What is written down of an operation, beside that it was refused to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// Nothing.
    Refusals,
    /// Who was let in, folded: anyone may ask as often as they like.
    Access,
    /// A line before it is carried out, and one after.
    Change,
}

/// One operation.
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) says: &'static str,
    pub(crate) access: Access,
    /// Schemas of what stands in the path, by name.
    pub(crate) path_schema: Value,
    /// Schemas of what may stand in the query, by name.
    pub(crate) query_schema: Value,
    /// Names of what has to stand in the query.
    pub(crate) query_required: Vec<String>,
    /// Schema of the body, if there is one.
    pub(crate) body: Option<Value>,
    pub(crate) successes: Vec<Success>,
    pub(crate) action: Action,
}

impl Operation {
    /// Whether it changes nothing.
    pub(crate) fn only_looks(&self) -> bool {
        self.method == Method::GET
    }

    /// What is written down of it.
    pub(crate) fn recorded(&self) -> Recorded {
        match self.id {
            "open_session" | "close_session" => Recorded::Access,
            _ if self.only_looks() => Recorded::Refusals,
            _ => Recorded::Change,
        }
    }

    /// The kinds of refusal it can answer with.
    pub(crate) fn refusals(&self) -> Vec<RefusalKind> {
        use RefusalKind::*;
        let mut kinds = vec![Malformed, Internal, Unavailable];
        let named = self.path_schema.as_object().is_some_and(|names| !names.is_empty());
        if named || !self.only_looks() {
            kinds.push(NotFound);
        }
        if !self.query_required.is_empty() {
            // What it looks at is named in the query.
            kinds.extend([NotFound, Invalid]);
        }
        if let Access::Role(_) = self.access {
            kinds.extend([Unauthenticated, Forbidden, TooMany, Device]);
        }
        if !self.only_looks() {
            kinds.extend([Exists, InUse, Full, Refused, Invalid, Forbidden]);
        }
        if self.body.is_some() {
            kinds.extend([TooLarge, MediaType, Timeout]);
        }
        if self.id == "open_session" {
            kinds.extend([Unauthenticated, TooMany]);
        }
        kinds
    }

    /// A refusal as this operation answers it: of a kind that its document speaks of.
    pub(crate) fn documented(&self, refusal: Refusal) -> Refusal {
        let status = refusal.kind.http_status();
        if self.refusals().iter().any(|kind| kind.http_status() == status) {
            return refusal;
        }
        tracing::error!(operation = self.id, kind = ?refusal.kind, "a refusal of a wrong kind");
        Refusal::new(RefusalKind::Internal, refusal.message)
    }
}

/// The rows, while they are written down.
pub(crate) struct Table {
    pub(crate) operations: Vec<Operation>,
    pub(crate) schemas: Schemas,
    tag: &'static str,
}

/// What is the same for the parts of a row that have no type of their own.
pub(crate) struct Row {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) id: &'static str,
    pub(crate) access: Access,
    pub(crate) says: &'static str,
}

/// What a path or query is read into.
pub(crate) trait Parts: DeserializeOwned + ToSchema + 'static {}
impl<T: DeserializeOwned + ToSchema + 'static> Parts for T {}

impl Table {
    pub(crate) fn new() -> Self {
        Self { operations: Vec::new(), schemas: Schemas::default(), tag: "" }
    }

    /// What the rows that follow are about.
    pub(crate) fn about(&mut self, tag: &'static str) {
        self.tag = tag;
    }

    fn push<P: Parts, Q: Parts, A: Answer>(
        &mut self,
        row: Row,
        body: Option<Value>,
        prepare: Box<Prepare>,
    ) {
        let successes = A::successes(&mut self.schemas);
        let operation = Operation {
            method: row.method,
            path: row.path,
            id: row.id,
            tag: self.tag,
            says: row.says,
            access: row.access,
            path_schema: self.schemas.fields::<P>(),
            query_schema: self.schemas.fields::<Q>(),
            query_required: Schemas::required::<Q>(),
            body,
            successes,
            action: Action::Call(prepare),
        };
        self.operations.push(operation);
    }

    /// A row without a body.
    pub(crate) fn plain<P: Parts, Q: Parts, A: Answer>(
        &mut self,
        row: Row,
        run: impl Fn(Call<'_, P, Q>) -> Result<A, Refusal> + Send + Sync + 'static,
    ) {
        let run = Arc::new(run);
        let prepare = move |_: &Caller, input: Input<'_>| -> Result<Prepared, Refusal> {
            let (path, query) = (input.path()?, input.query()?);
            let run = Arc::clone(&run);
            Ok(Box::new(move |app, caller| {
                run(Call { app, caller, path, query, body: () }).map(A::reply)
            }))
        };
        self.push::<P, Q, A>(row, None, Box::new(prepare));
    }

    /// A row with a body.
    pub(crate) fn with_body<P: Parts, Q: Parts, B: Parts + Check, A: Answer>(
        &mut self,
        row: Row,
        run: impl Fn(Call<'_, P, Q, B>) -> Result<A, Refusal> + Send + Sync + 'static,
    ) {
        let run = Arc::new(run);
        let prepare = move |caller: &Caller, input: Input<'_>| -> Result<Prepared, Refusal> {
            let (path, query, body): (P, Q, B) = (input.path()?, input.query()?, input.body()?);
            if body.lets_in_any_host() {
                caller.needs(Role::Admin, "To let in any host")?;
            }
            let run = Arc::clone(&run);
            Ok(Box::new(move |app, caller| {
                run(Call { app, caller, path, query, body }).map(A::reply)
            }))
        };
        let schema = self.schemas.refer::<B>();
        self.push::<P, Q, A>(row, Some(schema), Box::new(prepare));
    }

    /// The stream of events.
    pub(crate) fn stream(&mut self, row: Row) {
        let query_schema = self.schemas.fields::<After>();
        self.operations.push(Operation {
            method: row.method,
            path: row.path,
            id: row.id,
            tag: self.tag,
            says: row.says,
            access: row.access,
            path_schema: Value::Object(Default::default()),
            query_schema,
            query_required: Vec::new(),
            body: None,
            successes: vec![Success {
                status: 200,
                says: "Server-sent events. Each has the event's number as `id`, its kind as `event` \
                       and the event as `data`; one of kind `lost` says that numbers are missing.",
                content_type: "text/event-stream",
                schema: Some(serde_json::json!({"type": "string"})),
            }],
            action: Action::Stream,
        });
    }
}

/// Operations by path, and then by method.
pub(crate) fn by_path(
    operations: Vec<Operation>,
) -> BTreeMap<&'static str, BTreeMap<String, Operation>> {
    let mut paths: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for operation in operations {
        let methods = paths.entry(operation.path).or_default();
        let twice = methods.insert(operation.method.to_string(), operation);
        assert!(twice.is_none(), "two rows for one method and path");
    }
    paths
}
