use super::{Answered, ask};
use crate::{command::request::CommandHeaders, http::fakes::Fakes, problem::Problem};
use actix_web::test::TestRequest;
use serde_json::json;

const SEND: &str = "/commands/parcel/p-1/send";

fn post(uri: &str) -> TestRequest {
    TestRequest::post()
        .uri(uri)
        .insert_header(("Content-Type", "application/json"))
        .set_payload("{}")
}

/// Sends what must not get through.
async fn refused(request: TestRequest) -> Answered {
    let fakes = Fakes::content();
    let answer = ask(&fakes, request).await;
    assert!(fakes.commands.seen.lock().unwrap().is_empty());
    answer
}

#[actix_web::test]
async fn an_accepted_command_answers_its_outcome_version_and_position() {
    let answer = ask(&Fakes::content(), post(SEND)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("ETag"), Some("\"4\""));
    assert_eq!(answer.header("Headwater-Position"), Some("parcel@90"));
    assert_eq!(
        answer.json(),
        json!({
            "aggregate": "parcel", "id": "p-1", "version": 4, "position": 90, "replayed": false,
            "events": [{ "type": "parcel.sent.v1", "version": 4 }],
        })
    );
}

#[actix_web::test]
async fn the_command_side_gets_the_names_the_body_and_the_headers_as_sent() {
    let fakes = Fakes::content();
    let request = post("/commands/parcel/p%2D1/send")
        .insert_header(("Idempotency-Key", "key-1"))
        .insert_header(("If-Match", "\"3\""))
        .insert_header(("traceparent", "00-4bf92f35-01"))
        .append_header(("tracestate", "a=1"))
        .append_header(("tracestate", "b=2"))
        .set_payload(r#"{"grams":1}"#);
    ask(&fakes, request).await;
    let seen = fakes.commands.seen.lock().unwrap();
    let [command] = seen.as_slice() else {
        panic!("{} commands", seen.len());
    };
    assert_eq!(command.aggregate, "parcel");
    assert_eq!(command.id.as_str(), "p-1");
    assert_eq!(&*command.command, "send");
    assert_eq!(command.body, r#"{"grams":1}"#);
    assert_eq!(
        command.headers,
        CommandHeaders {
            idempotency_key: Some("key-1".into()),
            if_match: Some(3),
            traceparent: Some("00-4bf92f35-01".to_owned()),
            tracestate: Some("a=1,b=2".to_owned()),
            from_outside: true,
            ..CommandHeaders::default()
        }
    );
}

#[actix_web::test]
async fn an_id_that_could_widen_a_subject_is_malformed() {
    let long = "a".repeat(65);
    for id in [
        "",
        "a.b",
        "*",
        "%2A",
        "%3E",
        "a%20b",
        "a%2Fb",
        "%EC%82%AC",
        "%FF",
        "%zz",
        "a%00",
        "a%0A",
        "a%2",
        "%252A",
        &long,
    ] {
        let answer = refused(post(&format!("/commands/parcel/{id}/send"))).await;
        answer.is_refused(400, "malformed", Some("id"));
    }
}

#[actix_web::test]
async fn an_unknown_name_is_not_found() {
    let cases = [
        ("/commands/letter/p-1/send", 404, "unknown_aggregate", None),
        ("/commands/*/p-1/send", 404, "unknown_aggregate", None),
        ("/commands/Parcel/p-1/send", 404, "unknown_aggregate", None),
        ("/commands/parcel/p-1/burn", 404, "unknown_command", None),
        ("/commands/parcel/p-1/send%3E", 404, "unknown_command", None),
        (
            "/commands/%FF/p-1/send",
            400,
            "malformed",
            Some("aggregate"),
        ),
        (
            "/commands/parcel/p-1/%FF",
            400,
            "malformed",
            Some("command"),
        ),
        ("/commands/parcel/p-1", 404, "not_found", None),
        ("/commands/parcel/p-1/send/more", 404, "not_found", None),
    ];
    for (uri, status, code, field) in cases {
        refused(post(uri)).await.is_refused(status, code, field);
    }
}

#[actix_web::test]
async fn a_header_that_is_wrong_twice_there_or_not_ascii_is_named() {
    let long = "k".repeat(129);
    for (name, value) in [
        ("Idempotency-Key", ""),
        ("Idempotency-Key", "a b"),
        ("Idempotency-Key", "사과"),
        ("Idempotency-Key", &long),
        ("If-Match", "3"),
        ("If-Match", "*"),
        ("If-Match", "\"-1\""),
        ("If-Match", "\"3\", \"4\""),
    ] {
        let answer = refused(post(SEND).insert_header((name, value))).await;
        answer.is_refused(400, "malformed", Some(name));
    }
    for (name, value) in [
        ("Idempotency-Key", "a"),
        ("If-Match", "\"1\""),
        ("Content-Type", "application/json"),
        ("Content-Encoding", "identity"),
    ] {
        let twice = post(SEND)
            .append_header((name, value))
            .append_header((name, value));
        refused(twice)
            .await
            .is_refused(400, "malformed", Some(name));
    }
}

#[actix_web::test]
async fn a_trace_of_the_wrong_form_is_dropped_and_not_refused() {
    let fakes = Fakes::content();
    let request = post(SEND)
        .append_header(("traceparent", "00-a"))
        .append_header(("traceparent", "00-b"))
        .append_header(("tracestate", "사과"));
    assert_eq!(ask(&fakes, request).await.status, 200);
    let seen = fakes.commands.seen.lock().unwrap();
    let outside = CommandHeaders {
        from_outside: true,
        ..CommandHeaders::default()
    };
    assert_eq!(seen[0].headers, outside);
}

#[actix_web::test]
async fn a_body_is_json_by_its_content_type() {
    for content_type in ["text/plain", "application/json; charset=euc-kr", ""] {
        let request = post(SEND).insert_header(("Content-Type", content_type));
        let answer = refused(request).await;
        answer.is_refused(415, "unsupported_media_type", Some("Content-Type"));
    }
    let untyped = TestRequest::post().uri(SEND).set_payload("{}");
    let answer = refused(untyped).await;
    answer.is_refused(415, "unsupported_media_type", Some("Content-Type"));
    let packed = post(SEND).insert_header(("Content-Encoding", "gzip"));
    let answer = refused(packed).await;
    answer.is_refused(415, "unsupported_media_type", Some("Content-Encoding"));
    let with_charset = post(SEND).insert_header(("Content-Type", "application/json;charset=utf-8"));
    assert_eq!(ask(&Fakes::content(), with_charset).await.status, 200);
}

#[actix_web::test]
async fn an_empty_body_is_malformed_whatever_its_type() {
    let untyped = TestRequest::post().uri(SEND);
    for request in [post(SEND).set_payload(""), untyped] {
        let answer = refused(request).await;
        answer.is_refused(400, "malformed", Some("body"));
    }
}

#[actix_web::test]
async fn a_body_may_be_64_kib_and_no_longer() {
    let limit = 64 * 1024;
    let most = post(SEND).set_payload("a".repeat(limit));
    assert_eq!(ask(&Fakes::content(), most).await.status, 200);
    let over = post(SEND).set_payload("a".repeat(limit + 1));
    refused(over).await.is_refused(413, "too_large", None);
    let announced = post(SEND).insert_header(("Content-Length", limit + 1));
    refused(announced).await.is_refused(413, "too_large", None);
}

#[actix_web::test]
async fn a_refusal_of_the_command_side_is_passed_on_whole() {
    let problem = Problem::version_mismatch(9);
    let answer = ask(&Fakes::refusing(&problem), post(SEND)).await;
    answer.is_refused(412, "version_mismatch", Some("If-Match"));
    assert_eq!(answer.json()["version"], 9);
    assert_eq!(answer.header("Retry-After"), None);

    let answer = ask(&Fakes::refusing(&Problem::overloaded()), post(SEND)).await;
    answer.is_refused(429, "overloaded", None);
    assert_eq!(answer.header("Retry-After"), Some("1"));
}

#[actix_web::test]
async fn any_other_method_is_told_which_one_there_is() {
    for request in [
        TestRequest::get(),
        TestRequest::put(),
        TestRequest::delete(),
        TestRequest::patch(),
    ] {
        let answer = refused(request.uri(SEND)).await;
        answer.is_refused(405, "method_not_allowed", None);
        assert_eq!(answer.header("Allow"), Some("POST"));
    }
}

const MANY: &str = r#"[{"aggregate":"parcel","id":"p-1","command":"send","key":"k-1","fields":{"grams":1}},
    {"aggregate":"parcel","id":"p-2","command":"recall","if_match":3,"fields":{}},
    {"aggregate":"letter","id":"p-3","command":"send","fields":{}},
    {"aggregate":"parcel","id":"p.4","command":"send","fields":{}}]"#;

#[actix_web::test]
async fn many_commands_are_answered_in_their_order_each_by_itself() {
    let fakes = Fakes::content();
    let request = post("/commands").insert_header(("traceparent", "00-4bf92f35-01"));
    let answer = ask(&fakes, request.set_payload(MANY)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("Headwater-Position"), Some("parcel@90"));
    let answers = answer.json();
    let told: Vec<_> = answers.as_array().unwrap().iter().collect();
    assert_eq!(
        (told[0]["id"].as_str(), told[1]["id"].as_str()),
        (Some("p-1"), Some("p-2"))
    );
    assert_eq!(told[0]["events"][0]["type"], "parcel.sent.v1");
    assert_eq!(
        (&told[2]["status"], &told[2]["code"]),
        (&json!(404), &json!("unknown_aggregate"))
    );
    assert_eq!(
        (&told[3]["status"], &told[3]["field"]),
        (&json!(400), &json!("id"))
    );
    let seen = fakes.commands.seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].body, r#"{"grams":1}"#);
    assert_eq!(seen[0].headers.idempotency_key.as_deref(), Some("k-1"));
    assert_eq!(seen[1].headers.if_match, Some(3));
    for command in &*seen {
        let headers = &command.headers;
        assert_eq!(headers.traceparent.as_deref(), Some("00-4bf92f35-01"));
        assert!(headers.from_outside);
    }
}

