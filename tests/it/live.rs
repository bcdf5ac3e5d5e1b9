//! Following documents as they change: server-sent events of a running service.

use crate::harness::{
    api::{Api, Http},
    poll::{DEADLINE, eventually},
    service::{self, Service},
    unique,
};
use bytes::BytesMut;
use futures::StreamExt;
use serde_json::{Value, json};
use std::{
    fmt::Write,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// One event as a browser would hand it on.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    /// Where to go on from, if it says so.
    pub(crate) from: String,
    pub(crate) data: Value,
}

impl Event {
    pub(crate) fn id(&self) -> &str {
        self.data["id"].as_str().unwrap_or_default()
    }

    /// The position in where to go on from.
    fn position(&self) -> u64 {
        let position = self.from.rsplit_once('-');
        let (_, position) = position.expect("it says where to go on from");
        position.parse().unwrap()
    }
}

/// A followed path.
pub(crate) struct Live {
    body: std::pin::Pin<Box<dyn futures::Stream<Item = reqwest::Result<bytes::Bytes>> + Send>>,
    buffer: BytesMut,
    comments: usize,
    /// What a browser would send as `Last-Event-ID`.
    pub(crate) last: String,
}

impl Live {
    pub(crate) async fn try_open(
        http: &Http,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, reqwest::Response> {
        // One without a deadline for the whole response.
        let client = reqwest::Client::new();
        let mut request = client.get(format!("{}{path}", http.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        if response.status() != 200 {
            return Err(response);
        }
        Ok(Self {
            body: Box::pin(response.bytes_stream()),
            buffer: BytesMut::new(),
            comments: 0,
            last: String::new(),
        })
    }

    pub(crate) async fn open(http: &Http, path: &str, headers: &[(&str, &str)]) -> Self {
        match Self::try_open(http, path, headers).await {
            Ok(live) => live,
            Err(refused) => panic!("{}", refused.text().await.unwrap()),
        }
    }

    /// The next event; `None` when the stream has ended.
    pub(crate) async fn try_next(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\n\n") {
                let block = self.buffer.split_to(end + 2);
                let mut event = Event::default();
                for line in std::str::from_utf8(&block).unwrap().lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => {
                            id.clone_into(&mut event.from);
                            id.clone_into(&mut self.last);
                        }
                        Some(("event", kind)) => kind.clone_into(&mut event.kind),
                        Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                        _ => self.comments += usize::from(line.starts_with(':')),
                    }
                }
                if !event.kind.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let chunk = timeout(DEADLINE, self.body.next())
                .await
                .expect("in time")?;
            self.buffer.extend_from_slice(&chunk.ok()?);
        }
    }

    pub(crate) async fn next(&mut self) -> Event {
        self.try_next().await.expect("the stream goes on")
    }
}

async fn shared() -> Http {
    let service = tokio::task::spawn_blocking(service::shared).await.unwrap();
    service.http()
}

/// Gives a product a command; returns the position.
async fn product(http: &Http, sku: &str, command: &str, body: Value) -> String {
    let api = Api::Http(http.clone());
    let reply = api.command("product", sku, command, body).await.expect(200);
    reply.header("Headwater-Position").to_owned()
}

async fn register(http: &Http, sku: &str, category: &str) -> String {
    let body = json!({"name": sku, "price": 100, "category": category});
    product(http, sku, "register", body).await
}

