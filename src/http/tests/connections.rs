//! How many clients there may be, on real connections.

use super::{
    cors::{SHOP, allowing, header},
    wire::{Running, exchange_with, start_before, start_with},
};
use crate::{
    http::{
        Options,
        connections::{SPARE, refuse, too_many},
        cors::Origins,
        fakes::Fakes,
    },
    read_model::Feed,
};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

const DEADLINE: Duration = Duration::from_secs(10);
const FOLLOW: &str = "GET /views/parcels/live HTTP/1.1\r\nHost: h\r\n\r\n";

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
}

fn few(max_connections: usize) -> Running {
    start_before(
        &Fakes::fed(Feed::new()),
        Options {
            max_connections,
            ..Options::default()
        },
    )
}

/// As [`few`], with pages of another origin that may read answers.
fn few_and_the_shop(max_connections: usize) -> Running {
    start_before(
        &Fakes::fed(Feed::new()),
        Options {
            max_connections,
            ..allowing()
        },
    )
}

async fn connect(server: &Running) -> TcpStream {
    TcpStream::connect(server.address).await.unwrap()
}

/// Sends a request and reads until the answer has this text in it; panics at the end of the connection.
async fn ask(stream: &mut TcpStream, request: &str, expected: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = async {
        while !answer.contains(expected) {
            let mut some = [0; 4096];
            let count = stream.read(&mut some).await.unwrap();
            assert_ne!(count, 0, "the connection ended: {answer}");
            answer.push_str(&String::from_utf8_lossy(&some[..count]));
        }
    };
    timeout(DEADLINE, reading).await.unwrap();
    answer
}

/// Waits until the server closes.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut rest))
        .await
        .unwrap();
    if let Err(error) = read {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[actix_web::test]
async fn idle_connections_give_way_to_whoever_has_something_to_ask() {
    let server = few(8);
    let mut idle = Vec::new();
    for _ in 0..40 {
        idle.push(connect(&server).await);
    }
    for path in ["/views/parcels/p-1", "/healthz", "/views/parcels"] {
        let answer = server.exchange(get(path).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    for stream in &mut idle[..30] {
        closed(stream).await;
    }
}

#[actix_web::test]
async fn a_connection_that_is_kept_alive_gives_way_and_one_that_is_followed_on_does_not() {
    let server = few(2);
    let mut following = connect(&server).await;
    ask(&mut following, FOLLOW, "retry:").await;
    let mut kept = connect(&server).await;
    ask(&mut kept, "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n", "ok").await;
    let answer = server.exchange(get("/views/parcels").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    closed(&mut kept).await;
    let mut byte = [0];
    assert!(
        following.try_read(&mut byte).is_ok_and(|count| count > 0)
            || following.try_read(&mut byte).unwrap_err().kind() == io::ErrorKind::WouldBlock
    );
}

#[actix_web::test]
async fn what_is_over_is_told_so_and_the_replica_can_still_be_asked_how_it_is() {
    let server = few(16);
    let mut following = Vec::new();
    // As many as may follow, and the others by bodies that do not come.
    for number in 0..16 {
        let mut stream = connect(&server).await;
        if number < 14 {
            ask(&mut stream, FOLLOW, "retry:").await;
        } else {
            let head = "POST /commands/parcel/p-1/send HTTP/1.1\r\nHost: h\r\n\
                Content-Type: application/json\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
            ask(&mut stream, head, "100 Continue").await;
        }
        following.push(stream);
    }
    let answer = server.exchange(get("/views/parcels").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("\"code\":\"unavailable\""), "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    for path in ["/healthz", "/readyz", "/metrics"] {
        // Kept alive by nobody: there are few of these.
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = server.exchange(request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    // However many others there are that say nothing.
    let mut silent = Vec::new();
    for _ in 0..3 * SPARE {
        silent.push(connect(&server).await);
    }
    let answer = server.exchange(get("/healthz").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[actix_web::test]
async fn a_page_of_an_allowed_origin_can_read_that_there_are_too_many() {
    let server = few_and_the_shop(2);
    let head = "POST /commands/parcel/p-1/send HTTP/1.1\r\nHost: h\r\n\
        Content-Type: application/json\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        ask(&mut stream, head, "100 Continue").await;
        busy.push(stream);
    }
    for (origin, allowed) in PAGES {
        let answer = server.exchange(of_page(origin).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), allowed);
    }
}

#[actix_web::test]
async fn a_page_of_an_allowed_origin_can_read_that_there_is_no_room_for_its_connection() {
    let origins = Origins::new(&allowing().allowed_origins);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    for (origin, allowed) in PAGES {
        let request = of_page(origin);
        let asking = exchange_with(address, request.as_bytes());
        let refusing = async {
            let (stream, _) = listener.accept().await.unwrap();
            refuse(stream, &origins, &too_many()).await;
        };
        let (answer, ()) = tokio::join!(asking, refusing);
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), allowed);
    }
}

/// Pages, and the origin whose pages may read the answer to each.
const PAGES: [(&str, Option<&str>); 2] = [(SHOP, Some(SHOP)), ("https://evil.example", None)];

fn of_page(origin: &str) -> String {
    let asked = format!("Origin: {origin}\r\nConnection: close");
    get("/views/parcels").replace("Connection: close", &asked)
}

#[actix_web::test]
async fn live_clients_leave_room_for_others() {
    let server = few(16);
    let mut following = Vec::new();
    for _ in 0..14 {
        let mut stream = connect(&server).await;
        ask(&mut stream, FOLLOW, "retry:").await;
        following.push(stream);
    }
    let request = FOLLOW.replace("Host", "Connection: close\r\nHost");
    let answer = server.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let answer = server.exchange(get("/views/parcels").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[actix_web::test]
async fn a_client_that_does_not_read_its_answers_is_cut_off() {
    let server = start_with(Options {
        write_timeout: Duration::from_millis(300),
        ..Options::default()
    });
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, server.address.port()));
    let mut stream = socket.connect(address).await.unwrap();
    let request = "GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n".repeat(16);
    let asking = async {
        while stream.write_all(request.as_bytes()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, asking).await.expect("it is cut off");
}

#[actix_web::test]
async fn a_gateway_that_drains_asks_its_clients_to_connect_anew() {
    let server = few(8);
    let request = "GET /views/parcels/p-1 HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut stream = connect(&server).await;
    let answer = ask(&mut stream, request, "}").await;
    assert!(!answer.contains("connection: close"), "{answer}");
    server.connections.drain();
    let answer = ask(&mut stream, request, "}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    closed(&mut stream).await;
}
