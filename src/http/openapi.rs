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
    ServerBuilder,
    path::OperationBuilder,
    response::Response,
    tag::{Tag, TagBuilder},
};

/// Returns what the gateway offers over these aggregates, views and processes, as an OpenAPI 3.1 document.
#[must_use]
pub fn describe(
    aggregates: &[AggregateDescription],
    views: &[ViewDescription],
    processes: &[&str],
    access: &Access,
) -> Value {
    let mut described = Described::default();
    shared::schemas(&mut described.schemas);
    described.tag(many::TAG, "Commands of any aggregate, many in a request.");
    aggregates
        .iter()
        .for_each(|aggregate| described.aggregate(aggregate, processes));
    views.iter().for_each(|view| described.view(view));
    processes
        .iter()
        .for_each(|process| described.process(process));
    described.service();
    described.operators(views, processes);
    let mut document = described.into_document();
    document["paths"]["/commands"] = many::path(aggregates);
    security::describe(&mut document, aggregates, views, processes, access);
    document
}

/// The description as far as it has come.
#[derive(Default)]
struct Described {
    schemas: Schemas,
    paths: Vec<(String, PathItem)>,
    tags: Vec<Tag>,
}

impl Described {
    fn tag(&mut self, name: impl Into<String>, description: impl Into<String>) {
        let tag = TagBuilder::new().name(name);
        let tag = tag.description(Some(description));
        self.tags.push(tag.build());
    }

    fn aggregate(&mut self, aggregate: &AggregateDescription, processes: &[&str]) {
        let asked = format!(
            "What can be asked of one {}. A command is accepted, and its events are in \
             the log, or refused, and nothing is.",
            aggregate.name
        );
        self.tag(commands::tag(aggregate), asked);
        for (path, operation) in commands::operations(aggregate, processes, &mut self.schemas) {
            let item = PathItem::new(HttpMethod::Post, operation);
            self.path(path, item);
        }
    }

    fn view(&mut self, view: &ViewDescription) {
        let composed = format!(
            "Documents composed from the events of: {}.",
            view.aggregates.join(", ")
        );
        self.tag(views::tag(view), composed);
        for (path, operation) in views::operations(view, &mut self.schemas) {
            self.path(path, readable(operation));
        }
    }

    fn process(&mut self, process: &str) {
        let instances = "The instances of the process, for operators.";
        self.tag(processes::tag(process), instances);
        for (path, operation) in processes::operations(process, &mut self.schemas) {
            self.path(path, readable(operation));
        }
    }

    fn service(&mut self) {
        self.tag(operations::TAG, "For what runs the service.");
        for (path, operation) in operations::operations(&mut self.schemas) {
            self.path(path, readable(operation));
        }
    }

    fn operators(&mut self, views: &[ViewDescription], processes: &[&str]) {
        self.tag(
            ops::TAG,
            "For operators: what the system does, why something is as it is, and what can be done about it.",
        );
        for (path, method, operation) in ops::operations(views, processes, &mut self.schemas) {
            let item = match method {
                HttpMethod::Get => readable(operation),
                method => PathItem::new(method, operation),
            };
            self.path(path, item);
        }
    }

    fn path(&mut self, path: impl Into<String>, item: PathItem) {
        self.paths.push((path.into(), item));
    }

    fn into_document(self) -> Value {
        let license = LicenseBuilder::new()
            .name("Apache-2.0")
            .identifier(Some("Apache-2.0"));
        let info = InfoBuilder::new()
            .title("Headwater")
            .version(env!("CARGO_PKG_VERSION"))
            .description(Some(include_str!("openapi/introduction.md")))
            .license(Some(license.build()));
        let paths = self.paths.into_iter();
        let paths = paths.fold(PathsBuilder::new(), |paths, (path, item)| {
            paths.path(path, item)
        });
        let openapi = OpenApiBuilder::new()
            .info(info.build())
            .servers(Some([ServerBuilder::new().url("/").build()]))
            .paths(paths)
            .components(Some(shared::components()))
            .tags(Some(self.tags))
            .build();
        let mut document = serde_json::to_value(openapi).expect("the description is plain data");
        document["components"]["schemas"] = self.schemas.into_json();
        document
    }
}

/// An operation of `GET`, and of `HEAD`, which answers the same without the body. A stream that goes on and on
/// has no `HEAD`.
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