fn sequence(position: &str) -> u64 {
    position.split_once('@').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn a_document_is_sent_as_it_is_and_then_each_change() {
    let http = shared().await;
    let sku = unique("live");
    let path = format!("/views/product/{sku}/live");
    let Err(missing) = Live::try_open(&http, &path, &[]).await else {
        panic!("there is nothing to follow yet")
    };
    assert_eq!(missing.status(), 404);
    let registered = register(&http, &sku, "fruit").await;
    let mut live = Live::open(&http, &path, &[("Headwater-Min-Position", &registered)]).await;
    let first = live.next().await;
    assert_eq!(
        (first.kind.as_str(), first.position()),
        ("put", sequence(&registered))
    );
    let document = http.get(&format!("/views/product/{sku}"), &[]).await;
    assert_eq!(first.data, document.json());
    for price in [200, 300] {
        let position = product(&http, &sku, "reprice", json!({"price": price})).await;
        let change = live.next().await;
        assert_eq!(
            (change.kind.as_str(), change.position()),
            ("put", sequence(&position))
        );
        assert_eq!(change.data["version"], change.position());
        assert_eq!(change.data["document"]["price"], price);
    }
}

#[tokio::test]
async fn a_document_is_gone_on_with_where_the_client_was() {
    let http = shared().await;
    let sku = unique("resumed");
    let path = format!("/views/product/{sku}/live");
    let registered = register(&http, &sku, "fruit").await;
    let mut live = Live::open(&http, &path, &[("Headwater-Min-Position", &registered)]).await;
    let last = live.next().await.from;
    drop(live);
    // Nothing is newer: the first event is the next change.
    let mut live = Live::open(&http, &path, &[("Last-Event-ID", &last)]).await;
    product(&http, &sku, "reprice", json!({"price": 200})).await;
    assert_eq!(live.next().await.data["document"]["price"], 200);
    drop(live);
    let repriced = product(&http, &sku, "reprice", json!({"price": 300})).await;
    let headers = [
        ("Last-Event-ID", &*last),
        ("Headwater-Min-Position", &repriced),
    ];
    let mut live = Live::open(&http, &path, &headers).await;
    let missed = live.next().await;
    assert_eq!(missed.position(), sequence(&repriced));
    assert_eq!(missed.data["document"]["price"], 300);
}

#[tokio::test]
async fn a_list_tells_what_enters_changes_and_leaves() {
    let http = shared().await;
    let category = unique("cat");
    let [first, second] = [unique("in"), unique("in")];
    let path = format!("/views/product/live?category={category}");
    register(&http, &first, &category).await;
    let registered = register(&http, &unique("out"), "dairy").await;
    let mut live = Live::open(&http, &path, &[("Headwater-Min-Position", &registered)]).await;
    let there = live.next().await;
    assert_eq!((there.kind.as_str(), there.id()), ("put", &*first));
    register(&http, &second, &category).await;
    let entered = live.next().await;
    assert_eq!((entered.kind.as_str(), entered.id()), ("put", &*second));
    product(&http, &first, "reprice", json!({"price": 7})).await;
    let changed = live.next().await;
    assert_eq!(
        (changed.id(), &changed.data["document"]["price"]),
        (&*first, &json!(7))
    );
    product(&http, &first, "recategorize", json!({"category": "dairy"})).await;
    let left = live.next().await;
    assert_eq!((left.kind.as_str(), left.id()), ("leave", &*first));
    drop(live);

    // What happens meanwhile is made up for, and nothing else is sent again.
    let meanwhile = json!({"category": "dairy"});
    let moved = product(&http, &second, "recategorize", meanwhile).await;
    let third = unique("in");
    let registered = register(&http, &third, &category).await;
    assert!(sequence(&registered) > sequence(&moved));
    let last = left.from;
    let headers = [
        ("Last-Event-ID", &*last),
        ("Headwater-Min-Position", &registered),
    ];
    let mut live = Live::open(&http, &path, &headers).await;
    let missed = live.next().await;
    assert_eq!((missed.kind.as_str(), missed.id()), ("leave", &*second));
    let missed = live.next().await;
    assert_eq!((missed.kind.as_str(), missed.id()), ("put", &*third));
    assert_eq!(missed.position(), sequence(&registered));
}

#[tokio::test]
async fn a_client_of_another_log_is_told_to_begin_again() {
    let http = shared().await;
    let category = unique("cat");
    let sku = unique("reset");
    let registered = register(&http, &sku, &category).await;
    let headers = [
        ("Last-Event-ID", "999999999"),
        ("Headwater-Min-Position", &*registered),
        ("Headwater-Max-Wait-Ms", "2000"),
    ];
    let path = format!("/views/product/live?category={category}");
    let mut live = Live::open(&http, &path, &headers).await;
    assert_eq!(live.next().await.kind, "reset");
    assert_eq!(live.next().await.id(), sku);
}

#[tokio::test]
async fn what_is_no_filter_is_refused_by_name() {
    let http = shared().await;
    for name in ["q", "sort", "limit", "cursor", "colour"] {
        let reply = http
            .get(&format!("/views/product/live?{name}=1"), &[])
            .await;
        assert_eq!(reply.problem(400, "malformed")["field"], name);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_clients_and_no_more_and_they_hear_a_heartbeat_and_the_end() {
    let arguments = [
        "--no-seed",
        "--max-live",
        "1",
        "--live-heartbeat-seconds",
        "1",
    ];
    let mut service = Service::dev(&arguments);
    let http = service.http();
    let sku = unique("bounded");
    let registered = register(&http, &sku, "fruit").await;
    let path = format!("/views/product/{sku}/live");
    let headers = [("Headwater-Min-Position", &*registered)];
    let mut live = Live::open(&http, &path, &headers).await;
    live.next().await;
    let Err(refused) = Live::try_open(&http, &path, &headers).await else {
        panic!("there is one already")
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    drop(live);
    let mut live = eventually("the place is free again", || async {
        Live::try_open(&http, &path, &headers).await.ok()
    })
    .await;
    live.next().await;
    while live.comments < 2 {
        let chunk = timeout(DEADLINE, live.body.next())
            .await
            .expect("a heartbeat");
        live.comments += usize::from(chunk.unwrap().unwrap().ends_with(b":\n\n"));
    }
    // What does not concern it moves on where it would go on from.
    let other = register(&http, &unique("other"), "fruit").await;
    let passed = |live: &Live| {
        let position = live.last.rsplit_once('-').unwrap().1.parse::<u64>();
        position.unwrap() >= sequence(&other)
    };
    let started = Instant::now();
    while !passed(&live) {
        assert!(started.elapsed() < DEADLINE);
        let change = timeout(Duration::from_millis(200), live.try_next()).await;
        assert!(change.is_err(), "{change:?}");
    }
    service.signal("TERM");
    assert_eq!(live.try_next().await, None);
    assert_eq!(service.wait().code(), Some(0), "{}", service.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_idle_clients_take_little_memory() {
    const CLIENTS: usize = 2_000;
    let service = Service::dev(&["--no-seed"]);
    let http = service.http();
    let registered = register(&http, "idle", "fruit").await;
    let fresh = [("Headwater-Min-Position", &*registered)];
    http.get("/views/product/idle", &fresh).await.expect(200);
    let before = resident_kib(service.pid());
    let address = http.base.trim_start_matches("http://").to_owned();
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let mut request = String::new();
        write!(
            request,
            "GET /views/product/idle/live HTTP/1.1\r\nHost: {address}\r\n\r\n"
        )
        .unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        clients.push((stream, Vec::new()));
    }
    for (stream, received) in &mut clients {
        read_until(stream, received, "\"price\":100").await;
    }
    let each = (resident_kib(service.pid()) - before) * 1024 / CLIENTS as u64;
    assert!(each < 40_000, "{each} bytes each");
    product(&http, "idle", "reprice", json!({"price": 200})).await;
    for (stream, received) in &mut clients {
        read_until(stream, received, "\"price\":200").await;
    }
}

async fn read_until(stream: &mut TcpStream, received: &mut Vec<u8>, text: &str) {
    while !String::from_utf8_lossy(received).contains(text) {
        let read = timeout(Duration::from_secs(60), stream.read_buf(received)).await;
        assert!(read.expect("in time").unwrap() > 0, "the stream ended");
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
