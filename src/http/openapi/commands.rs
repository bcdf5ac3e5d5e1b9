//! The commands of an aggregate: one path each.

use super::{
    schemas::Schemas,
    shared::{header_ref, parameter_ref, refusal, response_ref, typed},
};
use crate::{
    command::{
        describe::{AggregateDescription, CommandDescription},
        waits::{PROCESS, WAIT},
    },
    problem::Problem,
};
use serde_json::json;
use utoipa::openapi::{
    ContentBuilder, Ref, RefOr, Required, ResponseBuilder, Schema, Type,
    path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
    request_body::RequestBodyBuilder,
    response::Response,
    schema::AdditionalProperties,
};

/// Returns what groups the commands of an aggregate.
pub(super) fn tag(aggregate: &AggregateDescription) -> String {
    format!("{} commands", aggregate.name)
}

/// The name of a command's operation: unique, since neither name has a dot in it.
pub(in crate::http) fn operation_id(aggregate: &str, command: &str) -> String {
    format!("command.{aggregate}.{command}")
}

/// The path and the operation of each command.
pub(super) fn operations(
    aggregate: &AggregateDescription,
    processes: &[&str],
    schemas: &mut Schemas,
) -> Vec<(String, OperationBuilder)> {
    let scope = schemas.take(aggregate.name, &aggregate.schemas);
    let mut operations = Vec::new();
    for command in &aggregate.commands {
        let schema = format!("{}.{}", aggregate.name, command.name);
        let body = schemas.put(schema, &closed(&command.body), &scope);
        operations.push((
            format!("/commands/{}/{{id}}/{}", aggregate.name, command.name),
            operation(aggregate, command, processes, body),
        ));
    }
    operations
}

fn operation(
    aggregate: &AggregateDescription,
    command: &CommandDescription,
    processes: &[&str],
    body: Ref,
) -> OperationBuilder {
    let (summary, description) = summarise(aggregate.name, command);
    let mut operation = OperationBuilder::new()
        .tag(tag(aggregate))
        .operation_id(Some(operation_id(aggregate.name, &command.name)))
        .summary(Some(summary))
        .description(description);
    for parameter in ["AggregateId", "IdempotencyKey", "IfMatch", "Traceparent"] {
        operation = operation.parameter_ref(parameter_ref(parameter));
    }
    if !processes.is_empty() {
        operation = operation
            .parameter(process_wait(processes))
            .parameter_ref(parameter_ref("MaxWait"))
            .response("202", still_running(aggregate.name));
    }
    operation = operation
        .request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content(
                    "application/json",
                    ContentBuilder::new().schema(Some(body)).build(),
                )
                .build(),
        ))
        .response("200", accepted(aggregate.name, processes))
        .response("400", response_ref("Malformed"));

    // What the domain calls not found is the one refusal of its own that is a 404.
    let (missing, rules): (Vec<&str>, Vec<&str>) = command
        .refusals
        .iter()
        .partition(|code| **code == "not_found");
    if !missing.is_empty() {
        let text = format!("The {} has no events yet.", aggregate.name);
        let example = Problem::not_found("not_found", &text);
        operation = operation.response("404", refusal(&text, &missing, &example));
    }
    let mut conflicts = rules;
    for code in ["claim_taken", "key_reused"] {
        if !conflicts.contains(&code) {
            conflicts.push(code);
        }
    }
    operation
        .response("408", response_ref("Timeout"))
        .response(
            "409",
            refusal(
                "A rule refuses the command, a unique key is someone else's, or the \
                 Idempotency-Key was used for a different command, or by another caller. Nothing was appended.",
                &conflicts,
                &Problem::refused(conflicts[0], "a rule refuses the command"),
            ),
        )
        .response("412", response_ref("VersionMismatch"))
        .response("413", response_ref("TooLarge"))
        .response("414", response_ref("UriTooLong"))
        .response("415", response_ref("UnsupportedMediaType"))
        .response("429", response_ref("Overloaded"))
        .response("431", response_ref("HeadersTooLarge"))
        .response("500", response_ref("Internal"))
        .response("503", response_ref("Unavailable"))
}

/// The first paragraph of the command's documentation, and the rest.
fn summarise(aggregate: &str, command: &CommandDescription) -> (String, Option<String>) {
    let Some(text) = &command.summary else {
        return (format!("{} · {aggregate}", command.name), None);
    };
    match text.split_once("\n\n") {
        Some((first, rest)) => (first.replace('\n', " "), Some(rest.to_owned())),
        None => (text.replace('\n', " "), None),
    }
}

/// The body's schema, closed: a field that a command does not have is refused.
fn closed(body: &RefOr<Schema>) -> RefOr<Schema> {
    let mut body = body.clone();
    if let RefOr::T(Schema::Object(object)) = &mut body {
        let closed = AdditionalProperties::FreeForm(false);
        object.additional_properties.get_or_insert(Box::new(closed));
    }
    body
}

/// The header that has the answer wait for a process.
fn process_wait(processes: &[&str]) -> Parameter {
    ParameterBuilder::new()
        .name(WAIT)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Answer when the instance of this process that the command has started has come to rest or ended; \
             with 202 at Headwater-Max-Wait-Ms.",
        ))
        .schema(Some(
            typed(Type::String).enum_values(Some(processes.iter().copied())),
        ))
        .build()
}

fn still_running(aggregate: &str) -> Response {
    let mut response = accepted(aggregate, &[]);
    "The command is accepted, and the process that was to be waited for has not come to rest in time."
        .clone_into(&mut response.description);
    let header = RefOr::Ref(header_ref("Process"));
    response.headers.insert(PROCESS.to_owned(), header);
    response
}

fn accepted(aggregate: &str, processes: &[&str]) -> Response {
    let mut response = outcome(aggregate);
    if !processes.is_empty() {
        let header = RefOr::Ref(header_ref("Process"));
        response.headers.insert(PROCESS.to_owned(), header);
    }
    response
}

fn outcome(aggregate: &str) -> Response {
    let example = json!({
        "aggregate": aggregate, "id": "1", "version": 4, "position": 4711,
        "events": [{ "type": format!("{aggregate}.changed.v1"), "version": 4 }],
        "replayed": false,
    });
    ResponseBuilder::new()
        .description("The command is accepted, and its events are in the log.")
        .content(
            "application/json",
            ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Outcome")))
                .example(Some(example))
                .build(),
        )
        .header_ref("ETag", header_ref("AggregateETag"))
        .header_ref("Headwater-Position", header_ref("Position"))
        .build()
}
