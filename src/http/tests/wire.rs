//! What only shows on a real connection.

use crate::http::{Connections, Gateway, Options, fakes::Fakes};
use actix_web::dev::ServerHandle;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(super) struct Running {
    pub(super) address: SocketAddr,
    pub(super) connections: Connections,
    handle: ServerHandle,
}

fn start() -> Running {
    start_with(Options {
        body_timeout: Duration::from_millis(200),
        ..Options::default()
    })
}

/// A gateway on a free port, before fakes.
pub(super) fn start_with(options: Options) -> Running {
    start_before(&Fakes::content(), options)
}

/// As [`start_with`], before these.
pub(super) fn start_before(fakes: &Fakes, options: Options) -> Running {
    let options = Options {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers: 1,
        ..options
    };
    let listener = Gateway::listen(&options).unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Connections::new(options.max_connections);
    let backends = fakes.backends();
    let server = Gateway::serve(listener, &options, &connections, backends).unwrap();
    assert_ne!(address.port(), 0);
    let handle = server.handle();
    actix_web::rt::spawn(server);
    Running {
        address,
        connections,
        handle,
    }
}

impl Running {
    /// Sends these bytes, and returns all that comes back until the server closes.
    pub(super) async fn exchange(&self, request: &[u8]) -> String {
        exchange_with(self.address, request).await
    }
}

/// As [`Running::exchange`], with the server at this address.
pub(super) async fn exchange_with(address: SocketAddr, request: &[u8]) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        io::Result::Ok(answer)
    };
    let answer = timeout(Duration::from_secs(10), talk).await.unwrap();
    String::from_utf8(answer.unwrap()).unwrap()
}

impl Drop for Running {
    fn drop(&mut self) {
        actix_web::rt::spawn(self.handle.stop(false));
    }
}

const JSON: &str = "Host: h\r\nConnection: close\r\nContent-Type: application/json\r\n";

#[actix_web::test]
async fn a_head_is_a_get_without_the_body() {
    let server = start();
    let head = |method: &str, path: &str| {
        format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    };
    for path in [
        "/views/parcels/p-1",
        "/views/parcels",
        "/",
        "/openapi.json",
        "/asyncapi.json",
        "/healthz",
    ] {
        let asked = server.exchange(head("HEAD", path).as_bytes()).await;
        let got = server.exchange(head("GET", path).as_bytes()).await;
        let (head, body) = asked.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert_eq!(body, "", "{path}");
        let length = |text: &str| {
            let lower = text.to_ascii_lowercase();
            let line = lower
                .lines()
                .find(|line| line.starts_with("content-length:"));
            line.map(str::to_owned)
        };
        assert_eq!(length(&asked), length(&got), "{path}");
    }
}

#[actix_web::test]
async fn a_body_in_chunks_is_bounded_too() {
    let server = start();
    let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
    let request = |chunks: usize| {
        format!(
            "POST /commands/parcel/p-1/send HTTP/1.1\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n{}0\r\n\r\n",
            chunk.repeat(chunks)
        )
    };
    let answer = server.exchange(request(4).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    for chunks in [5, 64] {
        let answer = server.exchange(request(chunks).as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
    }
}

#[actix_web::test]
async fn a_long_body_that_is_announced_is_refused_and_the_refusal_arrives() {
    let server = start();
    let body = "a".repeat(1024 * 1024);
    let request = format!(
        "POST /commands/parcel/p-1/send HTTP/1.1\r\n{JSON}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = server.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("\"code\":\"too_large\""), "{answer}");
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = start();
    let request =
        format!("POST /commands/parcel/p-1/send HTTP/1.1\r\n{JSON}Content-Length: 10\r\n\r\n{{");
    let answer = server.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
}

#[actix_web::test]
async fn bytes_that_are_no_ascii_never_reach_a_subject() {
    let server = start();
    for id in ["사과".as_bytes(), b"\xff\xfe"] {
        let mut request = b"POST /commands/parcel/".to_vec();
        request.extend_from_slice(id);
        request.extend_from_slice(
            format!("/send HTTP/1.1\r\n{JSON}Content-Length: 2\r\n\r\n{{}}").as_bytes(),
        );
        let answer = server.exchange(&request).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert!(answer.contains("\"code\":\"malformed\""), "{answer}");
    }
}

#[actix_web::test]
async fn what_the_parser_refuses_is_a_problem_too() {
    let server = start_with(Options {
        head_timeout: Duration::from_millis(200),
        ..Options::default()
    });
    let long = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nx: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    let first = "GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n";
    for (request, status, code) in [
        ("nonsense\r\n\r\n".to_owned(), 400, "malformed"),
        (format!("{first}nonsense\r\n\r\n"), 400, "malformed"),
        (
            "GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
            400,
            "malformed",
        ),
        (long, 431, "headers_too_large"),
        ("GET / HT".to_owned(), 408, "request_timeout"),
    ] {
        let answer = server.exchange(request.as_bytes()).await;
        let start = answer.rfind("HTTP/1.1 ").unwrap();
        let (head, body) = answer[start..].split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(head.contains("application/problem+json"), "{answer}");
        let problem: crate::problem::Problem = serde_json::from_str(body).unwrap();
        assert_eq!((problem.status, &*problem.code), (status, code));
    }
}
