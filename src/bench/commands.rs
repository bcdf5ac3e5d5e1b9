//! `bench commands` and `bench hot`: commands against NATS alone.
//!
//! Every command is a `receive` of one piece with an idempotency key of its own, to a stock of the
//! mart. The floors use its very bytes: request-reply the command's request and its answer, publishing
//! the commit that it left in the log. A third floor publishes next to nothing (`publish_slim`).
//!
//! With a token the same commands are given without one too (`without_token`), and with as many bytes that nobody
//! reads (`unread_header`): what is left between that and ours is the replica's part of a token.

mod target;

use super::{
    Bench, BenchError, LoadThreads, Rounds, closed_loop,
    floor::{Publish, RequestReply, own},
    load::once_each,
    processes::{self, Scratch},
    report::common_settings,
};
use crate::{
    event_log::{
        AppendChoice, EventLog, Timeouts,
        subject::{self, Id},
        topology::Durability,
    },
    platform::NatsAddress,
};
use async_nats::{Client, HeaderMap, HeaderName, HeaderValue, Request};
use bytes::Bytes;
use futures::future::BoxFuture;
use serde_json::{Map, Value};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use target::Target;

// Made once: a name that is made anew is checked and copied.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("Idempotency-Key");
const ERROR_CODE: HeaderName = HeaderName::from_static("Nats-Service-Error-Code");

/// The body of every command.
pub(super) const BODY: &[u8] = br#"{"quantity":1}"#;
/// The bytes of a message of the slim floor: what a library sends that stores a number and little else.
pub(super) const SLIM: usize = 40;
/// So many commands are in flight while each aggregate is loaded once before anything is measured.
pub(super) const WARMING: usize = 256;

/// The settings of a measurement of commands.
#[derive(Debug, Clone)]
pub struct CommandsOptions {
    /// The bench's name in what it tells.
    pub name: &'static str,
    /// Over how many aggregates the commands are spread.
    pub aggregates: usize,
    /// The number in flight.
    pub concurrency: usize,
    /// The time that ours, and each floor, is measured altogether.
    pub length: Duration,
    /// In how many rounds.
    pub rounds: u32,
    /// The number of connections the load comes by.
    pub connections: usize,
    /// True if commands are given within the replica's process, by the short way.
    pub in_process: bool,
    /// The token that commands are given with.
    pub token: Option<String>,
    /// A NATS that is there, with a replica on it; started when `None`.
    pub nats: Option<NatsAddress>,
    /// True if a nats-server that is started syncs each append.
    pub durable: bool,
    /// The nats-server to start.
    pub nats_server: Option<PathBuf>,
}

impl CommandsOptions {
    /// The mode that the server is made for.
    pub(super) fn append(&self) -> AppendChoice {
        if self.durable {
            AppendChoice::Grouped
        } else {
            AppendChoice::Pipelined
        }
    }

    /// All that are measured stay live.
    pub(super) fn max_actors(&self) -> usize {
        (2 * self.aggregates).max(100_000)
    }
}

pub(super) type Operation =
    Arc<dyn Fn(usize, u64) -> BoxFuture<'static, Result<(), BenchError>> + Send + Sync>;

/// Measures commands.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or an operation fails.
pub async fn run(options: CommandsOptions) -> Result<Bench, BenchError> {
    let durability = if options.durable {
        Durability::SingleDurable
    } else {
        Durability::Dev
    };
    let scratch = match options.nats {
        None => Some(Scratch::start(durability, options.nats_server.clone()).await?),
        Some(_) => None,
    };
    let nats = match (&options.nats, &scratch) {
        (Some(nats), _) => nats.clone(),
        (None, Some(scratch)) => scratch.nats(),
        (None, None) => unreachable!("one of both is there"),
    };
    let measured = measure(&options, &nats, scratch.as_ref()).await;
    if let Some(scratch) = scratch {
        scratch.stop().await;
    }
    let mut bench = measured?;
    if options.nats.is_none() {
        let mode = if options.durable { "always" } else { "default" };
        bench.settings.insert("sync_interval".into(), mode.into());
    }
    Ok(bench)
}

