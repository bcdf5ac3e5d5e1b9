//! The requests of whoever runs the service: how it is, and what it measures.

use super::{
    schemas::Schemas,
    shared::{json_response, response_ref, typed},
};
use utoipa::openapi::{
    ArrayBuilder, ContentBuilder, ObjectBuilder, ResponseBuilder, Type, path::OperationBuilder,
    response::Response,
};

/// The tag that groups them.
pub(super) const TAG: &str = "operations";

/// The paths and the operations of them.
pub(super) fn operations(schemas: &mut Schemas) -> [(&'static str, OperationBuilder); 3] {
    let scope = schemas.take("operations", &[]);
    let alive = ObjectBuilder::new()
        .property("status", typed(Type::String).enum_values(Some(["ok"])))
        .required("status")
        .property("version", typed(Type::String))
        .required("version")
        .build();
    let alive = schemas.put("operations.alive".to_owned(), &alive, &scope);
    let check = ObjectBuilder::new()
        .property("name", typed(Type::String))
        .required("name")
        .property("ready", typed(Type::Boolean))
        .required("ready")
        .property("detail", typed(Type::String))
        .required("detail")
        .build();
    let check = schemas.put("operations.check".to_owned(), &check, &scope);
    let readiness = ObjectBuilder::new()
        .property("ready", typed(Type::Boolean))
        .required("ready")
        .property("checks", ArrayBuilder::new().items(check))
        .required("checks")
        .build();
    let readiness = schemas.put("operations.readiness".to_owned(), &readiness, &scope);
    [
        (
            "/healthz",
            operation("alive", "Whether the process lives")
                .response("200", json_response("It does.", alive)),
        ),
        (
            "/readyz",
            operation("ready", "Whether the replica can do its work now")
                .response("200", json_response("It can.", readiness.clone()))
                .response(
                    "503",
                    json_response("It cannot; the checks say why.", readiness),
                ),
        ),
        (
            "/metrics",
            operation("metrics", "What the process has measured, for Prometheus")
                .response("200", text("The text exposition format, version 0.0.4."))
                .response("429", response_ref("Overloaded")),
        ),
    ]
}

fn operation(name: &str, summary: &str) -> OperationBuilder {
    OperationBuilder::new()
        .tag(TAG)
        .operation_id(Some(format!("operations.{name}")))
        .summary(Some(summary))
        .response("408", response_ref("Timeout"))
        .response("414", response_ref("UriTooLong"))
        .response("431", response_ref("HeadersTooLarge"))
}

fn text(description: &str) -> Response {
    let schema = typed(Type::String);
    let content = ContentBuilder::new().schema(Some(schema)).build();
    ResponseBuilder::new()
        .description(description)
        .content("text/plain", content)
        .build()
}
