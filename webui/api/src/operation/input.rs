//! Requests, read: what stands in the path, the query and the body becomes types of ours, once.

use super::strict::Strict;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use webui_model::{
    Declaration, DeviceAdd, DeviceAttach, DiscardSet, DriveFormat, DriveSanitize, ExportSet,
    GroupSnapshotCreate, HostAdd, Limits, ListenerCreate, NamespaceAdd, PoolCreate, PoolImport,
    Refusal, RefusalKind, Rename, Resize, RollBack, SnapshotCreate, SubsystemCreate, TokenCreate,
    UpdateInstall, UpdatePiece, VolumeClone, VolumeCreate,
};

/// A request as it came.
pub(crate) struct Input<'a> {
    /// What stands in the path, decoded.
    pub(crate) path: &'a [(String, String)],
    /// The query, encoded.
    pub(crate) query: &'a str,
    /// The body.
    pub(crate) body: &'a [u8],
}

/// Nothing in the path.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoPath {}

/// Nothing in the query.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoQuery {}

fn malformed(what: &str, error: &dyn std::fmt::Display) -> Refusal {
    let error = error.to_string();
    let error = error.strip_suffix('.').unwrap_or(&error);
    Refusal::new(RefusalKind::Malformed, format!("{what} cannot be read: {error}."))
}

impl Input<'_> {
    pub(crate) fn path<P: DeserializeOwned>(&self) -> Result<P, Refusal> {
        // Encoded once more, because the decoder of queries makes numbers of texts.
        let text = serde_urlencoded::to_string(self.path).map_err(|e| malformed("The path", &e))?;
        serde_urlencoded::from_str(&text).map_err(|e| malformed("The path", &e))
    }

    pub(crate) fn query<Q: DeserializeOwned>(&self) -> Result<Q, Refusal> {
        serde_urlencoded::from_str(self.query).map_err(|e| malformed("The query", &e))
    }

    pub(crate) fn body<B: DeserializeOwned + Check>(&self) -> Result<B, Refusal> {
        let value: Value =
            serde_json::from_slice(self.body).map_err(|e| malformed("The body", &e))?;
        let body: B = serde_path_to_error::deserialize(Strict(&value)).map_err(|error| {
            let place = error.path().to_string();
            let what = match place.as_str() {
                "." => "The body".to_owned(),
                place => format!("The body at {place}"),
            };
            malformed(&what, error.inner())
        })?;
        body.check().map_err(Refusal::invalid)?;
        Ok(body)
    }
}

/// What can be said of a body without looking at the appliance.
pub(crate) trait Check {
    /// What is wrong with it, as a sentence.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Whether it lets any host connect to something: who reaches the fabric then reads and writes
    /// it, which is for an admin to decide.
    fn lets_in_any_host(&self) -> bool {
        false
    }
}

macro_rules! nothing_more_to_check {
    ($($type:ty),*) => { $(impl Check for $type {})* };
}
nothing_more_to_check!(
    DeviceAdd,
    DiscardSet,
    DriveSanitize,
    ListenerCreate,
    PoolImport,
    Rename,
    RollBack,
    SnapshotCreate,
    TokenCreate,
    UpdateInstall,
    UpdatePiece
);

macro_rules! checks_itself {
    ($($type:ty),*) => {
        $(impl Check for $type {
            fn check(&self) -> Result<(), String> {
                <$type>::check(self)
            }
        })*
    };
}
checks_itself!(
    Declaration,
    DeviceAttach,
    DriveFormat,
    GroupSnapshotCreate,
    HostAdd,
    Limits,
    NamespaceAdd,
    PoolCreate,
    Resize
);

macro_rules! says_who_may_connect {
    ($($type:ty),*) => {
        $(impl Check for $type {
            fn check(&self) -> Result<(), String> {
                <$type>::check(self)
            }

            fn lets_in_any_host(&self) -> bool {
                self.allow_any_host
            }
        })*
    };
}
says_who_may_connect!(ExportSet, SubsystemCreate, VolumeClone, VolumeCreate);

/// Makes a derived schema say what serde does. Objects with fields take no others: it is not said
/// for the variants of an enum.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(Value::Bool(false));
            }
            // Of unsigned numbers; derived for them too, and too small for half of them.
            let unsigned = fields.get("minimum").and_then(Value::as_f64).is_some_and(|n| n >= 0.0);
            if unsigned && fields.get("format").is_some_and(Value::is_string) {
                fields.remove("format");
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The schemas of our types, as they are gathered.
#[derive(Default)]
pub(crate) struct Schemas(pub(crate) BTreeMap<String, Value>);

impl Schemas {
    fn value(schema: &impl serde::Serialize) -> Value {
        let mut value = serde_json::to_value(schema).expect("a schema is JSON");
        close(&mut value);
        value
    }

    /// Takes in a type and those it is made of; returns a reference to it.
    pub(crate) fn refer<T: ToSchema>(&mut self) -> Value {
        let name = T::name().into_owned();
        self.0.insert(name.clone(), Self::value(&T::schema()));
        self.parts_of::<T>();
        json!({ "$ref": format!("#/components/schemas/{name}") })
    }

    fn parts_of<T: ToSchema>(&mut self) {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        for (name, schema) in parts {
            self.0.entry(name).or_insert_with(|| Self::value(&schema));
        }
    }

    /// Takes in what a type is made of; returns the schemas of its fields, by name.
    pub(crate) fn fields<T: ToSchema>(&mut self) -> Value {
        self.parts_of::<T>();
        let schema = Self::value(&T::schema());
        schema.get("properties").cloned().unwrap_or_else(|| Value::Object(Map::new()))
    }

    /// Names of the fields of a type that have to be there.
    pub(crate) fn required<T: ToSchema>() -> Vec<String> {
        let schema = Self::value(&T::schema());
        let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    }
}
