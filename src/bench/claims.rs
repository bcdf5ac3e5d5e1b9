//! `bench claims`: commands that take a unique key, alone and beside commands that take none.
//!
//! Ours are registrations of members, each with an e-mail address of its own. The floors are `receive`s of
//! stocks, as in `bench commands`: alone, and beside registrations at a steady rate, which tells what those
//! cost everybody else.

use super::{
    Bench, BenchError, LoadThreads, Rounds, Sample, closed_loop,
    commands::{self, CommandsOptions, by_nats, connect, keys},
    floor::own,
    load::once_each,
    processes::{self, Process, Scratch},
    report::common_settings,
    sample,
};
use crate::{event_log::topology::Durability, platform::NatsAddress};
use async_nats::Client;
use bytes::Bytes;
use clap::{ValueEnum, builder::PossibleValue};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};

/// The secret under which the keys are hidden.
const SECRET: &str = "the secret of a bench";
/// A member who has registered stays live while others do.
const MAX_ACTORS: &str = "1000000";

/// Measures registrations, at `rate` a second where they are beside others.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or an operation fails.
pub async fn run(options: CommandsOptions, rate: u64) -> Result<Bench, BenchError> {
    let durability = if options.durable {
        Durability::SingleDurable
    } else {
        Durability::Dev
    };
    let scratch = match options.nats.clone() {
        None => Scratch::start(durability, options.nats_server.clone()).await?,
        Some(nats) => Scratch::beside(nats)?,
    };
    let measured = measure(&options, rate, &scratch).await;
    scratch.stop().await;
    let mut bench = measured?;
    if options.nats.is_none() {
        let mode = if options.durable { "always" } else { "default" };
        bench.settings.insert("sync_interval".into(), mode.into());
    }
    Ok(bench)
}

async fn measure(
    options: &CommandsOptions,
    rate: u64,
    scratch: &Scratch,
) -> Result<Bench, BenchError> {
    let threads = LoadThreads::start()?;
    let nats = scratch.nats();
    let replica = match options.nats {
        None => Some(start_replica(options, &nats, scratch).await?),
        Some(_) => None,
    };
    let load = Load {
        clients: connect(&nats, options.connections, &threads).await?,
        threads,
        workers: options.concurrency,
        aggregates: options.aggregates,
        members: Arc::new(Members::new()),
        rate,
    };
    let bench = rounds(options, &load).await;
    if let Some(replica) = replica {
        replica.kill().await;
    }
    bench
}

async fn start_replica(
    options: &CommandsOptions,
    nats: &NatsAddress,
    scratch: &Scratch,
) -> Result<Process, BenchError> {
    let secret = scratch.folder().join("secret");
    std::fs::write(&secret, SECRET)?;
    let secret = secret.to_string_lossy();
    let append = options.append().to_possible_value();
    let append = append.as_ref().map_or("auto", PossibleValue::get_name);
    let more = [
        ["--max-actors", MAX_ACTORS],
        ["--idle-seconds", "3600"],
        ["--append", append],
        ["--secret-file", &secret],
    ];
    let folder = scratch.folder().join("replica");
    processes::replica("command", nats, &folder, more.as_flattened()).await
}

async fn rounds(options: &CommandsOptions, load: &Load) -> Result<Bench, BenchError> {
    load.warm_up().await?;
    let length = options.length / options.rounds.max(1);
    let short = length.min(Duration::from_secs(1));
    load.registrations(short).await?;
    load.commands(short).await?;
    let mut rounds = Rounds::default();
    let (mut kept, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        let alone = load.commands(length).await?;
        rounds.floor("commands", &alone);
        let (others, registrations) = load.both(length).await?;
        rounds.floor("commands_beside", &others);
        kept.push(others.figures().per_second / alone.figures().per_second);
        beside.push(registrations.figures());
        rounds.ours(&load.registrations(length).await?);
    }
    let beside = sample::Figures::medians(&beside);
    let mut settings = common_settings();
    settings.extend([
        ("aggregates".to_owned(), load.aggregates.into()),
        ("concurrency".to_owned(), load.workers.into()),
        ("connections".to_owned(), load.clients.len().into()),
        ("seconds".to_owned(), options.length.as_secs_f64().into()),
        ("rounds".to_owned(), options.rounds.into()),
        ("beside_per_second".to_owned(), beside.per_second.into()),
        ("beside_p50_ms".to_owned(), beside.p50_ms.into()),
        ("beside_p99_ms".to_owned(), beside.p99_ms.into()),
    ]);
    let mut bench = rounds.into_bench(options.name, settings);
    bench.ratios.insert("beside_to_alone", sample::median(kept));
    Ok(bench)
}

