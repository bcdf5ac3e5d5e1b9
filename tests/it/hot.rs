//! Many commands at once: on one aggregate, and more than a replica takes.

use crate::harness::{api::NatsApi, log::Log, nats::Nats, replica::Replica};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs};

async fn give(api: &NatsApi, id: &str, command: &str, body: Value, key: &str) -> (u16, Value) {
    let headers = [("Idempotency-Key", key)];
    let body = serde_json::to_vec(&body).unwrap();
    let reply = api
        .request(format!("cmd.stock.{id}.{command}"), body, &headers)
        .await
        .unwrap_or_else(|error| panic!("{key}: {error}"));
    (reply.status, reply.json())
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_queue_on_one_aggregate_share_commits_and_none_touches_another() {
    let nats = Nats::start();
    let _replica = Replica::start(&nats.url(), &[]);
    let api = NatsApi::connect(&nats.url()).await;
    let (status, _) = give(&api, "b_hot", "receive", json!({"quantity": 500}), "first").await;
    assert_eq!(status, 200);

    // Half of them ask for what there is, half for what there never was.
    let answers = futures::future::join_all((0..1_000).map(async |number| {
        let key = format!("k-{number}");
        let quantity = if number % 2 == 0 { 1 } else { 501 };
        let body = json!({"order": key, "quantity": quantity});
        let answer = give(&api, "b_hot", "reserve", body, &key).await;
        (number, key, answer)
    }))
    .await;

    let log = Log::read(&api.client).await;
    for (number, key, (status, answer)) in &answers {
        if number % 2 == 0 {
            assert_eq!(*status, 200, "{answer}");
            let logged = &log.commands[key];
            assert_eq!(answer["version"], logged.version);
            assert_eq!(answer["position"], logged.position);
        } else {
            assert_eq!(answer["code"], "out_of_stock", "{answer}");
            assert!(!log.commands.contains_key(key));
        }
    }
    let commits: std::collections::BTreeSet<_> = log
        .commands
        .values()
        .map(|logged| logged.position)
        .collect();
    assert_eq!(log.commands.len(), 501);
    assert!(commits.len() < 251, "{} commits", commits.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_answered_to_the_last_and_loses_nothing_that_was_accepted() {
    const FLOOD: u32 = 50_000;
    let nats = Nats::start();
    let mut replica = Replica::start(&nats.url(), &[]);
    // More than one connection would have in flight.
    let mut apis = Vec::new();
    for _ in 0..4 {
        apis.push(NatsApi::connect(&nats.url()).await);
    }
    let answers: Vec<_> = stream::iter(0..FLOOD)
        .map(|number| {
            let api = &apis[number as usize % apis.len()];
            async move {
                let key = format!("f-{number}");
                let id = format!("b_{}", number % 5_000);
                let answer = give(api, &id, "receive", json!({"quantity": 1}), &key).await;
                (key, answer)
            }
        })
        .buffer_unordered(FLOOD as usize)
        .collect()
        .await;

    let log = Log::read(&apis[0].client).await;
    let mut statuses = BTreeMap::new();
    for (key, (status, answer)) in &answers {
        *statuses.entry(*status).or_insert(0) += 1;
        match status {
            200 => {
                let logged = &log.commands[key];
                assert_eq!(answer["version"], logged.version);
                assert_eq!(answer["position"], logged.position);
            }
            429 => {
                assert_eq!(answer["code"], "overloaded");
                assert!(!log.commands.contains_key(key), "{key} was refused");
            }
            // In doubt: the log may have it or not.
            503 => {}
            _ => panic!("{status}: {answer}"),
        }
    }
    eprintln!("{statuses:?}");
    assert!(statuses[&200] > 0);
    let (status, _) = give(&apis[0], "b_1", "receive", json!({"quantity": 1}), "after").await;
    assert_eq!(status, 200);
    if let Some(mib) = resident_mib(replica.service().pid()) {
        // Waiting is bounded by 16,384 commands, each of which is small here.
        assert!(mib < 512, "{mib} MiB");
    }
}

fn resident_mib(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = peak.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib / 1024)
}
