//! `bench commands` with `--batch`, `--replicas`, `--http` or `--gateway-apart`: one way to give commands beside another.
//!
//! Each way has servers of its own, which run at the same time and are measured by turns. Commands are those of
//! [`commands`](super::commands): a `receive` of one piece, with a key of its own.

mod system;

use super::{
    Bench, BenchError, LoadThreads, Rounds, Sample, closed_loop,
    commands::{CommandsOptions, Operation, SLIM},
    floor::Publish,
    http,
    processes::Process,
    report::common_settings,
};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use system::{Gateway, System};
use tokio::runtime::Handle;

/// The two things that are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compared {
    /// So many commands in a request over NATS, with one in a request.
    Lists(usize),
    /// So many replicas that decide, with one.
    Replicas(usize),
    /// Commands over HTTP, with a bare handler and with publishing.
    Http,
    /// Commands over HTTP by a gateway that decides nothing, with one that decides.
    GatewayApart,
}

/// Measures one way beside another.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or an operation fails.
pub async fn run(options: &CommandsOptions, compared: Compared) -> Result<Bench, BenchError> {
    let threads = LoadThreads::start()?;
    let (replicas, gateway) = match compared {
        Compared::Lists(_) => (1, Gateway::Nowhere),
        Compared::Replicas(count) => (count, Gateway::Nowhere),
        Compared::Http => (1, Gateway::Beside),
        Compared::GatewayApart => (1, Gateway::Apart),
    };
    let ours = System::start(options, &threads, replicas, gateway).await?;
    let beside: &[(usize, Gateway)] = match compared {
        Compared::Lists(_) | Compared::Http => &[],
        Compared::Replicas(3) => &[(1, Gateway::Nowhere), (2, Gateway::Nowhere)],
        Compared::Replicas(_) => &[(1, Gateway::Nowhere)],
        Compared::GatewayApart => &[(1, Gateway::Beside)],
    };
    let mut others = Vec::new();
    for (replicas, gateway) in beside {
        others.push(System::start(options, &threads, *replicas, *gateway).await?);
    }
    let measured = measure(options, compared, &threads, &ours, &others).await;
    for system in std::iter::once(ours).chain(others) {
        system.stop().await;
    }
    measured
}

/// One way to give commands.
struct Way<'a> {
    operation: Operation,
    workers: usize,
    /// So many commands in one operation.
    each: usize,
    /// The servers whose time it takes.
    system: &'a System,
    cpu: Cpu,
}

impl<'a> Way<'a> {
    fn new(operation: Operation, workers: usize, system: &'a System) -> Self {
        Self {
            operation,
            workers,
            each: 1,
            system,
            cpu: Cpu::default(),
        }
    }

    async fn measure(&mut self, threads: &Handle, length: Duration) -> Result<Sample, BenchError> {
        let operation = self.operation.clone();
        let operation = move |worker, done| operation(worker, done);
        let begun = self.system.cpu();
        let sample = closed_loop(threads, self.workers, length, operation).await?;
        let sample = sample.of_many(self.each);
        self.cpu.add(begun, self.system.cpu(), sample.count());
        Ok(sample)
    }
}

/// Our way and the floors it is measured against, with what the floors alone need.
struct Ways<'a> {
    ours: Way<'a>,
    floors: Vec<(&'static str, Way<'a>)>,
    bare: Option<Process>,
    publish: Option<Publish>,
}

