//! Three replicas that decide and two that keep views of their own, under writers with and without keys,
//! while the log is cut, restored and replaced at random. What was answered is then held against the log as it stood when the next one took its place,
//! and what the views show against the last.
//! `make chaos SECONDS=… SEED=…` runs this for longer.

use super::answers::{Given, Told, Verdict};
use crate::{
    crash::pass_time,
    harness::{
        api::{Http, NatsApi},
        backup::{Backup, delete, recreate},
        log::Log,
        nats::Nats,
        poll::{eventually, eventually_within},
        replica::Replica,
        seed::{Seed, chaos_length},
        writers::{WHILE, client},
    },
    views_other_log::verified,
};
use async_nats::{Client, jetstream};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{runtime::Handle, task::JoinSet};

const WRITERS: u64 = 24;
const STOCKS: u64 = 180;
const PRODUCTS: u64 = 40;
/// So many are busy at a time. The others are passivated, with snapshots.
const BUSY: u64 = 6;
const BUSY_FOR: Duration = Duration::from_millis(700);
/// A key that was given so long ago may be forgotten.
const REMEMBERED: Duration = Duration::from_secs(90);
/// So many logs there are in a run at least.
const LOGS: usize = 4;
/// A replica may take so long until it has seen that the log is another one.
const UNNOTICED: Duration = Duration::from_secs(2);

/// A stretch of time with one log.
struct Era {
    /// How it came about.
    how: String,
    /// From then on every replica knows that the log is this one.
    begun: Instant,
    /// Until then the log was this one for sure.
    ended: Instant,
    /// As it stood after that.
    log: Log,
}

struct World {
    nats: Nats,
    replicas: Vec<Replica>,
    /// Those that keep views.
    viewers: Vec<Replica>,
    client: Client,
    runtime: Handle,
    copies: Vec<TempDir>,
    backups: Vec<Backup>,
    eras: Vec<Era>,
}

impl World {
    /// Lets time pass, keeps a copy in between, and then looks at the log.
    fn live(&mut self, how: String, begun: Instant, chance: &mut Seed) {
        pass_time(chance, 500..1_500);
        if chance.once_in(2) || self.copies.is_empty() {
            self.copies.push(self.nats.copy_stream("EVENTS"));
        }
        if chance.once_in(2) || self.backups.is_empty() {
            let backup = self.runtime.block_on(Backup::take(&self.client, "EVENTS"));
            self.backups.push(backup);
        }
        pass_time(chance, 3_500..5_000);
        let ended = Instant::now();
        let log = self.runtime.block_on(Log::read(&self.client));
        self.eras.push(Era {
            how,
            begun: begun + UNNOTICED,
            ended,
            log,
        });
    }

    /// Has another log take this one's place, and tells how.
    fn replace(&mut self, chance: &mut Seed) -> String {
        let down = match chance.within(0..3) {
            0 => 0..self.replicas.len(),
            1 => 0..1,
            _ => 0..0,
        };
        for replica in &mut self.replicas[down.clone()] {
            replica.kill();
        }
        let viewer_down = chance.once_in(2);
        if viewer_down {
            self.viewers[0].kill();
        }
        let how = match chance.within(0..3) {
            0 => {
                let copy = chance.within(0..self.copies.len() as u64) as usize;
                self.nats.kill();
                self.nats.put_back("EVENTS", &self.copies[copy]);
                self.nats.start_again();
                format!("cut to copy {copy}")
            }
            1 => {
                let backup = chance.within(0..self.backups.len() as u64) as usize;
                self.delete(chance);
                let restored = self.backups[backup].restore(&self.client);
                self.runtime.block_on(restored);
                format!("restored from backup {backup}")
            }
            _ => {
                self.delete(chance);
                self.runtime.block_on(recreate(&self.nats.url()));
                "made anew".to_owned()
            }
        };
        for replica in &mut self.replicas[down.clone()] {
            replica.start_again();
        }
        if viewer_down {
            self.viewers[0].start_again();
        }
        self.runtime.block_on(present(&self.client));
        format!("{how} while {} of 3 replicas were down", down.len())
    }

