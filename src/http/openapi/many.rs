//! Many commands in one request.

use crate::{
    command::{describe::AggregateDescription, many::MAX_COMMANDS, request::MAX_KEY},
    event_log::subject::MAX_ID,
};
use serde_json::{Value, json};

/// The tag of commands of any aggregate.
pub(super) const TAG: &str = "commands";

const DESCRIPTION: &str = "Each command is decided as if it had come alone, and answered in its place: by its outcome, \
    or by the problem that refuses it. Those of one aggregate are decided in their order. It is no transaction: some may \
    be accepted and others refused. What is wrong with the list itself refuses all of it, and is named by its index.";

/// Describes the path.
pub(super) fn path(aggregates: &[AggregateDescription]) -> Value {
    let names: Vec<&str> = aggregates.iter().map(|one| one.name).collect();
    let responses = [
        ("400", "Malformed"),
        ("408", "Timeout"),
        ("414", "UriTooLong"),
        ("415", "UnsupportedMediaType"),
        ("429", "Overloaded"),
        ("431", "HeadersTooLarge"),
        ("500", "Internal"),
        ("503", "Unavailable"),
    ];
    let mut operation = json!({
        "tags": [TAG],
        "operationId": "commands.many",
        "summary": "Gives many commands at once.",
        "description": DESCRIPTION,
        "parameters": [{ "$ref": "#/components/parameters/Traceparent" }],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": list(command(&names)) } },
        },
        "responses": {
            "200": {
                "description": "The answers, in the order of the commands.",
                "headers": { "Headwater-Position": { "$ref": "#/components/headers/Position" } },
                "content": { "application/json": { "schema": list(answer()) } },
            },
            "413": {
                "description": "The body is over 1 MiB.",
                "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
            },
        },
    });
    for (status, name) in responses {
        let reference = format!("#/components/responses/{name}");
        operation["responses"][status] = json!({ "$ref": reference });
    }
    json!({ "post": operation })
}

fn list(of: Value) -> Value {
    json!({ "type": "array", "maxItems": MAX_COMMANDS, "items": of })
}

fn answer() -> Value {
    json!({ "anyOf": [
        { "$ref": "#/components/schemas/Outcome" },
        { "$ref": "#/components/schemas/Problem" },
    ] })
}

fn command(aggregates: &[&str]) -> Value {
    json!({
        "type": "object",
        "required": ["aggregate", "id", "command", "fields"],
        "additionalProperties": false,
        "properties": {
            "aggregate": { "type": "string", "enum": aggregates },
            "id": {
                "type": "string", "minLength": 1, "maxLength": MAX_ID,
                "pattern": "^(?!live$)[A-Za-z0-9_-]+$",
            },
            "command": { "type": "string", "description": "The command's name." },
            "key": {
                "type": ["string", "null"], "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$",
                "description": "The command's id: what Idempotency-Key is for a command alone.",
            },
            "if_match": {
                "description": "The version that the aggregate must be at, as a number or as ETag answered it.",
                "anyOf": [
                    { "type": "integer", "minimum": 0, "maximum": i64::MAX },
                    { "type": "string", "pattern": "^(W/)?\"[0-9]{1,19}\"$" },
                    { "type": "null" },
                ],
            },
            "fields": {
                "type": "object",
                "description": "The command's fields, as for a command alone; {} where it has none.",
            },
        },
    })
}
