//! The HTTP surface of the running mart: what a browser, a cache and a generator of clients rely on.

use crate::harness::{api::Api, service, unique};
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn http() -> crate::harness::api::Http {
    let service = tokio::task::spawn_blocking(service::shared).await.unwrap();
    service.http()
}

/// Calls `found` with every object of the document.
fn each(value: &Value, found: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            found(members);
            members.values().for_each(|member| each(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| each(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn what_was_written_is_read_at_its_position_and_kept_by_its_tag() {
    let http = http().await;
    let sku = unique("http");
    let register = format!("/commands/product/{sku}/register");
    let body = json!({ "name": "감귤 2kg", "price": 9900, "category": "fruit" }).to_string();
    let outcome = http.post(&register, body, &[]).await.expect(200);
    assert_eq!(outcome.header("ETag"), "\"1\"");
    let position = outcome.header("Headwater-Position");
    assert_eq!(position, format!("product@{}", outcome.json()["position"]));

    let path = format!("/views/product/{sku}");
    let at_position = [("Headwater-Min-Position", position)];
    let document = http.get(&path, &at_position).await.expect(200);
    assert_eq!(document.json()["id"], sku);
    assert_eq!(document.json()["document"]["name"], "감귤 2kg");
    assert_eq!(document.json()["version"], outcome.json()["position"]);
    let applied: u64 = document.header("Headwater-Applied").parse().unwrap();
    assert!(applied >= outcome.json()["position"].as_u64().unwrap());
    assert!(document.header("Headwater-Lag-Ms").parse::<u64>().is_ok());

    let tag = document.header("ETag").to_owned();
    let known = [("If-None-Match", tag.as_str())];
    let unchanged = http.get(&path, &known).await.expect(304);
    assert_eq!(unchanged.header("ETag"), tag);
    assert!(unchanged.body.is_empty());

    let head = http.send(reqwest::Method::HEAD, &path, None, &[]).await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("ETag"), tag);
    assert_eq!(
        head.header("Content-Length"),
        document.body.len().to_string()
    );

    let reprice = format!("/commands/product/{sku}/reprice");
    let outcome = http
        .post(&reprice, r#"{"price":8900}"#, &[("If-Match", "\"1\"")])
        .await;
    let position = outcome.expect(200).header("Headwater-Position").to_owned();
    let asking = [
        ("If-None-Match", tag.as_str()),
        ("Headwater-Min-Position", &position),
    ];
    let changed = http.get(&path, &asking).await.expect(200);
    assert_eq!(changed.json()["document"]["price"], 8900);
    assert_ne!(changed.header("ETag"), tag);
}

#[tokio::test]
async fn a_list_is_searched_in_korean_and_kept_by_its_tag() {
    let http = http().await;
    let path = "/views/product?q=%EC%82%AC%EA%B3%BC&limit=5";
    let list = http.get(path, &[]).await.expect(200);
    let items = list.json()["items"].as_array().unwrap().clone();
    assert!(!items.is_empty());
    for item in items {
        let name = item["document"]["name"].as_str().unwrap();
        assert!(name.contains("사과"), "{name}");
    }
    let known = [("If-None-Match", list.header("ETag"))];
    http.get(path, &known).await.expect(304);
}

#[tokio::test]
async fn the_description_is_whole_and_every_path_of_it_is_served() {
    let http = http().await;
    let document = http.get("/openapi.json", &[]).await.expect(200).json();
    assert_eq!(document["openapi"], "3.1.0");
    each(&document, &mut |members| {
        if let Some(Value::String(reference)) = members.get("$ref") {
            let pointer = reference.strip_prefix('#').expect("all are local");
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    });
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name.to_owned()), "{name} twice");
            // Other tests ask for these: some change what is there, some never end, and of a process only a
            // replica that runs it tells.
            if path.starts_with("/ops/") || path.starts_with("/processes/") {
                continue;
            }
            // An id that no path takes tells a path that is served from one that is not, and
            // leaves the log alone.
            let method_is_head = method == "head";
            let method = method.to_uppercase().parse().unwrap();
            let mut path = path.replace("{id}", "a.b");
            let endless = path.ends_with("/live") && !path.contains("a.b");
            if endless {
                path.push_str("?nothing=1");
            }
            let body = if path == "/commands" { "[]" } else { "{}" };
            let reply = http.send(method, &path, Some(body.into()), &[]).await;
            if method_is_head {
                assert_eq!(reply.status, if path.contains("a.b") { 400 } else { 200 });
                assert!(reply.body.is_empty());
            } else if path.contains("a.b") {
                assert_eq!(reply.problem(400, "malformed")["field"], "id", "{path}");
            } else if endless {
                assert_eq!(
                    reply.problem(400, "malformed")["field"],
                    "nothing",
                    "{path}"
                );
            } else {
                assert_eq!(reply.status, 200, "{path}");
            }
        }
    }
    // 29 commands and one for many, six ways to read each of four views, four to look at a process, two of each that
    // says how the service is, and what operators ask.
    let of_operators = names.iter().filter(|name| name.starts_with("ops.")).count();
    assert_eq!(
        names.len() - of_operators,
        30 + 6 * 4 + 4 + 2 * 3,
        "{names:?}"
    );
    assert!(of_operators > 30, "{names:?}");
}

#[tokio::test]
async fn every_code_that_a_rule_refuses_with_here_is_described() {
    let http = http().await;
    let document = http.get("/openapi.json", &[]).await.expect(200).json();
    let codes = |path: &str, status: &str| {
        let response = &document["paths"][path]["post"]["responses"][status];
        response["content"]["application/problem+json"]["schema"]["allOf"][1]["properties"]["code"]
            ["enum"]
            .clone()
    };
    let api = Api::Http(http);
    let missing = unique("http");
    let reply = api.command("order", &missing, "confirm", json!({})).await;
    assert_eq!(reply.status, 404);
    let described = codes("/commands/order/{id}/confirm", "404");
    assert_eq!(described, json!([reply.json()["code"]]));
    let body = json!({ "name": "", "price": 0, "category": "fruit" });
    let reply = api.command("product", &missing, "register", body).await;
    assert_eq!(reply.status, 409);
    let described = codes("/commands/product/{id}/register", "409");
    assert!(
        described
            .as_array()
            .unwrap()
            .contains(&reply.json()["code"])
    );
}

#[tokio::test]
async fn the_pages_are_served_and_ask_no_other_host() {
    let http = http().await;
    for (path, says) in [("/", "Headwater"), ("/docs/", "swagger-ui-bundle.js")] {
        let page = http.get(path, &[]).await.expect(200);
        assert!(
            page.header("Content-Type").starts_with("text/html"),
            "{path}"
        );
        let policy = page.header("Content-Security-Policy");
        assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
        assert!(!policy.contains("http"), "{path}: {policy}");
        assert!(String::from_utf8_lossy(&page.body).contains(says), "{path}");
    }
    let ready = http.get("/readyz", &[]).await.expect(200).json();
    assert_eq!(ready["ready"], true);
    assert!(!ready["checks"].as_array().unwrap().is_empty());
    http.get("/healthz", &[]).await.expect(200);
}
