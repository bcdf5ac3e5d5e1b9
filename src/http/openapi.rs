//! The OpenAPI 3.1 description, built from what is registered: it is right for any domain.
//!
//! The frame (paths, parameters, responses) is made with utoipa's builders and refers to every
//! schema by name; the schemas themselves, which come from the domain, are put in last, under names
//! that cannot meet (see [`schemas`]).

mod commands;
mod schemas;
mod shared;
mod views;

pub(super) use commands::operation_id;

use super::Site;
use crate::{command::describe::AggregateDescription, read_model::ViewDescription};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use schemas::Schemas;
use serde_json::Value;
use utoipa::openapi::{
    HttpMethod, InfoBuilder, LicenseBuilder, OpenApiBuilder, PathItem, PathsBuilder, ServerBuilder,
    content::ContentBuilder,
    path::OperationBuilder,
    response::ResponseBuilder,
    schema::{ObjectBuilder, SchemaType, Type},
    tag::TagBuilder,
};

/// What the gateway offers over these aggregates and views, as an OpenAPI 3.1 document.
#[must_use]
pub fn describe(aggregates: &[AggregateDescription], views: &[ViewDescription]) -> Value {
    let mut schemas = Schemas::default();
    shared::schemas(&mut schemas);
    let mut paths = PathsBuilder::new();
    let mut tags = Vec::new();
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
        for (path, operation) in commands::operations(aggregate, &mut schemas) {
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
            paths = paths.path(path, PathItem::new(HttpMethod::Get, operation));
        }
    }
    tags.push(
        TagBuilder::new()
            .name(OPERATIONS)
            .description(Some("For what runs the service."))
            .build(),
    );
    for (path, operation) in health() {
        paths = paths.path(path, PathItem::new(HttpMethod::Get, operation));
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
    document
}

/// The tag of `/healthz` and `/readyz`.
const OPERATIONS: &str = "operations";

fn health() -> [(&'static str, OperationBuilder); 2] {
    let any = || {
        ContentBuilder::new()
            .schema(Some(
                ObjectBuilder::new().schema_type(SchemaType::Type(Type::Object)),
            ))
            .build()
    };
    let json = |text: &str| {
        ResponseBuilder::new()
            .description(text)
            .content("application/json", any())
    };
    [
        (
            "/healthz",
            OperationBuilder::new()
                .tag(OPERATIONS)
                .operation_id(Some("operations.alive"))
                .summary(Some("Whether the process lives"))
                .response("200", json("It does.")),
        ),
        (
            "/readyz",
            OperationBuilder::new()
                .tag(OPERATIONS)
                .operation_id(Some("operations.ready"))
                .summary(Some("Whether the replica can do its work now"))
                .response("200", json("It can."))
                .response("503", json("It cannot; the checks say why.")),
        ),
    ]
}

/// Serves the document.
pub(super) async fn serve(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    site.openapi.respond(&request)
}
