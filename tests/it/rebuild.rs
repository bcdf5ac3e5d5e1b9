//! A rebuild whose replica is killed in the middle.

use crate::harness::{
    api::Api,
    nats::Nats,
    poll::eventually_within,
    replica::Replica,
    service::{headwater, run},
    unique,
};
use async_nats::jetstream;
use futures::{StreamExt, future::try_join_all};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Several batches of a projector.
const PRODUCTS: usize = 12_000;
/// After how long what a replica has written is on its disk for sure: it syncs every second.
const SYNCED: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(120);

/// Registers one product by a command, and then puts as many more beside it as there are to be.
async fn products(client: &async_nats::Client, api: &Api) {
    let sku = unique("rebuilt");
    let body = json!({"name": "Gala apples", "price": 1, "category": "test"});
    api.command("product", &sku, "register", body)
        .await
        .expect(200);
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream("EVENTS").await.unwrap();
    let first = stream
        .get_last_raw_message_by_subject(&format!("evt.product.{sku}"))
        .await
        .unwrap();
    let commit = String::from_utf8(first.payload.to_vec()).unwrap();
    let numbers: Vec<_> = (1..PRODUCTS).collect();
    for numbers in numbers.chunks(500) {
        let appended = numbers.iter().map(|number| {
            let other = format!("{sku}-{number}");
            let commit = commit.replace(&sku, &other);
            let published = jetstream.publish(format!("evt.product.{other}"), commit.into());
            async move { published.await?.await }
        });
        try_join_all(appended).await.unwrap();
    }
}

/// The generation that is being filled, if there is one: how far it is, and how far it is behind.
async fn building(client: &async_nats::Client) -> Option<(u64, u64)> {
    let inbox = client.new_inbox();
    let mut replies = client.subscribe(inbox.clone()).await.unwrap();
    client
        .publish_with_reply("ctl.projector.all.product.status", inbox, "{}".into())
        .await
        .unwrap();
    let reply: Value = loop {
        let reply = replies.next().await.unwrap();
        let reply: Value = serde_json::from_slice(&reply.payload).unwrap();
        if reply.get("status").is_some() {
            break reply;
        }
    };
    let generations = reply["status"]["generations"].as_array().unwrap();
    let mut building = generations.iter().filter(|g| g["state"] == "building");
    let building = building.next()?;
    Some((
        building["position"].as_u64()?,
        building["lag_commits"].as_u64()?,
    ))
}

fn status(nats: &Nats) -> String {
    let status = run(headwater(["views", "status", "product"]).args(["--nats", &nats.url()]));
    String::from_utf8(status.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_goes_on_from_its_checkpoint_when_its_replica_was_killed() {
    let nats = Nats::start();
    let mut replica = Replica::of(&nats.url(), &[]);
    let client = nats.client().await;
    products(&client, &Api::Http(replica.service().http())).await;
    let begun = headwater(["views", "rebuild", "product", "--no-wait"])
        .args(["--nats", &nats.url()])
        .status();
    assert!(begun.unwrap().success());
    let mut seen = None;
    let (position, behind) = loop {
        match building(&client).await {
            Some((position, behind)) if position > 0 && behind > 0 => {
                let (since, position, behind) =
                    *seen.get_or_insert_with(|| (Instant::now(), position, behind));
                if since.elapsed() > SYNCED {
                    break (position, behind);
                }
            }
            _ => assert!(
                !status(&nats).contains("v1.1 live"),
                "it was never seen halfway"
            ),
        }
    };
    replica.kill();
    replica.start_again();
    eventually_within(LONG, "the rebuild takes over", || async {
        status(&nats).contains("v1.1 live").then_some(())
    })
    .await;

    // All that was read since is what came after the checkpoint.
    let stream = jetstream::new(client.clone());
    let stream = stream.get_stream("EVENTS").await.unwrap();
    let consumer = format!("view-product-v1-g1-{}", replica.name());
    let consumer = stream.consumer_info(&consumer).await.unwrap();
    assert_eq!(consumer.num_pending, 0);
    let read = consumer.delivered.consumer_sequence;
    assert!(
        0 < read && read <= behind && read < PRODUCTS as u64,
        "{read} were read of {PRODUCTS}; it was at {position}, {behind} behind"
    );
    let verified = run(headwater(["views", "verify", "product"]).args(["--nats", &nats.url()]));
    let shown = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success(), "{shown}");
    assert!(
        shown.contains(&format!("{PRODUCTS} documents compared, 0 differ")),
        "{shown}"
    );
}
