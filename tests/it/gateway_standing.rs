//! A replica that only answers says in `/readyz` how the views stand that others keep.

use crate::harness::{
    api::{Api, Http},
    backup::{delete, recreate},
    nats::Nats,
    poll::eventually_within,
    replica::Replica,
    surreal::Surreal,
    unique,
};
use serde_json::{Value, json};
use std::time::Duration;

const LONG: Duration = Duration::from_secs(60);
/// Makes a version of the products live that no program folds.
const NEWER: &str = "USE NS headwater DB views; \
    UPDATE view:product SET generations.revision += 1, \
    generations.all = [['v2', 'live'], ['v1', 'previous']];";
const AS_BEFORE: &str = "USE NS headwater DB views; \
    UPDATE view:product SET generations.revision += 1, \
    generations.all = [['v1', 'live']];";

/// Waits until a gateway says this of the products; returns the whole answer.
async fn until_said(http: &Http, said: &str) -> (u16, Value) {
    eventually_within(LONG, said, || async {
        let readyz = http.get("/readyz", &[]).await;
        let (status, answer) = (readyz.status, readyz.json());
        let check = of_products(&answer)?;
        let detail = check["detail"].as_str()?;
        detail.contains(said).then(|| (status, answer.clone()))
    })
    .await
}

fn of_products(answer: &Value) -> Option<&Value> {
    let mut checks = answer["checks"].as_array()?.iter();
    checks.find(|check| check["name"] == "view product")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_alone_says_why_a_view_is_not_what_it_should_be() {
    let (nats, surreal) = (Nats::start(), Surreal::start());
    let url = surreal.url();
    let shared = ["--surreal", &url, "--surreal-user", "root"];
    let shared = [&shared[..], &["--surreal-password", "root"]].concat();
    let start = |roles| Replica::of(&nats.url(), &[&shared[..], &["--roles", roles]].concat());
    let mut keeper = start("command,projector");
    let mut gateway = start("gateway");
    let http = gateway.service().http();
    let sku = unique("standing");
    let body = json!({"name": sku, "price": 7, "category": "test"});
    let reply = Api::Http(http.clone())
        .command("product", &sku, "register", body)
        .await;
    let position = reply.expect(200).header("Headwater-Position").to_owned();
    let (_, at) = position.split_once('@').unwrap();
    let (status, _) = until_said(&http, &format!("at {at}")).await;
    assert_eq!(status, 200);

    surreal.run(NEWER).await;
    let (status, answer) = until_said(&http, "v2 is live, and no program that runs folds it").await;
    assert_eq!(
        (status, &of_products(&answer).unwrap()["ready"]),
        (503, &json!(false))
    );
    surreal.run(AS_BEFORE).await;
    let (status, _) = until_said(&http, &format!("at {at}")).await;
    assert_eq!(status, 200);

    keeper.kill();
    let (status, _) = until_said(&http, "no replica that runs keeps it").await;
    assert_eq!(status, 200);
    let client = nats.client().await;
    delete(&client, "EVENTS").await;
    recreate(&nats.url()).await;
    let (status, _) = until_said(&http, "rebuilding").await;
    assert_eq!(status, 503);
    keeper.start_again();
    eventually_within(LONG, "all is well again", || async {
        let readyz = http.get("/readyz", &[]).await;
        (readyz.status == 200).then_some(())
    })
    .await;
}
