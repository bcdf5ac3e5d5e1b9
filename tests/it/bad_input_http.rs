//! Bad input over HTTP: each case is refused with the right status, code and field, never with a 500,
//! and leaves the log as it was.

use crate::harness::{api::Http, service::Service};
use serde_json::json;
use std::{fmt::Write, sync::OnceLock};

/// One bad request and what must come back.
struct Case {
    /// Said when it fails.
    what: String,
    method: &'static str,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    status: u16,
    code: &'static str,
    field: Option<&'static str>,
}

impl Case {
    fn post(path: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", path.into(), body.into())
    }

    fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path.into(), Vec::new())
    }

    fn new(method: &'static str, path: String, body: Vec<u8>) -> Self {
        let mut what = format!("{method} {path}");
        if !body.is_empty() {
            let start = &body[..body.len().min(200)];
            let _ = write!(what, " {}", String::from_utf8_lossy(start));
        }
        Self {
            what,
            method,
            path,
            headers: Vec::new(),
            body,
            status: 400,
            code: "malformed",
            field: None,
        }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        let value = value.into();
        let _ = write!(self.what, " {name}: {value}");
        self.headers.push((name, value));
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

async fn last_sequence(service: &Service) -> u64 {
    let client = service.nats().await.client;
    let context = async_nats::jetstream::new(client);
    let stream = context.get_stream("EVENTS").await.unwrap();
    stream.cached_info().state.last_sequence
}

/// Sends every case, and then looks whether anything got into the log.
async fn refuse_all(cases: Vec<Case>) {
    let service = tokio::task::spawn_blocking(service).await.unwrap();
    let before = last_sequence(service).await;
    let http = service.http();
    for case in cases {
        refuse(&http, case).await;
    }
    assert_eq!(last_sequence(service).await, before);
}

async fn refuse(http: &Http, case: Case) {
    let headers: Vec<(&str, &str)> = case
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let body = (case.method == "POST").then(|| case.body.into());
    let method = case.method.parse().unwrap();
    let reply = http.send(method, &case.path, body, &headers).await;
    let what = case.what;
    let text = String::from_utf8_lossy(&reply.body);
    assert_eq!(reply.status, case.status, "{what}: {text}");
    assert_eq!(
        reply.header("Content-Type"),
        "application/problem+json",
        "{what}"
    );
    let problem = reply.json();
    assert_eq!(problem["status"], case.status, "{what}: {text}");
    assert_eq!(problem["code"], case.code, "{what}: {text}");
    if case.field.is_some() || case.code == "malformed" {
        assert_eq!(problem["field"].as_str(), case.field, "{what}: {text}");
    }
}

const PRODUCT: &str = r#"{"name":"사과","price":4900,"category":"fruit"}"#;
const REGISTER: &str = "/commands/product/bad-1/register";
const PLACE: &str = "/commands/order/bad-1/place";

#[tokio::test]
async fn an_id_that_could_widen_a_subject_or_a_path_is_refused() {
    let mut cases = Vec::new();
    for id in [
        "",
        "a.b",
        "a%2Eb",
        "a%20b",
        "*",
        "%2A",
        "%3E",
        "a%2Fb",
        "a%5Cb",
        "%EC%82%AC%EA%B3%BC",
        "%FF",
        "%zz",
        "%00",
        "a%0D%0Ab",
        "a+b",
        "$JS",
    ] {
        cases.push(Case::post(format!("/commands/product/{id}/register"), PRODUCT).names("id"));
        cases.push(Case::get(format!("/views/product/{id}")).names("id"));
    }
    let long = "a".repeat(65);
    cases.push(Case::post(format!("/commands/product/{long}/register"), PRODUCT).names("id"));
    let long = "a".repeat(130);
    cases.push(Case::get(format!("/views/product/{long}")).names("id"));
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_name_that_nothing_is_registered_under_is_not_found() {
    refuse_all(vec![
        Case::post("/commands/basket/b-1/register", PRODUCT).is(404, "unknown_aggregate"),
        Case::post("/commands/%3E/b-1/register", PRODUCT).is(404, "unknown_aggregate"),
        Case::post("/commands/PRODUCT/b-1/register", PRODUCT).is(404, "unknown_aggregate"),
        Case::post("/commands/product/b-1/burn", "{}").is(404, "unknown_command"),
        Case::post("/commands/product/b-1/*", "{}").is(404, "unknown_command"),
        Case::post("/commands/product/b-1/Register", PRODUCT).is(404, "unknown_command"),
        Case::get("/views/basket/b-1").is(404, "unknown_view"),
        Case::get("/views/basket").is(404, "unknown_view"),
        Case::get("/views/%3E").is(404, "unknown_view"),
        Case::get("/views/product/bad-1").is(404, "not_found"),
        Case::get("/nothing").is(404, "not_found"),
        Case::get(REGISTER).is(405, "method_not_allowed"),
        Case::post("/views/product", "{}").is(405, "method_not_allowed"),
    ])
    .await;
}

#[tokio::test]
async fn a_body_that_is_not_one_json_object_is_refused() {
    let deep = "[".repeat(20_000);
    let mut cases: Vec<Case> = [
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"register\"",
        "{}{}",
        "{'name':1}",
        "{\"name\":\"\u{1}\"}",
        "{}},\"x\":{}",
        "NaN",
        &deep,
    ]
    .iter()
    .map(|body| Case::post(REGISTER, *body).names("body"))
    .collect();
    cases.push(Case::post(REGISTER, b"{\"name\":\"\xff\"}".to_vec()).names("body"));
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_field_that_is_missing_unknown_doubled_or_of_the_wrong_type_is_named() {
    let register = |body: &str| Case::post(REGISTER, body);
    let line = |line: &str| {
        Case::post(
            PLACE,
            format!(r#"{{"member":"m-1","branch":"gangnam","lines":[{line}]}}"#),
        )
    };
    refuse_all(vec![
        register("{}").names("name"),
        register(r#"{"price":4900,"category":"fruit"}"#).names("name"),
        register(r#"{"name":"a","category":"fruit"}"#).names("price"),
        register(r#"{"name":"a","price":1,"category":"b","colour":"red"}"#).names("colour"),
        register(r#"{"name":"a","name":"b","price":1,"category":"c"}"#).names("name"),
        register(r#"{"name":1,"price":1,"category":"c"}"#).names("name"),
        register(r#"{"name":null,"price":1,"category":"c"}"#).names("name"),
        register(r#"{"name":"a","price":"1","category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":1.5,"category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":1e30,"category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":9223372036854775808,"category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":true,"category":"c"}"#).names("price"),
        register(r#"{"name":"a","price":1,"category":["c"]}"#).names("category"),
        line(r#"{"sku":"a","quantity":"two","unit_price":1}"#).names("lines[0].quantity"),
        line(r#"{"sku":"a","unit_price":1}"#).names("lines[0].quantity"),
        line(r#"{"sku":"a","quantity":1,"unit_price":1,"gift":true}"#).names("lines[0].gift"),
        line(r#"{"sku":"a","quantity":1,"unit_price":1},7"#).names("lines[1]"),
        Case::post("/commands/product/bad-1/discontinue", r#"{"now":true}"#).names("now"),
    ])
    .await;
}

#[tokio::test]
async fn a_quantity_or_a_price_out_of_bounds_is_refused_by_its_rule() {
    let mut cases = Vec::new();
    for price in [-1, 0, 100_000_001, i64::MAX, i64::MIN] {
        let body = json!({ "name": "사과", "price": price, "category": "fruit" });
        cases.push(Case::post(REGISTER, body.to_string()).is(409, "invalid_price"));
        let line = json!({ "sku": "apple", "quantity": 1, "unit_price": price });
        let body = json!({ "member": "m-1", "branch": "gangnam", "lines": [line] });
        cases.push(Case::post(PLACE, body.to_string()).is(409, "invalid_unit_price"));
    }
    for quantity in [-1, 0, 1_000_001, i64::MAX, i64::MIN] {
        let body = json!({ "quantity": quantity }).to_string();
        let path = "/commands/stock/gangnam_bad-1/receive";
        cases.push(Case::post(path, body).is(409, "invalid_quantity"));
    }
    for quantity in [-1, 0, 100, i64::MAX, i64::MIN] {
        let line = json!({ "sku": "apple", "quantity": quantity, "unit_price": 1 });
        let body = json!({ "member": "m-1", "branch": "gangnam", "lines": [line] });
        cases.push(Case::post(PLACE, body.to_string()).is(409, "invalid_quantity"));
    }
    refuse_all(cases).await;
}

#[tokio::test]
async fn a_body_of_the_wrong_type_or_over_64_kib_is_refused() {
    let long = format!(
        r#"{{"name":"{}","price":1,"category":"c"}}"#,
        "a".repeat(64 * 1024)
    );
    let typed = |content_type: &str| {
        Case::post(REGISTER, PRODUCT)
            .header("Content-Type", content_type)
            .is(415, "unsupported_media_type")
            .names("Content-Type")
    };
    refuse_all(vec![
        typed("text/plain"),
        typed("application/x-www-form-urlencoded"),
        typed("application/json; charset=euc-kr"),
        typed(""),
        Case::post(REGISTER, PRODUCT)
            .header("Content-Encoding", "gzip")
            .is(415, "unsupported_media_type"),
        Case::post(REGISTER, long).is(413, "too_large"),
        Case::post(REGISTER, "a".repeat(4 * 1024 * 1024)).is(413, "too_large"),
    ])
    .await;
}

#[tokio::test]
async fn a_body_in_chunks_is_refused_once_it_is_over_64_kib() {
    let service = tokio::task::spawn_blocking(service).await.unwrap();
    let before = last_sequence(service).await;
    let http = service.http();
    let chunks = (0..65).map(|_| std::io::Result::Ok("a".repeat(1024)));
    let body = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    http.post(REGISTER, body, &[])
        .await
        .problem(413, "too_large");
    assert_eq!(last_sequence(service).await, before);
}

#[tokio::test]
async fn a_header_of_the_wrong_form_is_named() {
    let post = || Case::post(REGISTER, PRODUCT);
    let get = || Case::get("/views/product/bad-1");
    refuse_all(vec![
        post()
            .header("Idempotency-Key", "")
            .names("Idempotency-Key"),
        post()
            .header("Idempotency-Key", "a b")
            .names("Idempotency-Key"),
        post()
            .header("Idempotency-Key", "사과")
            .names("Idempotency-Key"),
        post()
            .header("Idempotency-Key", "k".repeat(129))
            .names("Idempotency-Key"),
        post()
            .header("Idempotency-Key", "a")
            .header("Idempotency-Key", "b")
            .names("Idempotency-Key"),
        post().header("If-Match", "0").names("If-Match"),
        post().header("If-Match", "*").names("If-Match"),
        post().header("If-Match", "\"-1\"").names("If-Match"),
        post()
            .header("If-Match", "\"7\"")
            .is(412, "version_mismatch"),
        get()
            .header("Headwater-Min-Position", "product")
            .names("Headwater-Min-Position"),
        get()
            .header("Headwater-Min-Position", "product@-1")
            .names("Headwater-Min-Position"),
        get()
            .header("Headwater-Min-Position", "product@99999999999999999999")
            .names("Headwater-Min-Position"),
        get()
            .header("Headwater-Max-Wait-Ms", "30001")
            .names("Headwater-Max-Wait-Ms"),
        get()
            .header("Headwater-Max-Wait-Ms", "soon")
            .names("Headwater-Max-Wait-Ms"),
    ])
    .await;
}

#[tokio::test]
async fn a_parameter_that_the_view_does_not_declare_or_of_the_wrong_type_is_named() {
    let list = |query: &str| Case::get(format!("/views/product?{query}"));
    refuse_all(vec![
        list("colour=red").names("colour"),
        list("name=a").names("name"),
        list("version=1").names("version"),
        list("sort=colour").names("sort"),
        list("sort=-category").names("sort"),
        list("sort=").names("sort"),
        list("limit=0").names("limit"),
        list("limit=201").names("limit"),
        list("limit=-1").names("limit"),
        list("limit=%2B1").names("limit"),
        list("limit=many").names("limit"),
        list("limit=1&limit=2").names("limit"),
        list("price_min=cheap").names("price_min"),
        list("price_max=1.5").names("price_max"),
        list("price_max=9223372036854775808").names("price_max"),
        list("category=%FF").names("category"),
        list("category=%E").names("category"),
        list("%FF=1").names("query"),
        Case::get("/views/storefront?sold_out=perhaps").names("sold_out"),
        Case::get("/views/storefront?q=a").names("q"),
        Case::get("/views/order?sort=total").names("sort"),
        list(&format!("q={}", "a".repeat(9 * 1024))).is(414, "uri_too_long"),
    ])
    .await;
}

#[tokio::test]
async fn a_forged_cursor_is_refused() {
    refuse_all(
        [
            "",
            "1",
            "null",
            "AAAA",
            "e30",
            "W10",
            "%00",
            "%EC%82%AC",
            "../../etc",
            "eyJpZCI6ImEifQ",
        ]
        .iter()
        .map(|cursor| Case::get(format!("/views/product?cursor={cursor}")).names("cursor"))
        .collect(),
    )
    .await;
}
