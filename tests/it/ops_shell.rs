//! `headwater views|parked|processes|events … --json`: the same as `/ops` answers, over NATS and of a gateway.

use crate::harness::{
    api::{Api, Http},
    poll::eventually,
    service::{Service, headwater, run},
    unique,
};
use serde_json::{Value, json};

/// What moves by itself, and who tells it.
const MOVES: [&str; 6] = [
    "rate_per_s",
    "lag_ms",
    "lag_commits",
    "here",
    "home",
    "drift",
];

/// The pages that a command prints, one a line.
fn printed(arguments: &[&str], code: i32) -> Vec<Value> {
    let output = run(&mut headwater(arguments));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{arguments:?}: {shown}{said}"
    );
    let lines = shown.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{shown}")))
        .collect()
}

/// Takes out of a value what moves.
fn still(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            if fields.contains_key("lag_commits") {
                fields.remove("position");
            }
            fields.retain(|name, _| !MOVES.contains(&name.as_str()));
            for field in fields.values_mut() {
                *field = still(field.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = still(item.take());
            }
        }
        _ => {}
    }
    value
}

async fn read(http: &Http, path: &str) -> Value {
    http.get(path, &[]).await.expect(200).json()
}

/// Parks a product, and returns its id.
async fn park(service: &Service) -> String {
    let (api, sku) = (Api::Http(service.http()), unique("shell"));
    let body = json!({"name": "before", "price": 1, "category": "test"});
    let registered = api.command("product", &sku, "register", body).await;
    registered.expect(200);
    let nats = async_nats::connect(service.nats_url()).await.unwrap();
    let subject = format!("evt.product.{sku}");
    nats.publish(subject, "not a commit".into()).await.unwrap();
    nats.flush().await.unwrap();
    eventually("it is parked", || async {
        let reply = api.document("product", &sku, &[]).await;
        (reply.status == 200 && reply.header("Headwater-Parked") == "true").then_some(())
    })
    .await;
    // The views may still be reading the sample catalogue.
    eventually("all views have read all", || async {
        let told = read(&service.http(), "/ops/views").await;
        let views = told["items"].as_array().unwrap().iter();
        let mut lags = views.map(|view| &view["stores"][0]["generations"][0]["lag_commits"]);
        lags.all(|lag| lag == 0).then_some(())
    })
    .await;
    sku
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_shell_prints_as_json_is_what_ops_answers() {
    let service = Service::dev_with_processes(&[]);
    let http = service.http();
    let sku = park(&service).await;
    let order = json!({"member": "m-haneul", "branch": "gangnam",
        "lines": [{"sku": "apple-1kg", "quantity": 1, "unit_price": 6900}]});
    let api = Api::Http(http.clone());
    let placed = api.command("order", "o-shell", "place", order);
    placed.await.expect(200);
    eventually("the process waits for the payment", || async {
        let instance = http
            .get("/ops/processes/fulfilment/o-shell", &[])
            .await
            .json();
        (instance["status"] == "waiting").then_some(())
    })
    .await;
    let (nats, url) = (service.nats_url(), service.http_url());
    let product = format!("/ops/aggregates/product/{sku}");
    let parked_one = format!("/ops/parked?view=product&aggregate=product&id={sku}&limit=200");
    let cases: [(&str, &[&str]); 8] = [
        ("/ops/views", &["views", "list"]),
        ("/ops/views/order", &["views", "status", "order"]),
        ("/ops/parked?limit=200", &["parked", "list"]),
        (&parked_one, &["parked", "show", "product", "product", &sku]),
        (
            "/ops/processes/fulfilment?limit=200",
            &["processes", "list", "fulfilment"],
        ),
        (
            "/ops/processes/fulfilment/o-shell?limit=200",
            &["processes", "show", "fulfilment", "o-shell"],
        ),
        (&product, &["events", "show", "product", &sku]),
        (
            "/ops/aggregates/order/o-shell",
            &["events", "show", "order", "o-shell"],
        ),
    ];
    for (path, arguments) in cases {
        let expected = still(read(&http, path).await);
        for from in [["--nats", &nats], ["--ops", &url]] {
            let [page] = printed(&[arguments, &from, &["--json"]].concat(), 0)
                .try_into()
                .unwrap();
            assert_eq!(still(page), expected, "{path} {from:?}");
        }
    }
    // Without --json it is the same, as people read it.
    let output = run(&mut headwater(["views", "list", "--ops", &url]));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(shown.lines().count() > 20, "{shown}");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(still(shown), still(read(&http, "/ops/views").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_shell_does_is_a_job_as_of_ops() {
    let service = Service::dev(&[]);
    let sku = park(&service).await;
    let (nats, url) = (service.nats_url(), service.http_url());
    let about = ["product", "product", sku.as_str()];
    for from in [["--nats", &nats], ["--ops", &url]] {
        let job = |arguments: &[&str], code| {
            let arguments = [arguments, &from, &["--json"]].concat();
            let [job] = printed(&arguments, code).try_into().unwrap();
            job
        };
        let retried: Value = job(&[&["parked", "retry"][..], &about].concat(), 1);
        assert_eq!(retried["kind"], "retry", "{retried}");
        assert_eq!(retried["parts"][0]["result"]["still_parked"], 1);
        let verified: Value = job(&["views", "verify", "storefront"], 0);
        assert_eq!(verified["state"], "done", "{verified}");
        let result = &verified["parts"][0]["result"];
        assert!(result["checked"].as_u64().unwrap() > 0, "{verified}");
        assert!(
            result["counts"]["checked"].as_u64().unwrap() > 0,
            "{verified}"
        );
        let rebuilt: Value = job(&["views", "rebuild", "storefront"], 0);
        assert_eq!(rebuilt["state"], "done", "{rebuilt}");
        let back: Value = job(&["views", "rollback", "storefront"], 0);
        assert_eq!(back["state"], "done", "{back}");
        let dropped: Value = job(&["views", "drop", "storefront"], 0);
        assert_eq!(dropped["state"], "done", "{dropped}");
        let refused: Value = job(&["views", "rollback", "storefront"], 1);
        assert_eq!(refused["state"], "failed", "{refused}");
        assert!(refused["error"].as_str().unwrap().contains("no previous"));
        // Each view is verified by a job of its own.
        let all = printed(&[&["views", "verify"][..], &from, &["--json"]].concat(), 0);
        assert_eq!(all.len(), 4, "{all:?}");
    }
    // A job of the gateway's is remembered there.
    let jobs = read(&service.http(), "/ops/jobs").await;
    assert!(jobs["items"].as_array().unwrap().len() >= 9, "{jobs}");
    let skip = [
        &["parked", "skip"][..],
        &about,
        &["--ops", &url],
        &["--json"],
    ];
    let skipped = printed(&skip.concat(), 0);
    assert_eq!(skipped[0]["parts"][0]["result"]["still_parked"], 0);
}
