//! The whole log, checked by this build: what can be folded, and what breaks.

use crate::harness::{
    api::Api,
    nats::Nats,
    service::{Service, headwater, run},
    unique,
};
use async_nats::jetstream;
use serde_json::{Value, json};
use std::process::Output;

/// A log that a service has written to, and has left.
struct World {
    nats: Nats,
    client: async_nats::Client,
}

impl World {
    /// With three stocks, each of 20 events, and a product that holds a unique key.
    async fn start() -> Self {
        let nats = Nats::start();
        let service = Service::serve(&nats.url(), &[]);
        let api = Api::Http(service.http());
        for stock in ["b_1", "b_2", "b_3"] {
            for _ in 0..20 {
                let body = json!({"quantity": 5});
                api.command("stock", stock, "receive", body)
                    .await
                    .expect(200);
            }
        }
        let product =
            json!({"name": "사과", "price": 100, "category": "fruit", "barcode": "8801234567893"});
        api.command("product", &unique("p"), "register", product)
            .await
            .expect(200);
        drop(service);
        let client = nats.client().await;
        Self { nats, client }
    }

    /// Puts a message on an aggregate's subject, as no replica does; returns its position.
    async fn put(&self, subject: &str, body: &Value) -> u64 {
        let jetstream = jetstream::new(self.client.clone());
        let published = jetstream.publish(subject.to_owned(), body.to_string().into());
        published.await.unwrap().await.unwrap().sequence
    }

    fn events(&self, arguments: &[&str]) -> Output {
        let mut command = headwater(["events"]);
        run(command.args(arguments).args(["--nats", &self.nats.url()]))
    }

    /// The report, and the exit code.
    fn check(&self, arguments: &[&str]) -> (Value, i32) {
        let output = self.events(&[&["check", "--json"], arguments].concat());
        let report = serde_json::from_slice(&output.stdout);
        let report = report.unwrap_or_else(|error| panic!("{error}: {output:?}"));
        (report, output.status.code().unwrap())
    }
}

fn event(stock: &str, version: u64, data: &Value) -> Value {
    json!([{
        "specversion": "1.0", "source": format!("/stock/{stock}"), "id": version.to_string(),
        "type": "stock.received.v1", "time": "2026-11-27T09:00:00Z", "commandid": "planted", "data": data,
    }])
}

fn of_type<'a>(report: &'a Value, name: &str) -> &'a Value {
    let types = report["types"].as_array().unwrap();
    let found = types.iter().find(|it| it["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_this_build_can_fold_is_well() {
    let world = World::start().await;
    let (report, code) = world.check(&[]);
    assert_eq!(code, 0, "{report}");
    let stocks = of_type(&report, "stock.received.v1");
    for count in ["events", "decoded", "folded"] {
        assert_eq!(stocks[count], 60, "{count}: {report}");
    }
    assert_eq!(
        (&stocks["upcast"], &stocks["version"]),
        (&json!(0), &json!(1))
    );
    assert_eq!(stocks["type"], "stock.received");
    assert_eq!(
        (&report["aggregates"], &report["claims"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(report["log"]["messages"], report["log"]["last"]);
    let told = world.events(&["check"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(
        told.contains("this build can decode and fold all of it"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_told_by_type_version_position_and_field() {
    let world = World::start().await;
    let subject = "evt.stock.b_2";
    let position = world
        .put(
            subject,
            &event("b_2", 21, &json!({"quantity": "many", "available": 105})),
        )
        .await;
    world
        .put(
            subject,
            &event("b_2", 22, &json!({"quantity": 1, "available": 106})),
        )
        .await;
    let gap = world
        .put(
            "evt.stock.b_3",
            &event("b_3", 22, &json!({"quantity": 1, "available": 101})),
        )
        .await;
    let unknown = world.put("evt.rocket.r-1", &json!([])).await;
    let (report, code) = world.check(&[]);
    assert_eq!((code, &report["broken"]), (1, &json!(3)), "{report}");
    let fault = &report["faults"][0];
    assert_eq!(fault["position"], position);
    assert_eq!(
        (&fault["subject"], &fault["version"]),
        (&json!(subject), &json!(21))
    );
    assert_eq!(
        (&fault["event_type"], &fault["field"]),
        (&json!("stock.received.v1"), &json!("quantity"))
    );
    assert_eq!(
        (
            &report["faults"][1]["position"],
            &report["faults"][1]["field"]
        ),
        (&json!(gap), &json!("id"))
    );
    assert_eq!(report["faults"][2]["position"], unknown);
    let stocks = of_type(&report, "stock.received.v1");
    assert_eq!(
        (&stocks["events"], &stocks["folded"]),
        (&json!(63), &json!(60))
    );

    // What is excluded, and what this build has given up, is no fault.
    let reason = ["--reason", "planted", "--by", "ada"];
    for (stock, position) in [("b_2", position), ("b_3", gap)] {
        let position = position.to_string();
        let excluded =
            world.events(&[&["exclude", "stock", stock, &*position], &reason[..]].concat());
        assert!(excluded.status.success(), "{excluded:?}");
    }
    let (report, code) = world.check(&["--leave-out", "rocket"]);
    assert_eq!((code, &report["excluded"]), (0, &json!(2)), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_and_nothing_left_behind() {
    let world = World::start().await;
    let stream = jetstream::new(world.client.clone())
        .get_stream("EVENTS")
        .await
        .unwrap();
    let before = stream.get_info().await.unwrap();
    let (report, code) = world.check(&["--threads", "3", "--memory-mib", "16"]);
    assert_eq!((code, &report["readings"]), (0, &json!(1)), "{report}");
    let after = stream.get_info().await.unwrap();
    assert_eq!(after.state.last_sequence, before.state.last_sequence);
    assert_eq!(after.state.consumer_count, before.state.consumer_count);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_this_build_would_change_are_told() {
    let world = World::start().await;
    let service = Service::serve(&world.nats.url(), &[]);
    let api = Api::Http(service.http());
    let mut position = 0;
    for (id, price) in [("kept", 100), ("changed", 200)] {
        let product = json!({"name": "배", "price": 100, "category": "fruit"});
        api.command("product", id, "register", product)
            .await
            .expect(200);
        let repriced = api
            .command("product", id, "reprice", json!({"price": price + 50}))
            .await;
        position = repriced.expect(200).json()["position"].as_u64().unwrap();
    }
    let shown = [("Headwater-Min-Position", &*format!("product@{position}"))];
    api.document("product", "changed", &shown).await.expect(200);
    let (report, code) = world.check(&["--documents"]);
    let products = |report: &Value| {
        let views = report["documents"].as_array().unwrap();
        views
            .iter()
            .find(|view| view["view"] == "product")
            .unwrap()
            .clone()
    };
    assert_eq!(
        (code, &products(&report)["compared"]),
        (0, &json!(3)),
        "{report}"
    );

    // What a view has applied stays when it is excluded, until it is built again.
    let excluded = [
        "exclude",
        "product",
        "changed",
        &position.to_string(),
        "--reason",
        "wrong",
        "--by",
        "ada",
        "--force",
    ];
    assert!(world.events(&excluded).status.success());
    let (report, code) = world.check(&["--documents"]);
    let products = products(&report);
    assert_eq!((code, &products["different"]), (1, &json!(1)), "{report}");
    let difference = &products["differences"][0];
    assert_eq!(difference["id"], "changed");
    assert_eq!(
        (
            &difference["stored"]["price"],
            &difference["folded"]["price"]
        ),
        (&json!(250), &json!(100))
    );
}
