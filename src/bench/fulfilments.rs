//! `bench processes`: orders that fulfil themselves, against commands alone on the same replica.
//!
//! Ours are the steps of fulfilments: orders of one line are placed all at once, and it counts until the last one is
//! confirmed. The floor is `receive`s of stocks, as in `bench commands`. Besides it is told how long one order takes
//! while nothing else happens, how late deadlines are with many alarms armed, and what one instance that cannot go on
//! costs the others.

use super::{
    Bench, BenchError, Figures, LoadThreads, Rounds, Sample, closed_loop,
    commands::{self, CommandsOptions, by_nats, connect, keys},
    floor::own,
    load::once_each,
    processes::{self, Process, Scratch},
    report::common_settings,
    sample,
};
use crate::{
    event_log::{EventLog, Timeouts, alarms::Alarm, topology::Durability},
    platform::NatsAddress,
    process::Step,
};
use async_nats::Client;
use bytes::Bytes;
use clap::{ValueEnum, builder::PossibleValue};
use futures::StreamExt;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// The products and stocks that orders are spread over.
const PRODUCTS: usize = 1_000;
/// The price of each.
const PRICE: u32 = 100;
/// So many orders are placed one by one, each when the one before is confirmed.
const ONE_BY_ONE: usize = 50;
/// The time in which the orders of the deadlines are to be paid; none is.
const DEADLINE: Duration = Duration::from_secs(3);
/// The number of orders whose deadlines are looked at.
const LATE: usize = 300;
/// The number of alarms that are armed at once.
const ARMING: usize = 256;
/// The time one order may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of orders, and of alarms.
#[derive(Debug, Clone)]
pub struct FulfilmentsOptions {
    /// The settings of a bench of commands.
    pub commands: CommandsOptions,
    /// The number of orders of each round.
    pub orders: usize,
    /// The number of alarms that are armed beside those of the orders.
    pub armed: usize,
}

/// Measures fulfilments.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started, an operation fails, or an order is not confirmed.
pub async fn run(options: FulfilmentsOptions) -> Result<Bench, BenchError> {
    let durability = match options.commands.durable {
        true => Durability::SingleDurable,
        false => Durability::Dev,
    };
    let scratch = Scratch::start(durability, options.commands.nats_server.clone()).await?;
    let measured = measure(&options, &scratch).await;
    scratch.stop().await;
    measured
}

async fn measure(options: &FulfilmentsOptions, scratch: &Scratch) -> Result<Bench, BenchError> {
    let threads = LoadThreads::start()?;
    let nats = scratch.nats();
    let replica = start_replica(options, &nats, scratch, "1h").await?;
    let clients = connect(&nats, options.commands.connections, &threads).await?;
    let load = Load {
        log: EventLog::new(clients[0].clone(), Timeouts::default()),
        clients,
        threads,
        workers: options.commands.concurrency,
        run: uuid::Uuid::now_v7().simple().to_string(),
    };
    load.offer().await?;
    let mut rounds = Rounds::default();
    let mut without = Vec::new();
    load.orders("warm", options.orders.min(200), false).await?;
    let length = options.commands.length / options.commands.rounds.max(1);
    for round in 0..options.commands.rounds.max(1) {
        let commands = load.commands(length).await?;
        rounds.floor("commands", &commands);
        let clean = load
            .orders(&format!("a{round}"), options.orders, false)
            .await?;
        let poisoned = load
            .orders(&format!("b{round}"), options.orders, true)
            .await?;
        without.push(poisoned.per_second / clean.per_second);
        rounds.ours_as(clean.into());
    }
    let idle = load.one_by_one().await?;
    replica.kill().await;

    let before = scratch.nats_resident_bytes();
    load.arm(options.armed).await?;
    let after = scratch.nats_resident_bytes();
    let within = format!("{}s", DEADLINE.as_secs());
    let replica = start_replica(options, &nats, scratch, &within).await?;
    let late = load.lateness().await?;
    replica.kill().await;

    let mut settings = common_settings();
    settings.extend([
        ("orders".to_owned(), options.orders.into()),
        ("armed".to_owned(), options.armed.into()),
        ("concurrency".to_owned(), load.workers.into()),
        ("rounds".to_owned(), options.commands.rounds.into()),
        (
            "placed_to_confirmed_p50_ms".to_owned(),
            idle.quantile_ms(0.5).into(),
        ),
        (
            "placed_to_confirmed_p99_ms".to_owned(),
            idle.quantile_ms(0.99).into(),
        ),
        ("deadlines_measured".to_owned(), late.count().into()),
        (
            "deadline_late_p50_ms".to_owned(),
            late.quantile_ms(0.5).into(),
        ),
        (
            "deadline_late_p99_ms".to_owned(),
            late.quantile_ms(0.99).into(),
        ),
        (
            "deadline_late_max_ms".to_owned(),
            late.quantile_ms(1.0).into(),
        ),
    ]);
    if let (Some(before), Some(after)) = (before, after) {
        let grown = after.saturating_sub(before) >> 20;
        settings.insert("armed_nats_mib".to_owned(), grown.into());
    }
    let mut bench = rounds.into_bench("processes", settings);
    bench
        .ratios
        .insert("with_one_poisoned", sample::median(without));
    Ok(bench)
}

