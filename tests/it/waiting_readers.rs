//! Readers are bounded: those that wait for a position take nothing from who reads, and end when the
//! replica does; of those that read lists at once some wait, and too many are refused.

use crate::harness::{
    api::{Api, Http, Reply},
    metrics::Metrics,
    poll::eventually,
    service::Service,
};
use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet};

const PATIENT: [(&str, &str); 2] = [
    ("Headwater-Min-Position", "product@999999999"),
    ("Headwater-Max-Wait-Ms", "30000"),
];

async fn waiting(http: &Http) -> usize {
    let metrics = Metrics::of(http).await;
    metrics.sum("headwater_waiting_readers", "") as usize
}

async fn until_waiting(http: &Http, count: usize) {
    eventually("all wait", || async move {
        (waiting(http).await >= count).then_some(())
    })
    .await;
}

/// Has so many readers wait on each surface.
fn wait(surfaces: &[Api], count: usize) -> JoinSet<Reply> {
    let mut waiting = JoinSet::new();
    for api in surfaces {
        for number in 0..count {
            let api = api.clone();
            waiting.spawn(async move {
                match number % 2 {
                    0 => api.document("product", "awaited", &PATIENT).await,
                    _ => api.list("product", json!({}), &PATIENT).await,
                }
            });
        }
    }
    waiting
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_wait_take_nothing_from_those_who_read_and_end_with_the_replica() {
    // More than the queries over NATS that are worked on at once.
    const EACH: usize = 300;
    let mut service = Service::dev(&["--no-seed"]);
    let (http, nats) = (service.http(), service.nats().await);
    let surfaces = [Api::Http(http.clone()), Api::Nats(nats)];
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    let registered = surfaces[0].command("product", "there", "register", body);
    let position = registered.await.expect(200);
    let position = position.header("Headwater-Position").to_owned();
    // A client that goes gives up what it asked for, long before it would have been answered.
    let address = http.base.trim_start_matches("http://").to_owned();
    let mut gone = TcpStream::connect(&address).await.unwrap();
    let [(min, far), (max, longest)] = PATIENT;
    let request = format!(
        "GET /views/product?q=n HTTP/1.1\r\nHost: {address}\r\n{min}: {far}\r\n{max}: {longest}\r\n\r\n"
    );
    gone.write_all(request.as_bytes()).await.unwrap();
    until_waiting(&http, 1).await;
    drop(gone);
    eventually("it has been given up", || async {
        (waiting(&http).await == 0).then_some(())
    })
    .await;

    let mut readers = wait(&surfaces, EACH);
    until_waiting(&http, 2 * EACH).await;
    let fresh = [("Headwater-Min-Position", &*position)];
    for api in &surfaces {
        api.document("product", "there", &fresh).await.expect(200);
        api.list("product", json!({"q": "n"}), &[])
            .await
            .expect(200);
    }

    service.signal("TERM");
    while let Some(reply) = readers.join_next().await {
        let reply = reply.unwrap();
        reply.problem(503, "unavailable");
        assert_eq!(reply.header("Retry-After"), "1");
    }
    let ended = tokio::task::spawn_blocking(move || (service.wait(), service.transcript()));
    let (status, transcript) = ended.await.unwrap();
    assert_eq!(status.code(), Some(0), "{transcript}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_how_fresh_the_view_is_on_both_surfaces() {
    for api in crate::harness::service::both().await {
        let body = json!({"name": "n", "price": 1, "category": "fruit"});
        let id = crate::harness::unique("aged");
        let registered = api
            .command("product", &id, "register", body)
            .await
            .expect(200);
        let position = registered.header("Headwater-Position");
        let fresh = ("Headwater-Min-Position", position);
        let (_, sequence) = position.split_once('@').unwrap();
        let at_least: u64 = sequence.parse().unwrap();
        let aged = |reply: Reply, status: u16| {
            let reply = reply.expect(status);
            let applied: u64 = reply.header("Headwater-Applied").parse().unwrap();
            assert!(applied >= at_least);
            assert!(reply.header("Headwater-Lag-Ms").parse::<u64>().is_ok());
        };
        aged(api.document("product", "nothing", &[fresh]).await, 404);
        // From memory.
        aged(api.document("product", "nothing", &[fresh]).await, 404);
        aged(api.document("product", "not!an!id", &[]).await, 400);
        aged(
            api.list("product", json!({"colour": "red"}), &[]).await,
            400,
        );
        let far = [PATIENT[0], ("Headwater-Max-Wait-Ms", "0")];
        for late in [
            api.document("product", &id, &far).await,
            api.list("product", json!({}), &far).await,
        ] {
            assert_eq!(late.header("Retry-After"), "1");
            aged(late, 504);
        }
        let unknown = api.document("nothing", "a", &[]).await.expect(404);
        assert_eq!(unknown.header("Headwater-Applied"), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_lists_at_once_each_is_answered_or_refused_and_documents_are_read_meanwhile() {
    let surfaces = crate::harness::service::both().await;
    let id = crate::harness::unique("beside");
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    let registered = surfaces[0].command("product", &id, "register", body).await;
    let registered = registered.expect(200);
    let fresh = [(
        "Headwater-Min-Position",
        registered.header("Headwater-Position"),
    )];
    let mut lists = JoinSet::new();
    for number in 0..400 {
        let api = surfaces[number % 2].clone();
        lists.spawn(async move {
            // Equal ones would be read together.
            let searched = json!({"q": "사과", "price_min": number, "count": true, "limit": 200});
            api.list("product", searched, &[]).await
        });
    }
    for api in &surfaces {
        api.document("product", &id, &fresh).await.expect(200);
    }
    let mut answered = 0;
    while let Some(reply) = lists.join_next().await {
        let reply = reply.unwrap();
        if reply.status == 200 {
            answered += 1;
        } else {
            reply.problem(429, "overloaded");
            assert_eq!(reply.header("Retry-After"), "1");
        }
    }
    assert!(answered > 0);
}
