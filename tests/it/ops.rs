//! `/ops`: what operators see over HTTP.

use crate::{
    harness::{
        api::{Api, Http},
        nats::Nats,
        poll::eventually,
        replica::Replica,
        service::{self, Service},
        tokens::{self, Signer, bearer},
        unique,
    },
    live::Live,
};
use serde_json::{Value, json};

async fn read(http: &Http, path: &str) -> Value {
    let reply = http.get(path, &[]).await.expect(200);
    assert_eq!(reply.header("Cache-Control"), "no-store", "{path}");
    reply.json()
}

async fn receive(http: &Http, stock: &str) {
    let given = Api::Http(http.clone());
    let given = given.command("stock", stock, "receive", json!({"quantity": 1}));
    given.await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_tells_of_the_log_the_replicas_and_the_views() {
    let service = Service::dev_with_processes(&[]);
    let http = service.http();
    for _ in 0..5 {
        receive(&http, "gangnam_apple-1kg").await;
    }
    let overview = eventually("all of it is known", async || {
        let overview = read(&http, "/ops/overview").await;
        let views = overview["views"].as_array().unwrap();
        let caught_up = views.len() == 4 && views.iter().all(|view| view["lag_commits"] == 0);
        let known = overview["log"]["commits_per_s"].is_number()
            && overview["commands"]["p50_ms"].is_number();
        (caught_up && known).then_some(overview)
    })
    .await;
    let log = &overview["log"];
    assert_eq!(log["durability"], "dev", "{overview}");
    assert!(log["promise"].as_str().unwrap().contains("fsync"));
    assert_eq!(log["append"]["mode"], "pipelined");
    assert_eq!(log["trouble"], Value::Null);
    assert!(log["last"].as_u64().unwrap() > 5 && log["bytes"].as_u64().unwrap() > 1_000);
    assert_eq!(log["name"].as_str().unwrap().len(), 8);
    let [replica] = overview["replicas"].as_array().unwrap().as_slice() else {
        panic!("{overview}");
    };
    assert_eq!(replica["replica"], overview["replica"]);
    assert_eq!(
        (&replica["here"], &replica["leaving"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(replica["version"], overview["version"]);
    assert!(
        replica["since"].as_str() <= overview["time"].as_str(),
        "{replica}"
    );
    assert!(
        replica["roles"]
            .as_array()
            .unwrap()
            .contains(&json!("projector"))
    );
    for view in overview["views"].as_array().unwrap() {
        assert_eq!(view["keepers"], json!([replica["replica"]]), "{view}");
        assert_eq!(
            (&view["stalled"], &view["building"]),
            (&Value::Null, &Value::Null)
        );
    }
    assert_eq!(overview["processes"][0]["process"], "fulfilment");
    assert_eq!(overview["processes"][0]["home"], replica["replica"]);
    assert_eq!(overview["readiness"]["ready"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_and_homes_are_told_of_one_by_one() {
    let http = service::shared().http();
    let all = read(&http, "/ops/views").await;
    assert_eq!(all["missing"], json!([]));
    let names: Vec<_> = all["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|view| &view["view"])
        .collect();
    assert_eq!(names, ["product", "storefront", "order", "sales"]);
    let order = read(&http, "/ops/views/order").await;
    assert_eq!(order["aggregates"], json!(["order", "member", "product"]));
    let store = &order["stores"][0];
    assert_eq!(
        (&store["here"], &store["error"]),
        (&json!(true), &Value::Null)
    );
    let live = &store["generations"][0];
    assert_eq!(
        (&live["generation"], &live["state"]),
        (&json!("v1"), &json!("live"))
    );
    assert!(
        live["position"].is_u64() && live["parked"].is_u64(),
        "{live}"
    );
    http.get("/ops/views/nothing", &[])
        .await
        .problem(404, "unknown_view");

    let stock = unique("gangnam_home");
    let path = format!("/ops/homes/stock/{stock}");
    let before = read(&http, &path).await;
    assert_eq!(
        (&before["version"], &before["position"]),
        (&json!(0), &json!(0))
    );
    receive(&http, &stock).await;
    let home = read(&http, &path).await;
    assert_eq!((&home["version"], &home["here"]), (&json!(1), &json!(true)));
    assert!(home["position"].as_u64().unwrap() > 0 && home["last_at"].is_string());
    http.get("/ops/homes/nothing/a", &[])
        .await
        .problem(404, "unknown_aggregate");
    let wrong = http.get("/ops/homes/stock/a.b", &[]).await;
    assert_eq!(wrong.problem(400, "malformed")["field"], "id");
    let wrong = http.get("/ops/overview?limit=1", &[]).await;
    assert_eq!(wrong.problem(400, "malformed")["field"], "limit");
    let wrong = http.post("/ops/overview", Vec::new(), &[]).await;
    wrong.problem(405, "method_not_allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_is_followed_until_the_replica_stops() {
    let mut service = Service::dev(&["--no-seed"]);
    let http = service.http();
    let mut live = Live::open(&http, "/ops/stream", &[]).await;
    let (first, second) = (live.next().await, live.next().await);
    assert_eq!((&*first.kind, &*second.kind), ("overview", "overview"));
    assert!(first.data["time"].as_str() < second.data["time"].as_str());
    service.signal("TERM");
    assert!(service.wait().success());
    while let Some(event) = live.try_next().await {
        assert!(["overview", "problem"].contains(&&*event.kind));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_comes_is_told_of_and_so_is_one_that_goes() {
    let nats = Nats::start();
    let one = Service::serve(&nats.url(), &[]);
    let mut other = Replica::of(&nats.url(), &["--roles", "command"]);
    let name = other.name();
    let http = one.http();
    let told = async || {
        let overview = read(&http, "/ops/overview").await;
        let mut replicas = overview["replicas"].as_array().unwrap().clone().into_iter();
        replicas.find(|replica| replica["replica"] == name.as_str())
    };
    // What it has to do is told with its second heartbeat.
    let here = eventually("it is told of", async || {
        told().await.filter(|replica| replica["load"].is_object())
    })
    .await;
    assert_eq!(
        (&here["here"], &here["leaving"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(here["roles"], json!(["command"]));
    assert!(
        here["load"].is_object() && here["version"].is_string(),
        "{here}"
    );
    other.kill();
    eventually("it is gone", async || told().await.is_none().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_takes_the_scope_for_it() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let nats = Nats::start();
    let flags = tokens::flags(&tokens::written(folder.path(), &signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let service = Service::serve(&nats.url(), &flags);
    let http = service.http();
    for path in [
        "/ops/overview",
        "/ops/stream",
        "/ops/views",
        "/ops/views/nothing",
        "/ops/homes/nothing/a.b",
    ] {
        http.get(path, &[]).await.problem(401, "unauthenticated");
        let others = bearer(&signer.token("m-1", "qry:* cmd:*"));
        let refused = http.get(path, &[("Authorization", &others)]).await;
        assert_eq!(
            refused.problem(403, "forbidden")["scope"],
            "ops:read",
            "{path}"
        );
    }
    let may = bearer(&signer.token("m-1", "ops:read"));
    let views = http
        .get("/ops/views", &[("Authorization", &may)])
        .await
        .expect(200)
        .json();
    assert_eq!(
        views["items"][0]["stores"][0]["error"],
        Value::Null,
        "{views}"
    );
}
