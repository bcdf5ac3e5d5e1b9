//! Proofs that processes can be trusted: a replica that dies at every point of a step, two that take
//! themselves for the home, a command that comes again when its target has long forgotten it, and alarms that are lost.

use crate::{
    harness::{
        api::{Api, NatsApi},
        cluster::NatsCluster,
        log::Log,
        nats::Nats,
        poll::{eventually_blocking, eventually_within},
        replica::Replica,
        seed::Seed,
        service::{headwater, run},
    },
    processes::{BARE, at_rest, has_ended, instances, order, settle_on, types},
};
use async_nats::jetstream;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long all may take to come to its end after what has happened to it.
const AFTER: Duration = Duration::from_secs(120);
/// Every point at which a replica can be ended in the course of a step.
const POINTS: [&str; 7] = [
    "event",
    "answer",
    "deadline",
    "before_sending",
    "sent",
    "carried_out",
    "armed",
];
/// A step is taken over sooner than in earnest, or each death would cost ten seconds.
const SOON: (&str, &str) = ("HEADWATER_TEST_TAKE_OVER_MS", "1500");

/// A replica that has not died for so long passes the point no more.
const IDLE: Duration = Duration::from_secs(12);

/// A replica that decides commands and lives, and a mart with three products.
struct World {
    nats: Nats,
    command: Replica,
    api: Api,
}

impl World {
    async fn open() -> Self {
        let nats = Nats::start();
        let command = Replica::start(&nats.url(), &[]);
        let api = Api::Nats(NatsApi::connect(&nats.url()).await);
        let world = Self { nats, command, api };
        for (sku, quantity) in [("apple", 1_000), ("tofu", 2)] {
            let product = json!({ "name": sku, "price": 100, "category": "food" });
            world.give("product", sku, "register", product).await;
            let stock = format!("gangnam_{sku}");
            let body = json!({ "quantity": quantity });
            world.give("stock", &stock, "receive", body).await;
        }
        world
    }

    async fn give(&self, aggregate: &str, id: &str, command: &str, body: Value) {
        let reply = self.api.command(aggregate, id, command, body).await;
        reply.expect(200);
    }

    /// A replica that runs the process, and may be ended while it does.
    fn process(&self, more: &[&str], environment: &[(&str, &str)]) -> Replica {
        let flags = ["--roles", "process", "--payment-deadline", "2s"];
        let mut replica = Replica::prepared(&self.nats.url(), &[&flags, more].concat());
        replica.begin_again_with(environment);
        replica
    }

    async fn at_rest(&self, number: usize) -> Log {
        let client = self.nats.client().await;
        at_rest(&client, number, |log| {
            instances(log).all(|one| has_ended(one))
        })
        .await
    }
}

/// Asserts that one order was cancelled since nobody paid and one rejected, and that every stock adds up with nothing
/// set aside.
fn verify(log: &Log, good: &str, bad: &str) {
    log.assert_stocks();
    let expected = [
        "order.placed.v1",
        "order.confirmed.v1",
        "order.cancelled.v1",
    ];
    assert_eq!(types(log, &format!("order.{good}")), expected);
    let expected = ["order.placed.v1", "order.rejected.v1"];
    assert_eq!(types(log, &format!("order.{bad}")), expected);
    for sku in ["apple", "tofu"] {
        let types = types(log, &format!("stock.gangnam_{sku}"));
        let count = |name: &str| types.iter().filter(|it| *it == name).count();
        let (reserved, released) = (count("stock.reserved.v1"), count("stock.released.v1"));
        assert_eq!(reserved, released, "{sku}: {types:?}");
        assert!(reserved <= 2, "{sku}: {types:?}");
    }
}

