//! Bad input over NATS: each case is answered with the right status, code and field, and leaves the
//! log as it was. The cases are those of HTTP, as far as NATS has the like.

use crate::harness::{
    api::{NatsApi, Reply},
    service::Service,
};
use async_nats::client::RequestErrorKind;
use serde_json::json;
use std::sync::OnceLock;

/// One bad request and what must come back.
struct Case {
    subject: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
}

impl Case {
    fn new(subject: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self {
            subject: subject.into(),
            headers: Vec::new(),
            body: body.into(),
            status: 400,
            code: "malformed",
            field: None,
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// 400, naming this field.
    fn names(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }

    fn is(mut self, status: u16, code: &'static str) -> Self {
        (self.status, self.code) = (status, code);
        self
    }
}

/// A service of this file's own, so that nobody else appends while a test looks at the log.
fn service() -> &'static Service {
    static SERVICE: OnceLock<Service> = OnceLock::new();
    SERVICE.get_or_init(|| Service::lasting(&["--no-seed"]))
}

async fn last_sequence(nats: &NatsApi) -> u64 {
    let context = async_nats::jetstream::new(nats.client.clone());
    let stream = context.get_stream("EVENTS").await.unwrap();
    stream.cached_info().state.last_sequence
}

/// Sends every case, and then looks whether anything got into the log.
async fn refuse_all(cases: Vec<Case>) {
    let service = tokio::task::spawn_blocking(service).await.unwrap();
    let nats = service.nats().await;
    let before = last_sequence(&nats).await;
    for case in cases {
        let headers: Vec<_> = case.headers.iter().map(|(n, v)| (*n, &**v)).collect();
        let start = String::from_utf8_lossy(&case.body[..case.body.len().min(200)]).into_owned();
        let what = format!("{} {headers:?} {start}", case.subject);
        let reply = nats.request(case.subject, case.body, &headers).await;
        let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert_eq!(reply.status, case.status, "{what}: {text}");
        let problem = reply.problem(case.status, case.code);
        if case.field.is_some() {
            assert_eq!(problem["field"].as_str(), case.field, "{what}: {text}");
        }
        assert_is_service_error(&reply, case.code);
    }
    assert_eq!(last_sequence(&nats).await, before);
}

/// The headers of an error of a NATS service (ADR-32).
#[track_caller]
fn assert_is_service_error(reply: &Reply, code: &str) {
    let text = reply.header("Nats-Service-Error");
    assert!(text.starts_with(code), "{text}");
    assert_eq!(reply.header("Content-Type"), "application/problem+json");
}

const PRODUCT: &str = r#"{"name":"사과","price":4900,"category":"fruit"}"#;
const REGISTER: &str = "cmd.product.bad-1.register";
const PLACE: &str = "cmd.order.bad-1.place";

#[tokio::test]
async fn an_id_that_could_widen_a_subject_is_refused() {
    let long = "a".repeat(65);
    let too_long_for_both = "a".repeat(130);
    let mut cases = Vec::new();
    for id in [
        "a.b", "a.b.c", "*", ">", "a*", "사과", "a+b", "$JS", "a/b", "%2E", &long,
    ] {
        cases.push(Case::new(format!("cmd.product.{id}.register"), PRODUCT).names("id"));
    }
    for id in ["a.b", "a.b.c", "*", ">", "사과", "a+b", &too_long_for_both] {
        cases.push(Case::new(format!("qry.product.{id}"), "").names("id"));
    }
    for subject in ["cmd.product", "cmd.product.register", "cmd.>", "cmd.*"] {
        cases.push(Case::new(subject, PRODUCT).names("id"));
    }
    refuse_all(cases).await;
}

#[tokio::test]
async fn an_id_with_a_space_does_not_even_make_a_subject() {
    let service = tokio::task::spawn_blocking(service).await.unwrap();
    let nats = service.nats().await;
    let before = last_sequence(&nats).await;
    for id in ["a b", "a\tb", "a\r\nPUB evt.product.a 0\r\n\r\n"] {
        let subject = format!("cmd.product.{id}.register");
        let answer = nats.request(subject, PRODUCT.into(), &[]).await;
        assert!(
            matches!(answer, Err(RequestErrorKind::InvalidSubject)),
            "{id:?}: {answer:?}"
        );
    }
    assert_eq!(last_sequence(&nats).await, before);
}

#[tokio::test]
async fn a_name_that_nothing_is_registered_under_is_not_found() {
    refuse_all(vec![
        Case::new("cmd.basket.b-1.register", PRODUCT).is(404, "unknown_aggregate"),
        Case::new("cmd.PRODUCT.b-1.register", PRODUCT).is(404, "unknown_aggregate"),
        Case::new("cmd.*.b-1.register", PRODUCT).is(404, "unknown_aggregate"),
        Case::new("cmd.product.b-1.burn", "{}").is(404, "unknown_command"),
        Case::new("cmd.product.b-1.Register", PRODUCT).is(404, "unknown_command"),
        Case::new("cmd.product.b-1.*", "{}").is(404, "unknown_command"),
        Case::new("cmd.product.b-1.>", "{}").is(404, "unknown_command"),
        Case::new("qry.basket.b-1", "").is(404, "unknown_view"),
        Case::new("qry.basket", "").is(404, "unknown_view"),
        Case::new("qry.*", "").is(404, "unknown_view"),
        Case::new("qry.product.bad-1", "").is(404, "not_found"),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_is_not_one_json_object_is_refused() {
    let deep = "[".repeat(20_000);
    let bodies = [
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"register\"",
        "{}{}",
        "{'name':1}",
        "{}},\"x\":{}",
        "NaN",
        &deep,
    ];
    let mut cases: Vec<Case> = bodies
        .iter()
        .map(|body| Case::new(REGISTER, *body).names("body"))
        .collect();
    cases.push(Case::new(REGISTER, b"{\"name\":\"\xff\"}".to_vec()).names("body"));
    for body in ["{", "[]", "null", "1", "{}{}", &deep[..10_000]] {
        cases.push(Case::new("qry.product", body));
    }
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_field_that_is_missing_unknown_doubled_or_of_the_wrong_type_is_named() {
    let register = |body: &str| Case::new(REGISTER, body);
    let line = |line: &str| {
        let body = format!(r#"{{"member":"m-1","branch":"gangnam","lines":[{line}]}}"#);
        Case::new(PLACE, body)
    };
    refuse_all(vec![
        register("{}").names("name"),
        register(r#"{"name":"a","category":"fruit"}"#).names("price"),
        register(r#"{"name":"a","price":1,"category":"b","colour":"red"}"#).names("colour"),
        register(r#"{"name":"a","name":"b","price":1,"category":"c"}"#).names("name"),
        register(r#"{"name":1,"price":1,"category":"c"}"#).names("name"),
        register(r#"{"name":"a","price":"1","category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":1.5,"category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":1e30,"category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":9223372036854775808,"category":"c"}"#).names("price"),
        line(r#"{"sku":"a","quantity":"two","unit_price":1}"#).names("lines[0].quantity"),
        line(r#"{"sku":"a","unit_price":1}"#).names("lines[0].quantity"),
        line(r#"{"sku":"a","quantity":1,"unit_price":1,"gift":true}"#).names("lines[0].gift"),
        Case::new("cmd.product.bad-1.discontinue", r#"{"now":true}"#).names("now"),
    ])
    .await;
}

#[tokio::test]
async fn a_quantity_or_a_price_out_of_bounds_is_refused_by_its_rule() {
    let mut cases = Vec::new();
    for price in [-1, 0, 100_000_001, i64::MAX, i64::MIN] {
        let body = json!({"name": "사과", "price": price, "category": "fruit"});
        cases.push(Case::new(REGISTER, body.to_string()).is(409, "invalid_price"));
        let line = json!({"sku": "apple", "quantity": 1, "unit_price": price});
        let body = json!({"member": "m-1", "branch": "gangnam", "lines": [line]});
        cases.push(Case::new(PLACE, body.to_string()).is(409, "invalid_unit_price"));
    }
    for quantity in [-1, 0, 1_000_001, i64::MAX, i64::MIN] {
        let body = json!({"quantity": quantity}).to_string();
        let subject = "cmd.stock.gangnam_bad-1.receive";
        cases.push(Case::new(subject, body).is(409, "invalid_quantity"));
    }
    for quantity in [-1, 0, 100, i64::MAX, i64::MIN] {
        let line = json!({"sku": "apple", "quantity": quantity, "unit_price": 1});
        let body = json!({"member": "m-1", "branch": "gangnam", "lines": [line]});
        cases.push(Case::new(PLACE, body.to_string()).is(409, "invalid_quantity"));
    }
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_body_of_the_wrong_type_or_over_64_kib_is_refused() {
    let padded = |length: usize| {
        let body = r#"{"name":"","price":1,"category":"c"}"#;
        body.replace("\"\"", &format!("\"{}\"", "a".repeat(length - body.len())))
    };
    assert_eq!(padded(64 * 1024).len(), 64 * 1024);
    let typed = |content_type: &str| {
        Case::new(REGISTER, PRODUCT)
            .header("Content-Type", content_type)
            .is(415, "unsupported_media_type")
            .names("Content-Type")
    };
    refuse_all(vec![
        // Not too large yet: a rule refuses the name.
        Case::new(REGISTER, padded(64 * 1024)).is(409, "invalid_name"),
        Case::new(REGISTER, padded(64 * 1024 + 1)).is(413, "too_large"),
        Case::new(REGISTER, vec![b'a'; 900 * 1024]).is(413, "too_large"),
        Case::new("qry.product", vec![b' '; 64 * 1024 + 1]).is(413, "too_large"),
        typed("text/plain"),
        typed("application/x-www-form-urlencoded"),
        typed("application/json; charset=euc-kr"),
    ])
    .await;
}

#[tokio::test]
async fn a_header_of_the_wrong_form_is_named() {
    let mut cases = Vec::new();
    for key in ["", "a b", "사과", &"k".repeat(129)] {
        let case = Case::new(REGISTER, PRODUCT).header("Idempotency-Key", key);
        cases.push(case.names("Idempotency-Key"));
    }
    for tag in ["0", "*", "\"-1\"", "w/\"1\"", "\"99999999999999999999\""] {
        let case = Case::new(REGISTER, PRODUCT).header("If-Match", tag);
        cases.push(case.names("If-Match"));
    }
    let stale = Case::new(REGISTER, PRODUCT).header("If-Match", "\"7\"");
    cases.push(stale.is(412, "version_mismatch"));
    for position in [
        "product",
        "product@-1",
        "product@99999999999999999999",
        "@1",
    ] {
        let case = Case::new("qry.product.bad-1", "").header("Headwater-Min-Position", position);
        cases.push(case.names("Headwater-Min-Position"));
    }
    for wait in ["30001", "soon", "-1"] {
        let case = Case::new("qry.product", "").header("Headwater-Max-Wait-Ms", wait);
        cases.push(case.names("Headwater-Max-Wait-Ms"));
    }
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_parameter_that_the_view_does_not_declare_or_of_the_wrong_type_is_named() {
    let list = |body: &str| Case::new("qry.product", body);
    let mut cases = vec![
        list(r#"{"colour":"red"}"#).names("colour"),
        list(r#"{"name":"a"}"#).names("name"),
        list(r#"{"sort":"colour"}"#).names("sort"),
        list(r#"{"sort":"-category"}"#).names("sort"),
        list(r#"{"limit":0}"#).names("limit"),
        list(r#"{"limit":201}"#).names("limit"),
        list(r#"{"limit":-1}"#).names("limit"),
        list(r#"{"limit":1.5}"#).names("limit"),
        list(r#"{"price_min":"cheap"}"#).names("price_min"),
        list(r#"{"price_max":9223372036854775808}"#).names("price_max"),
        list(r#"{"category":["fruit"]}"#).names("category"),
        list(r#"{"category":null}"#).names("category"),
        Case::new("qry.storefront", r#"{"q":"a"}"#).names("q"),
        Case::new("qry.order", r#"{"sort":"total"}"#).names("sort"),
    ];
    for cursor in [
        "",
        "1",
        "null",
        "AAAA",
        "e30",
        "W10",
        "사과",
        "eyJpZCI6ImEifQ",
    ] {
        cases.push(list(&json!({"cursor": cursor}).to_string()).names("cursor"));
    }
    refuse_all(cases).await;
}
