//! Commands find their homes, and do without them.

use crate::{
    command_support::{Replica, add, alone, log, logged, options},
    harness::{
        api::{Api, NatsApi, Reply},
        metrics::Metrics,
        nats::Nats,
        poll::eventually,
        service::Service,
    },
};
use futures::{StreamExt, future::join_all};
use headwater::{
    config::Role,
    event_log::AppendMode,
    membership::{Home, Key},
};
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

pub fn home(replica: &Replica, id: &str) -> Home {
    replica
        .membership
        .home(Role::Command, Key::of(&["tally", id]))
}

/// Says again and again that a replica is there which is not.
async fn keep_ghost(nats: &Nats, replica: &Replica) -> JoinHandle<()> {
    let body = r#"{"replica":"ghost","instance":"none","roles":["command"]}"#;
    keep_ghost_saying(nats, replica, body).await
}

/// As [`keep_ghost`], in these words.
pub async fn keep_ghost_saying(
    nats: &Nats,
    replica: &Replica,
    body: &'static str,
) -> JoinHandle<()> {
    let client = nats.client().await;
    let beating = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            client.publish("member.ghost", body.into()).await.unwrap();
        }
    });
    eventually("the ghost is seen", || async {
        let members = replica.membership.watch();
        let seen = members.borrow().get("ghost").is_some();
        seen.then_some(())
    })
    .await;
    beating
}

/// The ids whose home is as asked for.
pub fn ids_at(replica: &Replica, wanted: &Home) -> impl Iterator<Item = String> {
    (0..10_000)
        .map(|number| format!("t-{number}"))
        .filter(|id| home(replica, id) == *wanted)
}

/// The first of them.
fn id_at(replica: &Replica, wanted: &Home) -> String {
    let first = ids_at(replica, wanted).next();
    first.expect("every replica is the home of some")
}

/// Two replicas, of which the first knows the second.
pub async fn two(nats: &Nats) -> (Replica, Replica) {
    let (a, b) = (
        Replica::start(nats, "a").await,
        Replica::start(nats, "b").await,
    );
    eventually("a sees b", || async {
        matches!(home(&a, &id_at(&b, &Home::Here)), Home::At(_)).then_some(())
    })
    .await;
    (a, b)
}

/// Adds by NATS.
async fn add_by_nats(api: &NatsApi, id: &str, amount: i64, headers: &[(&str, &str)]) -> Reply {
    let body = json!({"amount": amount}).to_string().into_bytes();
    let given = api.request(format!("cmd.tally.{id}.add"), body, headers);
    given.await.unwrap()
}

#[actix::test]
async fn a_command_is_decided_at_its_home_wherever_it_comes() {
    let nats = Nats::start();
    let log = log(&nats, AppendMode::Pipelined).await;
    let (a, b) = two(&nats).await;
    let api = NatsApi::connect(&nats.url()).await;
    for number in 0..50 {
        let id = format!("t-{number}");
        add(&a.client, &id, 1, None).await.unwrap();
        add(&b.client, &id, 10, Some("key")).await.unwrap();
        let again = add(&a.client, &id, 10, Some("key")).await.unwrap();
        assert!(again.replayed);
        let reply = add_by_nats(&api, &id, 100, &[("If-Match", "\"2\"")]).await;
        assert_eq!(reply.header("ETag"), "\"3\"");
        assert_eq!(
            reply.header("Headwater-Position"),
            format!("tally@{}", reply.json()["position"])
        );
        let amounts: Vec<_> = logged(&log, &id)
            .await
            .iter()
            .map(|one| one.amount)
            .collect();
        assert_eq!(amounts, [1, 10, 100]);
    }
    // A refusal is relayed as it was answered.
    let id = id_at(&a, &Home::At("b".into()));
    let refused = add_by_nats(&api, &id, 1, &[("If-Match", "\"77\"")]).await;
    refused.problem(412, "version_mismatch");
    a.stop().await;
    b.stop().await;
}

#[actix::test]
async fn a_command_whose_home_has_gone_is_decided_by_another() {
    let nats = Nats::start();
    let replica = Replica::start(&nats, "a").await;
    let beating = keep_ghost(&nats, &replica).await;
    let ghost = Home::At("ghost".into());
    let id = id_at(&replica, &ghost);
    let outcome = add(&replica.client, &id, 1, None).await.unwrap();
    assert_eq!(outcome.version, 1);
    // A command that comes by NATS is on the thread of its aggregate already, or on another.
    let api = NatsApi::connect(&nats.url()).await;
    let others = ids_at(&replica, &ghost).skip(1);
    for id in others.take(8) {
        let reply = add_by_nats(&api, &id, 1, &[]).await;
        assert_eq!(reply.expect(200).json()["version"], 1);
    }
    beating.abort();
    replica.stop().await;
}

