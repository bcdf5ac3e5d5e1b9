//! Whatever is wrong with the log, `/readyz`, a log line and a metric say which, soon.

use crate::harness::{
    api::{Api, Http},
    metrics::Metrics,
    nats::{DEV, Nats},
    poll::{eventually, eventually_within},
    service::Service,
    streams::{ask, change_stream},
    unique,
};
use headwater::event_log::topology::Topology;
use serde_json::{Value, json};
use std::time::Duration;

/// A trouble is told within a second; the rest is for a machine that is busy.
const SOON: Duration = Duration::from_secs(10);

async fn ready(http: &Http) {
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
}

/// Waits until `/readyz` says this of the log.
async fn told(http: &Http, words: &str) {
    eventually_within(SOON, words, || async {
        let readyz = http.get("/readyz", &[]).await;
        let checks: Value = readyz.json()["checks"].take();
        let log = checks
            .as_array()?
            .iter()
            .find(|it| it["name"] == "log")?
            .clone();
        let said = readyz.status == 503 && log["detail"].as_str()?.contains(words);
        said.then_some(())
    })
    .await;
}

async fn register(http: &Http) -> u16 {
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    let api = Api::Http(http.clone());
    let reply = api.command("product", &unique("h"), "register", body).await;
    reply.status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vanished_stream_is_told_and_its_return_too() {
    let nats = Nats::start();
    let replica = Service::serve(
        &nats.url(),
        &["--roles", "command,gateway", "--surreal", "mem://"],
    );
    let http = replica.http();
    ready(&http).await;
    assert_eq!(
        Metrics::of(&http).await.sum("headwater_log_available", ""),
        1.0
    );

    let client = nats.client().await;
    ask(&client, "STREAM.DELETE.EVENTS", Value::Null).await;
    told(&http, "the stream EVENTS does not exist").await;
    assert_eq!(
        Metrics::of(&http).await.sum("headwater_log_available", ""),
        0.0
    );
    eventually("a line says so", || async {
        replica
            .transcript()
            .contains("the log is not available")
            .then_some(())
    })
    .await;

    Topology::embedded().apply(&client).await.unwrap();
    ready(&http).await;
    let said = replica.transcript();
    assert_eq!(
        said.matches("the log is not available").count(),
        1,
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_view_makes_the_replica_not_ready() {
    let nats = Nats::start();
    let replica = Service::serve(&nats.url(), &[]);
    let http = replica.http();
    ready(&http).await;
    ask(&nats.client().await, "STREAM.DELETE.EVENTS", Value::Null).await;
    eventually("a view is told as stalled", || async {
        let readyz = http.get("/readyz", &[]).await.json();
        let mut checks = readyz["checks"].as_array()?.iter();
        checks
            .any(|it| {
                it["name"]
                    .as_str()
                    .is_some_and(|name| name.starts_with("view "))
                    && it["ready"] == false
                    && it["detail"]
                        .as_str()
                        .is_some_and(|it| it.starts_with("stalled"))
            })
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_is_told_with_its_bound() {
    let nats = Nats::start();
    let replica = Service::serve(&nats.url(), &[]);
    let http = replica.http();
    ready(&http).await;
    for _ in 0..3 {
        assert_eq!(register(&http).await, 200);
    }
    let client = nats.client().await;
    change_stream(&client, "EVENTS", json!({"max_msgs": 3})).await;
    told(&http, "max_msgs is 3").await;
    assert_eq!(register(&http).await, 503);
    change_stream(&client, "EVENTS", json!({"max_msgs": -1})).await;
    ready(&http).await;
    assert_eq!(register(&http).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_that_is_not_permitted_is_told() {
    let users = r#"
accounts { A { jetstream: enabled, users: [
  {user: a, password: a, permissions: {publish: {deny: "evt.>"}}}, {user: b, password: b} ] } }
"#;
    let nats = Nats::start_with(&format!("{DEV}{users}"));
    let url = format!("nats://a:a@127.0.0.1:{}", nats.port());
    let replica = Service::serve(&url, &[]);
    let http = replica.http();
    ready(&http).await;
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    let api = Api::Http(http.clone());
    let refused = api.command("product", &unique("h"), "register", body).await;
    assert_eq!(refused.status, 503);
    // Told at once, and not after as long as an acknowledgement is waited for.
    let detail = refused.json()["detail"].to_string();
    assert!(detail.contains("permit"), "{detail}");
    told(&http, "evt.product.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_of_the_account_is_told_and_refuses_nothing_for_good() {
    let users = r#"
accounts { A { jetstream: { max_file: 300K }, users: [{user: a, password: a}] } }
"#;
    let nats = Nats::start_with(&format!("{DEV}{users}"));
    let url = format!("nats://a:a@127.0.0.1:{}", nats.port());
    let replica = Service::serve(&url, &["--roles", "command,gateway", "--surreal", "mem://"]);
    let http = replica.http();
    ready(&http).await;
    let api = Api::Http(http.clone());
    let described = json!({
        "name": "n", "price": 1, "category": "fruit", "description": "d".repeat(3_900)
    });
    let refused = eventually("the account is full", || async {
        let id = unique("full");
        let reply = api
            .command("product", &id, "register", described.clone())
            .await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.json()["code"], "unavailable");
    assert_eq!(refused.header("Retry-After"), "1");
    told(&http, "storage").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_told_and_its_return_too() {
    let mut nats = Nats::start();
    let replica = Service::serve(&nats.url(), &["--roles", "command"]);
    let http = replica.http();
    ready(&http).await;
    nats.kill();
    told(&http, "not connected to NATS").await;
    nats.start_again();
    ready(&http).await;
}