async fn measure(
    options: &CommandsOptions,
    nats: &NatsAddress,
    scratch: Option<&Scratch>,
) -> Result<Bench, BenchError> {
    let threads = LoadThreads::start()?;
    let clients = connect(nats, options.connections, &threads).await?;
    let target = Target::start(options, nats, scratch, &clients).await?;

    let resident_before = target.resident_bytes();
    let ours = target.operation();
    let count = options.aggregates;
    let warm = ours.clone();
    once_each(threads.handle(), WARMING.min(count), count, move |number| {
        warm(number, 0)
    })
    .await?;
    let sizes = Sizes::measure(&clients[0]).await?;
    let request = (target.headers(), Bytes::from_static(BODY));
    let echo = RequestReply::start(nats, clients.clone(), request, sizes.reply).await?;
    let publish = Publish::create(clients.clone(), count, sizes.commit.clone()).await?;
    let slim = Bytes::from_static(&[b' '; SLIM]);
    let publish_slim = Publish::create(clients.clone(), count, slim).await?;

    let workers = options.concurrency;
    let publishers = workers.min(count);
    let spread = |operation: Operation| -> Operation {
        Arc::new(move |worker, done| operation(own(worker, workers, count, done), done))
    };
    let others = target.with_other_headers().into_iter();
    let rounds = Alternating {
        echoes: (workers, Arc::new(echo.operation())),
        publishes: (publishers, Arc::new(publish.operation(publishers))),
        slim_publishes: (publishers, Arc::new(publish_slim.operation(publishers))),
        commands: (workers, spread(ours)),
        others: others
            .map(|(name, operation)| (name, (workers, spread(operation))))
            .collect(),
    };
    let (rounds, of_publish, of_ours) = rounds.measure(options, &threads, &target, scratch).await?;

    let mut settings = settings(options, clients.len(), &sizes);
    if let (Some(before), Some(after)) = (resident_before, target.resident_bytes()) {
        settings.insert("replica_resident_mib_before".into(), (before >> 20).into());
        settings.insert("replica_resident_mib".into(), (after >> 20).into());
        let grown = after.saturating_sub(before) / count as u64;
        settings.insert("replica_bytes_per_aggregate".into(), grown.into());
    }
    settings.insert("cpu_us_per_command".into(), of_ours.told());
    settings.insert("cpu_us_per_publish".into(), of_publish.told());
    let mut bench = rounds.into_bench(options.name, settings);
    let floors = bench.floors["request_reply"].p50_ms + bench.floors["publish"].p50_ms;
    bench
        .ratios
        .insert("p50_to_floors_p50", bench.ours.p50_ms / floors);

    echo.stop().await;
    publish.delete().await?;
    publish_slim.delete().await?;
    target.stop().await;
    Ok(bench)
}

fn settings(options: &CommandsOptions, connections: usize, sizes: &Sizes) -> Map<String, Value> {
    let mut settings = common_settings();
    let publishers = options.concurrency.min(options.aggregates);
    settings.extend([
        ("aggregates".to_owned(), options.aggregates.into()),
        ("concurrency".to_owned(), options.concurrency.into()),
        ("publish_concurrency".to_owned(), publishers.into()),
        ("connections".to_owned(), connections.into()),
        ("seconds".to_owned(), options.length.as_secs_f64().into()),
        ("rounds".to_owned(), options.rounds.into()),
        ("in_process".to_owned(), options.in_process.into()),
        ("commit_bytes".to_owned(), sizes.commit.len().into()),
    ]);
    settings
}

/// Commands and their floors, one after the other in each round: how many workers do which operation.
struct Alternating {
    echoes: (usize, Operation),
    publishes: (usize, Operation),
    slim_publishes: (usize, Operation),
    commands: (usize, Operation),
    /// The same commands with other headers, each by its name.
    others: Vec<(&'static str, (usize, Operation))>,
}

impl Alternating {
    /// Measures round after round. Returns with the samples the processor time of publishing and of commands.
    async fn measure(
        &self,
        options: &CommandsOptions,
        threads: &LoadThreads,
        target: &Target,
        scratch: Option<&Scratch>,
    ) -> Result<(Rounds, Cpu, Cpu), BenchError> {
        let measure = async |(workers, operation): &(usize, Operation), length| {
            let operation = operation.clone();
            let operation = move |worker, done| operation(worker, done);
            closed_loop(threads.handle(), *workers, length, operation).await
        };
        let count = options.rounds.max(1);
        let length = options.length / count;
        let short = length.min(Duration::from_secs(1));
        measure(&self.echoes, short).await?;
        measure(&self.publishes, short).await?;
        measure(&self.slim_publishes, short).await?;
        measure(&self.commands, short).await?;
        let mut rounds = Rounds::default();
        let (mut of_publish, mut of_ours) = (Cpu::default(), Cpu::default());
        for _ in 0..count {
            rounds.floor("request_reply", &measure(&self.echoes, length).await?);
            let begun = Cpu::now(target, scratch);
            let sample = measure(&self.publishes, length).await?;
            of_publish.add(begun, Cpu::now(target, scratch), sample.count());
            rounds.floor("publish", &sample);
            let sample = measure(&self.slim_publishes, length).await?;
            rounds.floor("publish_slim", &sample);
            let begun = Cpu::now(target, scratch);
            let sample = measure(&self.commands, length).await?;
            of_ours.add(begun, Cpu::now(target, scratch), sample.count());
            rounds.ours(&sample);
            for (name, other) in &self.others {
                rounds.floor(name, &measure(other, length).await?);
            }
        }
        Ok((rounds, of_publish, of_ours))
    }
}

pub(super) async fn connect(
    nats: &NatsAddress,
    count: usize,
    threads: &LoadThreads,
) -> Result<Arc<[Client]>, BenchError> {
    let mut clients = Vec::new();
    for _ in 0..count.max(1) {
        let nats = nats.clone();
        // Where it is made is where its connection is served.
        let connecting = threads
            .handle()
            .spawn(async move { crate::platform::connect(&nats, "bench").await });
        let client = connecting.await.map_err(BenchError::new)?;
        clients.push(client.map_err(BenchError::new)?);
    }
    Ok(clients.into())
}

/// Processor time: of the nats-server, the replica, and the process that makes the load, as far as they
/// are processes of their own; and how many operations it went to.
#[derive(Default)]
struct Cpu {
    used: [Option<Duration>; 3],
    operations: usize,
}

impl Cpu {
    fn now(target: &Target, scratch: Option<&Scratch>) -> Self {
        let nats = scratch.and_then(Scratch::nats_cpu_time);
        let load = processes::cpu_time(std::process::id());
        Self {
            used: [nats, target.cpu_time(), load],
            operations: 0,
        }
    }

