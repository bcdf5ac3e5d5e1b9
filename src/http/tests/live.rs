//! Server-sent events over fakes: how they are written, and how many clients there may be.

use super::*;
use crate::{http::Gateway, problem::Problem, read_model::Feed};
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
    assert_eq!(answer.header("Cache-Control"), Some("no-store"));
    assert_eq!(
        String::from_utf8(answer.body).unwrap(),
        "retry: 1000\n\nid: 71\nevent: put\ndata: {\"to\":{\"street\":\"종로\"},\"grams\":12}\n\n"
    );
}

#[actix_web::test]
async fn a_client_that_comes_again_says_how_far_it_was() {
    let uri = "/views/parcels/p-1/live";
    let again = |last: &'static str| {
        let request = TestRequest::get().uri(uri);
        request.insert_header(("Last-Event-ID", last))
    };
    let fakes = Fakes::content();
    assert_eq!(ask(&fakes, again("71")).await.body, b"retry: 1000\n\n");
    assert_ne!(ask(&fakes, again("70")).await.body, b"retry: 1000\n\n");
    assert_ne!(ask(&fakes, again("")).await.body, b"retry: 1000\n\n");
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
        body.ends_with("id: 80\nevent: leave\ndata: {\"id\":\"p-1\"}\n\n"),
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
    let server = Gateway::serve(listener, &options, backends).unwrap();
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
