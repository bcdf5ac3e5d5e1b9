//! The mart's orders fulfil themselves, through every failure: nothing that was decided is forgotten or done
//! twice. `make chaos SECONDS=… SEED=…` runs the last of these tests for longer.

use crate::{
    crash::{kill_or_pause_nats, kill_or_pause_replicas},
    harness::{
        api::{Api, NatsApi, Reply},
        log::{Log, moved},
        nats::Nats,
        poll::{eventually, eventually_within},
        replica::Replica,
        seed::{Seed, chaos_length},
        service::{headwater, run},
        tokens::{self, Signer, bearer},
    },
};
use async_nats::jetstream;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const ALL: [&str; 2] = ["--roles", "command,projector,gateway,process"];
pub const BARE: [&str; 2] = ["--roles", "command,process"];
/// How long all may take to come to its end after what has happened to it.
const AFTER: Duration = Duration::from_secs(120);

pub struct Mart {
    pub replica: Replica,
    pub nats: Nats,
    pub api: Api,
}

impl Mart {
    pub async fn open(more: &[&str]) -> Self {
        let nats = Nats::start();
        let replica = Replica::of(&nats.url(), &[&ALL, more].concat());
        let api = Api::Nats(NatsApi::connect(&nats.url()).await);
        let mart = Self { replica, nats, api };
        mart.offer("apple", 4_900, 10).await;
        mart.offer("tofu", 1_800, 2).await;
        mart
    }

    async fn offer(&self, sku: &str, price: i64, quantity: i64) {
        let product = json!({ "name": sku, "price": price, "category": "food" });
        self.give("product", sku, "register", product).await;
        let stock = format!("gangnam_{sku}");
        self.give("stock", &stock, "receive", json!({ "quantity": quantity }))
            .await;
    }

    pub async fn give(&self, aggregate: &str, id: &str, command: &str, body: Value) -> Value {
        let reply = self.api.command(aggregate, id, command, body).await;
        reply.expect(200).json()
    }

    pub async fn place(&self, id: &str, lines: &[(&str, i64, i64)]) {
        self.give("order", id, "place", order(lines)).await;
    }

    /// Waits until the order's document has this status.
    pub async fn becomes(&self, id: &str, status: &str) -> Value {
        let what = format!("{id} is {status}");
        eventually(&what, async || {
            let reply = self.api.document("order", id, &[]).await;
            let document = (reply.status == 200).then(|| reply.json()["document"].clone());
            document.filter(|document| document["status"] == status)
        })
        .await
    }

    pub async fn client(&self) -> async_nats::Client {
        self.nats.client().await
    }

    /// Waits until all instances have ended or wait for nothing, and returns the log.
    pub async fn rest(&self) -> Log {
        at_rest(&self.client().await, 0, |_| true).await
    }
}

pub fn order(lines: &[(&str, i64, i64)]) -> Value {
    let lines = lines.iter().map(|(sku, quantity, unit_price)| {
        json!({ "sku": sku, "quantity": quantity, "unit_price": unit_price })
    });
    json!({ "member": "m-1", "branch": "gangnam", "lines": lines.collect::<Vec<_>>() })
}

/// Waits until there are so many instances, every command of every one has its answer, and what is asked for
/// holds of the log.
pub async fn at_rest(
    client: &async_nats::Client,
    number: usize,
    holds: impl Fn(&Log) -> bool,
) -> Log {
    eventually_within(AFTER, "all instances are at rest", async || {
        let log = Log::read(client).await;
        let instances: Vec<_> = instances(&log).collect();
        let rests = instances.len() >= number && instances.iter().all(|one| is_answered(one));
        (rests && holds(&log)).then_some(log)
    })
    .await
}

pub fn instances(log: &Log) -> impl Iterator<Item = &Vec<Value>> {
    let aggregates = log.aggregates.iter();
    let instances = aggregates.filter(|(name, _)| name.starts_with("fulfilment."));
    instances.map(|(_, records)| records)
}

