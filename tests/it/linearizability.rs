//! Single aggregates are linearizable: histories of concurrent clients over several replicas, some
//! of which are killed and paused meanwhile, are held against a checker.

use crate::harness::{
    api::NatsApi,
    history::{History, Op, Stock, Told},
    nats::Nats,
    replica::Replica,
    seed::{Seed, chaos_length},
    writers::client,
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const CLIENTS: u64 = 4;
/// The checker's work grows fast with a history's length: many short ones prove more.
const STEPS: usize = 160;

#[tokio::test(flavor = "multi_thread")]
async fn single_aggregates_are_linearizable_over_replicas_that_are_killed() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let urls = [nats.url()];
    let mut replicas: Vec<_> = (0..3).map(|_| Replica::start(&nats.url(), &[])).collect();

    let stop = Arc::new(AtomicBool::new(false));
    let mut running = JoinSet::new();
    for place in 0..4 {
        let api = client(&urls).await;
        let mut seed = seed.part(100 + place);
        let stop = stop.clone();
        running.spawn(async move {
            let mut histories = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let id = format!("b_{place}-{}", histories.len());
                let history = History::<Stock>::default();
                let clients = (0..CLIENTS).map(|number| {
                    let chance = seed.part(seed.clone().next() ^ number);
                    work(api.clone(), id.clone(), history.clone(), number, chance)
                });
                futures::future::join_all(clients).await;
                seed.next();
                histories.push((id, history));
            }
            histories
        });
    }
    let mut chance = seed.part(1);
    let chaos = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + chaos_length();
        while Instant::now() < end {
            thread::sleep(chance.millis(50..400));
            let victim = &mut replicas[chance.within(0..3) as usize];
            if chance.once_in(2) {
                victim.pause();
                thread::sleep(chance.millis(100..1_500));
                victim.resume();
            } else {
                victim.kill();
                thread::sleep(chance.millis(0..300));
                victim.start_again();
            }
        }
        replicas
    });
    let _replicas = chaos.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut checked = 0;
    while let Some(histories) = running.join_next().await {
        for (id, history) in histories.unwrap() {
            assert!(history.is_linearizable(), "{id}: {history:#?}");
            checked += 1;
        }
    }
    eprintln!("{checked} histories were checked");
    assert!(checked > 0);
}

/// One client after another under one number's place: who is not told what became of its operation
/// is never heard of again.
async fn work(api: NatsApi, id: String, history: History<Stock>, number: u64, mut chance: Seed) {
    let mut client = number;
    let mut given = 0;
    while history.len() < STEPS {
        given += 1;
        let quantity = chance.within(1..4) as i64;
        let op = match chance.within(0..8) {
            0..3 => Op::Receive(quantity),
            3..7 => Op::Reserve(quantity),
            _ => Op::Look,
        };
        history.began(client, op.clone());
        let key = format!("{number}-{given}");
        // Every other one asks again with the same key, most often. Without a key that would be another
        // command: whoever has none gives up at the first sign of trouble.
        let keyed = client.is_multiple_of(2);
        let patience = if !keyed || chance.once_in(4) { 1 } else { 100 };
        match ask(&api, &id, &op, &key, keyed, patience).await {
            Some(told) => history.told(client, told),
            None => client += CLIENTS,
        }
    }
}

/// Asks up to `patience` times. `key` is of this operation alone, and goes with it where it is `keyed`.
async fn ask(
    api: &NatsApi,
    id: &str,
    op: &Op,
    key: &str,
    keyed: bool,
    patience: u32,
) -> Option<Told> {
    let (command, body) = match op {
        Op::Receive(quantity) => ("receive", json!({"quantity": quantity})),
        Op::Reserve(quantity) => ("reserve", json!({"order": key, "quantity": quantity})),
        Op::Look => ("receive", json!({"quantity": 1})),
    };
    let mut headers = Vec::new();
    if keyed {
        headers.push(("Idempotency-Key", key));
    }
    if *op == Op::Look {
        headers.push(("If-Match", "\"1000000000\""));
    }
    for _ in 0..patience {
        let subject = format!("cmd.stock.{id}.{command}");
        let asked = api.request(subject, serde_json::to_vec(&body).unwrap(), &headers);
        let Ok(Ok(reply)) = tokio::time::timeout(Duration::from_secs(4), asked).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let answer = reply.json();
        return Some(match (reply.status, answer["code"].as_str()) {
            (200, _) => Told::Accepted(answer["version"].as_u64().unwrap()),
            (412, _) => Told::Version(answer["version"].as_u64().unwrap()),
            (_, Some("not_found")) => Told::NotFound,
            (_, Some("out_of_stock")) => Told::OutOfStock,
            (503, _) => continue,
            _ => panic!("{op:?}: {answer}"),
        });
    }
    None
}

#[test]
fn a_lost_update_is_not_linearizable() {
    let history = History::<Stock>::default();
    for (client, version) in [(1, 1), (2, 1)] {
        history.began(client, Op::Receive(1));
        history.told(client, Told::Accepted(version));
    }
    assert!(!history.is_linearizable());
}

#[test]
fn a_stale_refusal_is_not_linearizable() {
    let history = History::<Stock>::default();
    history.began(1, Op::Receive(5));
    history.told(1, Told::Accepted(1));
    history.began(2, Op::Reserve(5));
    history.told(2, Told::NotFound);
    assert!(!history.is_linearizable());
}

#[test]
fn concurrent_operations_may_have_happened_in_either_order() {
    let history = History::<Stock>::default();
    history.began(1, Op::Receive(5));
    history.began(2, Op::Reserve(5));
    history.began(3, Op::Look);
    history.told(2, Told::Accepted(2));
    history.told(1, Told::Accepted(1));
    history.told(3, Told::Version(0));
    assert!(history.is_linearizable());
}

#[test]
fn an_operation_without_an_answer_may_have_happened_or_not() {
    for version in [1, 2] {
        let history = History::<Stock>::default();
        history.began(1, Op::Receive(5));
        history.began(2, Op::Receive(1));
        history.told(2, Told::Accepted(version));
        assert!(history.is_linearizable());
    }
}
