//! Every scope against everything that there is: what the description says that it takes is what it takes.

use crate::harness::{
    api::{Api, Http, NatsApi, Reply},
    nats::Nats,
    tokens::{self, Signer, bearer},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Something that can be asked, and the scope that it takes.
#[derive(Debug)]
struct Operation {
    method: String,
    path: String,
    scope: String,
    /// It is answered at once, and changes nothing that is there.
    harmless: bool,
}

/// All that the description says takes a scope.
fn operations(description: &Value) -> Vec<Operation> {
    let mut all = Vec::new();
    for (path, item) in description["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let scope = operation["security"][0]["bearer"][0].as_str();
            let Some(scope) = scope else { continue };
            // A list takes the scope of each command in it, and not one of its own.
            if path == "/commands" {
                continue;
            }
            let streams = operation["responses"]["200"]["content"]["text/event-stream"].is_object();
            let reads = ["get", "head"].contains(&method.as_str());
            all.push(Operation {
                method: method.to_uppercase(),
                path: filled(path),
                scope: scope.to_owned(),
                harmless: !streams && (reads || path.starts_with("/commands/")),
            });
        }
    }
    all
}

/// A path with something in the place of what is to be filled in.
fn filled(path: &str) -> String {
    let segments = path
        .split('/')
        .map(|segment| match segment.starts_with('{') {
            true => "nowhere",
            false => segment,
        });
    segments.collect::<Vec<_>>().join("/")
}

/// Returns whether one of these scopes suffices, by the words of the contract alone.
fn suffices(scope: &str, asked: &str) -> bool {
    let wide = match asked.split(':').collect::<Vec<_>>()[..] {
        ["cmd", aggregate, _] => vec!["cmd:*".to_owned(), format!("cmd:{aggregate}:*")],
        ["qry", _] => vec!["qry:*".to_owned()],
        ["ops", "read"] => vec!["ops:write".to_owned()],
        _ => Vec::new(),
    };
    scope == asked || wide.iter().any(|one| one == scope)
}

#[track_caller]
fn is_as_expected(reply: &Reply, allowed: bool, operation: &Operation, scope: &str) {
    let lacks = reply.status == 403 && {
        // Without a body a HEAD names it in the challenge alone.
        let challenge = reply.header("WWW-Authenticate");
        challenge.contains(&format!("scope=\"{}\"", operation.scope))
    };
    assert_eq!(
        lacks, !allowed,
        "{operation:?} with {scope:?}: {}",
        reply.status
    );
    assert_ne!(reply.status, 401, "{operation:?} with {scope:?}");
    assert!(
        reply.status < 500 || reply.status == 503,
        "{operation:?}: {}",
        reply.status
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_scope_against_each_operation_on_both_surfaces() {
    let (signer, nats) = (Signer::new("k-1"), Nats::start());
    let (service, _folder) = tokens::serve(&nats, &signer, &[]);
    let http = service.http();
    let over_nats = Api::Nats(NatsApi::connect(&nats.url()).await);
    let description = http.get("/openapi.json", &[]).await.json();
    let operations = operations(&description);
    let mut scopes: BTreeSet<String> = operations.iter().map(|one| one.scope.clone()).collect();
    for one in &operations {
        if let ["cmd", aggregate, _] = one.scope.split(':').collect::<Vec<_>>()[..] {
            scopes.insert(format!("cmd:{aggregate}:*"));
        }
    }
    let wide = [
        "cmd:*",
        "qry:*",
        "ops:write",
        "",
        "cmd",
        "qry",
        "*",
        "cmd:order",
        "qry:order:*",
    ];
    scopes.extend(wide.map(str::to_owned));
    assert!(
        operations.len() > 30 && scopes.len() > 30,
        "{} {}",
        operations.len(),
        scopes.len()
    );
    let mut cells = 0;
    for scope in &scopes {
        // What the domain asks besides is another matter.
        let token = bearer(&signer.token("s-1", &format!("{scope} staff")));
        for operation in &operations {
            let allowed = suffices(scope, &operation.scope);
            if allowed && !operation.harmless {
                continue;
            }
            let reply = over_http(&http, operation, &token).await;
            is_as_expected(&reply, allowed, operation, scope);
            cells += 1;
            if let Some(reply) = asked_over_nats(&over_nats, operation, &token).await {
                is_as_expected(&reply, allowed, operation, scope);
                cells += 1;
            }
        }
    }
    assert!(cells > 1_500, "{cells}");
}

async fn over_http(http: &Http, operation: &Operation, token: &str) -> Reply {
    let method = operation.method.parse().unwrap();
    // Of the wrong form for every command: nothing is to be done.
    let body = (operation.method == "POST").then(|| reqwest::Body::from("[]"));
    let headers = [("Authorization", token)];
    http.send(method, &operation.path, body, &headers).await
}

/// The same over NATS, where there is the same.
async fn asked_over_nats(api: &Api, operation: &Operation, token: &str) -> Option<Reply> {
    let headers = [("Authorization", token)];
    let segments: Vec<_> = operation.path.split('/').skip(1).collect();
    match (operation.method.as_str(), &segments[..]) {
        ("POST", ["commands", aggregate, id, command]) => Some(
            api.command_with(aggregate, id, command, json!([]), &headers)
                .await,
        ),
        ("GET", ["views", view]) => Some(api.list(view, json!({}), &headers).await),
        ("GET", ["views", view, id]) => Some(api.document(view, id, &headers).await),
        _ => None,
    }
}