pub fn steps(records: &[Value]) -> impl Iterator<Item = &Value> {
    let stepped = records.iter();
    let stepped = stepped.filter(|record| record["type"] == "fulfilment.stepped.v1");
    stepped.map(|record| &record["data"])
}

fn is_answered(records: &[Value]) -> bool {
    let mut open = BTreeSet::new();
    for step in steps(records) {
        for how in ["accepted", "refused"] {
            if let Some(answer) = step["input"].get(how) {
                let answered = (answer["step"].as_u64(), answer["number"].as_u64());
                assert!(open.remove(&answered), "answered twice: {answer}");
            }
        }
        let sends = step["send"].as_array().map_or(0, Vec::len);
        let number = |number| (step["step"].as_u64(), Some(number as u64));
        open.extend((0..sends).map(number));
    }
    open.is_empty()
}

pub fn has_ended(records: &[Value]) -> bool {
    steps(records).any(|step| step["ended"] == true)
}

pub fn types(log: &Log, aggregate: &str) -> Vec<String> {
    let events = log.aggregates.get(aggregate).into_iter().flatten();
    events
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_confirmed_by_itself_and_its_stock_leaves_with_it() {
    let mart = Mart::open(&[]).await;
    mart.place("o-1", &[("apple", 3, 4_900), ("tofu", 2, 1_800)])
        .await;
    mart.becomes("o-1", "confirmed").await;
    let payment = json!({ "payment": "p-1", "amount": 18_300 });
    mart.give("order", "o-1", "pay", payment).await;
    mart.give("order", "o-1", "ship", json!({})).await;
    let client = mart.client().await;
    let log = at_rest(&client, 1, |log| instances(log).all(|one| has_ended(one))).await;
    let moved = ["stock.received.v1", "stock.reserved.v1", "stock.shipped.v1"];
    assert_eq!(types(&log, "stock.gangnam_apple"), moved);
    assert_eq!(types(&log, "stock.gangnam_tofu"), moved);
    log.assert_stocks();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_more_than_there_is_is_rejected_with_the_line_and_leaves_nothing_behind() {
    let mart = Mart::open(&[]).await;
    mart.place("o-1", &[("apple", 3, 4_900), ("tofu", 3, 1_800)])
        .await;
    let order = mart.becomes("o-1", "rejected").await;
    assert_eq!(order["reason"], "tofu: only 2 available");
    mart.place("o-2", &[("apple", 1, 4_000)]).await;
    let order = mart.becomes("o-2", "rejected").await;
    assert_eq!(order["reason"], "apple: the price is 4900 now");
    mart.place("o-3", &[("pear", 1, 4_000)]).await;
    let order = mart.becomes("o-3", "rejected").await;
    assert_eq!(order["reason"], "pear: there is no such product");
    let client = mart.client().await;
    let log = at_rest(&client, 3, |log| instances(log).all(|one| has_ended(one))).await;
    let types = types(&log, "stock.gangnam_apple");
    assert_eq!(types[1..], ["stock.reserved.v1", "stock.released.v1"]);
    log.assert_stocks();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_paid_in_time_is_cancelled() {
    let mart = Mart::open(&["--payment-deadline", "1s"]).await;
    mart.place("o-1", &[("apple", 3, 4_900)]).await;
    let order = mart.becomes("o-1", "cancelled").await;
    assert_eq!(order["reason"], "not paid within 1s");
    let client = mart.client().await;
    let log = at_rest(&client, 1, |log| instances(log).all(|one| has_ended(one))).await;
    let types = types(&log, "stock.gangnam_apple");
    assert_eq!(types[1..], ["stock.reserved.v1", "stock.released.v1"]);
    // What has fired and was acted on is forgotten.
    let jetstream = jetstream::new(client);
    eventually("no alarm is left", async || {
        let mut stream = jetstream.get_stream("DEADLINES").await.unwrap();
        // The note of whose alarms it has.
        (stream.info().await.unwrap().state.messages == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_outlive_the_stream_that_wakes_them() {
    let mut mart = Mart::open(&["--payment-deadline", "6s"]).await;
    for number in 0..5 {
        let id = format!("o-{number}");
        mart.place(&id, &[("apple", 1, 4_900)]).await;
        mart.becomes(&id, "confirmed").await;
    }
    mart.rest().await;
    mart.replica.kill();
    let jetstream = jetstream::new(mart.client().await);
    jetstream.delete_stream("DEADLINES").await.unwrap();
    mart.replica.start_again();
    for number in 0..5 {
        mart.becomes(&format!("o-{number}"), "cancelled").await;
    }
    // While it runs, too.
    mart.place("o-9", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-9", "confirmed").await;
    mart.rest().await;
    jetstream.delete_stream("DEADLINES").await.unwrap();
    mart.becomes("o-9", "cancelled").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cursor_has_nothing_done_again() {
    let mut mart = Mart::open(&[]).await;
    for number in 0..5 {
        let id = format!("o-{number}");
        mart.place(&id, &[("apple", 1, 4_900)]).await;
        mart.becomes(&id, "confirmed").await;
    }
    let before = mart.rest().await;
    mart.replica.kill();
    let jetstream = jetstream::new(mart.client().await);
    let stream = jetstream.get_stream("EVENTS").await.unwrap();
    for consumer in ["process-fulfilment", "process-fulfilment-steps"] {
        stream.delete_consumer(consumer).await.unwrap();
    }
    mart.replica.start_again();
    mart.place("o-9", &[("apple", 1, 4_900)]).await;
    mart.becomes("o-9", "confirmed").await;
    eventually("all steps are read again", async || {
        let steps = stream.consumer_info("process-fulfilment-steps").await;
        let steps = steps.unwrap();
        (steps.num_pending == 0 && steps.num_ack_pending == 0).then_some(())
    })
    .await;
    let after = mart.rest().await;
    for (aggregate, events) in before.aggregates {
        if aggregate != "stock.gangnam_apple" {
            assert_eq!(after.aggregates[&aggregate], events, "{aggregate}");
        }
    }
    assert_eq!(types(&after, "stock.gangnam_apple").len(), 1 + 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_added_follows_what_comes_from_then_on() {
    let nats = Nats::start();
    let mut before = Replica::of(&nats.url(), &["--roles", "command"]);
    let api = Api::Nats(NatsApi::connect(&nats.url()).await);
    let place = order(&[("pear", 1, 100)]);
    api.command("order", "o-1", "place", place.clone())
        .await
        .expect(200);
    before.kill();
    let _replica = Replica::of(&nats.url(), &BARE);
    api.command("order", "o-2", "place", place)
        .await
        .expect(200);
    api.command("order", "o-1", "confirm", json!({}))
        .await
        .expect(200);
    let client = nats.client().await;
    let log = at_rest(&client, 1, |log| instances(log).all(|one| has_ended(one))).await;
    assert_eq!(types(&log, "order.o-2")[1], "order.rejected.v1");
    assert!(!log.aggregates.contains_key("fulfilment.o-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_outside_gives_an_instance_its_inputs() {
    let mut mart = Mart::open(&[]).await;
    let http = Api::Http(mart.replica.service().http());
    for api in [&mart.api, &http] {
        let body = json!({ "step": 1, "number": 0 });
        let reply = api.command("fulfilment", "o-1", "await", body).await;
        reply.problem(404, "unknown_aggregate");
    }
    mart.replica.kill();
    let nats = mart.client().await;
    drop(nats);
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_give_commands_to_homes_that_ask_who_asks() {
    let (folder, signer) = (tempfile::tempdir().unwrap(), Signer::new("k-1"));
    let nats = Nats::start();
    let flags = tokens::flags(&tokens::written(folder.path(), &signer));
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let more = [&BARE[..], &flags].concat();
    let _replicas: Vec<_> = (0..3).map(|_| Replica::of(&nats.url(), &more)).collect();
    let api = Api::Nats(NatsApi::connect(&nats.url()).await);
    let token = bearer(&signer.token("m-1", "cmd:* staff"));
    let give = async |[aggregate, id, command]: [&str; 3], body: Value| {
        let headers = [("Authorization", token.as_str())];
        let reply = api.command_with(aggregate, id, command, body, &headers);
        reply.await.expect(200)
    };
    let product = json!({ "name": "apple", "price": 4_900, "category": "food" });
    give(["product", "apple", "register"], product).await;
    let stock = "gangnam_apple";
    give(["stock", stock, "receive"], json!({ "quantity": 100 })).await;
    // Enough that each replica is the home of some.
    for number in 0..20 {
        let id = format!("o-{number}");
        let lines = order(&[("apple", 1, 4_900)]);
        give(["order", &id, "place"], lines).await;
    }
    let client = nats.client().await;
    let confirmed =
        |log: &Log| (0..20).all(|number| types(log, &format!("order.o-{number}")).len() == 2);
    at_rest(&client, 20, confirmed).await;
}

/// Runs `headwater processes …` and returns what it prints, and whether it has succeeded.
pub async fn operate(mart: &Mart, arguments: &[&str]) -> (String, bool) {
    let mut command = headwater(["processes"]);
    command.args(arguments).args(["--nats", &mart.nats.url()]);
    let ran = tokio::task::spawn_blocking(move || run(&mut command));
    let ran = ran.await.unwrap();
    let printed = [ran.stdout, ran.stderr].concat();
    (String::from_utf8(printed).unwrap(), ran.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_cannot_go_on_is_parked_alone_until_an_operator_settles_it() {
    let mart = Mart::open(&[]).await;
    let client = mart.client().await;
    let jetstream = jetstream::new(client.clone());
    let poison = async |number: u64, kind: &str| {
        let commit = json!([{
            "specversion": "1.0", "source": "/order/poison", "id": number.to_string(), "type": kind,
            "time": "2027-01-01T00:00:00Z", "commandid": format!("poison-{number}"), "data": { "odd": true },
        }]);
        let body = serde_json::to_vec(&commit).unwrap();
        let stored = jetstream.publish("evt.order.poison", body.into()).await;
        stored.unwrap().await.unwrap();
    };
    poison(1, "order.placed.v1").await;
    for number in 0..10 {
        let id = format!("o-{number}");
        mart.place(&id, &[("apple", 1, 4_900)]).await;
        mart.becomes(&id, "confirmed").await;
    }
    poison(2, "order.delivered.v1").await;
    let parked = eventually("the later input waits", async || {
        let (parked, _) = operate(&mart, &["list", "fulfilment", "--status", "parked"]).await;
        parked.contains("2 inputs wait").then_some(parked)
    })
    .await;
    assert!(parked.contains("fulfilment poison  parked: "), "{parked}");
    assert!(parked.contains("missing field `member`"), "{parked}");
    assert!(!parked.contains("o-1"), "{parked}");
    let (waiting, _) = operate(&mart, &["list", "fulfilment", "--status", "waiting"]).await;
    assert_eq!(waiting.matches("  waiting  ").count(), 10, "{waiting}");
    assert_eq!(waiting.matches("    payment at ").count(), 10, "{waiting}");
    let (shown, _) = operate(&mart, &["show", "fulfilment", "o-1"]).await;
    assert!(shown.contains("fulfilment.confirm_sent.v1"), "{shown}");

    let (_, resumed) = operate(&mart, &["resume", "fulfilment", "--all"]).await;
    assert!(resumed);
    let (parked, _) = operate(&mart, &["list", "fulfilment", "--status", "parked"]).await;
    assert!(parked.contains("2 inputs wait"), "{parked}");
    let (refused, skipped) = operate(&mart, &["skip", "fulfilment", "poison"]).await;
    assert!(!skipped && refused.contains("reason"), "{refused}");
    let skip = ["skip", "fulfilment", "poison", "--reason", "made by a test"];
    assert!(operate(&mart, &skip).await.1);
    let (shown, _) = operate(&mart, &["show", "fulfilment", "poison"]).await;
    assert!(shown.contains("fulfilment poison  waiting"), "{shown}");
    let end = ["end", "fulfilment", "o-1", "--reason", "no more"];
    assert!(operate(&mart, &end).await.1);
    let (again, ended) = operate(&mart, &end).await;
    assert!(!ended && again.contains("has_ended"), "{again}");
}

/// What becomes of an order, as chance has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Story {
    Unpaid,
    Shipped,
    CalledOff,
}

/// Gives a command to an order until it is answered for good; `None` when it never was.
async fn settle(api: &NatsApi, id: &str, command: &str, body: &Value, key: &str) -> Option<Reply> {
    settle_on(api, &format!("cmd.order.{id}.{command}"), body, key).await
}

/// Gives a command on a subject until it is answered for good; `None` when it never was.
pub async fn settle_on(api: &NatsApi, subject: &str, body: &Value, key: &str) -> Option<Reply> {
    let end = Instant::now() + AFTER;
    while Instant::now() < end {
        let body = serde_json::to_vec(body).unwrap();
        let subject = subject.to_owned();
        let headers = [("Idempotency-Key", key)];
        let asked = api.request(subject, body, &headers);
        let asked = tokio::time::timeout(Duration::from_secs(5), asked).await;
        match asked {
            Ok(Ok(reply)) if !matches!(reply.status, 429 | 503) => return Some(reply),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    None
}

async fn live(api: NatsApi, id: String, mut chance: Seed) -> (String, Story) {
    let stories = [Story::Unpaid, Story::Shipped, Story::CalledOff];
    let story = *chance.one_of(&stories);
    let lines = match chance.once_in(2) {
        true => order(&[("apple", 2, 4_900), ("tofu", 1, 1_800)]),
        false => order(&[("apple", 1, 4_900)]),
    };
    let total = match lines["lines"].as_array().unwrap().len() {
        2 => 11_600,
        _ => 4_900,
    };
    let placed = settle(&api, &id, "place", &lines, &format!("place-{id}")).await;
    placed.expect("an answer").expect(200);
    let end = Instant::now() + AFTER;
    if story == Story::CalledOff {
        tokio::time::sleep(chance.millis(0..200)).await;
        let body = json!({ "reason": "changed my mind" });
        settle(&api, &id, "cancel", &body, &format!("cancel-{id}")).await;
    }
    let mut number = 0;
    while story == Story::Shipped && Instant::now() < end {
        number += 1;
        let body = json!({ "payment": "p", "amount": total });
        let paid = settle(&api, &id, "pay", &body, &format!("pay-{id}-{number}")).await;
        let Some(paid) = paid else { break };
        if paid.status == 200 {
            settle(&api, &id, "ship", &json!({}), &format!("ship-{id}")).await;
            break;
        }
        if !paid.json()["detail"].to_string().contains("placed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    (id, story)
}

/// Returns everything that the log has of an order, a line for each event.
fn told(log: &Log, order: &str) -> String {
    let own = |aggregate: &str| aggregate.split_once('.').is_some_and(|(_, id)| id == order);
    let mut lines = Vec::new();
    for (aggregate, events) in &log.aggregates {
        let of = events
            .iter()
            .filter(|event| own(aggregate) || event["data"]["order"] == order);
        lines.extend(of.map(|event| format!("{aggregate} {event}\n")));
    }
    lines.concat()
}

/// Asserts that every stock adds up, that nothing is set aside any more, and that each order has ended as its
/// story says.
fn verify(log: &Log, stories: &BTreeMap<String, Story>) {
    log.assert_stocks();
    let mut shipped: BTreeMap<String, i64> = BTreeMap::new();
    for (stock, events) in &log.aggregates {
        let Some(stock) = stock.strip_prefix("stock.gangnam_") else {
            continue;
        };
        let mut reserved: BTreeMap<&str, i64> = BTreeMap::new();
        let (mut received, mut available, mut gone) = (0, 0, 0);
        for event in events {
            let data = &event["data"];
            let quantity = data["quantity"].as_i64().unwrap();
            let order = data["order"].as_str().unwrap_or_default();
            available += moved(event);
            match event["type"].as_str().unwrap() {
                "stock.received.v1" => received += quantity,
                "stock.reserved.v1" => {
                    assert_eq!(reserved.insert(order, quantity), None, "{event}");
                }
                "stock.released.v1" => assert_eq!(reserved.remove(order), Some(quantity)),
                "stock.shipped.v1" => {
                    assert_eq!(reserved.remove(order), Some(quantity), "{event}");
                    *shipped.entry(order.to_owned()).or_default() += 1;
                    gone += quantity;
                }
                other => panic!("{other}"),
            }
        }
        assert!(
            reserved.is_empty(),
            "{stock}: {reserved:?} stays set aside\n{}",
            reserved
                .keys()
                .map(|order| told(log, order))
                .collect::<String>()
        );
        assert_eq!(received, available + gone, "{stock}");
    }
    for (id, story) in stories {
        let types = types(log, &format!("order.{id}"));
        let last = types.last().unwrap().as_str();
        let lines = log.aggregates[&format!("order.{id}")][0]["data"]["lines"]
            .as_array()
            .unwrap()
            .len() as i64;
        match last {
            "order.shipped.v1" => {
                assert_eq!(*story, Story::Shipped, "{id}");
                assert_eq!(shipped.get(id), Some(&lines), "{id}");
            }
            "order.rejected.v1" | "order.cancelled.v1" => {
                assert_eq!(shipped.get(id), None, "{id}");
            }
            other => panic!("{id} with the story {story:?} ends with {other}: {types:?}"),
        }
    }
}

async fn live_through<W: Send + 'static>(
    nats_url: String,
    seed: &Seed,
    mut world: W,
    chaos: impl Fn(&mut W, &mut Seed) + Send + 'static,
) -> (W, BTreeMap<String, Story>) {
    let api = NatsApi::connect(&nats_url).await;
    for (sku, price) in [("apple", 4_900), ("tofu", 1_800)] {
        let product = json!({ "name": sku, "price": price, "category": "food" });
        let commands = [
            (format!("cmd.product.{sku}.register"), product),
            (
                format!("cmd.stock.gangnam_{sku}.receive"),
                json!({ "quantity": 1_500 }),
            ),
        ];
        for (subject, body) in commands {
            let body = serde_json::to_vec(&body).unwrap();
            api.expect(subject, body, &[]).await.expect(200);
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut orders = JoinSet::new();
    for writer in 0..8 {
        let (api, stop) = (api.clone(), stop.clone());
        let chance = seed.part(100 + writer);
        orders.spawn(async move {
            let mut lived = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let id = format!("o-{writer}-{}", lived.len());
                let part = chance.part(lived.len() as u64);
                lived.push(live(api.clone(), id, part).await);
            }
            lived
        });
    }
    let mut chance = seed.part(1);
    let suffering = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + chaos_length();
        while Instant::now() < end {
            chaos(&mut world, &mut chance);
        }
        world
    });
    let world = suffering.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let mut stories = BTreeMap::new();
    while let Some(lived) = orders.join_next().await {
        stories.extend(lived.unwrap());
    }
    (world, stories)
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_end_as_they_should_however_often_replicas_and_nats_are_killed() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let url = nats.url();
    let more = [&BARE[..], &["--payment-deadline", "2s"]].concat();
    let replicas: Vec<_> = (0..3).map(|_| Replica::of(&url, &more)).collect();
    let world = (replicas, nats, 0);
    let lived = live_through(url, &seed, world, |(replicas, nats, kills), chance| {
        *kills += match chance.once_in(4) {
            true => kill_or_pause_nats(nats, chance),
            false => kill_or_pause_replicas(replicas, chance),
        };
    });
    let (world, stories) = lived.await;
    let client = world.1.client().await;
    let log = at_rest(&client, stories.len(), |log| {
        instances(log).all(|one| has_ended(one))
    })
    .await;
    eprintln!(
        "{} orders have lived through {} kills",
        stories.len(),
        world.2
    );
    verify(&log, &stories);
}