    fn delete(&self, chance: &mut Seed) {
        self.runtime.block_on(delete(&self.client, "EVENTS"));
        if chance.once_in(2) {
            pass_time(chance, 0..1_500);
        }
    }
}

/// Waits until the log is there, and decided on.
async fn present(client: &Client) {
    eventually("the log is there", || async {
        let jetstream = jetstream::new(client.clone());
        jetstream.get_stream("EVENTS").await.ok().map(|_| ())
    })
    .await;
    eventually("commands are decided", || async {
        let asked = client.request("cmd.stock.b_none.ship", r#"{"order":"o"}"#.into());
        let asked = tokio::time::timeout(WHILE, asked).await.ok()?.ok()?;
        let status = asked.headers?;
        let status = status.get("Nats-Service-Error-Code")?;
        (status.as_str() == "404").then_some(())
    })
    .await;
}

/// Registers products and gives them prices, whatever the answers are.
async fn trade(api: NatsApi, mut chance: Seed, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let id = format!("p-{}", chance.within(0..PRODUCTS));
        let price = chance.within(1..10_000);
        let (command, body) = match chance.once_in(2) {
            true => (
                "register",
                json!({"name": id, "category": "c", "price": price}),
            ),
            false => ("reprice", json!({"price": price})),
        };
        let subject = format!("cmd.product.{id}.{command}");
        let asked = api.request(subject, body.to_string().into_bytes(), &[]);
        let _ = tokio::time::timeout(WHILE, asked).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The products and their prices as a log has them.
fn prices(log: &Log) -> BTreeMap<String, i64> {
    let aggregates = log.aggregates.iter();
    let products = aggregates.filter_map(|(name, events)| {
        let id = name.strip_prefix("product.")?;
        let mut prices = events
            .iter()
            .filter_map(|event| event["data"]["price"].as_i64());
        Some((id.to_owned(), prices.next_back()?))
    });
    products.collect()
}

/// The products and their prices as a replica shows them.
async fn shown(viewer: &Http) -> Option<BTreeMap<String, i64>> {
    let reply = viewer.get("/views/product?limit=200", &[]).await;
    if reply.status != 200 {
        return None;
    }
    let list = reply.json();
    let items = list["items"].as_array()?.iter().map(|item| {
        let price = item["document"]["price"].as_i64();
        Some((item["id"].as_str()?.to_owned(), price?))
    });
    items.collect()
}

/// Gives commands and notes what it is told.
struct Writer {
    number: u64,
    api: NatsApi,
    chance: Seed,
    /// Of all writers.
    began: Instant,
    given: u64,
    told: Vec<Told>,
    /// Accepted reservations that were not settled yet, as stock and order.
    reserved: Vec<(String, String)>,
}

impl Writer {
    async fn work(&mut self) {
        let again = self.told.len() > 20 && self.chance.once_in(6);
        let given = match again {
            true => self.earlier(),
            false => self.choose(),
        };
        let begun = Instant::now();
        let answer = tokio::time::timeout(WHILE, given.give(&self.api)).await;
        let answer = answer.ok().flatten();
        if let Some((200, _)) = &answer
            && given.command == "reserve"
            && !again
        {
            self.reserved.push((given.id.clone(), given.own.clone()));
        }
        if answer.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.told.push(Told {
            given,
            begun,
            ended: Instant::now(),
            answer,
        });
    }

    /// An earlier command with its key, of this log or of another; a new one where that had none.
    fn earlier(&mut self) -> Given {
        let of_all = self.chance.once_in(2);
        let back = if of_all { self.told.len() as u64 } else { 20 };
        let back = self.chance.within(0..back) as usize + 1;
        let told = &self.told[self.told.len() - back];
        if told.given.key.is_some() && told.begun.elapsed() < REMEMBERED {
            told.given.clone()
        } else {
            self.choose()
        }
    }

    /// Most often one of those that are busy now.
    fn stock(&mut self) -> u64 {
        if self.chance.once_in(4) {
            return self.chance.within(0..STOCKS);
        }
        let turn = self.began.elapsed().as_millis() / BUSY_FOR.as_millis();
        let group = turn.wrapping_mul(7) as u64 % (STOCKS / BUSY);
        group * BUSY + self.chance.within(0..BUSY)
    }

    fn choose(&mut self) -> Given {
        self.given += 1;
        let unique = format!("w{}-{}", self.number, self.given);
        let key = self.number.is_multiple_of(2).then(|| unique.clone());
        let chance = &mut self.chance;
        if !self.reserved.is_empty() && chance.once_in(3) {
            let which = chance.within(0..self.reserved.len() as u64) as usize;
            let (id, order) = self.reserved.swap_remove(which);
            return Given {
                id,
                command: if chance.once_in(2) { "release" } else { "ship" },
                body: json!({"order": order}),
                own: order,
                key,
            };
        }
        let quantity = chance.within(1..4);
        let which = chance.within(0..6);
        let (command, body) = match which {
            0..3 => ("reserve", json!({"order": unique, "quantity": quantity})),
            // Every stock begins with one, in every log.
            3..5 => ("receive", json!({"quantity": 10 + quantity})),
            _ => ("adjust", json!({"delta": quantity, "reason": unique})),
        };
        Given {
            id: format!("b_{}", self.stock()),
            command,
            body,
            own: unique,
            key,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_is_of_another_log_than_the_one_that_is_there() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let url = nats.url();
    let idle = ["--idle-seconds", "1"];
    let replicas = (0..3).map(|_| Replica::start(&url, &idle)).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let all = Arc::new(Mutex::new(Vec::new()));
    let mut writers = JoinSet::new();
    let began = Instant::now();
    for number in 0..WRITERS {
        let mut writer = Writer {
            number,
            api: client(std::slice::from_ref(&url)).await,
            chance: seed.part(1_000 + number),
            began,
            given: 0,
            told: Vec::new(),
            reserved: Vec::new(),
        };
        let (stop, all) = (Arc::clone(&stop), Arc::clone(&all));
        writers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                writer.work().await;
            }
            all.lock().unwrap().extend(writer.told);
        });
    }
    let trader = client(std::slice::from_ref(&url)).await;
    let trading = tokio::spawn(trade(trader, seed.part(2), Arc::clone(&stop)));
    let roles = ["--roles", "projector,gateway"];
    let viewers = (0..2).map(|_| Replica::of(&url, &roles)).collect();
    let mut world = World {
        viewers,
        client: client(&[url]).await.client,
        nats,
        replicas,
        runtime: Handle::current(),
        copies: Vec::new(),
        backups: Vec::new(),
        eras: Vec::new(),
    };
    let mut chance = seed.part(1);
    let world = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + chaos_length();
        let mut how = "the first".to_owned();
        while world.eras.len() < LOGS || Instant::now() < end {
            world.live(how, Instant::now(), &mut chance);
            how = world.replace(&mut chance);
        }
        world
    });
    let mut world = world.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    trading.await.unwrap();
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let told = std::mem::take(&mut *all.lock().unwrap());
    let mut lies = Vec::new();
    for (number, era) in world.eras.iter().enumerate() {
        let of_it = |told: &&Told| told.begun >= era.begun && told.ended <= era.ended;
        let of_it = told.iter().filter(of_it);
        eprintln!(
            "log {number}, {}: {} answers",
            era.how,
            of_it.clone().count()
        );
        let verdict = Verdict::of(&era.log, of_it);
        let lies_of_it = verdict.lies.iter();
        lies.extend(lies_of_it.map(|lie| format!("log {number}, {}: {lie}", era.how)));
    }
    let last = prices(&Log::read(&world.client).await);
    eprintln!("{} products in the last log", last.len());
    for viewer in &mut world.viewers {
        let http = viewer.service().http();
        let limit = Duration::from_secs(60);
        eventually_within(
            limit,
            "the views show the last log, and nothing else",
            || async { (shown(&http).await? == last).then_some(()) },
        )
        .await;
    }
    verified(&world.nats).await;
    // Whichever log was there.
    lies.extend(told.iter().filter_map(Told::fault));
    assert!(
        lies.is_empty(),
        "{}: {:#?}",
        lies.len(),
        &lies[..lies.len().min(20)]
    );
}
