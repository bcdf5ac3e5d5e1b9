//! `/ops/explain`: why each document of the sample mart is as it is, against a naive fold.

use crate::harness::{
    api::{Api, Http},
    poll::eventually,
    service::Service,
};
use futures::StreamExt;
use headwater::{
    event_log::codec,
    mart::view::{OrderView, ProductView, SalesView, StorefrontView},
    recorded::Recorded,
    testkit::ViewFold,
    view::View,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// All events of the log, in order.
async fn events(nats: &str) -> Vec<Recorded> {
    let client = async_nats::connect(nats).await.unwrap();
    let stream = async_nats::jetstream::new(client)
        .get_stream("EVENTS")
        .await
        .unwrap();
    let last = stream.cached_info().state.last_sequence;
    let config = async_nats::jetstream::consumer::pull::OrderedConfig {
        filter_subject: "evt.>".to_owned(),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.unwrap();
    let mut messages = consumer.messages().await.unwrap();
    let mut events = Vec::new();
    loop {
        let message = messages.next().await.unwrap().unwrap();
        let info = message.info().unwrap();
        let (position, pending) = (info.stream_sequence, info.pending);
        let decoded = codec::decode(&message.subject, position, &message.payload).unwrap();
        events.extend(decoded.into_iter().map(|event| event.recorded));
        if pending == 0 || position == last {
            return events;
        }
    }
}

/// The fields of a document without members, by their pointers.
fn leaves(value: &Value, path: &str, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                leaves(member, &format!("{path}/{name}"), into);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                leaves(item, &format!("{path}/{index}"), into);
            }
        }
        leaf => {
            into.insert(path.to_owned(), leaf.clone());
        }
    }
}

type Setter = (Value, (String, String, u64));

/// Each document of a view, and each of its fields with the event that last set it.
fn naive<V: View>(events: &[Recorded]) -> BTreeMap<String, (Value, BTreeMap<String, Setter>)> {
    let mut fold = ViewFold::<V>::new();
    let mut set: BTreeMap<String, BTreeMap<String, Setter>> = BTreeMap::new();
    for event in events {
        fold.apply(event).unwrap();
        set.retain(|id, _| fold.json(id).is_some());
        for (id, document) in fold.documents() {
            let mut now = BTreeMap::new();
            leaves(document, "", &mut now);
            let fields = set.entry(id.clone()).or_default();
            fields.retain(|path, _| now.contains_key(path));
            for (path, value) in now {
                if fields.get(&path).is_none_or(|(known, _)| *known != value) {
                    let by = (event.aggregate.clone(), event.id.clone(), event.version);
                    fields.insert(path, (value, by));
                }
            }
        }
    }
    let documents = fold.documents().iter();
    let documents =
        documents.map(|(id, document)| (id.clone(), (document.clone(), set[id].clone())));
    documents.collect()
}

async fn compare<V: View>(http: &Http, events: &[Recorded]) -> usize {
    let documents = naive::<V>(events);
    for (id, (document, fields)) in &documents {
        let path = format!("/ops/explain/{}/{id}", V::NAME);
        let explained = http.get(&path, &[]).await.expect(200).json();
        assert_eq!(explained["equal"], true, "{path}: {explained}");
        assert_eq!(&explained["folded"], document, "{path}");
        let served = http.get(&format!("/views/{}/{id}", V::NAME), &[]).await;
        let served = served.expect(200).json();
        assert_eq!(served["document"], explained["served"], "{path}");
        assert_eq!(served["version"], explained["version"], "{path}");
        let told = explained["fields"].as_array().unwrap().iter().map(|field| {
            let event = &explained["events"][field["event"].as_u64().unwrap() as usize];
            let text = |name: &str| event[name].as_str().unwrap().to_owned();
            let by = (
                text("aggregate"),
                text("id"),
                event["version"].as_u64().unwrap(),
            );
            (
                field["path"].as_str().unwrap().to_owned(),
                (field["value"].clone(), by),
            )
        });
        assert_eq!(&told.collect::<BTreeMap<_, _>>(), fields, "{path}");
        let events = explained["events"].as_array().unwrap();
        assert!(
            events.is_sorted_by_key(|event| event["position"].as_u64()),
            "{path}"
        );
        assert!(
            events.iter().all(|event| event["command_id"].is_string()),
            "{path}"
        );
    }
    documents.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_document_of_the_sample_mart_is_explained_as_a_naive_fold_has_it() {
    let service = Service::dev_with_processes(&[]);
    let http = service.http();
    let api = Api::Http(http.clone());
    let give = async |aggregate: &str, id: &str, command: &str, body: Value| {
        api.command(aggregate, id, command, body).await.expect(200)
    };
    let member = json!({"name": "Kim", "email": "kim@example.com"});
    give("member", "m-kim", "register", member).await;
    let products = api
        .list("product", json!({"limit": 1, "status": "listed"}), &[])
        .await;
    let product = products.expect(200).json()["items"][0]["document"].clone();
    let (sku, price) = (product["sku"].as_str().unwrap(), &product["price"]);
    let stock = json!({"quantity": 50});
    give("stock", &format!("gangnam_{sku}"), "receive", stock).await;
    for order in ["o-1", "o-2", "o-3"] {
        let lines = json!([{"sku": sku, "quantity": 2, "unit_price": price}]);
        let body = json!({"member": "m-kim", "branch": "gangnam", "lines": lines});
        give("order", order, "place", body).await;
        eventually("it is confirmed", async || {
            let found = api.document("order", order, &[]).await;
            (found.status == 200 && found.json()["document"]["status"] == "confirmed").then_some(())
        })
        .await;
    }
    let amount = json!({"payment": "p-1", "amount": price.as_i64().unwrap() * 2});
    give("order", "o-1", "pay", amount.clone()).await;
    give("order", "o-2", "pay", amount).await;
    give("order", "o-2", "cancel", json!({"reason": "too late"})).await;
    give("product", sku, "rename", json!({"name": "another"})).await;
    give("member", "m-kim", "withdraw", json!({})).await;
    // Both orders' stock is released: nothing follows any more.
    eventually("it is at rest", async || {
        let path = format!("/ops/aggregates/stock/gangnam_{sku}?limit=200");
        let history = http.get(&path, &[]).await.expect(200).json();
        let commits = history["commits"].as_array().unwrap().iter();
        let mut events = commits.flat_map(|commit| commit["events"].as_array().unwrap());
        events
            .any(|event| event["type"] == "stock.released.v1")
            .then_some(())
    })
    .await;
    let overview = http.get("/ops/overview", &[]).await.expect(200).json();
    let last = overview["log"]["last"].as_u64().unwrap();
    eventually("all views have read all of it", async || {
        let views = http.get("/ops/views", &[]).await.expect(200).json();
        let mut views = views["items"].as_array().unwrap().iter();
        let caught_up = views.all(|view| view["stores"][0]["generations"][0]["lag_commits"] == 0);
        let now = http.get("/ops/overview", &[]).await.expect(200).json();
        (caught_up && now["log"]["last"].as_u64() >= Some(last)).then_some(())
    })
    .await;
    let events = events(&service.nats_url()).await;
    let number = compare::<ProductView>(&http, &events).await
        + compare::<StorefrontView>(&http, &events).await
        + compare::<OrderView>(&http, &events).await
        + compare::<SalesView>(&http, &events).await;
    assert!(number > 40, "{number} documents");
    http.get("/ops/explain/order/o-9", &[])
        .await
        .problem(404, "not_found");
    http.get("/ops/explain/nothing/o-9", &[])
        .await
        .problem(404, "unknown_view");
}
