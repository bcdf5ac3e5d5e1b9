//! An address of operators' own: what is for them is there, and nowhere else.

use crate::harness::{
    api::Http,
    nats::Nats,
    service::{Service, headwater, run},
};
use serde_json::Value;

const ADMIN: [&str; 2] = ["--admin-addr", "127.0.0.1:0"];

/// The client of the address that a replica prints for operators.
fn operators(service: &Service, named: &str) -> Http {
    service.tells(named);
    let printed = service.output();
    let line = printed.iter().find_map(|line| line.split_once(named));
    let (_, rest) = line.unwrap_or_else(|| panic!("{printed:?}"));
    let address = rest.trim().trim_end_matches(')');
    Http::new(address.trim_end_matches("/console"))
}

fn described(description: &Value) -> Vec<&str> {
    let paths = description["paths"].as_object().unwrap();
    paths.keys().map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_have_an_address_of_their_own() {
    let nats = Nats::start();
    let service = Service::serve(&nats.url(), &ADMIN);
    let (callers, operators) = (service.http(), operators(&service, "admin "));
    callers.get("/metrics", &[]).await.problem(404, "not_found");
    let metrics = operators.get("/metrics", &[]).await.expect(200);
    let said = String::from_utf8_lossy(&metrics.body);
    assert!(said.contains("headwater_members"), "{said}");
    for path in ["/views/product", "/views/product/a", "/"] {
        callers.get(path, &[]).await;
        operators.get(path, &[]).await.problem(404, "not_found");
    }
    let body = serde_json::json!({"name": "a", "price": 1, "category": "b"});
    let given = operators
        .post("/commands/product/a/register", body.to_string(), &[])
        .await;
    given.problem(404, "not_found");
    for path in ["/healthz", "/readyz"] {
        callers.get(path, &[]).await.expect(200);
        operators.get(path, &[]).await.expect(200);
    }
    let of_callers = callers.get("/openapi.json", &[]).await.json();
    assert!(!described(&of_callers).contains(&"/metrics"));
    assert!(described(&of_callers).contains(&"/views/product"));
    let of_operators = operators.get("/openapi.json", &[]).await.json();
    assert!(described(&of_operators).contains(&"/metrics"));
    assert!(!described(&of_operators).contains(&"/views/product"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_gateway_role_has_it_too() {
    let nats = Nats::start();
    let flags = [&ADMIN[..], &["--roles", "command"]].concat();
    let mut service = Service::serve(&nats.url(), &flags);
    let (callers, operators) = (service.http(), operators(&service, "admin "));
    callers.get("/metrics", &[]).await.problem(404, "not_found");
    operators.get("/metrics", &[]).await.expect(200);
    operators.get("/readyz", &[]).await.expect(200);
    service.signal("TERM");
    assert_eq!(service.wait().code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_tells_where_operators_are_served() {
    let service = Service::dev(&[&ADMIN[..], &["--no-seed"]].concat());
    let operators = operators(&service, "operators: ");
    operators.get("/metrics", &[]).await.expect(200);
    assert!(service.output().len() <= 10, "{:?}", service.output());
}

#[test]
fn what_others_can_reach_is_open_only_if_that_is_meant() {
    let output = run(&mut headwater(["serve", "--admin-addr", "0.0.0.0:0"]));
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--admin-addr 0.0.0.0:0"), "{said}");
}
