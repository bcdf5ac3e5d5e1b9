//! Pages of other origins, on real connections.

use super::wire::{Running, exchange_with, start_with};
use crate::http::{Gateway, Options, Origin, fakes::Fakes};

pub(super) const SHOP: &str = "https://shop.example";

/// Options that let the shop's pages read answers.
pub(super) fn allowing() -> Options {
    Options {
        allowed_origins: vec![Origin::read(SHOP).unwrap()],
        ..Options::default()
    }
}

fn open_to_the_shop() -> Running {
    start_with(allowing())
}

async fn ask(server: &Running, line: &str, headers: &[(&str, &str)]) -> String {
    let mut request = format!("{line} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    server.exchange(request.as_bytes()).await
}

pub(super) fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(given, _)| given.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

#[actix_web::test]
async fn a_page_of_an_allowed_origin_reads_documents_and_our_headers() {
    let server = open_to_the_shop();
    for path in [
        "/views/parcels/p-1",
        "/views/parcels",
        "/views/parcels/none-such",
        "/healthz",
    ] {
        let answer = ask(&server, &format!("GET {path}"), &[("Origin", SHOP)]).await;
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), Some(SHOP));
        let exposed = header(&answer, "Access-Control-Expose-Headers").unwrap();
        for name in [
            "ETag",
            "Headwater-Applied",
            "Headwater-Position",
            "Headwater-Process",
            "Retry-After",
        ] {
            let mut names = exposed.split(',').map(str::trim);
            assert!(
                names.any(|exposed| exposed.eq_ignore_ascii_case(name)),
                "{name}"
            );
        }
        assert_eq!(header(&answer, "Access-Control-Allow-Credentials"), None);
        let vary = header(&answer, "Vary").unwrap().to_ascii_lowercase();
        assert!(vary.contains("origin"), "{vary}");
    }
}

#[actix_web::test]
async fn a_page_may_ask_beforehand_for_everything_that_we_read() {
    let server = open_to_the_shop();
    let headers = "authorization,content-type,idempotency-key,if-match,if-none-match,last-event-id,\
        headwater-min-position,headwater-max-wait-ms,traceparent,tracestate";
    let asked = [
        ("Origin", SHOP),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", headers),
    ];
    let answer = ask(&server, "OPTIONS /commands/parcel/p-1/send", &asked).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(header(&answer, "Access-Control-Allow-Origin"), Some(SHOP));
    let allowed = header(&answer, "Access-Control-Allow-Headers").unwrap();
    for name in headers.split(',') {
        let mut names = allowed.split(',').map(str::trim);
        assert!(
            names.any(|allowed| allowed.eq_ignore_ascii_case(name)),
            "{name}"
        );
    }
    assert!(header(&answer, "Access-Control-Max-Age").is_some());
}

#[actix_web::test]
async fn a_page_of_another_origin_gets_nothing_that_lets_it_read_the_answer() {
    let server = open_to_the_shop();
    for origin in [
        "https://evil.example",
        "https://shop.example.evil.example",
        "http://shop.example",
        "null",
    ] {
        let answer = ask(&server, "GET /views/parcels/p-1", &[("Origin", origin)]).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), None);
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
        ];
        let answer = ask(&server, "OPTIONS /commands/parcel/p-1/send", &asked).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("\"code\":\"malformed\""), "{answer}");
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), None);
    }
}

#[actix_web::test]
async fn without_a_list_nothing_of_it_is_said() {
    let server = start_with(Options::default());
    let asked = [("Origin", SHOP), ("Access-Control-Request-Method", "POST")];
    let answer = ask(&server, "OPTIONS /commands/parcel/p-1/send", &asked).await;
    assert!(answer.starts_with("HTTP/1.1 405"), "{answer}");
    let answer = ask(&server, "GET /views/parcels/p-1", &[("Origin", SHOP)]).await;
    for name in ["Access-Control-Allow-Origin", "Vary"] {
        assert_eq!(header(&answer, name), None, "{name}");
    }
}

#[actix_web::test]
async fn what_is_refused_before_it_is_looked_at_can_be_read_by_an_allowed_page() {
    let server = open_to_the_shop();
    let long = format!("GET /views/parcels?q={}", "a".repeat(8 * 1024));
    let large = "x".repeat(256 * 1024);
    for (line, more, status) in [
        (long.as_str(), ("Accept", "*/*"), "414"),
        ("GET /views/parcels", ("Cookie", large.as_str()), "431"),
        ("GET /views/parcels", ("Content-Length", "none"), "400"),
    ] {
        let answer = ask(&server, line, &[("Origin", SHOP), more]).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert!(answer.contains("application/problem+json"), "{answer}");
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), Some(SHOP));
        assert!(header(&answer, "Access-Control-Expose-Headers").is_some());
        let vary = header(&answer, "Vary").unwrap().to_ascii_lowercase();
        assert!(vary.contains("origin"), "{vary}");
        let evil = [("Origin", "https://evil.example"), more];
        let answer = ask(&server, line, &evil).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), None);
    }
}

#[actix_web::test]
async fn a_replica_that_is_starting_tells_an_allowed_page_so() {
    let options = Options {
        address: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
        ..allowing()
    };
    let listener = Gateway::listen(&options).unwrap();
    let address = listener.local_addr().unwrap();
    let readiness = Fakes::content().backends().readiness;
    let server = Gateway::serve_early(listener, &options, readiness).unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    for (origin, allowed) in [(SHOP, Some(SHOP)), ("https://evil.example", None)] {
        let request = format!("GET /views/parcels HTTP/1.1\r\nHost: h\r\nOrigin: {origin}\r\n\r\n");
        let answer = exchange_with(address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), allowed);
    }
    handle.stop(false).await;
}
