//! The AsyncAPI 3.0 description of what is asked over NATS, made of the OpenAPI description: what the two
//! surfaces have in common is said once, and they cannot come apart.

mod channel;

use super::Site;
use crate::{command::describe::AggregateDescription, read_model::ViewDescription};
use actix_web::{HttpRequest, HttpResponse, web::Data};
use channel::Described;
use serde_json::{Map, Value, json};

/// The queue group of the service that takes commands, and that of the one that answers queries.
const COMMANDS: &str = "q";
const QUERIES: &str = "headwater-queries";

/// Returns what can be asked over NATS of these aggregates and views, as an AsyncAPI 3.0 document.
///
/// `openapi` is the whole description of the same over HTTP.
#[must_use]
pub fn describe(
    openapi: &Value,
    aggregates: &[AggregateDescription],
    views: &[ViewDescription],
) -> Value {
    let mut described = Described::new(openapi);
    for aggregate in aggregates {
        let name = aggregate.name;
        for command in &aggregate.commands {
            let command = &command.name;
            described.request(&channel::Request {
                name: format!("command.{name}.{command}"),
                address: format!("cmd.{name}.{{id}}.{command}"),
                id: Some("The id of the aggregate."),
                path: format!("/commands/{name}/{{id}}/{command}"),
                method: "post",
                queue: COMMANDS,
            });
        }
        described.events(name);
    }
    for view in views {
        let name = view.name;
        for (what, id) in [("get", true), ("list", false)] {
            let (end, path) = match id {
                true => (".{id}", "/{id}"),
                false => ("", ""),
            };
            described.request(&channel::Request {
                name: format!("view.{name}.{what}"),
                address: format!("qry.{name}{end}"),
                id: id.then_some("The id of the document."),
                path: format!("/views/{name}{path}"),
                method: "get",
                queue: QUERIES,
            });
        }
    }
    let Described {
        channels,
        operations,
        messages,
        ..
    } = described;
    let mut components = Map::new();
    let mut schemas = openapi["components"]["schemas"].clone();
    schemas["Commit"] = channel::commit();
    components.insert("schemas".to_owned(), schemas);
    components.insert("messages".to_owned(), messages.into());
    let security = &openapi["components"]["securitySchemes"];
    if security.is_object() {
        components.insert("securitySchemes".to_owned(), security.clone());
    }
    let info = &openapi["info"];
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Headwater over NATS",
            "version": info["version"],
            "description": include_str!("asyncapi/introduction.md"),
            "license": { "name": info["license"]["name"], "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "nats": {
                "host": "{host}",
                "protocol": "nats",
                "description": "The NATS that the replicas are connected to.",
                "variables": {
                    "host": { "default": "127.0.0.1:4222", "description": "Its address and port." },
                },
            },
        },
        "channels": channels,
        "operations": operations,
        "components": components,
    })
}

/// Serves the document.
pub(super) async fn serve(request: HttpRequest, site: Data<Site>) -> HttpResponse {
    site.asyncapi.respond(&request).await
}
