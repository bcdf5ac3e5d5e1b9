//! Lists kept in memory by several replicas: never older than what a reader asked for, and the same on both
//! surfaces.

use crate::harness::{
    api::{Api, Http, NatsApi, Reply},
    metrics::Metrics,
    nats::Nats,
    service::Service,
    unique,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Read,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const WRITERS: usize = 3;
const ROUNDS: u64 = 15;

fn replica(nats: &Nats, arguments: &[&str]) -> Service {
    let arguments = [&["--surreal", "mem://"], arguments].concat();
    Service::serve(&nats.url(), &arguments)
}

/// The products of a list by their ids.
fn items(reply: &Reply) -> BTreeMap<String, Value> {
    let list = reply.json();
    let items = list["items"].as_array().unwrap().iter();
    let items = items.map(|item| (item["id"].as_str().unwrap().to_owned(), item.clone()));
    items.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_lists_anything_older_than_the_position_asked_for() {
    let nats = Nats::start();
    let replicas = [
        replica(&nats, &[]),
        replica(&nats, &[]),
        replica(&nats, &["--list-cache-mb", "0", "--cache-mb", "0"]),
    ];
    let category = unique("listed");
    let surfaces: Vec<Http> = replicas.iter().map(Service::http).collect();
    let mut apis: Vec<Api> = surfaces.iter().cloned().map(Api::Http).collect();
    apis.push(Api::Nats(NatsApi::connect(&nats.url()).await));
    let writing = Arc::new(AtomicBool::new(true));
    let readers = surfaces.iter().map(|http| {
        let (http, writing) = (http.clone(), Arc::clone(&writing));
        let path = format!("/views/product?category={category}&sort=-price");
        tokio::spawn(async move {
            let mut newest = BTreeMap::<String, u64>::new();
            while writing.load(Ordering::Relaxed) {
                let reply = http.get(&path, &[]).await.expect(200);
                let items = items(&reply);
                // What one replica shows never goes back either.
                for (id, newest) in &mut newest {
                    let version = items[id]["version"].as_u64().unwrap();
                    assert!(version >= *newest, "{id}: {version} after {newest}");
                }
                let versions = items.into_iter();
                let versions = versions.map(|(id, item)| (id, item["version"].as_u64().unwrap()));
                newest = versions.collect();
            }
        })
    });
    let readers: Vec<_> = readers.collect();
    let writers = (0..WRITERS).map(|number| {
        let (apis, category) = (apis.clone(), category.clone());
        tokio::spawn(async move {
            let (api, sku) = (&apis[number % apis.len()], unique("listed"));
            for round in 1..=ROUNDS {
                let (command, fields) = match round {
                    1 => {
                        let fields = json!({"name": sku, "price": 1, "category": category});
                        ("register", fields)
                    }
                    _ => ("reprice", json!({"price": round})),
                };
                let accepted = api.command("product", &sku, command, fields).await;
                let accepted = accepted.expect(200);
                let headers = [
                    (
                        "Headwater-Min-Position",
                        accepted.header("Headwater-Position"),
                    ),
                    ("Headwater-Max-Wait-Ms", "30000"),
                ];
                let parameters = json!({"category": category, "count": true});
                let lists = apis.iter();
                let lists = lists.map(|api| api.list("product", parameters.clone(), &headers));
                for list in futures::future::join_all(lists).await {
                    let list = list.expect(200);
                    let items = items(&list);
                    assert_eq!(items[&sku]["document"]["price"], round);
                    assert_eq!(list.json()["count"], items.len());
                }
            }
        })
    });
    for written in futures::future::join_all(writers).await {
        written.unwrap();
    }
    writing.store(false, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_from_memory_is_what_was_read_on_both_surfaces() {
    let service = Service::dev(&["--no-seed"]);
    let (http, nats) = (service.http(), Api::Nats(service.nats().await));
    let category = unique("kept");
    let mut position = String::new();
    for number in 0..8 {
        let sku = unique("kept");
        let name = format!("{number} of what is long enough for a list to be worth a coding");
        let fields = json!({"name": name, "price": 7, "category": category});
        let accepted = nats.command("product", &sku, "register", fields).await;
        position = accepted.expect(200).header("Headwater-Position").to_owned();
    }
    let path = format!("/views/product?category={category}&facets=status");
    let fresh = [("Headwater-Min-Position", position.as_str())];
    let read = http.get(&path, &fresh).await.expect(200);
    assert_eq!(items(&read).len(), 8);
    let before = Metrics::of(&http).await;
    let from_memory = |metrics: &Metrics| metrics.sum("headwater_lists_total", "by=\"memory\"");

    // Written in another way, it is the same list.
    let again = format!("{path}&limit=20&sort=price&count=false");
    let again = http.get(&again, &fresh).await.expect(200);
    let parameters = json!({"facets": "status", "category": category});
    let told = nats.list("product", parameters, &fresh).await.expect(200);
    for other in [&again, &told] {
        assert_eq!(other.body, read.body);
        for name in ["ETag", "Headwater-Applied", "Headwater-Lag-Ms"] {
            assert_eq!(other.header(name), read.header(name), "{name}");
        }
    }
    let known = [("If-None-Match", read.header("ETag"))];
    let not_modified = http.get(&path, &known).await.expect(304);
    assert!(not_modified.body.is_empty());
    assert_eq!(not_modified.header("ETag"), read.header("ETag"));
    let head = http.send(reqwest::Method::HEAD, &path, None, &[]).await;
    let head = head.expect(200);
    assert!(head.body.is_empty());
    assert_eq!(head.header("Content-Length"), read.body.len().to_string());
    let coded = [("Accept-Encoding", "gzip")];
    let coded = http.get(&path, &coded).await.expect(200);
    assert_eq!(coded.header("Content-Encoding"), "gzip");
    assert_eq!(coded.header("ETag"), format!("W/{}", read.header("ETag")));
    let mut body = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&*coded.body);
    decoder.read_to_end(&mut body).unwrap();
    assert_eq!(body, read.body);
    let after = Metrics::of(&http).await;
    assert_eq!(from_memory(&after) - from_memory(&before), 5.0);
    assert!(after.sum("headwater_list_cache_bytes", "") > read.body.len() as f64);
    let rows = |name: &str| after.sum(name, "view=\"product\"");
    assert_eq!(rows("headwater_list_rows_answered_total"), 8.0);
    assert_eq!(rows("headwater_list_rows_read_total"), 8.0);

    let sku = items(&read).into_keys().next().unwrap();
    let repriced = nats.command("product", &sku, "reprice", json!({"price": 8}));
    let repriced = repriced.await.expect(200);
    let headers = [
        (
            "Headwater-Min-Position",
            repriced.header("Headwater-Position"),
        ),
        ("If-None-Match", read.header("ETag")),
    ];
    let changed = http.get(&path, &headers).await.expect(200);
    assert_eq!(items(&changed)[&sku]["document"]["price"], 8);
}
