//! Following documents over breaks: nothing is lost, nothing goes back, and nobody healthy is cut off.

use crate::{
    harness::{
        api::{Api, Http},
        poll::DEADLINE,
        service, unique,
    },
    live::{Event, Live},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The view may be busy.
const PATIENT: (&str, &str) = ("Headwater-Max-Wait-Ms", "30000");

async fn shared() -> Http {
    let service = tokio::task::spawn_blocking(service::shared).await.unwrap();
    service.http()
}

async fn command(http: &Http, aggregate: &str, id: &str, command: &str, body: Value) -> String {
    let api = Api::Http(http.clone());
    let reply = api.command(aggregate, id, command, body).await.expect(200);
    reply.header("Headwater-Position").to_owned()
}

/// A section that shows so many products; returns the position.
async fn section(http: &Http, section: &str, products: usize) -> String {
    let open = json!({"branch": "gangnam", "title": "breaks"});
    command(http, "display", section, "open", open).await;
    let places = (1..=products).map(|rank| async move {
        let body = json!({"sku": format!("p-{rank}"), "rank": rank});
        command(http, "display", section, "place", body).await
    });
    let positions: Vec<_> = stream::iter(places).buffer_unordered(32).collect().await;
    let last = positions
        .into_iter()
        .max_by_key(|position| position.split_once('@').unwrap().1.parse::<u64>().unwrap());
    last.unwrap()
}

fn followed(section: &str) -> String {
    format!("/views/storefront/live?section={section}")
}

/// The ids of so many next events, all of one of these kinds.
async fn ids(live: &mut Live, count: usize, kinds: &[&str]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    while ids.len() < count {
        let event = live.next().await;
        assert!(kinds.contains(&&*event.kind), "{event:?}");
        ids.insert(event.id().to_owned());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_among_the_changes_of_one_event_loses_none_and_many_cut_nobody() {
    const PRODUCTS: usize = 400;
    let http = shared().await;
    let name = unique("breaks");
    let placed = section(&http, &name, PRODUCTS).await;
    let headers = [("Headwater-Min-Position", &*placed), PATIENT];
    let mut broken = Live::open(&http, &followed(&name), &headers).await;
    let mut healthy = Live::open(&http, &followed(&name), &headers).await;
    let all = ids(&mut broken, PRODUCTS, &["put"]).await;
    assert_eq!(ids(&mut healthy, PRODUCTS, &["put"]).await, all);

    // Each event of one commit has the position of the others.
    let period = json!({"from": "2026-01-01T00:00:00Z", "until": "2036-01-01T00:00:00Z"});
    command(&http, "display", &name, "schedule", period).await;
    let mut changed = ids(&mut broken, PRODUCTS / 3, &["put"]).await;
    let last = broken.last.clone();
    drop(broken);
    let mut broken = Live::open(&http, &followed(&name), &[("Last-Event-ID", &*last)]).await;
    while changed.len() < PRODUCTS {
        let event = broken.next().await;
        // What has changed may not be known, and then all of it is sent.
        if event.kind != "reset" {
            assert_eq!(event.kind, "put");
            changed.insert(event.id().to_owned());
        }
    }
    assert_eq!(changed, all);
    assert_eq!(ids(&mut healthy, PRODUCTS, &["put"]).await, all);

    let closed = command(&http, "display", &name, "close", json!({})).await;
    let mut gone = BTreeSet::new();
    while gone.len() < PRODUCTS / 3 {
        let event = broken.next().await;
        if event.kind == "delete" {
            gone.insert(event.id().to_owned());
        }
    }
    let last = broken.last.clone();
    drop(broken);
    let headers = [
        ("Last-Event-ID", &*last),
        ("Headwater-Min-Position", &*closed),
        PATIENT,
    ];
    let mut broken = Live::open(&http, &followed(&name), &headers).await;
    while gone.len() < PRODUCTS {
        let event = broken.next().await;
        if event.kind == "reset" {
            // Nothing follows: nothing is left.
            gone.clone_from(&all);
            break;
        }
        assert!(["leave", "delete"].contains(&&*event.kind), "{event:?}");
        gone.insert(event.id().to_owned());
    }
    assert_eq!(gone, all);
    assert_eq!(ids(&mut healthy, PRODUCTS, &["delete"]).await, all);
}

#[tokio::test]
async fn a_client_far_ahead_of_the_replica_is_refused_and_never_sent_older_documents() {
    let http = shared().await;
    let sku = unique("ahead");
    let body = json!({"name": sku, "price": 100, "category": sku});
    let position = command(&http, "product", &sku, "register", body).await;
    for path in [
        format!("/views/product/{sku}/live"),
        format!("/views/product/live?category={sku}"),
    ] {
        let fresh = [("Headwater-Min-Position", &*position), PATIENT];
        let mut live = Live::open(&http, &path, &fresh).await;
        assert_eq!(live.next().await.id(), sku);
        let (edition, _) = live.last.rsplit_once('-').unwrap();
        let ahead = format!("{edition}-999999999");
        let headers = [("Last-Event-ID", &*ahead), ("Headwater-Max-Wait-Ms", "100")];
        let Err(refused) = Live::try_open(&http, &path, &headers).await else {
            panic!("this replica has less")
        };
        assert_eq!(refused.status(), 503);
        assert!(refused.headers().contains_key("retry-after"));
        assert!(refused.headers().contains_key("headwater-applied"));
        // A browser would not come again.
        let browser = [headers[0], headers[1], ("Accept", "text/event-stream")];
        let mut live = Live::open(&http, &path, &browser).await;
        let event = live.next().await;
        assert_eq!(event.kind, "problem");
        assert_eq!(event.data["code"], "unavailable");
        assert_eq!(live.try_next().await, None::<Event>);
        assert_eq!(live.last, "");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_plain_bytes() {
    let http = shared().await;
    let sku = unique("plain");
    let body = json!({"name": sku, "price": 100, "category": "fruit"});
    let position = command(&http, "product", &sku, "register", body).await;
    let address = http.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET /views/product/{sku}/live HTTP/1.0\r\nHeadwater-Min-Position: {position}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    while !received.ends_with(b"}}\n\n") {
        let read = timeout(DEADLINE, stream.read_buf(&mut received)).await;
        assert!(read.unwrap().unwrap() > 0);
    }
    let received = String::from_utf8(received).unwrap();
    let (head, body) = received.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.0 200"), "{head}");
    assert!(!head.contains("transfer-encoding"), "{head}");
    assert!(!head.contains("connection: keep-alive"), "{head}");
    assert!(
        head.contains("cache-control: no-store, no-transform"),
        "{head}"
    );
    assert!(body.starts_with("retry: "), "{body}");
}

#[tokio::test]
async fn the_stream_of_a_list_is_at_the_same_path_however_it_is_written() {
    let http = shared().await;
    let sku = unique("written");
    let body = json!({"name": sku, "price": 100, "category": sku});
    let position = command(&http, "product", &sku, "register", body).await;
    for live in ["live", "%6Cive", "%6c%69%76%65"] {
        let path = format!("/views/product/{live}?category={sku}");
        let fresh = [("Headwater-Min-Position", &*position), PATIENT];
        let mut live = Live::open(&http, &path, &fresh).await;
        assert_eq!(live.next().await.id(), sku);
    }
}
