//! The commands that are given, and how fast.

use super::super::{
    BenchError, Sample,
    commands::{WARMING, keys},
    floor::own,
    http::Connection,
    load::once_each,
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Mutex, task::JoinSet};

/// Of so many commands one places an order.
const ORDERS: u64 = 1_000;
/// Of so many commands one gives a product another price.
const PRICES: u64 = 100;
/// The products of one section.
const SECTION: usize = 50;

/// Makes commands of the mart's and gives them over HTTP.
pub(super) struct Given {
    address: SocketAddr,
    count: usize,
    key: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Given {
    pub(super) fn new(address: SocketAddr, count: usize) -> Self {
        Self {
            address,
            count,
            key: Arc::new(keys()),
        }
    }

    /// Registers the products, puts each on display, and gives each a stock.
    pub(super) async fn prepare(&self, threads: &Handle) -> Result<(), BenchError> {
        let (address, key, count) = (self.address, Arc::clone(&self.key), self.count);
        let workers = WARMING.min(64);
        let sections = count.div_ceil(SECTION);
        let mut connections = Vec::new();
        for _ in 0..workers {
            connections.push(Arc::new(Mutex::new(Connection::open(address).await?)));
        }
        let connections: Arc<[_]> = connections.into();
        let give = move |number: usize, post: String| {
            let connection = Arc::clone(&connections[number % workers]);
            async move {
                connection.lock().await.ask(post.as_bytes()).await?;
                Ok::<_, BenchError>(())
            }
        };
        let (open, named) = (give.clone(), Arc::clone(&key));
        once_each(threads, workers.min(sections), sections, move |section| {
            let fields = format!(r#"{{"branch":"b","title":"Section {section}"}}"#);
            open(
                section,
                post(&format!("display/s{section}/open"), &named(), &fields),
            )
        })
        .await?;
        once_each(threads, workers.min(count), count, move |number| {
            let (give, section, rank) = (give.clone(), number / SECTION, 1 + number % SECTION);
            let posts = [
                post(
                    &format!("product/p-{number}/register"),
                    &key(),
                    &format!(r#"{{"name":"Gala apples, bag {number}","price":4900,"category":"fruit","unit":"bag"}}"#),
                ),
                post(
                    &format!("display/s{section}/place"),
                    &key(),
                    &format!(r#"{{"sku":"p-{number}","rank":{rank}}}"#),
                ),
                post(
                    &format!("stock/b_p-{number}/receive"),
                    &key(),
                    r#"{"quantity":1}"#,
                ),
            ];
            async move {
                for post in posts {
                    give(number, post).await?;
                }
                Ok(())
            }
        })
        .await
    }

    /// Gives commands by so many connections for a while, each the next one when the last is answered, and no more
    /// in a second than `rate`.
    pub(super) async fn give(
        &self,
        threads: &Handle,
        connections: usize,
        rate: Option<u64>,
        length: Duration,
    ) -> Result<Sample, BenchError> {
        let turns = Arc::new(Turns::new(rate));
        let mut running = JoinSet::new();
        for worker in 0..connections {
            let mut connection = Connection::open(self.address).await?;
            let (key, count, turns) = (Arc::clone(&self.key), self.count, Arc::clone(&turns));
            let run = async move {
                let (begun, mut latencies) = (turns.begun, Vec::with_capacity(4096));
                for done in 0.. {
                    turns.wait().await;
                    if begun.elapsed() >= length {
                        break;
                    }
                    let number = own(worker, connections, count, done);
                    let command = command(number, worker as u64 * 7 + done, &key());
                    let now = Instant::now();
                    connection.ask(command.as_bytes()).await?;
                    latencies.push(now.elapsed().as_nanos() as u64);
                }
                Ok::<_, BenchError>(latencies)
            };
            running.spawn_on(run, threads);
        }
        let mut latencies = Vec::new();
        while let Some(worker) = running.join_next().await {
            latencies.extend(worker.map_err(BenchError::new)??);
        }
        Ok(Sample::new(latencies, turns.begun.elapsed()))
    }
}

/// Whose turn it is, where no more commands are given than a rate.
struct Turns {
    begun: Instant,
    /// In nanoseconds since then.
    next: AtomicU64,
    apart: Option<u64>,
}

impl Turns {
    fn new(rate: Option<u64>) -> Self {
        Self {
            begun: Instant::now(),
            next: AtomicU64::new(0),
            apart: rate.map(|rate| 1_000_000_000 / rate.max(1)),
        }
    }

    async fn wait(&self) {
        let Some(apart) = self.apart else { return };
        let turn = Duration::from_nanos(self.next.fetch_add(apart, Ordering::Relaxed));
        tokio::time::sleep_until((self.begun + turn).into()).await;
    }
}

/// One command to the aggregate of a number.
fn command(number: usize, turn: u64, key: &str) -> String {
    if turn.is_multiple_of(ORDERS) {
        let fields = format!(
            r#"{{"member":"m-{number}","branch":"b","lines":[{{"sku":"p-{number}","quantity":1,"unit_price":4900}}]}}"#
        );
        return post(&format!("order/{key}/place"), key, &fields);
    }
    if turn % PRICES == PRICES / 2 {
        let fields = format!(r#"{{"price":{}}}"#, 1_000 + turn % 1_000_000);
        return post(&format!("product/p-{number}/reprice"), key, &fields);
    }
    post(
        &format!("stock/b_p-{number}/receive"),
        key,
        r#"{"quantity":1}"#,
    )
}

fn post(path: &str, key: &str, fields: &str) -> String {
    format!(
        "POST /commands/{path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n\
         Idempotency-Key: {key}\r\nContent-Length: {}\r\n\r\n{fields}",
        fields.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_thousand_commands_one_is_an_order_and_ten_are_prices() {
        let given: Vec<_> = (0..1_000).map(|turn| command(3, turn, "k")).collect();
        let count = |what: &str| given.iter().filter(|it| it.contains(what)).count();
        assert_eq!(count("/order/k/place"), 1);
        assert_eq!(count("/product/p-3/reprice"), 10);
        assert_eq!(count("/stock/b_p-3/receive"), 989);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_no_closer_than_the_rate() {
        let turns = Turns::new(Some(1_000));
        for _ in 0..50 {
            turns.wait().await;
        }
        // The 50th turn is 49 ms after the first; the paused clock moves by them alone.
        assert_eq!(turns.next.load(Ordering::Relaxed), 50_000_000);
        Turns::new(None).wait().await;
    }
}
