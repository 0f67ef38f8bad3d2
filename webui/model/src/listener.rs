//! Listeners: where hosts connect.

use crate::{Address, Status};
use nvme_spec::Fabric;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa::openapi::schema::{Object, ObjectBuilder, Type};

/// The schema of a fabric, which knows none by itself.
pub fn fabric_schema() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(Fabric::ALL.map(Fabric::as_str)))
        .description(Some("A fabric."))
        .build()
}

/// An address that hosts connect to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// The fabric.
    #[schema(schema_with = fabric_schema)]
    pub transport: Fabric,
    /// The address.
    pub address: Address,
    /// Whether it serves the discovery subsystem only.
    pub discovery_only: bool,
    /// How it is.
    pub status: Status,
    /// Why.
    pub reason: String,
}

/// Listen on an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ListenerCreate {
    /// The fabric; TCP unless given.
    #[serde(default)]
    #[schema(schema_with = fabric_schema)]
    pub transport: Fabric,
    /// The address.
    pub address: Address,
    /// Whether to serve the discovery subsystem only.
    #[serde(default)]
    pub discovery_only: bool,
}