    fn add(&mut self, begun: Self, ended: Self, operations: usize) {
        self.operations += operations;
        for (sum, (from, to)) in self.used.iter_mut().zip(begun.used.iter().zip(ended.used)) {
            let spent = from.zip(to).map(|(from, to)| to.saturating_sub(from));
            *sum = spent.map(|spent| sum.unwrap_or_default() + spent);
        }
    }

    /// In microseconds for one operation.
    fn told(&self) -> serde_json::Value {
        let each = |spent: Duration| spent.as_secs_f64() * 1e6 / self.operations.max(1) as f64;
        let each = self.used.map(|spent| spent.map(each).map(f64::round));
        serde_json::json!({ "nats_server": each[0], "replica": each[1], "load": each[2] })
    }
}

/// Keys that no other run of a bench uses, 45 characters each.
pub(super) fn keys() -> impl Fn() -> String + Send + Sync + 'static {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let run = uuid::Uuid::now_v7().simple().to_string();
    move || format!("{run}-{:012}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub(super) async fn by_nats(
    client: Client,
    subject: String,
    body: Bytes,
    key: String,
) -> Result<(), BenchError> {
    by_nats_with(client, subject, body, key, None).await
}

/// As [`by_nats`], with one more header.
async fn by_nats_with(
    client: Client,
    subject: String,
    body: Bytes,
    key: String,
    more: Option<(HeaderName, HeaderValue)>,
) -> Result<(), BenchError> {
    let mut headers = HeaderMap::new();
    headers.insert(IDEMPOTENCY_KEY, key);
    if let Some((name, value)) = more {
        headers.insert(name, value);
    }
    let request = Request::new().headers(headers).payload(body);
    let reply = client
        .send_request(subject, request)
        .await
        .map_err(BenchError::new)?;
    let refused = |headers: &HeaderMap| headers.get(ERROR_CODE).is_some();
    if reply.headers.as_ref().is_some_and(refused) {
        let problem = String::from_utf8_lossy(&reply.payload);
        return Err(BenchError::new(format!("a command was refused: {problem}")));
    }
    Ok(())
}

/// The parts of a command's answer and commit.
struct Sizes {
    reply: usize,
    commit: Bytes,
}

impl Sizes {
    /// Looks at what the warming up left in the log.
    async fn measure(client: &Client) -> Result<Self, BenchError> {
        let id = Id::new("b_0").map_err(BenchError::new)?;
        let log = EventLog::new(client.clone(), Timeouts::default());
        let last = log
            .last_message(&subject::events_of("stock", &id))
            .await
            .map_err(BenchError::new)?
            .ok_or_else(|| BenchError::new("the warming up left nothing in the log"))?;
        let outcome = serde_json::json!({
            "aggregate": "stock", "id": "b_0", "version": 1000, "position": 1_000_000,
            "events": [{"type": "stock.received.v1", "version": 1000}], "replayed": false,
        });
        Ok(Self {
            reply: outcome.to_string().len(),
            commit: last.payload,
        })
    }
}
