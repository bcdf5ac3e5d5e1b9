//! Parts that many operations have in common: parameters, headers, and the refusals.

mod parameters;

use super::schemas::{Schemas, Scope};
use crate::{
    command::request::{MAX_BODY, Outcome, OutcomeEvent},
    problem::Problem,
};
use serde_json::json;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        AllOfBuilder, Components, ComponentsBuilder, ContentBuilder, HeaderBuilder, ObjectBuilder,
        Ref, RefOr, Required, ResponseBuilder, Type,
        header::Header,
        path::{Parameter, ParameterBuilder, ParameterIn},
        response::Response,
    },
};

/// Names the schemas of the program's own.
pub(super) fn schemas(schemas: &mut Schemas) {
    let own = [
        (Problem::name(), Problem::schema()),
        (Outcome::name(), Outcome::schema()),
        (OutcomeEvent::name(), OutcomeEvent::schema()),
    ];
    let own = own.map(|(name, schema)| (name.into_owned(), schema));
    let _: Scope = schemas.take("headwater", &own);
}

/// The parameters, headers and responses that operations refer to.
pub(super) fn components() -> Components {
    let mut components = ComponentsBuilder::new();
    for (name, parameter) in parameters::parameters() {
        components = components.parameter(name, parameter);
    }
    for (name, header) in headers() {
        components = components.header(name, header);
    }
    for (name, response) in responses() {
        components = components.response(name, response);
    }
    components.build()
}

/// Refers to one of the shared parameters.
pub(super) fn parameter_ref(name: &str) -> Ref {
    Ref::new(format!("#/components/parameters/{name}"))
}

/// Refers to one of the shared response headers.
pub(super) fn header_ref(name: &str) -> Ref {
    Ref::new(format!("#/components/headers/{name}"))
}

/// Refers to one of the shared responses.
pub(super) fn response_ref(name: &str) -> Ref {
    Ref::from_response_name(name)
}

/// A schema of one type.
pub(super) fn typed(kind: Type) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(kind)
}

/// A refusal with exactly these codes, and one of them as it looks.
pub(super) fn refusal(description: &str, codes: &[&str], example: &Problem) -> Response {
    let code = typed(Type::String).enum_values(Some(codes.iter().copied()));
    let schema = AllOfBuilder::new()
        .item(Ref::from_schema_name("Problem"))
        .item(ObjectBuilder::new().property("code", code));
    let example = serde_json::to_value(example).expect("a problem is plain data");
    let content = ContentBuilder::new()
        .schema(Some(schema))
        .example(Some(example));
    let response = ResponseBuilder::new()
        .description(description)
        .content(crate::http::refusal::PROBLEM_JSON, content.build());
    response.build()
}

/// A query parameter that may be left out.
pub(super) fn query_parameter(
    name: &str,
    description: impl Into<String>,
    schema: ObjectBuilder,
) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(description))
        .schema(Some(schema))
        .build()
}

/// An answer of JSON.
pub(super) fn json_response(description: &str, schema: Ref) -> Response {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("application/json", content)
        .build()
}

fn headers() -> Vec<(&'static str, Header)> {
    let header = |text: &str, schema: ObjectBuilder| {
        HeaderBuilder::new()
            .schema(Some(schema))
            .description(Some(text))
            .build()
    };
    let number = || typed(Type::Integer).minimum(Some(0));
    let text = || typed(Type::String);
    vec![
        (
            "AggregateETag",
            header(
                "The aggregate's version, in double quotes: what If-Match takes.",
                text().examples([json!("\"3\"")]),
            ),
        ),
        (
            "Position",
            header(
                "How far the log has to be applied to show the command: what \
                 Headwater-Min-Position takes.",
                text().examples([json!("order@4711")]),
            ),
        ),
        (
            "Process",
            header(
                "How the process is that the answer has waited for: `<process>/<id> <status>`, where the status \
                 is running, waiting, parked, suspended or ended; several with commas between them.",
                text().examples([json!("fulfilment/o-1 waiting")]),
            ),
        ),
        ("ETag", header("What If-None-Match takes.", text())),
        (
            "Applied",
            header(
                "The stream sequence up to which the view had applied the log.",
                number(),
            ),
        ),
        (
            "Lag",
            header(
                "How far behind the log the view was, in milliseconds.",
                number(),
            ),
        ),
        (
            "Parked",
            header(
                "Only there when something in the answer is behind because of an event that the view \
                 could not apply, which an operator has to settle.",
                text().enum_values(Some(["true"])),
            ),
        ),
        (
            "RetryAfter",
            header("Seconds after which a retry makes sense.", number()),
        ),
    ]
}

