//! What orders set aside through their process is linearizable too: whoever is told that their order is
//! confirmed, rejected or called off has seen its effect on the stock, whatever was killed meanwhile.

use crate::{
    crash::kill_or_pause_replicas,
    harness::{
        api::{NatsApi, Reply},
        history::History,
        nats::Nats,
        replica::Replica,
        seed::{Seed, chaos_length},
    },
    processes::{BARE, order},
};
use serde_json::{Value, json};
use stateright::semantics::SequentialSpec;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

const CLIENTS: u64 = 3;
/// The checker's work grows fast with a history's length: many short ones prove more.
const STEPS: usize = 60;
const PRICE: i64 = 1_000;
/// The time after which nobody asks any more what became of something.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients do to one stock.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    Receive(i64),
    /// Places an order for so many, and waits for its fulfilment.
    Order(i64),
    /// Calls such an order off, and waits for its fulfilment.
    CallOff(i64),
}

/// What they are told.
#[derive(Debug, Clone, PartialEq)]
enum Told {
    Done,
    Rejected,
}

/// A stock as it should be, one operation after another.
#[derive(Debug, Clone, Default)]
struct Available(i64);

impl SequentialSpec for Available {
    type Op = Op;
    type Ret = Told;

    fn invoke(&mut self, op: &Op) -> Told {
        match *op {
            Op::Order(quantity) if quantity > self.0 => return Told::Rejected,
            Op::Order(quantity) => self.0 -= quantity,
            Op::Receive(quantity) | Op::CallOff(quantity) => self.0 += quantity,
        }
        Told::Done
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_orders_set_aside_is_linearizable_over_replicas_that_are_killed() {
    let seed = Seed::of_this_run();
    let nats = Nats::start();
    let mut replicas: Vec<_> = (0..3).map(|_| Replica::of(&nats.url(), &BARE)).collect();
    let api = NatsApi::connect(&nats.url()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut running = JoinSet::new();
    for place in 0..4 {
        let (api, mut seed, stop) = (api.clone(), seed.part(100 + place), stop.clone());
        running.spawn(async move {
            let mut histories = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let sku = format!("p-{place}-{}", histories.len());
                let product = json!({ "name": sku, "price": PRICE, "category": "food" });
                let path = format!("product.{sku}.register");
                let registered = ask(&api, &path, &product, &sku, false);
                registered.await.expect("an answer").expect(200);
                let history = History::<Available>::default();
                let clients = (0..CLIENTS).map(|number| {
                    let chance = seed.part(seed.clone().next() ^ number);
                    work(&api, &sku, &history, number, chance)
                });
                futures::future::join_all(clients).await;
                seed.next();
                histories.push((sku, history));
            }
            histories
        });
    }
    let mut chance = seed.part(1);
    let chaos = tokio::task::spawn_blocking(move || {
        let end = Instant::now() + chaos_length();
        while Instant::now() < end {
            kill_or_pause_replicas(&mut replicas, &mut chance);
        }
        replicas
    });
    let _replicas = chaos.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let (mut checked, mut steps) = (0, 0);
    while let Some(histories) = running.join_next().await {
        for (id, history) in histories.unwrap() {
            assert!(history.is_linearizable(), "{id}: {history:#?}");
            checked += 1;
            steps += history.len();
        }
    }
    eprintln!("{checked} histories of {steps} steps were checked");
    assert!(checked > 0);
}

/// One client, who calls off some of the orders that were confirmed. Who is not told what became of an
/// operation has another name from then on.
async fn work(
    api: &NatsApi,
    sku: &str,
    history: &History<Available>,
    number: u64,
    mut chance: Seed,
) {
    let stock = format!("gangnam_{sku}");
    let (mut client, mut given) = (number, 0);
    let mut confirmed: Vec<(String, i64)> = Vec::new();
    while history.len() < STEPS {
        given += 1;
        let key = format!("{sku}-{number}-{given}");
        let quantity = chance.within(1..4) as i64;
        let called_off = match chance.once_in(3) {
            true => confirmed.pop(),
            false => None,
        };
        let (op, path, body) = match called_off {
            Some((order, quantity)) => (
                Op::CallOff(quantity),
                format!("order.{order}.cancel"),
                json!({ "reason": "changed my mind" }),
            ),
            // What nobody has received yet cannot be ordered: that is another answer.
            None if given == 1 || chance.once_in(3) => (
                Op::Receive(quantity),
                format!("stock.{stock}.receive"),
                json!({ "quantity": quantity }),
            ),
            None => (
                Op::Order(quantity),
                format!("order.{key}.place"),
                order(&[(sku, quantity, PRICE)]),
            ),
        };
        history.began(client, op.clone());
        let waits = !matches!(op, Op::Receive(_));
        let Some(reply) = ask(api, &path, &body, &key, waits).await else {
            client += CLIENTS;
            continue;
        };
        let reply = reply.expect(200);
        let process = reply.header("Headwater-Process").to_owned();
        let told = match &op {
            Op::Order(_) if process.ends_with(" ended") => Told::Rejected,
            _ => Told::Done,
        };
        if let Op::CallOff(_) = op {
            assert!(process.ends_with(" ended"), "{process:?}");
        }
        if let (Op::Order(quantity), Told::Done) = (&op, &told) {
            assert!(process.ends_with(" waiting"), "{process:?}");
            confirmed.push((key, *quantity));
        }
        history.told(client, told);
    }
}

/// Gives a command until it is answered for good; `None` when it never was.
async fn ask(api: &NatsApi, path: &str, body: &Value, key: &str, waits: bool) -> Option<Reply> {
    let mut headers = vec![("Idempotency-Key", key)];
    if waits {
        headers.extend([
            ("Headwater-Wait", "fulfilment"),
            ("Headwater-Max-Wait-Ms", "4000"),
        ]);
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        let body = serde_json::to_vec(body).unwrap();
        let asked = api.request(format!("cmd.{path}"), body, &headers);
        match tokio::time::timeout(Duration::from_secs(8), asked).await {
            Ok(Ok(reply)) if reply.status == 200 && reply.header("Headwater-Status") != "202" => {
                return Some(reply);
            }
            Ok(Ok(reply)) if !matches!(reply.status, 200 | 202 | 429 | 503) => return Some(reply),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    None
}

#[test]
fn an_order_confirmed_from_what_is_not_there_is_not_linearizable() {
    for (received, linearizable) in [(1, false), (2, true)] {
        let history = History::<Available>::default();
        history.began(1, Op::Receive(received));
        history.told(1, Told::Done);
        for client in [1, 2] {
            history.began(client, Op::Order(1));
        }
        for client in [1, 2] {
            history.told(client, Told::Done);
        }
        assert_eq!(history.is_linearizable(), linearizable);
    }
}
