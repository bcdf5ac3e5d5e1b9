//! `bench console`: what one open console costs the replica that it asks, and its nats-server.
//!
//! Each page is opened as a browser would have it open: the overview is followed, and what the page asks again and
//! again is asked. Nothing else goes on, so that the difference to nothing open is what it costs.

use super::{
    BenchError, LoadThreads,
    http::{self, Connection},
    processes::Scratch,
    queries::{Mart, QueriesOptions},
    report::{common_settings, write_json},
    sample,
};
use serde::Serialize;
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, task::JoinSet};

/// The name of having nothing open.
const NOTHING: &str = "nothing";
/// The time that passes after a page was opened, or closed, before it is measured.
const SETTLING: Duration = Duration::from_secs(2);

/// A page of the console: what it follows, and what it asks again and again.
struct OpenPage {
    name: &'static str,
    follows: &'static [&'static str],
    asks: &'static [(&'static str, Duration)],
}

/// The pages, as the files of the console have them.
const PAGES: [OpenPage; 5] = [
    OpenPage {
        name: NOTHING,
        follows: &[],
        asks: &[],
    },
    OpenPage {
        name: "overview",
        follows: &["/ops/stream"],
        asks: &[],
    },
    OpenPage {
        name: "view",
        follows: &["/ops/stream"],
        asks: &[("/ops/views/order", Duration::from_secs(10))],
    },
    OpenPage {
        name: "log",
        follows: &["/ops/stream", "/ops/events/stream"],
        asks: &[],
    },
    OpenPage {
        name: "refusals",
        follows: &["/ops/stream"],
        asks: &[("/ops/refusals?limit=200", Duration::from_secs(10))],
    },
];

/// The cost of an open console, page by page.
#[derive(Debug, Clone, Serialize)]
pub struct ConsoleCosts {
    /// The bench's name.
    pub bench: &'static str,
    /// The processor time of replica and nats-server, by what was open, in percent of a core.
    pub percent_of_a_core: BTreeMap<&'static str, f64>,
    /// The same, less what they use where nothing is open: the median of the rounds' differences.
    pub costs_percent: BTreeMap<&'static str, f64>,
    /// With what it was measured.
    pub settings: Map<String, Value>,
}

/// Measures each page.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started, a page is refused, or the system does not tell of
/// processor time.
pub async fn run(options: QueriesOptions) -> Result<ConsoleCosts, BenchError> {
    let scratch = options.scratch().await?;
    let measured = measure(&options, &scratch).await;
    scratch.stop().await;
    measured
}

async fn measure(options: &QueriesOptions, scratch: &Scratch) -> Result<ConsoleCosts, BenchError> {
    let threads = LoadThreads::start()?;
    let mart = Mart::start(scratch, options, threads.handle()).await?;
    let length = options.length / options.rounds.max(1);
    let mut used: BTreeMap<&'static str, Vec<f64>> = BTreeMap::new();
    for _ in 0..options.rounds.max(1) {
        for page in &PAGES {
            let mut open = page.open(&mart, options.clients, threads.handle()).await?;
            tokio::time::sleep(SETTLING).await;
            let (before, begun) = (cpu(&mart, scratch)?, Instant::now());
            tokio::select! {
                () = tokio::time::sleep(length) => {}
                Some(ended) = open.join_next() => {
                    ended.map_err(BenchError::new)??;
                    return Err(BenchError::new(format!("the page {} was closed", page.name)));
                }
            }
            let spent = cpu(&mart, scratch)?.saturating_sub(before);
            let percent = 100.0 * spent.as_secs_f64() / begun.elapsed().as_secs_f64();
            used.entry(page.name).or_default().push(percent);
        }
    }
    mart.stop().await;
    let costs = |of: &Vec<f64>| {
        let pairs = of.iter().zip(&used[NOTHING]);
        let each = pairs.map(|(open, nothing)| (open - nothing) / options.clients.max(1) as f64);
        sample::median(each.collect())
    };
    let opened = used.iter().filter(|(name, _)| **name != NOTHING);
    let mut settings = common_settings();
    settings.extend([
        ("consoles".to_owned(), options.clients.into()),
        ("documents".to_owned(), options.documents.into()),
        (
            "seconds_each".to_owned(),
            options.length.as_secs_f64().into(),
        ),
        ("rounds".to_owned(), options.rounds.into()),
    ]);
    Ok(ConsoleCosts {
        bench: "console",
        costs_percent: opened.map(|(name, of)| (*name, costs(of))).collect(),
        percent_of_a_core: used
            .iter()
            .map(|(name, of)| (*name, sample::median(of.clone())))
            .collect(),
        settings,
    })
}

impl OpenPage {
    /// Opens it, so many times.
    async fn open(
        &self,
        mart: &Mart,
        times: usize,
        threads: &Handle,
    ) -> Result<JoinSet<Result<(), BenchError>>, BenchError> {
        let mut open = JoinSet::new();
        for _ in 0..times {
            for path in self.follows {
                let mut connection = Connection::open(mart.address).await?;
                let headers = [("Accept-Encoding", "gzip")];
                connection.begin(&http::get(path, &headers)).await?;
                open.spawn_on(
                    async move {
                        loop {
                            connection.more().await?.clear();
                        }
                    },
                    threads,
                );
            }
            for (path, every) in self.asks {
                let mut connection = Connection::open(mart.address).await?;
                let request = http::get(path, &[]);
                open.spawn_on(
                    async move {
                        let mut often = tokio::time::interval(*every);
                        loop {
                            often.tick().await;
                            connection.ask(&request).await?;
                        }
                    },
                    threads,
                );
            }
        }
        Ok(open)
    }
}

/// The processor time that replica and nats-server have used.
fn cpu(mart: &Mart, scratch: &Scratch) -> Result<Duration, BenchError> {
    let both = mart.cpu_time().zip(scratch.nats_cpu_time());
    let both = both.map(|(replica, nats)| replica + nats);
    both.ok_or_else(|| BenchError::new("this system does not tell of processor time"))
}

impl ConsoleCosts {
    /// Prints the table and, if a file is named, writes the JSON.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when the file cannot be written.
    pub fn tell(&self, json: Option<&Path>) -> Result<(), BenchError> {
        print!("{self}");
        json.map_or(Ok(()), |path| write_json(self, path))
    }
}

impl fmt::Display for ConsoleCosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<24}{:>14}{:>14}",
            self.bench, "% of a core", "costs %"
        )?;
        for (name, percent) in &self.percent_of_a_core {
            match self.costs_percent.get(name) {
                Some(costs) => writeln!(f, "  {name:<22}{percent:>14.2}{costs:>14.2}")?,
                None => writeln!(f, "  {name:<22}{percent:>14.2}")?,
            }
        }
        for (name, value) in &self.settings {
            writeln!(f, "  {name}: {value}")?;
        }
        Ok(())
    }
}