#[actix::test]
async fn a_command_whose_home_is_silent_is_in_doubt_and_sent_once() {
    let nats = Nats::start();
    let replica = Replica::start(&nats, "a").await;
    let seen = Arc::new(AtomicUsize::new(0));
    let mut taken = nats.client().await.subscribe("own.ghost.>").await.unwrap();
    let counted = seen.clone();
    let counting = tokio::spawn(async move {
        while let Some(message) = taken.next().await {
            assert!(
                message
                    .headers
                    .unwrap()
                    .get("Headwater-Command-Id")
                    .is_some()
            );
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let beating = keep_ghost(&nats, &replica).await;
    let id = id_at(&replica, &Home::At("ghost".into()));
    let problem = add(&replica.client, &id, 1, None).await.unwrap_err();
    assert_eq!((problem.status, &*problem.code), (503, "unavailable"));
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    beating.abort();
    counting.abort();
    replica.stop().await;
}

#[actix::test]
async fn two_replicas_that_both_think_they_are_the_home_lose_and_double_nothing() {
    let nats = Nats::start();
    let replicas = [alone(&nats, options()).await, alone(&nats, options()).await];
    let given = (0..400).map(|number| {
        let client = replicas[number % 2].clone();
        async move {
            let id = format!("t-{}", number % 5);
            // What is contended beyond measure is unavailable, and then the same command again.
            let key = format!("key-{number}");
            loop {
                match add(&client, &id, 1, Some(&key)).await {
                    Ok(outcome) => return (id, key, outcome),
                    Err(problem) => assert_eq!(problem.status, 503, "{problem}"),
                }
            }
        }
    });
    let outcomes = join_all(given).await;
    let log = log(&nats, AppendMode::Pipelined).await;
    for number in 0..5 {
        let id = format!("t-{number}");
        let stored = logged(&log, &id).await;
        assert_eq!(stored.len(), 80);
        for event in stored {
            let (_, _, outcome) = outcomes
                .iter()
                .find(|(of, key, _)| *of == id && *key == event.command_id)
                .expect("every event has its outcome");
            assert_eq!(
                (outcome.version, outcome.position),
                (event.version, event.position)
            );
        }
    }
}

/// `headwater serve`.
pub fn serve(nats: &Nats, arguments: &[&str]) -> Service {
    Service::serve(&nats.url(), arguments)
}

/// The value of a metric, summed over its labels that contain `labels`.
pub async fn metric(service: &Service, name: &str, labels: &str) -> f64 {
    Metrics::of(&service.http()).await.sum(name, labels)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_stable_members_no_append_loses_a_race() {
    let nats = Nats::start();
    let start = |roles: &'static str| {
        let arguments = ["--roles", roles, "--surreal", "mem://"];
        serve(&nats, &arguments)
    };
    let replicas = [
        start("command,projector,gateway"),
        start("command"),
        start("projector,gateway"),
    ];
    for replica in &replicas {
        eventually("all replicas know all", || async {
            (metric(replica, "headwater_members", "").await >= 3.0).then_some(())
        })
        .await;
    }
    let apis = [
        Api::Http(replicas[0].http()),
        Api::Http(replicas[2].http()),
        Api::Nats(NatsApi::connect(&nats.url()).await),
    ];
    let body = json!({"name": "n", "price": 1, "category": "fruit"});
    join_all((0..20).map(|sku| {
        let (apis, body) = (&apis, body.clone());
        async move {
            apis[0]
                .command("product", &format!("p-{sku}"), "register", body)
                .await
                .expect(200)
        }
    }))
    .await;
    join_all((0..600).map(|number| {
        let api = &apis[number % 3];
        let body = json!({"price": number + 2});
        async move {
            let id = format!("p-{}", number % 20);
            api.command("product", &id, "reprice", body)
                .await
                .expect(200)
        }
    }))
    .await;
    let mut decided = Vec::new();
    for replica in &replicas {
        assert_eq!(metric(replica, "headwater_lost_races_total", "").await, 0.0);
        let accepted = "outcome=\"accepted\"";
        decided.push(metric(replica, "headwater_commands_total", accepted).await);
    }
    assert_eq!(decided.iter().sum::<f64>(), 620.0, "{decided:?}");
    assert!(
        decided[0] > 0.0 && decided[1] > 0.0 && decided[2] == 0.0,
        "{decided:?}"
    );
}