async fn start_replica(
    options: &FulfilmentsOptions,
    nats: &NatsAddress,
    scratch: &Scratch,
    deadline: &str,
) -> Result<Process, BenchError> {
    let append = options.commands.append().to_possible_value();
    let append = append.as_ref().map_or("auto", PossibleValue::get_name);
    let more = [["--append", append], ["--payment-deadline", deadline]];
    let folder = scratch.folder().join("replica");
    processes::replica("command,process", nats, &folder, more.as_flattened()).await
}

/// Steps of a burst of orders.
struct Burst {
    steps: usize,
    elapsed: Duration,
    per_second: f64,
}

impl From<Burst> for Figures {
    fn from(burst: Burst) -> Self {
        Self::of_one(burst.steps, burst.elapsed)
    }
}

/// The load, and where it goes.
struct Load {
    threads: LoadThreads,
    clients: Arc<[Client]>,
    log: EventLog,
    workers: usize,
    run: String,
}

impl Load {
    /// Makes the products and stocks.
    async fn offer(&self) -> Result<(), BenchError> {
        let (clients, key) = (self.clients.clone(), Arc::new(keys()));
        let offer = move |number: usize| {
            let client = clients[number % clients.len()].clone();
            let key = key.clone();
            async move {
                let product =
                    format!(r#"{{"name":"product {number}","price":{PRICE},"category":"bench"}}"#);
                let subject = format!("cmd.product.p{number}.register");
                by_nats(client.clone(), subject, product.into(), key()).await?;
                let subject = format!("cmd.stock.b_p{number}.receive");
                let plenty = Bytes::from_static(br#"{"quantity":1000000}"#);
                by_nats(client, subject, plenty, key()).await
            }
        };
        once_each(self.threads.handle(), 64, PRODUCTS, offer).await
    }

    /// Gives commands to the stocks.
    async fn commands(&self, length: Duration) -> Result<Sample, BenchError> {
        let (clients, key, workers) = (self.clients.clone(), Arc::new(keys()), self.workers);
        let operation = move |worker: usize, done: u64| {
            let number = own(worker, workers, PRODUCTS, done);
            let client = clients[number % clients.len()].clone();
            let subject = format!("cmd.stock.b_p{number}.receive");
            by_nats(client, subject, Bytes::from_static(commands::BODY), key())
        };
        closed_loop(self.threads.handle(), workers, length, operation).await
    }

    fn order(&self, id: &str, number: usize) -> (String, Bytes) {
        let sku = number % PRODUCTS;
        let body = format!(
            r#"{{"member":"m","branch":"b","lines":[{{"sku":"p{sku}","quantity":1,"unit_price":{PRICE}}}]}}"#
        );
        (format!("cmd.order.{id}.place"), body.into())
    }

    /// Places orders all at once, and waits until all are confirmed; with an instance beside them that is parked.
    async fn orders(&self, name: &str, count: usize, poisoned: bool) -> Result<Burst, BenchError> {
        let prefix = format!("{}-{name}", &self.run[20..]);
        let mut happened = self.follow("evt.order.>").await?;
        let begin = self.log.end().await.map_err(BenchError::new)?;
        if poisoned {
            self.poison(&prefix).await?;
        }
        let begun = Instant::now();
        let (clients, key) = (self.clients.clone(), Arc::new(keys()));
        let orders: Vec<_> = (0..count)
            .map(|number| self.order(&format!("{prefix}-{number}"), number))
            .collect();
        let orders = Arc::new(orders);
        let place = move |number: usize| {
            let client = clients[number % clients.len()].clone();
            let (subject, body) = orders[number].clone();
            by_nats(client, subject, body, key())
        };
        let placing = once_each(self.threads.handle(), self.workers.min(count), count, place);
        let confirmed = async {
            let mut open: HashSet<String> = (0..count)
                .map(|number| format!("evt.order.{prefix}-{number}"))
                .collect();
            while !open.is_empty() {
                let next = tokio::time::timeout(PATIENCE, happened.next()).await;
                let Ok(Some(message)) = next else {
                    return Err(BenchError::new(format!(
                        "{} orders are not confirmed",
                        open.len()
                    )));
                };
                if is(&message.payload, "order.confirmed.v1") {
                    open.remove(message.subject.as_str());
                }
            }
            Ok(())
        };
        futures::future::try_join(placing, confirmed).await?;
        let elapsed = begun.elapsed();
        let steps = self.steps_after(begin, &prefix).await?;
        Ok(Burst {
            steps,
            elapsed,
            per_second: steps as f64 / elapsed.as_secs_f64(),
        })
    }

    /// An event in the name of an order that no fulfilment can make sense of.
    async fn poison(&self, prefix: &str) -> Result<(), BenchError> {
        let commit = serde_json::json!([{
            "specversion": "1.0", "source": format!("/order/{prefix}-poison"), "id": "1", "type": "order.placed.v1",
            "time": "2027-01-01T00:00:00Z", "commandid": format!("{prefix}-poison"), "data": { "odd": true },
        }]);
        let subject = format!("evt.order.{prefix}-poison");
        let published = self.clients[0]
            .publish(subject, commit.to_string().into())
            .await;
        published.map_err(BenchError::new)
    }

    /// Counts the steps of these orders that stand after a position.
    async fn steps_after(&self, position: u64, prefix: &str) -> Result<usize, BenchError> {
        let messages = self
            .log
            .messages("evt.fulfilment.*", position, u64::MAX)
            .await;
        let messages = messages.map_err(BenchError::new)?;
        let of = format!("evt.fulfilment.{prefix}-");
        let these = messages
            .iter()
            .filter(|message| message.subject.starts_with(&of));
        let steps = these.map(|message| {
            let events: Vec<Value> = serde_json::from_slice(&message.payload).unwrap_or_default();
            events
                .iter()
                .filter(|event| event["type"] == "fulfilment.stepped.v1")
                .count()
        });
        Ok(steps.sum())
    }

    async fn follow(&self, subject: &str) -> Result<async_nats::Subscriber, BenchError> {
        let client = &self.clients[0];
        let subscribed = client.subscribe(subject.to_owned()).await;
        let subscribed = subscribed.map_err(BenchError::new)?;
        client.flush().await.map_err(BenchError::new)?;
        Ok(subscribed)
    }

    /// The time from the request that places an order to its confirmation, while nothing else happens.
    async fn one_by_one(&self) -> Result<Sample, BenchError> {
        let begun = Instant::now();
        let key = keys();
        let mut happened = self.follow("evt.order.>").await?;
        let mut latencies = Vec::with_capacity(ONE_BY_ONE);
        for number in 0..ONE_BY_ONE {
            let id = format!("{}-one-{number}", &self.run[20..]);
            let (subject, body) = self.order(&id, number);
            let begun = Instant::now();
            by_nats(self.clients[0].clone(), subject, body, key()).await?;
            loop {
                let next = tokio::time::timeout(PATIENCE, happened.next()).await;
                let Ok(Some(message)) = next else {
                    return Err(BenchError::new("an order is not confirmed"));
                };
                let is_this = message.subject.as_str().ends_with(&*id);
                if is_this && is(&message.payload, "order.confirmed.v1") {
                    break;
                }
            }
            latencies.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(Sample::new(latencies, begun.elapsed()))
    }

    /// Arms alarms that ring long after the bench, of instances that are not there.
    async fn arm(&self, count: usize) -> Result<(), BenchError> {
        let at = Timestamp::now() + jiff::SignedDuration::from_hours(24);
        let log = self.log.clone();
        let arm = move |number: usize| {
            let log = log.clone();
            async move {
                let alarm = Alarm {
                    process: "fulfilment".to_owned(),
                    id: format!("armed-{number}"),
                    name: "payment".to_owned(),
                    armed: 1,
                    correlation: None,
                };
                log.arm(&alarm, at).await.map_err(BenchError::new)
            }
        };
        once_each(self.threads.handle(), ARMING, count, arm).await
    }

    /// The lateness with which orders that are not paid are cancelled: by the times in the log.
    async fn lateness(&self) -> Result<Sample, BenchError> {
        let begun = Instant::now();
        let begin = self.log.end().await.map_err(BenchError::new)?;
        let mut happened = self.follow("evt.order.>").await?;
        let prefix = format!("{}-late", &self.run[20..]);
        let key = keys();
        for number in 0..LATE {
            let (subject, body) = self.order(&format!("{prefix}-{number}"), number);
            by_nats(self.clients[0].clone(), subject, body, key()).await?;
        }
        let mut cancelled = HashMap::new();
        while cancelled.len() < LATE {
            let next = tokio::time::timeout(PATIENCE, happened.next()).await;
            let Ok(Some(message)) = next else {
                return Err(BenchError::new("a deadline is not acted on"));
            };
            let events: Vec<Value> = serde_json::from_slice(&message.payload).unwrap_or_default();
            let of = events
                .iter()
                .find(|event| event["type"] == "order.cancelled.v1");
            let Some(time) = of.and_then(|event| event["time"].as_str()) else {
                continue;
            };
            let id = message
                .subject
                .as_str()
                .trim_start_matches("evt.order.")
                .to_owned();
            // Orders of other measurements may be cancelled at the same time.
            if !id.starts_with(&prefix) {
                continue;
            }
            let time: Timestamp = time.parse().map_err(BenchError::new)?;
            cancelled.insert(id, time);
        }
        let messages = self.log.messages("evt.fulfilment.*", begin, u64::MAX).await;
        let mut latencies = Vec::with_capacity(LATE);
        for message in messages.map_err(BenchError::new)? {
            let id = message.subject.trim_start_matches("evt.fulfilment.");
            let events: Vec<Value> = serde_json::from_slice(&message.payload).unwrap_or_default();
            let steps = events
                .iter()
                .filter(|event| event["type"] == "fulfilment.stepped.v1");
            let steps = steps.filter_map(|event| Step::deserialize(&event["data"]).ok());
            for deadline in steps.flat_map(|step| step.set) {
                if let Some(time) = cancelled.get(id) {
                    let late = time.duration_since(deadline.at).as_nanos().max(0);
                    latencies.push(u64::try_from(late).unwrap_or(u64::MAX));
                }
            }
        }
        Ok(Sample::new(latencies, begun.elapsed()))
    }
}

fn is(payload: &[u8], event_type: &str) -> bool {
    let name = event_type.as_bytes();
    payload.windows(name.len()).any(|window| window == name)
}
