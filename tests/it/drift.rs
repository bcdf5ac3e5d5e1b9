//! Documents that somebody has changed in the store are found without anybody asking, and set right where
//! that is wanted, on both storages.

use crate::harness::{
    api::{Api, Http},
    metrics::Metrics,
    nats::Nats,
    poll::eventually,
    replica::Replica,
    service::{Service, headwater, run},
    surreal::Surreal,
    unique,
};
use headwater::read_model;
use serde_json::{Value, json};
use std::path::Path;

/// As fast as it goes.
const WATCH: [&str; 2] = ["--verify-per-minute", "1000000"];
const DRIFT: &str = "headwater_view_drift_total";
const PRODUCT: &str = "view=\"product\"";

async fn register(http: &Http, sku: &str) {
    let api = Api::Http(http.clone());
    let body = json!({"name": sku, "price": 7, "category": "test"});
    let reply = api.command("product", sku, "register", body).await;
    let position = reply.expect(200).header("Headwater-Position").to_owned();
    let at_least = [
        ("Headwater-Min-Position", &*position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let reply = api.document("product", sku, &at_least).await.expect(200);
    assert_eq!(reply.json()["document"]["price"], 7);
}

async fn price(http: &Http, sku: &str) -> Value {
    let api = Api::Http(http.clone());
    let reply = api.document("product", sku, &[]).await.expect(200);
    reply.json()["document"]["price"].clone()
}

fn tampering(sku: &str) -> String {
    let document = format!("type::record('product_v1_f2', '{sku}')");
    format!("USE NS headwater DB views; UPDATE {document} SET doc.price = 1000000;")
}

async fn until_found(http: &Http) {
    eventually("the difference is counted", || async {
        let found = Metrics::of(http).await.sum(DRIFT, PRODUCT);
        (found > 0.0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_changed_on_a_shared_server_is_set_right_for_readers_everywhere() {
    let (nats, server) = (Nats::start(), Surreal::start());
    let url = server.url();
    let store = ["--surreal", &url, "--surreal-user", "root"];
    let store = [&store[..], &["--surreal-password", "root"]].concat();
    let start = |more: &[&str]| Replica::of(&nats.url(), &[&store[..], more].concat());
    let mut first = start(&["--verify-per-minute", "0"]);
    let sku = unique("drift");
    register(&first.service().http(), &sku).await;
    first.kill();
    server.run(&tampering(&sku)).await;
    // Who reads now remembers what is wrong.
    let mut gateway = start(&["--roles", "gateway"]);
    let read = gateway.service().http();
    assert_eq!(price(&read, &sku).await, 1_000_000);
    let mut keeper = start(&[&WATCH[..], &["--repair"]].concat());
    let kept = keeper.service().http();
    until_found(&kept).await;
    eventually("the document is right for all", || async {
        (price(&read, &sku).await == 7 && price(&kept, &sku).await == 7).then_some(())
    })
    .await;
    eventually("it is counted", || async {
        let repaired = Metrics::of(&kept).await;
        (repaired.sum("headwater_view_repaired_total", PRODUCT) >= 1.0).then_some(())
    })
    .await;
    let shown = eventually("the operator is told", || async {
        let arguments = ["views", "status", "product", "--nats", &nats.url()];
        let output = run(&mut headwater(arguments));
        let shown = String::from_utf8(output.stdout).unwrap();
        shown.contains("set right").then_some(shown)
    })
    .await;
    assert!(shown.contains(&sku), "{shown}");
}

/// Changes a document in the folder of a service that is not running.
fn tamper(folder: &Path, sku: &str) {
    let url = format!("surrealkv://{}", folder.join("views").display());
    let (sql, store) = (tampering(sku), url.clone());
    let changing = move || {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_stack_size(10 << 20)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let changed = tokio::spawn(async move {
                let store = surrealdb::engine::any::connect(url).await.unwrap();
                store.use_ns("headwater").use_db("views").await.unwrap();
                store.query(sql).await.unwrap().check().unwrap();
            });
            changed.await.unwrap();
            read_model::closed(&store).await;
        });
    };
    std::thread::spawn(changing).join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_changed_in_a_replicas_own_store_is_found_and_set_right_only_where_told() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let sku = unique("drift");
    let stop = |mut service: Service| {
        service.signal("TERM");
        assert!(service.wait().success());
    };
    let arguments = [&WATCH[..], &["--no-seed"]].concat();
    let service = Service::dev_in(&folder, &arguments);
    register(&service.http(), &sku).await;
    stop(service);
    tamper(&folder, &sku);
    let service = Service::dev_in(&folder, &arguments);
    let http = service.http();
    until_found(&http).await;
    assert_eq!(price(&http, &sku).await, 1_000_000);
    let verify = ["views", "verify", "product", "--nats", &service.nats_url()];
    assert_eq!(run(&mut headwater(verify)).status.code(), Some(1));
    stop(service);
    let service = Service::dev_in(&folder, &[&arguments[..], &["--repair"]].concat());
    let http = service.http();
    eventually("the document is right", || async {
        (price(&http, &sku).await == 7).then_some(())
    })
    .await;
    let verify = ["views", "verify", "--nats", &service.nats_url()];
    assert_eq!(run(&mut headwater(verify)).status.code(), Some(0));
    assert!(service.transcript().contains("not what the log says"));
    stop(service);
}
