//! Documents kept in memory by several replicas: never older than what a reader asked for.

use crate::harness::{
    api::{Api, Http},
    nats::Nats,
    service::Service,
    unique,
};
use serde_json::json;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

const WRITERS: usize = 4;
const ROUNDS: u64 = 25;

fn replica(nats: &Nats, arguments: &[&str]) -> Service {
    let arguments = [&["--surreal", "mem://"], arguments].concat();
    Service::serve(&nats.url(), &arguments)
}

/// Reads a product's price, at least as new as `position`.
async fn price(http: &Http, sku: &str, position: &str) -> u64 {
    let headers = [
        ("Headwater-Min-Position", position),
        ("Headwater-Max-Wait-Ms", "30000"),
    ];
    let reply = http.get(&format!("/views/product/{sku}"), &headers).await;
    let document = reply.expect(200).json();
    document["document"]["price"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_replica_shows_an_older_document_than_the_position_asked_for() {
    let nats = Nats::start();
    let replicas = [
        replica(&nats, &[]),
        replica(&nats, &[]),
        replica(&nats, &["--cache-mb", "0"]),
    ];
    let surfaces: Vec<Http> = replicas.iter().map(Service::http).collect();
    let writing = Arc::new(AtomicBool::new(true));
    let skus: Vec<_> = (0..WRITERS).map(|_| unique("cached")).collect();
    let readers: Vec<_> = surfaces
        .iter()
        .map(|http| {
            let (http, writing, skus) = (http.clone(), Arc::clone(&writing), skus.clone());
            tokio::spawn(async move {
                let mut newest = vec![0; skus.len()];
                while writing.load(Ordering::Relaxed) {
                    for (sku, newest) in skus.iter().zip(&mut newest) {
                        let reply = http.get(&format!("/views/product/{sku}"), &[]).await;
                        if reply.status == 200 {
                            // What one replica shows never goes back either.
                            let version = reply.json()["version"].as_u64().unwrap();
                            assert!(version >= *newest, "{version} after {newest}");
                            *newest = version;
                        }
                    }
                }
            })
        })
        .collect();
    let writers: Vec<_> = skus
        .into_iter()
        .enumerate()
        .map(|(number, sku)| {
            let surfaces = surfaces.clone();
            tokio::spawn(async move {
                let api = Api::Http(surfaces[number % surfaces.len()].clone());
                let fields = json!({"name": sku, "price": 1, "category": "fruit"});
                api.command("product", &sku, "register", fields)
                    .await
                    .expect(200);
                for round in 2..ROUNDS {
                    let fields = json!({"price": round});
                    let accepted = api
                        .command("product", &sku, "reprice", fields)
                        .await
                        .expect(200);
                    let position = accepted.header("Headwater-Position");
                    let seen = surfaces.iter().map(|http| price(http, &sku, position));
                    let seen = futures::future::join_all(seen).await;
                    assert_eq!(seen, vec![round; surfaces.len()], "{sku}");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    writing.store(false, Ordering::Relaxed);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test]
async fn a_document_read_again_has_the_same_bytes_and_tag() {
    let service = tokio::task::spawn_blocking(crate::harness::service::shared);
    let http = service.await.unwrap().http();
    let api = Api::Http(http.clone());
    let sku = unique("tagged");
    let fields = json!({"name": sku, "price": 1, "category": "fruit"});
    let accepted = api
        .command("product", &sku, "register", fields)
        .await
        .expect(200);
    let position = accepted.header("Headwater-Position").to_owned();
    let path = format!("/views/product/{sku}");
    let first = http
        .get(&path, &[("Headwater-Min-Position", &position)])
        .await
        .expect(200);
    let again = http.get(&path, &[]).await.expect(200);
    assert_eq!(first.body, again.body);
    assert_eq!(first.header("ETag"), again.header("ETag"));
    let known = http
        .get(&path, &[("If-None-Match", first.header("ETag"))])
        .await;
    assert_eq!(known.expect(304).body.len(), 0);
    let repriced = api
        .command("product", &sku, "reprice", json!({"price": 2}))
        .await
        .expect(200);
    let headers = [
        (
            "Headwater-Min-Position",
            repriced.header("Headwater-Position"),
        ),
        ("If-None-Match", first.header("ETag")),
    ];
    let changed = http.get(&path, &headers).await.expect(200);
    assert_eq!(changed.json()["document"]["price"], 2);
}