fn responses() -> Vec<(&'static str, Response)> {
    let mut responses = refusals_of_the_request();
    responses.extend(failures_of_the_service());
    responses
}

/// A response with exactly these codes, and the time to wait where the example has one.
fn coded(
    name: &'static str,
    text: &str,
    codes: &[&str],
    example: &Problem,
) -> (&'static str, Response) {
    let mut response = refusal(text, codes, example);
    if example.retry_after.is_some() {
        let header = RefOr::Ref(header_ref("RetryAfter"));
        response.headers.insert("Retry-After".to_owned(), header);
    }
    (name, response)
}

/// A response with the code that the example has.
fn shared(name: &'static str, text: &str, example: &Problem) -> (&'static str, Response) {
    coded(name, text, &[&example.code], example)
}

/// The request is at fault: sent again as it is, it is refused again.
fn refusals_of_the_request() -> Vec<(&'static str, Response)> {
    vec![
        shared(
            "Malformed",
            "The input is not of the right form; `field` says which part of it.",
            &Problem::malformed("id".to_owned(), "an id is 1 to 64 of A-Z a-z 0-9 _ -"),
        ),
        shared(
            "NotFound",
            "There is no such document.",
            &Problem::not_found("not_found", "there is no such document"),
        ),
        shared(
            "Timeout",
            "The request did not arrive in time; nothing was done.",
            &Problem::request_timeout(),
        ),
        shared(
            "VersionMismatch",
            "The aggregate is not at the version that If-Match names; `version` is the current one.",
            &Problem::version_mismatch(4),
        ),
        shared(
            "TooLarge",
            "The body is over 64 KiB.",
            &Problem::too_large(MAX_BODY),
        ),
        shared(
            "UnsupportedMediaType",
            "The body is not application/json.",
            &Problem::unsupported_media_type(),
        ),
        shared(
            "UriTooLong",
            "The path and query are over 8 KiB.",
            &Problem::uri_too_long(crate::http::boundary::MAX_URI),
        ),
        shared(
            "HeadersTooLarge",
            "The head of the request is over 128 KiB.",
            &Problem::headers_too_large(),
        ),
    ]
}

/// The request may be well: sent again, it may be answered.
fn failures_of_the_service() -> Vec<(&'static str, Response)> {
    vec![
        shared(
            "Overloaded",
            "A bounded queue is full, or the caller asks for more than one may; nothing was done.",
            &Problem::overloaded(),
        ),
        shared(
            "Internal",
            "A defect of the service; of a command nothing was appended.",
            &Problem::internal(),
        ),
        coded(
            "Unavailable",
            "It cannot be said now. A retry is safe, of a command with the same Idempotency-Key. \
             A command is `unreadable`, with the position, where something in its aggregate's history \
             cannot be read: nothing was done.",
            &["unavailable", "unreadable"],
            &Problem::unavailable("the service cannot be reached"),
        ),
        coded(
            "ViewUnavailable",
            "It cannot be said now; a retry is safe. A view is `rebuilding` where its documents are filled \
             anew, as those that were there are not of this log.",
            &["unavailable", "rebuilding"],
            &Problem::unavailable("the view cannot be read now"),
        ),
        shared(
            "NotYetApplied",
            "The view did not reach the position within the wait. The command was accepted.",
            &Problem::not_yet_applied("the view has not applied order@4711 yet"),
        ),
    ]
}
