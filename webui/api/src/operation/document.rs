//! The OpenAPI document, from the rows.

use super::{Access, Operation, Success, Table};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use webui_model::{ErrorBody, RefusalKind};

/// The document of these rows.
pub(crate) fn document(table: &mut Table) -> Value {
    table.schemas.refer::<ErrorBody>();
    let mut paths: Map<String, Value> = Map::new();
    for operation in &table.operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_lowercase()] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Forebay",
            "description": "Everything that is done to the appliance. Every object has a status and \
                            a reason in a person's words; a refusal has a kind and a sentence that \
                            says what to do. Creates are idempotent.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": table.schemas.0,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": "forebay",
                    "description": "Over TLS its name is `__Host-forebay`. A change needs the header \
                                    Origin with the scheme, name and port of the appliance.",
                },
            },
        },
    })
}

fn describe(operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.says,
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    match operation.access {
        Access::Anyone => described["security"] = json!([]),
        Access::Role(role) => {
            described["security"] = json!([{"token": []}, {"session": []}]);
            described["x-role"] = json!(role);
        }
    }
    if let Some(schema) = &operation.body {
        described["requestBody"] =
            json!({"required": true, "content": {"application/json": {"schema": schema}}});
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let groups = [("path", &operation.path_schema), ("query", &operation.query_schema)];
    let mut found = Vec::new();
    for (place, fields) in groups {
        for (name, schema) in fields.as_object().into_iter().flatten() {
            let mut schema = without_null(schema.clone());
            let description = schema.as_object_mut().and_then(|s| s.remove("description"));
            found.push(json!({
                "name": name,
                "in": place,
                "required": place == "path" || operation.query_required.contains(name),
                "description": description.unwrap_or_else(|| json!(name)),
                "schema": schema,
            }));
        }
    }
    found
}

/// A query cannot say null: what may be left out is left out.
fn without_null(mut schema: Value) -> Value {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|t| t != "null");
        if let [only] = types.as_slice() {
            schema["type"] = only.clone();
        }
    }
    schema
}

fn responses(operation: &Operation) -> Value {
    let mut responses: BTreeMap<String, Value> = BTreeMap::new();
    for Success { status, says, content_type, schema } in &operation.successes {
        let mut response = json!({"description": says});
        if let Some(schema) = schema {
            response["content"] = json!({*content_type: {"schema": schema}});
        }
        responses.insert(status.to_string(), response);
    }
    let mut refusals: BTreeMap<u16, Vec<RefusalKind>> = BTreeMap::new();
    for kind in operation.refusals() {
        let kinds = refusals.entry(kind.http_status()).or_default();
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (status, kinds) in refusals {
        let kinds: Vec<String> =
            kinds.iter().map(|k| json!(k).as_str().unwrap_or("").into()).collect();
        let schema = json!({"$ref": "#/components/schemas/ErrorBody"});
        let response = json!({
            "description": format!("Not done: {}.", kinds.join(", ")),
            "content": {"application/json": {"schema": schema}},
        });
        responses.insert(status.to_string(), response);
    }
    json!(responses)
}
