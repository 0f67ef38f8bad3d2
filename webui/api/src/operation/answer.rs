//! What an operation answers with.

use super::{Schemas, Success};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use webui_model::{Job, Made};

/// An answer as it goes out.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    pub(crate) body: Vec<u8>,
    pub(crate) cookie: Option<String>,
}

const JSON: &str = "application/json";

impl Reply {
    pub(crate) fn json(status: u16, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("our types have texts for keys");
        Self { status, content_type: JSON, body, cookie: None }
    }

    fn empty() -> Self {
        Self { status: 204, content_type: JSON, body: Vec::new(), cookie: None }
    }
}

/// What an operation returns, with its place in the document.
pub(crate) trait Answer {
    fn successes(schemas: &mut Schemas) -> Vec<Success>;
    fn reply(self) -> Reply;
}

fn success<T: ToSchema>(status: u16, says: &'static str, schemas: &mut Schemas) -> Success {
    Success { status, says, content_type: JSON, schema: Some(schemas.refer::<T>()) }
}

/// An object, as it is.
pub(crate) struct Shown<T>(pub(crate) T);

impl<T: Serialize + ToSchema> Answer for Shown<T> {
    fn successes(schemas: &mut Schemas) -> Vec<Success> {
        vec![success::<T>(200, "As it is now.", schemas)]
    }

    fn reply(self) -> Reply {
        Reply::json(200, &self.0)
    }
}

/// Objects, as they are.
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T: Serialize + ToSchema> Answer for List<T> {
    fn successes(schemas: &mut Schemas) -> Vec<Success> {
        let items = schemas.refer::<T>();
        let schema = json!({
            "type": "object",
            "required": ["items"],
            "properties": {"items": {"type": "array", "items": items}},
            "additionalProperties": false,
        });
        vec![Success {
            status: 200,
            says: "As they are now.",
            content_type: JSON,
            schema: Some(schema),
        }]
    }

    fn reply(self) -> Reply {
        Reply::json(200, &json!({ "items": self.0 }))
    }
}

impl<T: Serialize + ToSchema> Answer for Made<T> {
    fn successes(schemas: &mut Schemas) -> Vec<Success> {
        vec![
            success::<T>(201, "It is new.", schemas),
            success::<T>(200, "It was there already, with these properties.", schemas),
        ]
    }

    fn reply(self) -> Reply {
        match self {
            Self::New(object) => Reply::json(201, &object),
            Self::Existing(object) => Reply::json(200, &object),
        }
    }
}

/// It is done, and there is nothing to show.
pub(crate) struct Gone;

impl Answer for Gone {
    fn successes(_: &mut Schemas) -> Vec<Success> {
        vec![Success { status: 204, says: "It is done.", content_type: JSON, schema: None }]
    }

    fn reply(self) -> Reply {
        Reply::empty()
    }
}

/// A job was started.
pub(crate) struct Started(pub(crate) Job);

impl Answer for Started {
    fn successes(schemas: &mut Schemas) -> Vec<Success> {
        vec![success::<Job>(202, "A job was started that does it.", schemas)]
    }

    fn reply(self) -> Reply {
        Reply::json(202, &self.0)
    }
}

/// An object, and a cookie that comes with it.
pub(crate) struct WithCookie<T>(pub(crate) T, pub(crate) String);

impl<T: Serialize + ToSchema> Answer for WithCookie<T> {
    fn successes(schemas: &mut Schemas) -> Vec<Success> {
        vec![success::<T>(200, "It is done, and a cookie says so.", schemas)]
    }

    fn reply(self) -> Reply {
        Reply { cookie: Some(self.1), ..Reply::json(200, &self.0) }
    }
}

/// The metrics, for Prometheus.
pub(crate) struct Metrics(pub(crate) String);

/// The content type of the Prometheus text format.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Answer for Metrics {
    fn successes(_: &mut Schemas) -> Vec<Success> {
        let schema = Some(json!({"type": "string"}));
        vec![Success { status: 200, says: "The metrics.", content_type: METRICS, schema }]
    }

    fn reply(self) -> Reply {
        Reply { status: 200, content_type: METRICS, body: self.0.into_bytes(), cookie: None }
    }
}

/// The OpenAPI document itself.
pub(crate) struct Document(pub(crate) Vec<u8>);

impl Answer for Document {
    fn successes(_: &mut Schemas) -> Vec<Success> {
        let schema = Some(json!({"type": "object", "required": ["openapi", "paths"]}));
        vec![Success { status: 200, says: "The document.", content_type: JSON, schema }]
    }

    fn reply(self) -> Reply {
        Reply { status: 200, content_type: JSON, body: self.0, cookie: None }
    }
}
