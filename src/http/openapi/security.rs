//! Scopes, operation by operation: put into the description where tokens are asked for.

use crate::{
    access::Access, caller::Action, command::describe::AggregateDescription, problem::Problem,
    read_model::ViewDescription,
};
use serde_json::{Value, json};

/// The name of the scheme.
const BEARER: &str = "bearer";

/// Says of each operation which scope it takes, and how it is refused without.
pub(super) fn describe(
    document: &mut Value,
    aggregates: &[AggregateDescription],
    views: &[ViewDescription],
    processes: &[&str],
    access: &Access,
) {
    if access.is_open() {
        return;
    }
    let components = &mut document["components"];
    components["securitySchemes"][BEARER] = json!({
        "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
        "description": "A token of the issuer. Its claim `scope` (or `scp`) has the scopes that operations name: \
            `cmd:<aggregate>:<command>`, `cmd:<aggregate>:*`, `cmd:*`, `qry:<view>`, `qry:*`, `ops:read`, `ops:write`.",
    });
    components["responses"]["Unauthenticated"] = refused(
        "The token is missing or not taken. Nothing was done.",
        &Problem::invalid_token("it has ended"),
    );
    components["responses"]["Forbidden"] = refused(
        "The token lacks the scope. Nothing was done.",
        &Problem::forbidden("qry:order".to_owned()),
    );
    let Some(paths) = document["paths"].as_object_mut() else {
        return;
    };
    for aggregate in aggregates {
        for command in &aggregate.commands {
            let path = format!("/commands/{}/{{id}}/{}", aggregate.name, command.name);
            let action = Action::Command {
                aggregate: aggregate.name,
                command: &command.name,
            };
            secure(paths.get_mut(&path), action, access);
        }
    }
    secure(paths.get_mut("/commands"), Action::SomeCommand, access);
    for view in views {
        let of_view = format!("/views/{}", view.name);
        let action = Action::Query { view: view.name };
        for (path, item) in &mut *paths {
            let rest = path.strip_prefix(&of_view);
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
                secure(Some(item), action, access);
            }
        }
    }
    for process in processes {
        for path in [
            format!("/processes/{process}"),
            format!("/processes/{process}/{{id}}"),
        ] {
            secure(paths.get_mut(&path), Action::Inspect, access);
        }
    }
    secure(paths.get_mut("/metrics"), Action::Inspect, access);
    let of_operators = paths
        .iter_mut()
        .filter(|(path, _)| path.starts_with("/ops/"));
    for (_, item) in of_operators {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let action = match method.as_str() {
                "get" | "head" => Action::Inspect,
                _ => Action::Operate,
            };
            secure_one(operation, action, access);
        }
    }
}

/// Says it of all operations of a path.
fn secure(item: Option<&mut Value>, action: Action<'_>, access: &Access) {
    let operations = item.and_then(Value::as_object_mut).into_iter().flatten();
    for (_, operation) in operations {
        secure_one(operation, action, access);
    }
}

fn secure_one(operation: &mut Value, action: Action<'_>, access: &Access) {
    if !operation["responses"].is_object() {
        return;
    }
    let mut security = vec![json!({ BEARER: [action.to_string()] })];
    if access.anonymous().may(action) {
        security.push(json!({}));
    }
    operation["security"] = security.into();
    let of_header = [("400", "Malformed")];
    let of_caller = [("401", "Unauthenticated"), ("403", "Forbidden")];
    for (status, name) in of_header.into_iter().chain(of_caller) {
        let responses = &mut operation["responses"];
        // The header may be given twice, or be no text; most have said so of others already.
        if status == "400" && !responses[status].is_null() {
            continue;
        }
        let reference = format!("#/components/responses/{name}");
        responses[status] = json!({ "$ref": reference });
    }
}

fn refused(description: &str, example: &Problem) -> Value {
    json!({
        "description": description,
        "headers": {
            "WWW-Authenticate": {
                "description": "How to be let in (RFC 6750).",
                "schema": { "type": "string" },
            },
        },
        "content": {
            "application/problem+json": {
                "schema": { "$ref": "#/components/schemas/Problem" },
                "example": example,
            },
        },
    })
}