#[actix_web::test]
async fn a_list_of_the_wrong_form_is_refused_whole() {
    let many = || post("/commands");
    for (body, field) in [
        ("{}", "body"),
        ("", "body"),
        (r#"[{"id":"a"}"#, "[1]"),
        ("[1,", "[1]"),
    ] {
        let answer = refused(many().set_payload(body)).await;
        answer.is_refused(400, "malformed", Some(field));
    }
    for name in ["Idempotency-Key", "If-Match"] {
        let request = many().insert_header((name, "\"1\"")).set_payload("[]");
        refused(request)
            .await
            .is_refused(400, "malformed", Some(name));
    }
    let request = post("/commands?id=1").set_payload("[]");
    refused(request)
        .await
        .is_refused(400, "malformed", Some("id"));
    let untyped = TestRequest::post().uri("/commands").set_payload("[]");
    let answer = refused(untyped).await;
    answer.is_refused(415, "unsupported_media_type", Some("Content-Type"));
    let limit = 1024 * 1024;
    let over = many().set_payload(" ".repeat(limit + 1));
    refused(over).await.is_refused(413, "too_large", None);
    let most = many().set_payload(format!("[{}]", " ".repeat(limit - 2)));
    assert_eq!(ask(&Fakes::content(), most).await.json(), json!([]));
    let answer = refused(TestRequest::get().uri("/commands")).await;
    answer.is_refused(405, "method_not_allowed", None);
    assert_eq!(answer.header("Allow"), Some("POST"));
}