impl<'a> Ways<'a> {
    async fn start(
        options: &CommandsOptions,
        compared: Compared,
        ours: &'a System,
        others: &'a [System],
    ) -> Result<Self, BenchError> {
        let (count, workers) = (options.aggregates, options.concurrency);
        let other = others.first().unwrap_or(ours);
        let singles = |system: &'a System| {
            let singles = system.singles(count, workers);
            Way::new(singles, workers, system)
        };
        let posts = async |system: &'a System, address: SocketAddr| {
            let posts = system.posts(address, count, workers).await?;
            Ok::<_, BenchError>(Way::new(posts, workers, system))
        };
        Ok(match compared {
            Compared::Lists(size) => {
                // As many commands in flight both ways, and at least two lists.
                let lists = workers.div_ceil(size).max(2);
                let workers = lists * size;
                let single = Way::new(ours.singles(count, workers), workers, ours);
                let mut lists = Way::new(ours.lists(count, lists, size), lists, ours);
                lists.each = size;
                Self::beside(lists, "single", single)
            }
            Compared::Replicas(_) => {
                let mut ways = Self::beside(singles(ours), "one_replica", singles(other));
                let two = others.get(1);
                ways.floors
                    .extend(two.map(|two| ("two_replicas", singles(two))));
                ways
            }
            Compared::GatewayApart => {
                let apart = posts(ours, ours.address()?).await?;
                Self::beside(apart, "beside", posts(other, other.address()?).await?)
            }
            Compared::Http => {
                let answer = "0".repeat(ANSWER);
                let (process, line) =
                    Process::start(["bench", "bare", "--body", &answer], "http://").await?;
                let bare = posts(ours, http::address_in(&line)?).await?;
                let slim = Bytes::from_static(&[b' '; SLIM]);
                let publish = Publish::create(ours.clients.clone(), count, slim).await?;
                let publishers = workers.min(count);
                let publishes = Arc::new(publish.operation(publishers));
                let publishes = Way::new(publishes, publishers, ours);
                let posts = posts(ours, ours.address()?).await?;
                let mut ways = Self::beside(posts, "bare", bare);
                ways.floors.push(("publish_slim", publishes));
                (ways.bare, ways.publish) = (Some(process), Some(publish));
                ways
            }
        })
    }

    fn beside(ours: Way<'a>, name: &'static str, floor: Way<'a>) -> Self {
        Self {
            ours,
            floors: vec![(name, floor)],
            bare: None,
            publish: None,
        }
    }

    /// Makes each go once, for a short while, so that nothing is measured for the first time.
    async fn warm(&mut self, threads: &Handle, length: Duration) -> Result<(), BenchError> {
        let floors = self.floors.iter_mut().map(|(_, floor)| floor);
        for way in std::iter::once(&mut self.ours).chain(floors) {
            way.measure(threads, length).await?;
            way.cpu = Cpu::default();
        }
        Ok(())
    }

    async fn rounds(
        &mut self,
        threads: &Handle,
        length: Duration,
        count: u32,
    ) -> Result<Rounds, BenchError> {
        let mut rounds = Rounds::default();
        for _ in 0..count {
            for (name, floor) in &mut self.floors {
                rounds.floor(name, &floor.measure(threads, length).await?);
            }
            rounds.ours(&self.ours.measure(threads, length).await?);
        }
        Ok(rounds)
    }

    fn settings(&self, options: &CommandsOptions, compared: Compared) -> Map<String, Value> {
        let mut settings = common_settings();
        let connections = self.ours.system.clients.len();
        settings.extend([
            ("compared".to_owned(), format!("{compared:?}").into()),
            ("aggregates".to_owned(), options.aggregates.into()),
            ("concurrency".to_owned(), options.concurrency.into()),
            ("requests_in_flight".to_owned(), self.ours.workers.into()),
            ("connections".to_owned(), connections.into()),
            ("seconds".to_owned(), options.length.as_secs_f64().into()),
            ("rounds".to_owned(), options.rounds.into()),
            ("cpu_us_per_command".to_owned(), self.ours.cpu.told()),
        ]);
        for (name, floor) in &self.floors {
            settings.insert(format!("cpu_us_per_{name}"), floor.cpu.told());
        }
        settings
    }

    /// The ratio that this comparison is about, besides those of rates and latencies.
    fn ratio(&self, compared: Compared, bench: &Bench) -> Option<(&'static str, f64)> {
        match compared {
            Compared::Http => {
                let per_second = |floor: &str| bench.floors[floor].per_second;
                let each = ["bare", "publish_slim"].map(|floor| 1.0 / per_second(floor));
                let both = 1.0 / each.iter().sum::<f64>();
                Some(("floors_together", bench.ours.per_second / both))
            }
            Compared::Lists(_) | Compared::Replicas(_) | Compared::GatewayApart => {
                let (ours, floor) = (self.ours.cpu.each(), self.floors[0].1.cpu.each());
                let (ours, floor) = ours.zip(floor)?;
                Some(("cpu_to_cpu", ours / floor))
            }
        }
    }

    async fn stop(self) -> Result<(), BenchError> {
        // Their connections before what they lead to.
        drop((self.ours, self.floors));
        if let Some(process) = self.bare {
            process.kill().await;
        }
        if let Some(publish) = self.publish {
            publish.delete().await?;
        }
        Ok(())
    }
}

async fn measure(
    options: &CommandsOptions,
    compared: Compared,
    threads: &LoadThreads,
    ours: &System,
    others: &[System],
) -> Result<Bench, BenchError> {
    let threads = threads.handle();
    let mut ways = Ways::start(options, compared, ours, others).await?;
    let count = options.rounds.max(1);
    let length = options.length / count;
    ways.warm(threads, length.min(Duration::from_secs(1)))
        .await?;
    let rounds = ways.rounds(threads, length, count).await?;
    let mut bench = rounds.into_bench(options.name, ways.settings(options, compared));
    bench.ratios.extend(ways.ratio(compared, &bench));
    ways.stop().await?;
    Ok(bench)
}

/// The bytes of a command's answer.
const ANSWER: usize = 150;

/// The processor time that commands took.
#[derive(Default)]
struct Cpu {
    used: [Duration; 2],
    commands: usize,
}

impl Cpu {
    fn add(&mut self, begun: Option<[Duration; 2]>, ended: Option<[Duration; 2]>, commands: usize) {
        let Some((begun, ended)) = begun.zip(ended) else {
            return;
        };
        self.commands += commands;
        for (used, (from, to)) in self.used.iter_mut().zip(begun.into_iter().zip(ended)) {
            *used += to.saturating_sub(from);
        }
    }

    /// In microseconds for one command.
    fn each(&self) -> Option<f64> {
        let used: Duration = self.used.iter().sum();
        (self.commands > 0).then(|| used.as_secs_f64() * 1e6 / self.commands as f64)
    }

    fn told(&self) -> Value {
        let each = |used: Duration| used.as_secs_f64() * 1e6 / self.commands.max(1) as f64;
        let [nats, replicas] = self.used.map(|used| (each(used) * 10.0).round() / 10.0);
        json!({ "nats_server": nats, "replicas": replicas })
    }
}
