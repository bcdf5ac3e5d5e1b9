use super::{ask, get};
use crate::http::fakes::Fakes;
use actix_web::test::TestRequest;
use std::{
    io::Write,
    sync::{Arc, Mutex},
};

#[actix_web::test]
async fn the_process_says_that_it_lives() {
    let answer = get("/healthz").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["status"], "ok");
}

#[actix_web::test]
async fn readiness_says_what_it_waits_for() {
    let answer = get("/readyz").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["ready"], true);

    let mut fakes = Fakes::content();
    fakes.ready = false;
    let answer = ask(&fakes, TestRequest::get().uri("/readyz")).await;
    assert_eq!(answer.status, 503);
    let body = answer.json();
    assert_eq!(body["ready"], false);
    assert_eq!(body["checks"][1]["name"], "nats");
    assert_eq!(body["checks"][1]["ready"], false);
}

#[actix_web::test]
async fn a_path_that_is_none_of_ours_is_a_problem_too() {
    for uri in [
        "/nothing",
        "/views/parcels/p-1/more",
        "/docs/nothing.js",
        "/%FF",
        "//",
    ] {
        get(uri).await.is_refused(404, "not_found", None);
    }
}

#[actix_web::test]
async fn a_path_that_is_too_long_is_refused_before_it_is_looked_at() {
    let answer = get(&format!("/views/parcels?q={}", "a".repeat(8 * 1024))).await;
    answer.is_refused(414, "uri_too_long", None);
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
}

#[actix_web::test]
async fn the_index_allows_its_own_style_only() {
    let answer = get("/").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let policy = answer.header("Content-Security-Policy").unwrap();
    assert!(policy.contains("default-src 'none'; style-src 'sha256-"));
}

#[actix_web::test]
async fn a_page_stands_in_no_frame_and_says_nowhere_where_it_was() {
    for page in ["/", "/docs/"] {
        let answer = get(page).await;
        assert_eq!(answer.header("X-Frame-Options"), Some("DENY"), "{page}");
        assert_eq!(answer.header("Referrer-Policy"), Some("no-referrer"));
        let policy = answer.header("Content-Security-Policy").unwrap();
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
    }
    let answer = get("/healthz").await;
    assert_eq!(answer.header("X-Frame-Options"), None);
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
}

#[actix_web::test]
async fn the_docs_are_here_and_ask_no_other_host() {
    let answer = get("/docs").await;
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("Location"), Some("docs/"));

    let page = get("/docs/").await;
    let html = String::from_utf8(page.body.clone()).unwrap();
    assert!(!html.contains("//"), "{html}");
    let policy = page.header("Content-Security-Policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
    let linked: Vec<&str> = html
        .split(['"'])
        .filter(|part| part.ends_with(".js") || part.ends_with(".css"))
        .map(|file| file.trim_start_matches("./"))
        .collect();
    assert!(linked.len() >= 4, "{linked:?}");
    for file in linked {
        let asset = get(&format!("/docs/{file}")).await;
        assert_eq!(asset.status, 200, "{file}");
        assert_ne!(
            asset.header("Content-Type"),
            Some("application/octet-stream")
        );
    }
    let start = get("/docs/swagger-initializer.js").await;
    let start = String::from_utf8(start.body).unwrap();
    assert!(start.contains("\"url\": \"../openapi.json\""), "{start}");
    assert!(start.contains("\"validatorUrl\": \"none\""), "{start}");
    assert!(!start.contains("http"), "{start}");
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[actix_web::test]
async fn the_log_has_one_line_of_a_request_and_no_word_of_who_or_what() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    for _ in 0..2 {
        // What other tests log, with no subscriber, decides what is worth logging the first time.
        tracing::callsite::rebuild_interest_cache();
        captured.0.lock().unwrap().clear();
        get("/views/parcels/haneul").await;
        get("/views/parcels?street=jongno&street=haneul").await;
        get("/haneul/jongno").await;
    }
    drop(guard);

    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["fields"]["http.route"].is_string())
        .collect();
    let seen: Vec<_> = lines
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            let route = fields["http.route"].as_str().unwrap();
            (
                line["level"].as_str().unwrap(),
                route,
                fields["http.status"].as_u64().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("DEBUG", "/views/{view}/{id}", 200),
        ("INFO", "/views/{view}", 400),
        ("DEBUG", "unmatched", 404),
    ];
    assert_eq!(seen, expected);
    assert!(!log.contains("haneul") && !log.contains("jongno"), "{log}");
}
