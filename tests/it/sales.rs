//! The sums of `sales` through every failure: an event that was applied twice or never would show in
//! them for good. `make chaos SECONDS=… SEED=…` runs these tests for longer.

use crate::{
    crash::{kill_or_pause_nats, kill_or_pause_replicas, pass_time},
    harness::{
        api::Api,
        log::Log,
        nats::Nats,
        poll::eventually_within,
        replica::Replica,
        seed::{Seed, chaos_length},
        service::{headwater, run},
        surreal::Surreal,
        writers::{Answer, Answers, Given, Giver},
    },
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const SELLERS: u64 = 8;
const BRANCHES: [&str; 3] = ["seoul", "busan", "jeju"];
/// Without the processes: these orders are of products that nobody has.
const ROLES: [&str; 2] = ["--roles", "command,projector,gateway"];
/// How long a view may take to come after everything that has happened to it.
const AFTER: Duration = Duration::from_secs(120);

struct World {
    replicas: Vec<Replica>,
    nats: Nats,
    /// Where they keep their documents, unless each has its own.
    store: Option<Surreal>,
}

impl World {
    fn start(number: usize, store: Option<Surreal>) -> Self {
        let nats = Nats::start();
        let url = store.as_ref().map(Surreal::url);
        let mut arguments = ROLES.to_vec();
        if let Some(url) = &url {
            arguments.extend(["--surreal", url, "--surreal-user", "root"]);
            arguments.extend(["--surreal-password", "root"]);
        }
        let replicas = (0..number).map(|_| Replica::of(&nats.url(), &arguments));
        Self {
            replicas: replicas.collect(),
            nats,
            store,
        }
    }

    /// Has the view rebuilt meanwhile, as far as that can be asked for now.
    fn rebuild(&self) -> thread::JoinHandle<()> {
        let mut rebuild = headwater(["views", "rebuild", "sales", "--no-wait"]);
        rebuild.args(["--nats", &self.nats.url()]);
        thread::spawn(move || {
            let rebuilt = run(&mut rebuild).status;
            eprintln!("a rebuild was asked for: {rebuilt}");
        })
    }

    /// Something happens, and is over afterwards.
    fn suffer(&mut self, what: u64, chance: &mut Seed) {
        match (what, &mut self.store) {
            (0, Some(_)) if chance.once_in(2) => {
                // Long enough for another to take its views over before it is back.
                let one = chance.within(0..self.replicas.len() as u64) as usize;
                self.replicas[one].pause();
                pass_time(chance, 3_500..6_000);
                self.replicas[one].resume();
            }
            (0, _) => drop(kill_or_pause_replicas(&mut self.replicas, chance)),
            (1, _) => drop(kill_or_pause_nats(&mut self.nats, chance)),
            (_, Some(store)) if chance.once_in(2) => {
                store.pause();
                // Often longer than until it is noticed.
                pass_time(chance, 500..9_000);
                store.resume();
            }
            (_, Some(store)) => {
                store.kill();
                pass_time(chance, 0..3_000);
                store.restart();
            }
            (_, None) => {
                // All at once: nobody is left who would know.
                self.replicas.iter_mut().for_each(Replica::kill);
                self.replicas.iter_mut().for_each(Replica::start_again);
            }
        }
        pass_time(chance, 100..1_000);
    }

    /// Sells while things happen, each of them once at least, and then looks at what every replica
    /// shows.
    async fn sell_through(self, seed: Seed) {
        let urls = [self.nats.url()];
        let stop = Arc::new(AtomicBool::new(false));
        let mut sellers = JoinSet::new();
        for number in 0..SELLERS {
            let giver = Giver::connect(&urls).await;
            let (stop, chance) = (Arc::clone(&stop), seed.part(1_000 + number));
            sellers.spawn(async move { sell(&giver, number, chance, &stop).await });
        }
        let mut chance = seed.part(1);
        let suffering = tokio::task::spawn_blocking(move || {
            let mut world = self;
            let end = Instant::now() + chaos_length();
            let first = chance.within(0..3);
            for round in 0.. {
                if round >= 3 && Instant::now() >= end {
                    break;
                }
                let what = match round {
                    0..3 => (first + round) % 3,
                    _ => chance.within(0..3),
                };
                let rebuild = chance.once_in(2).then(|| world.rebuild());
                world.suffer(what, &mut chance);
                if let Some(rebuild) = rebuild {
                    rebuild.join().unwrap();
                }
            }
            world
        });
        let mut world = suffering.await.unwrap();
        stop.store(true, Ordering::Relaxed);
        let mut answers = Answers::default();
        while let Some(sold) = sellers.join_next().await {
            answers.extend(sold.unwrap());
        }
        answers.verify(&urls).await;
        let log = Log::read(&world.nats.client().await).await;
        let last = log.commands.values().map(|logged| logged.position).max();
        let last = last.expect("something was sold");
        let expected = sums(&log);
        let sold: i64 = expected.values().map(|sums| sums[0]).sum();
        eprintln!("{sold} orders are sold, and some more were taken back");
        assert!(sold > 0);
        for replica in &mut world.replicas {
            let shown = shown(&Api::Http(replica.service().http()), last).await;
            assert_eq!(shown, expected);
        }
        // And every document of every view is what its fold comes to.
        let mut verify = headwater(["views", "verify", "--nats", &urls[0]]);
        let verified = tokio::task::spawn_blocking(move || run(&mut verify));
        let verified = verified.await.unwrap();
        assert!(verified.status.success(), "{verified:?}");
    }
}

/// Sells one order after another, and takes some of them back. Every other seller gives commands without
/// keys, and leaves an order alone once it is not told what became of a command.
async fn sell(giver: &Giver, number: u64, mut chance: Seed, stop: &AtomicBool) -> Answers {
    let mut answers = Answers::default();
    let keyed = number.is_multiple_of(2);
    let mut order = 0;
    while !stop.load(Ordering::Relaxed) {
        order += 1;
        let id = format!("o-{number}-{order}");
        let (quantity, price) = (chance.within(1..10), chance.within(1..1_000));
        let lines = json!([{"sku": "s", "quantity": quantity, "unit_price": price}]);
        let branch = chance.one_of(&BRANCHES);
        let mut steps = vec![
            (
                "place",
                json!({"member": "m", "branch": branch, "lines": lines}),
            ),
            ("confirm", json!({})),
        ];
        // A few are never paid, and of those that are some are taken back.
        if !chance.once_in(8) {
            steps.push(("pay", json!({"payment": id, "amount": quantity * price})));
        }
        steps.push(match chance.once_in(3) {
            true => ("cancel", json!({"reason": "changed my mind"})),
            false if steps.len() == 3 => ("ship", json!({})),
            false => ("cancel", json!({"reason": "nobody pays"})),
        });
        for (command, body) in steps {
            let given = Given {
                aggregate: "order",
                id: id.clone(),
                command,
                body,
                key: keyed.then(|| format!("{id}-{command}")),
            };
            let answer = giver.settle(&given).await;
            answers.add(given, answer.clone());
            match answer {
                Answer::Accepted(_) => {}
                Answer::Unknown | Answer::NotDone => break,
                refused => panic!("{refused:?}: {:?}", answers.last()),
            }
        }
    }
    answers
}

/// Orders, units and revenue.
type Sums = BTreeMap<String, [i64; 3]>;

/// What was sold on each day in Seoul in each branch, as the log says, read by nothing of the program.
fn sums(log: &Log) -> Sums {
    let mut sums = Sums::new();
    let orders = log.aggregates.iter();
    for (_, events) in orders.filter(|(name, _)| name.starts_with("order.")) {
        let placed = &events[0]["data"];
        let lines = placed["lines"].as_array().unwrap().iter();
        let units: i64 = lines.map(|line| line["quantity"].as_i64().unwrap()).sum();
        let sale = [1, units, placed["total"].as_i64().unwrap()];
        let mut day = None;
        for event in events {
            let sign = match event["type"].as_str().unwrap() {
                "order.paid.v1" => {
                    let paid: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
                    let paid = jiff::tz::offset(9).to_datetime(paid);
                    let branch = placed["branch"].as_str().unwrap();
                    day = Some(format!("{branch}_{}", paid.date()));
                    1
                }
                "order.cancelled.v1" => -1,
                _ => continue,
            };
            if let Some(day) = &day {
                let sums = sums.entry(day.clone()).or_default();
                for (sum, one) in sums.iter_mut().zip(sale) {
                    *sum += sign * one;
                }
            }
        }
    }
    sums
}

/// The whole view, once it has applied this position.
async fn shown(api: &Api, position: u64) -> Sums {
    let position = format!("order@{position}");
    let headers = [
        ("Headwater-Min-Position", position.as_str()),
        ("Headwater-Max-Wait-Ms", "10000"),
    ];
    let list = eventually_within(AFTER, "the view has come after", || async {
        let list = api.list("sales", json!({"limit": 200}), &headers).await;
        (list.status == 200).then_some(list)
    })
    .await
    .json();
    assert_eq!(list["next"], Value::Null);
    let items = list["items"].as_array().unwrap().iter();
    let sums = items.map(|item| {
        let document = &item["document"];
        let sum = |name: &str| document[name].as_i64().unwrap();
        let id = item["id"].as_str().unwrap().to_owned();
        (id, [sum("orders"), sum("units"), sum("revenue")])
    });
    sums.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_of_replicas_with_documents_of_their_own_count_everything_once() {
    let seed = Seed::of_this_run();
    let world = tokio::task::spawn_blocking(|| World::start(2, None));
    world.await.unwrap().sell_through(seed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sales_on_a_shared_server_count_everything_once() {
    let seed = Seed::of_this_run();
    let world = tokio::task::spawn_blocking(|| World::start(3, Some(Surreal::start())));
    world.await.unwrap().sell_through(seed).await;
}
