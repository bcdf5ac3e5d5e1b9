//! The parameters that many operations have: ids in paths, and headers of requests.

use super::typed;
use crate::{
    command::request::MAX_KEY,
    event_log::subject::{MAX_DOCUMENT_ID, MAX_ID},
};
use serde_json::{Value, json};
use utoipa::openapi::{
    ObjectBuilder, Required, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
};

/// The parameters, by the names that operations refer to them by.
pub(super) fn parameters() -> Vec<(&'static str, Parameter)> {
    let id = |text: &str, longest: usize| {
        let schema = typed(Type::String)
            .min_length(Some(1))
            .max_length(Some(longest))
            .pattern(Some("^(?!live$)[A-Za-z0-9_-]+$"));
        parameter("id", ParameterIn::Path, text, schema)
    };
    let mut parameters = vec![
        ("AggregateId", id("The aggregate's id.", MAX_ID)),
        ("DocumentId", id("The document's id.", MAX_DOCUMENT_ID)),
    ];
    parameters.extend(headers_of_commands());
    parameters.extend(headers_of_queries());
    parameters
}

fn parameter(name: &str, place: ParameterIn, text: &str, schema: ObjectBuilder) -> Parameter {
    let required = if matches!(place, ParameterIn::Path) {
        Required::True
    } else {
        Required::False
    };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(text))
        .schema(Some(schema))
        .build()
}

/// A header of a request.
fn header(name: &str, text: &str, schema: ObjectBuilder, example: Option<Value>) -> Parameter {
    let schema = schema.examples(example);
    parameter(name, ParameterIn::Header, text, schema)
}

fn headers_of_commands() -> Vec<(&'static str, Parameter)> {
    let text = || typed(Type::String);
    vec![
        (
            "IdempotencyKey",
            header(
                "Idempotency-Key",
                "The command's id. A retry with the same key gets the original outcome.",
                text()
                    .min_length(Some(1))
                    .max_length(Some(MAX_KEY))
                    .pattern(Some("^[!-~]+$")),
                Some(json!("8f14e45f-ceea-467f-9575-3b0f0d1c7a10")),
            ),
        ),
        (
            "IfMatch",
            header(
                "If-Match",
                "The version that the aggregate must be at, as ETag answered it: in double quotes. A weak tag \
                 names the same version.",
                text()
                    .min_length(Some(3))
                    .pattern(Some("^(W/)?\"[0-9]{1,19}\"$")),
                Some(json!("\"3\"")),
            ),
        ),
        (
            "Traceparent",
            header(
                "traceparent",
                "The trace that the command belongs to (W3C Trace Context). It is carried on to \
                 the events and to all that they cause.",
                text(),
                Some(json!(
                    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
                )),
            ),
        ),
    ]
}

fn headers_of_queries() -> Vec<(&'static str, Parameter)> {
    let text = || typed(Type::String);
    vec![
        (
            "MinPosition",
            header(
                "Headwater-Min-Position",
                "Wait until the view has applied this position: what a command answered as \
                 Headwater-Position. Several, at most 32, have commas between them. A view that does not \
                 read that aggregate does not wait.",
                text().min_length(Some(3)).pattern(Some(
                    "^[a-z][a-z0-9_]{0,31}@[0-9]{1,19}( *, *[a-z][a-z0-9_]{0,31}@[0-9]{1,19}){0,31}$",
                )),
                Some(json!("order@4711")),
            ),
        ),
        (
            "MaxWait",
            header(
                "Headwater-Max-Wait-Ms",
                "How long to wait at most, for the position or the process, in milliseconds.",
                typed(Type::Integer)
                    .minimum(Some(0))
                    .maximum(Some(30_000))
                    .default(Some(json!(2_000))),
                None,
            ),
        ),
        (
            "LastEventId",
            header(
                crate::http::live::LAST_EVENT_ID,
                "The last id that the client has had of this stream. What is not newer is not sent \
                 again; one that is not known any more is answered by a reset.",
                typed(Type::String)
                    .pattern(Some("^([!-~]+-)?[0-9]{1,19}$"))
                    .max_length(Some(256)),
                None,
            ),
        ),
        (
            "IfNoneMatch",
            header(
                "If-None-Match",
                "Entity tags that the client has already.",
                text(),
                None,
            ),
        ),
    ]
}