/// Ends the replica each time that it passes the point, until nothing is left to be done.
async fn die_at(point: &'static str) {
    let world = World::open().await;
    // Followed from its beginning, however often what follows dies.
    let mut process = world.process(&[], &[SOON]);
    process.is_ready();
    process.kill();
    let good = order(&[("apple", 1, 100), ("tofu", 1, 100)]);
    let bad = order(&[("apple", 1, 100), ("tofu", 9, 100)]);
    world.give("order", "good", "place", good).await;
    world.give("order", "bad", "place", bad).await;
    let (mut deaths, end) = (0, Instant::now() + AFTER);
    // Each life passes the point once more than the one before, until one is not ended by it any more.
    while Instant::now() < end {
        let end_at = format!("{point}:{}", deaths + 1);
        process.begin_again_with(&[("HEADWATER_TEST_END_AT", &end_at), SOON]);
        let begun = Instant::now();
        while !process.has_ended() && begun.elapsed() < IDLE {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if !process.has_ended() {
            break;
        }
        deaths += 1;
    }
    assert!(deaths > 0, "{point} was never passed");
    process.kill();
    process.begin_again_with(&[SOON]);
    let log = world.at_rest(2).await;
    eprintln!("{point}: {deaths} deaths");
    verify(&log, "good", "bad");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_dies_at_every_point_of_every_step_loses_nothing_and_repeats_nothing() {
    let mut chance = Seed::of_this_run().part(7);
    // All of them in `make chaos`; as many as there is time for otherwise.
    let all =
        std::env::var_os("SECONDS").is_some() || std::env::var_os("HEADWATER_ALL_POINTS").is_some();
    let first = chance.within(0..POINTS.len() as u64) as usize;
    let chosen = (0..POINTS.len()).map(|number| POINTS[(first + 3 * number) % POINTS.len()]);
    let chosen: Vec<_> = chosen.take(if all { POINTS.len() } else { 2 }).collect();
    for pair in chosen.chunks(2) {
        let dying = pair.iter().map(|point| tokio::spawn(die_at(point)));
        for died in dying.collect::<Vec<_>>() {
            died.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_that_both_take_themselves_for_the_home_take_no_step_twice() {
    let world = World::open().await;
    let both = [("HEADWATER_TEST_HOME_OF_ALL", "1"), SOON];
    let mut replicas = [world.process(&[], &both), world.process(&[], &both)];
    replicas[0].is_ready();
    for number in 0..20 {
        let lines = order(&[("apple", 1, 100)]);
        world
            .give("order", &format!("o-{number}"), "place", lines)
            .await;
    }
    let log = world.at_rest(20).await;
    log.assert_stocks();
    for number in 0..20 {
        let expected = [
            "order.placed.v1",
            "order.confirmed.v1",
            "order.cancelled.v1",
        ];
        assert_eq!(types(&log, &format!("order.o-{number}")), expected);
    }
    let stock = types(&log, "stock.gangnam_apple");
    let count = |name: &str| stock.iter().filter(|it| *it == name).count();
    assert_eq!(
        (count("stock.reserved.v1"), count("stock.released.v1")),
        (20, 20)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_stood_still_sends_nothing_that_another_has_had_answered() {
    let world = World::open().await;
    let mut process = world.process(&[], &[SOON]);
    process.is_ready();
    process.kill();
    // It stops before it sends the second command, which sets the tofu aside; the first was the check of the product.
    process.begin_again_with(&[("HEADWATER_TEST_STOP_AT", "before_sending:2"), SOON]);
    let lines = order(&[("tofu", 3, 100)]);
    world.give("order", "o-1", "place", lines).await;
    eventually_blocking(AFTER, "the replica stops", || {
        process.is_stopped().then_some(())
    });
    let mut other = world.process(&[], &[SOON]);
    other.is_ready();
    let rejected = |log: &Log| types(log, "order.o-1").contains(&"order.rejected.v1".to_owned());
    let client = world.nats.client().await;
    at_rest(&client, 1, rejected).await;
    // Now there is enough of it.
    let more = json!({ "quantity": 9 });
    world.give("stock", "gangnam_tofu", "receive", more).await;
    process.resume();
    other.kill();
    let lines = order(&[("apple", 1, 100)]);
    world.give("order", "o-2", "place", lines).await;
    let log = world.at_rest(2).await;
    let expected = ["order.placed.v1", "order.rejected.v1"];
    assert_eq!(types(&log, "order.o-1"), expected);
    let expected = ["stock.received.v1", "stock.received.v1"];
    assert_eq!(types(&log, "stock.gangnam_tofu"), expected);
    log.assert_stocks();
}

/// How often the server is killed: it depends on when it answers again what a replica notices of it.
const KILLS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn steps_that_a_killed_server_delivers_anew_are_not_carried_out_again() {
    let mut world = World::open().await;
    let mut process = world.process(&[], &[SOON]);
    process.is_ready();
    let give = async |world: &World, subject: &str, body: Value| {
        let api = NatsApi::connect(&world.nats.url()).await;
        let key = uuid::Uuid::now_v7().to_string();
        let reply = settle_on(&api, subject, &body, &key).await;
        reply.expect("an answer").expect(200);
    };
    let place = async |world: &World, id: &str, sku: &str, quantity: usize| {
        let lines = order(&[(sku, quantity as i64, 100)]);
        give(world, &format!("cmd.order.{id}.place"), lines).await;
    };
    let settled = ["order.placed.v1", "order.rejected.v1"];
    for kill in 1..=KILLS {
        place(&world, &format!("before-{kill}"), "apple", 1).await;
        world.at_rest(3 * kill - 2).await;
        // What it remembers of its deliveries is a file, which is written some time after them.
        let state = world.nats.store();
        let state = state.join("$G/streams/EVENTS/obs/process-fulfilment-steps/o.dat");
        world.nats.kill();
        let of_then = std::fs::read(&state).unwrap();
        world.nats.start_again();
        let refused = format!("refused-{kill}");
        place(&world, &refused, "tofu", 9 * kill).await;
        let log = world.at_rest(3 * kill - 1).await;
        assert_eq!(types(&log, &format!("order.{refused}")), settled);
        // Now there is enough of it.
        let more = json!({ "quantity": 9 });
        give(&world, "cmd.stock.gangnam_tofu.receive", more).await;
        world.nats.kill();
        std::fs::write(&state, of_then).unwrap();
        world.nats.start_again();
        place(&world, &format!("after-{kill}"), "apple", 1).await;
        world.at_rest(3 * kill).await;
        let jetstream = world.nats.jetstream().await;
        eventually_within(AFTER, "every step is carried out", async || {
            let stream = jetstream.get_stream_no_info("EVENTS").await.ok()?;
            let steps = stream.consumer_info("process-fulfilment-steps").await;
            let steps = steps.ok()?;
            (steps.num_pending == 0 && steps.num_ack_pending == 0).then_some(())
        })
        .await;
    }
    let log = Log::read(&world.nats.client().await).await;
    let stock = types(&log, "stock.gangnam_tofu");
    assert_eq!(stock, ["stock.received.v1"; KILLS + 1]);
    log.assert_stocks();
}

/// More commands than an aggregate remembers, whenever they were.
const OTHERS: u64 = 66_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_comes_again_long_after_its_target_has_forgotten_it_takes_effect_once() {
    let mut world = World::open().await;
    let mut process = world.process(&[], &[SOON]);
    process.is_ready();
    process.kill();
    // It dies when the stock has set the apple aside, and has not heard that it did.
    process.begin_again_with(&[("HEADWATER_TEST_END_AT", "sent:2"), SOON]);
    world
        .give("order", "o-1", "place", order(&[("apple", 1, 100)]))
        .await;
    eventually_blocking(AFTER, "the replica dies", || {
        process.has_ended().then_some(())
    });
    let client = world.nats.client().await;
    let log = Log::read(&client).await;
    assert_eq!(types(&log, "stock.gangnam_apple").len(), 2);
    let stock = &log.aggregates["stock.gangnam_apple"];
    let available = stock.last().unwrap()["data"]["available"].as_u64().unwrap();
    // Whoever decides commands forgets what it has in memory, and finds as many others in the log as it takes.
    world.command.kill();
    let jetstream = jetstream::new(client.clone());
    let mut acknowledged = Vec::new();
    for number in 0..OTHERS / 100 {
        let events = (0..100).map(|one| {
            let version = 3 + number * 100 + one;
            json!({
                "specversion": "1.0", "source": "/stock/gangnam_apple", "id": version.to_string(),
                "type": "stock.received.v1", "time": "2026-01-01T00:00:00Z",
                "commandid": format!("other-{version}"),
                "data": { "quantity": 1, "available": available + version - 2 },
            })
        });
        let commit = Value::Array(events.collect()).to_string();
        let published = jetstream
            .publish("evt.stock.gangnam_apple", commit.into())
            .await;
        acknowledged.push(published.unwrap());
    }
    for one in acknowledged {
        one.await.unwrap();
    }
    world.command.start_again();
    process.begin_again_with(&[SOON]);
    let log = at_rest(&client, 1, |log| instances(log).all(|one| has_ended(one))).await;
    let stock = types(&log, "stock.gangnam_apple");
    let count = |name: &str| stock.iter().filter(|it| *it == name).count();
    assert_eq!(count("stock.reserved.v1"), 1);
    assert_eq!(count("stock.received.v1") as u64, 1 + OTHERS);
    log.assert_stocks();
}

/// The steps of instances that each have set a deadline, as a replica has stored them.
async fn arm_in_the_log(client: &async_nats::Client, count: usize, at: jiff::Timestamp) {
    let jetstream = jetstream::new(client.clone());
    let mut acknowledged = Vec::new();
    for number in 0..count {
        let id = format!("armed-{number}");
        let commit = json!([{
            "specversion": "1.0", "source": format!("/fulfilment/{id}"), "id": "1", "type": "fulfilment.stepped.v1",
            "time": "2026-01-01T00:00:00Z", "commandid": format!("c-{number}"),
            "data": {
                "step": 1,
                "input": { "event": { "aggregate": "order", "id": id, "type": "order.confirmed.v1", "version": 1, "position": 1 } },
                "set": [{ "name": "payment", "at": at, "armed": 1 }],
            },
        }]);
        let subject = format!("evt.fulfilment.{id}");
        let published = jetstream.publish(subject, commit.to_string().into()).await;
        acknowledged.push(published.unwrap());
        if acknowledged.len() == 1_000 {
            for one in acknowledged.drain(..) {
                one.await.unwrap();
            }
        }
    }
    for one in acknowledged {
        one.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn alarms_that_are_lost_with_their_stream_are_all_armed_again_and_all_act() {
    let many = std::env::var("HEADWATER_ARMED").ok();
    let many = many.and_then(|many| many.parse().ok()).unwrap_or(2_000);
    let world = World::open().await;
    let mut process = world.process(&[], &[SOON]);
    process.is_ready();
    let client = world.nats.client().await;
    process.kill();
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(15 + many as i64 / 2_000);
    arm_in_the_log(&client, many, at).await;
    let jetstream = jetstream::new(client.clone());
    jetstream.delete_stream("DEADLINES").await.unwrap();
    let begun = Instant::now();
    process.begin_again_with(&[SOON]);
    eventually_within(AFTER, "all alarms are armed", async || {
        let mut stream = jetstream.get_stream("DEADLINES").await.ok()?;
        let messages = stream.info().await.ok()?.state.messages;
        (messages > many as u64).then_some(())
    })
    .await;
    eprintln!("{many} alarms were armed again in {:?}", begun.elapsed());
    // The orders are not there, so that what the deadlines lead to is refused, and that is the end of it: each
    // instance has a commit for its deadline and one for the refusal. Many are counted sooner than read.
    let limit = AFTER + Duration::from_millis(many as u64);
    eventually_within(limit, "all deadlines are acted on", async || {
        let mut stream = jetstream.get_stream("EVENTS").await.ok()?;
        let messages = stream.info().await.ok()?.state.messages;
        (messages >= 3 * many as u64).then_some(())
    })
    .await;
    eprintln!("all have acted {:?} after the start", begun.elapsed());
    let acted = |log: &Log| {
        let of = |records: &Vec<Value>| {
            let due = |record: &&Value| record["data"]["input"]["due"].is_object();
            records.iter().filter(due).count()
        };
        let counts: Vec<_> = instances(log).map(of).collect();
        assert!(counts.iter().all(|count| *count <= 1), "acted on twice");
        counts.iter().sum::<usize>() == many
    };
    at_rest(&client, many, acted).await;
}

/// The orders whose deadlines come while the cluster has no leader.
const ORDERS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_of_a_cluster_all_act_once_when_the_leader_of_their_stream_is_killed() {
    let mut cluster = NatsCluster::start().await;
    let urls = cluster.urls().join(",");
    let topology = ["topology", "apply", "--stream-replicas", "3", "--nats"];
    let applied = run(headwater(topology).arg(&urls));
    assert!(applied.status.success(), "{applied:?}");
    let more = ["--payment-deadline", "5s"];
    let _replicas: Vec<_> = (0..2)
        .map(|_| Replica::of(&urls, &[&BARE[..], &more].concat()))
        .collect();
    let client = cluster.client().await;
    let api = Api::Nats(NatsApi::over(client.clone()));
    let product = json!({ "name": "apple", "price": 100, "category": "food" });
    let receive = json!({ "quantity": ORDERS });
    for (aggregate, id, command, body) in [
        ("product", "apple", "register", product),
        ("stock", "gangnam_apple", "receive", receive),
    ] {
        let reply = api.command(aggregate, id, command, body).await;
        reply.expect(200);
    }
    for number in 0..ORDERS {
        let (id, lines) = (format!("o-{number}"), order(&[("apple", 1, 100)]));
        let headers = [
            ("Headwater-Wait", "fulfilment"),
            ("Headwater-Max-Wait-Ms", "20000"),
        ];
        let placed = api
            .command_with("order", &id, "place", lines, &headers)
            .await;
        placed.expect(200);
    }
    let leader = cluster.leader_of("DEADLINES").await;
    cluster.nodes[leader].kill();
    let log = at_rest(&client, ORDERS, |log| {
        instances(log).all(|one| has_ended(one))
    })
    .await;
    let mut latest = 0.0_f64;
    for number in 0..ORDERS {
        let records = &log.aggregates[&format!("fulfilment.o-{number}")];
        let due: Vec<_> = records
            .iter()
            .filter(|record| record["data"]["input"]["due"].is_object())
            .collect();
        assert_eq!(due.len(), 1, "o-{number}: {due:?}");
        let mut set = records
            .iter()
            .flat_map(|one| one["data"]["set"].as_array())
            .flatten();
        let set = set.next().expect("a deadline was set");
        latest = latest.max(seconds(&due[0]["time"]) - seconds(&set["at"]));
        let expected = [
            "order.placed.v1",
            "order.confirmed.v1",
            "order.cancelled.v1",
        ];
        assert_eq!(types(&log, &format!("order.o-{number}")), expected);
    }
    eprintln!("the latest of {ORDERS} deadlines came {latest:.3} s late");
    log.assert_stocks();
}

fn seconds(time: &Value) -> f64 {
    let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
    time.as_millisecond() as f64 / 1_000.0
}
