//! Server-sent events over fakes: how they are written, and how many clients there may be.

use super::*;
use crate::{
    http::{Connections, Gateway},
    problem::Problem,
    read_model::Feed,
};
use actix_web::http::Method;
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(30);

#[actix_web::test]
async fn a_document_is_sent_with_its_position_and_the_form_that_a_get_has() {
    let answer = get("/views/parcels/p-1/live").await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("text/event-stream"));
    let kept = answer.header("Cache-Control");
    assert_eq!(kept, Some("no-store, no-transform"));
    assert_eq!(
        after_hello(answer),
        "id: v3-71\nevent: put\ndata: {\"to\":{\"street\":\"종로\"},\"grams\":12}\n\n"
    );
}

/// Returns what follows on when to come again, which is not the same for all.
fn after_hello(answer: Answered) -> String {
    let body = String::from_utf8(answer.body).unwrap();
    let (hello, rest) = body.split_once("\n\n").unwrap();
    let retry: u32 = hello.strip_prefix("retry: ").unwrap().parse().unwrap();
    assert!((1_000..3_000).contains(&retry), "{retry}");
    rest.to_owned()
}

#[actix_web::test]
async fn a_client_that_comes_again_says_how_far_it_was() {
    let uri = "/views/parcels/p-1/live";
    let again = |last: &'static str| {
        let request = TestRequest::get().uri(uri);
        request.insert_header(("Last-Event-ID", last))
    };
    let fakes = Fakes::content();
    assert_eq!(after_hello(ask(&fakes, again("v3-71")).await), "");
    assert_ne!(after_hello(ask(&fakes, again("v3-70")).await), "");
    assert_ne!(after_hello(ask(&fakes, again("")).await), "");
    for wrong in ["a", "-1", "+1", "1.5", "99999999999999999999"] {
        let answer = ask(&fakes, again(wrong)).await;
        answer.is_refused(400, "malformed", Some("Last-Event-ID"));
    }
}

#[actix_web::test]
async fn a_list_is_followed_by_its_filters() {
    let fakes = Fakes::content();
    let request = TestRequest::get().uri("/views/parcels/live?street=%EC%A2%85%EB%A1%9C");
    let answer = ask(&fakes, request).await;
    let body = String::from_utf8(answer.body).unwrap();
    assert!(
        body.ends_with("id: v3-80\nevent: leave\ndata: {\"id\":\"p-1\"}\n\n"),
        "{body}"
    );
    let seen = fakes.views.seen.lock().unwrap();
    assert_eq!(seen[0].0["street"], "종로");
}

#[actix_web::test]
async fn refusals_and_other_methods_are_answered_as_everywhere() {
    get("/views/nothing/live")
        .await
        .is_refused(404, "unknown_view", None);
    get("/views/parcels/a%20b/live")
        .await
        .is_refused(400, "malformed", Some("id"));
    for uri in ["/views/parcels/live", "/views/parcels/p-1/live"] {
        let request = TestRequest::default().method(Method::HEAD).uri(uri);
        let answer = ask(&Fakes::content(), request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("Allow")),
            (405, Some("GET"))
        );
    }
    let away = Problem::unavailable("away");
    let refused = ask(
        &Fakes::refusing(&away),
        TestRequest::get().uri("/views/parcels/live"),
    )
    .await;
    refused.is_refused(503, "unavailable", None);
}

#[actix_web::test]
async fn a_browser_that_comes_again_is_told_in_a_stream_why_it_cannot_follow() {
    let away = Problem {
        retry_after: Some(7),
        ..Problem::unavailable("away")
    };
    for uri in ["/views/parcels/live", "/views/parcels/p-1/live"] {
        let fakes = Fakes::refusing(&away);
        let again = || {
            TestRequest::get()
                .uri(uri)
                .insert_header(("Last-Event-ID", "v3-70"))
        };
        let answer = ask(&fakes, again()).await;
        assert_eq!(answer.header("Retry-After"), Some("7"));
        answer.is_refused(503, "unavailable", None);
        let browser = again().insert_header(("Accept", "text/event-stream"));
        let answer = ask(&fakes, browser).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("Content-Type"), Some("text/event-stream"));
        let body = String::from_utf8(answer.body).unwrap();
        let lines: Vec<_> = body.lines().collect();
        let retry: u32 = lines[0].strip_prefix("retry: ").unwrap().parse().unwrap();
        assert!((7_000..9_000).contains(&retry), "{retry}");
        assert_eq!(lines[1], "event: problem");
        let problem = lines[2].strip_prefix("data: ").unwrap();
        assert_eq!(serde_json::from_str::<Problem>(problem).unwrap(), away);
        // Who comes for the first time is refused as everywhere.
        let first = TestRequest::get()
            .uri(uri)
            .insert_header(("Accept", "text/event-stream"));
        ask(&fakes, first)
            .await
            .is_refused(503, "unavailable", None);
    }
}

async fn follow(address: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).await.unwrap();
    let request = "GET /views/parcels/live HTTP/1.1\r\nHost: gateway\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    client
}

#[actix_web::test]
async fn a_client_that_reads_nothing_is_cut_off_and_its_place_is_free() {
    let feed = Feed::new();
    let options = Options {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        max_live: 1,
        ..Options::default()
    };
    let listener = Gateway::listen(&options).unwrap();
    let address = listener.local_addr().unwrap();
    let backends = Fakes::fed(feed.clone()).backends();
    let server = Gateway::serve(
        listener,
        &options,
        &Connections::new(options.max_connections),
        backends,
    )
    .unwrap();
    let handle = server.handle();
    actix_web::rt::spawn(server);

    let mut idle = follow(address).await;
    let mut head = [0; 15];
    timeout(DEADLINE, idle.read_exact(&mut head))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    // More than both ends of the connection hold, and than may wait for one client.
    let large = format!("\"{}\"", "x".repeat(100_000));
    for number in 1..=400 {
        feed.put(&format!("d-{number}"), number, &large);
        tokio::task::yield_now().await;
    }
    let mut next = timeout(DEADLINE, async {
        loop {
            let mut next = follow(address).await;
            let mut head = [0; 15];
            next.read_exact(&mut head).await.unwrap();
            if &head == b"HTTP/1.1 200 OK" {
                return next;
            }
        }
    })
    .await
    .expect("the place is free");
    let mut received = Vec::new();
    let read = timeout(DEADLINE, idle.read_to_end(&mut received)).await;
    assert!(read.is_ok(), "the connection has ended");
    assert!(received.len() < 400 * 100_000);

    feed.put("last", 1_000, "{}");
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("\"last\"") {
        let read = timeout(DEADLINE, next.read_buf(&mut received)).await;
        assert!(read.unwrap().unwrap() > 0);
    }
    drop(next);
    handle.stop(false).await;
}
