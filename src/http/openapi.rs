//! The OpenAPI 3.1 description, built from what is registered: it is right for any domain.
//!
//! The frame (paths, parameters, responses) is made with utoipa's builders and refers to every
//! schema by name; the schemas themselves, which come from the domain, are put in last, under names
//! that cannot meet (see [`schemas`]).

mod commands;
mod many;
mod operations;
mod ops;
mod processes;
mod schemas;
mod security;
mod shared;
mod views;

pub(super) use commands::operation_id;

use super::Site;
use crate::{access::Access, command::describe::AggregateDescription, read_model::ViewDescription};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use schemas::Schemas;
use serde_json::Value;
use utoipa::openapi::{
    HttpMethod, InfoBuilder, LicenseBuilder, OpenApiBuilder, PathItem, PathsBuilder, RefOr,
    ServerBuilder, path::OperationBuilder, response::Response, tag::TagBuilder,
};

/// Returns what the gateway offers over these aggregates, views and processes, as an OpenAPI 3.1 document.
#[must_use]
pub fn describe(
    aggregates: &[AggregateDescription],
    views: &[ViewDescription],
    processes: &[&str],
    access: &Access,
) -> Value {
    let mut schemas = Schemas::default();
    shared::schemas(&mut schemas);
    let mut paths = PathsBuilder::new();
    let mut tags = vec![
        TagBuilder::new()
            .name(many::TAG)
            .description(Some("Commands of any aggregate, many in a request."))
            .build(),
    ];
    for aggregate in aggregates {
        tags.push(
            TagBuilder::new()
                .name(commands::tag(aggregate))
                .description(Some(format!(
                    "What can be asked of one {}. A command is accepted, and its events are in \
                     the log, or refused, and nothing is.",
                    aggregate.name
                )))
                .build(),
        );
        for (path, operation) in commands::operations(aggregate, processes, &mut schemas) {
            paths = paths.path(path, PathItem::new(HttpMethod::Post, operation));
        }
    }
    for view in views {
        tags.push(
            TagBuilder::new()
                .name(views::tag(view))
                .description(Some(format!(
                    "Documents composed from the events of: {}.",
                    view.aggregates.join(", ")
                )))
                .build(),
        );
        for (path, operation) in views::operations(view, &mut schemas) {
            paths = paths.path(path, readable(operation));
        }
    }
    for process in processes {
        tags.push(
            TagBuilder::new()
                .name(processes::tag(process))
                .description(Some("The instances of the process, for operators."))
                .build(),
        );
        for (path, operation) in processes::operations(process, &mut schemas) {
            paths = paths.path(path, readable(operation));
        }
    }
    tags.push(
        TagBuilder::new()
            .name(operations::TAG)
            .description(Some("For what runs the service."))
            .build(),
    );
    for (path, operation) in operations::operations(&mut schemas) {
        paths = paths.path(path, readable(operation));
    }
    tags.push(
        TagBuilder::new()
            .name(ops::TAG)
            .description(Some(
                "For operators: what the system does, why something is as it is, and what can be done about it.",
            ))
            .build(),
    );
    for (path, method, operation) in ops::operations(views, &mut schemas) {
        let item = match method {
            HttpMethod::Get => readable(operation),
            method => PathItem::new(method, operation),
        };
        paths = paths.path(path, item);
    }
    let openapi = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Headwater")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(include_str!("openapi/introduction.md")))
                .license(Some(
                    LicenseBuilder::new()
                        .name("Apache-2.0")
                        .identifier(Some("Apache-2.0"))
                        .build(),
                ))
                .build(),
        )
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .paths(paths)
        .components(Some(shared::components()))
        .tags(Some(tags))
        .build();
    let mut document = serde_json::to_value(openapi).expect("the description is plain data");
    document["components"]["schemas"] = schemas.into_json();
    document["paths"]["/commands"] = many::path(aggregates);
    security::describe(&mut document, aggregates, views, processes, access);
    document
}

/// Returns what is read is asked for by `HEAD` too, which answers the same without the body; what goes on and on
/// is not.
fn readable(operation: OperationBuilder) -> PathItem {
    let operation = operation.build();
    let mut item = PathItem::default();
    let is_stream = |response: &RefOr<Response>| match response {
        RefOr::T(response) => response.content.contains_key("text/event-stream"),
        RefOr::Ref(_) => false,
    };
    if !operation.responses.responses.values().any(is_stream) {
        let mut head = operation.clone();
        head.operation_id = head.operation_id.map(|name| format!("{name}.head"));
        head.summary = head
            .summary
            .map(|summary| format!("{summary}, without the body"));
        for response in head.responses.responses.values_mut() {
            if let RefOr::T(response) = response {
                response.content.clear();
            }
        }
        item.head = Some(head);
    }
    item.get = Some(operation);
    item
}

/// Serves the document.
pub(super) async fn serve(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    site.openapi.respond(&request).await
}