/// Members that have not registered yet.
struct Members {
    run: String,
    next: AtomicU64,
}

impl Members {
    fn new() -> Self {
        Self {
            run: uuid::Uuid::now_v7().simple().to_string(),
            next: AtomicU64::new(0),
        }
    }

    /// The subject and the body of the next one's registration.
    fn next(&self) -> (String, String) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-{number}", self.run);
        let body = format!(r#"{{"name":"someone","email":"{id}@example.com"}}"#);
        (format!("cmd.member.{id}.register"), body)
    }
}

/// The load, and where it goes.
struct Load {
    threads: LoadThreads,
    clients: Arc<[Client]>,
    workers: usize,
    aggregates: usize,
    members: Arc<Members>,
    rate: u64,
}

impl Load {
    async fn warm_up(&self) -> Result<(), BenchError> {
        let command = self.command();
        let (count, workers) = (self.aggregates, self.workers.min(self.aggregates));
        let operation = move |number| command(number, 0);
        once_each(self.threads.handle(), workers, count, operation).await
    }

    /// Gives a command to the stock of this number.
    fn command(&self) -> commands::Operation {
        let (clients, key) = (self.clients.clone(), keys());
        Arc::new(move |number, _| {
            let client = clients[number % clients.len()].clone();
            let subject = format!("cmd.stock.b_{number}.receive");
            Box::pin(by_nats(
                client,
                subject,
                Bytes::from_static(commands::BODY),
                key(),
            ))
        })
    }

    /// Registers the next member, over the connection of this number.
    fn registration(&self) -> commands::Operation {
        let (clients, members, key) = (self.clients.clone(), self.members.clone(), keys());
        Arc::new(move |number, _| {
            let client = clients[number % clients.len()].clone();
            let (subject, body) = members.next();
            Box::pin(by_nats(client, subject, body.into(), key()))
        })
    }

    async fn commands(&self, length: Duration) -> Result<Sample, BenchError> {
        let (command, workers, count) = (self.command(), self.workers, self.aggregates);
        let operation = move |worker, done| command(own(worker, workers, count, done), done);
        closed_loop(self.threads.handle(), workers, length, operation).await
    }

    async fn registrations(&self, length: Duration) -> Result<Sample, BenchError> {
        let registration = self.registration();
        let operation = move |worker, done| registration(worker, done);
        closed_loop(self.threads.handle(), self.workers, length, operation).await
    }

    /// Commands as many as go, and registrations at the steady rate beside them.
    async fn both(&self, length: Duration) -> Result<(Sample, Sample), BenchError> {
        futures::future::try_join(self.commands(length), self.steadily(length)).await
    }

    /// Registers at the rate, whatever becomes of it.
    async fn steadily(&self, length: Duration) -> Result<Sample, BenchError> {
        let registration = self.registration();
        let begun = Instant::now();
        let mut ticks = interval(Duration::from_millis(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut given, mut running) = (0, JoinSet::new());
        while begun.elapsed() < length {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() * self.rate as f64) as u64;
            for number in given..due {
                let registering = registration(number as usize, 0);
                let one = async move {
                    let begun = Instant::now();
                    registering.await?;
                    Ok::<_, BenchError>(begun.elapsed().as_nanos() as u64)
                };
                running.spawn_on(one, self.threads.handle());
            }
            given = given.max(due);
        }
        let mut latencies = Vec::with_capacity(given as usize);
        while let Some(one) = running.join_next().await {
            latencies.push(one.map_err(BenchError::new)??);
        }
        Ok(Sample::new(latencies, begun.elapsed()))
    }
}
