//! `headwater serve`: replicas that start, serve, drain and share one NATS.

use crate::harness::{
    api::Api,
    nats::{DURABLE, Nats},
    poll::eventually,
    service::{Service, headwater, run},
    unique,
};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_becomes_ready_serves_and_drains_on_sigterm() {
    let nats = Nats::start_with(DURABLE);
    let mut replica = Service::serve(&nats.url(), &[]);
    let http = replica.http();
    http.get("/healthz", &[]).await.expect(200);
    eventually("the replica is ready", || async {
        (http.get("/readyz", &[]).await.status == 200).then_some(())
    })
    .await;
    let sku = unique("served");
    let body = json!({"name": "served", "price": 1, "category": "fruit"});
    let accepted = Api::Http(http.clone())
        .command("product", &sku, "register", body)
        .await
        .expect(200);
    let position = accepted.header("Headwater-Position").to_owned();
    Api::Http(http)
        .document("product", &sku, &[("Headwater-Min-Position", &position)])
        .await
        .expect(200);
    replica.signal("TERM");
    let status = replica.wait();
    assert_eq!(status.code(), Some(0), "{}", replica.transcript());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_replica_accepts_every_replica_shows() {
    let nats = Nats::start();
    let replicas = [
        Service::serve(&nats.url(), &[]),
        Service::serve(&nats.url(), &[]),
    ];
    let sku = unique("shared");
    let body = json!({"name": "shared", "price": 1, "category": "fruit"});
    let accepted = Api::Http(replicas[0].http())
        .command("product", &sku, "register", body)
        .await
        .expect(200);
    let position = accepted.header("Headwater-Position").to_owned();
    for replica in &replicas {
        let document = Api::Http(replica.http())
            .document("product", &sku, &[("Headwater-Min-Position", &position)])
            .await
            .expect(200)
            .json();
        assert_eq!(document["document"]["name"], "shared");
    }
}

#[test]
fn a_nats_that_is_not_there_is_said_and_ends_the_replica() {
    let temp = tempfile::tempdir().unwrap();
    let output = run(headwater(["serve", "--http-addr", "127.0.0.1:0"])
        .args(["--nats", "nats://127.0.0.1:1"])
        .arg("--data-dir")
        .arg(temp.path()));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("nats://127.0.0.1:1"), "{error}");
}

#[test]
fn a_role_that_does_not_exist_exits_2() {
    let output = run(&mut headwater(["serve", "--roles", "cook"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cook"));
}
