//! `bench mixed`: commands over HTTP beside the views that they change, all on one replica.
//!
//! The rate that is told is one at which no view falls behind by a second: as fast as the connections go if the views
//! keep up with that, and otherwise the best of the lower rates that were tried. Of every thousand commands one
//! places an order, ten give a product another price, and the others receive a piece of stock that is on display,
//! so that each of the mart's views has something to follow.

mod given;
mod replica;
mod views;

use super::{
    Bench, BenchError, LoadThreads, Sample,
    processes::Scratch,
    report::{common_settings, lines},
};
use crate::event_log::topology::Durability;
use given::Given;
use replica::{Observed, Replica};
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// The lag that a view stays below.
const LAG: Duration = Duration::from_secs(1);
/// The number of rates that are tried at most.
const TRIES: usize = 8;
/// After a rate with which a view fell behind this share of it is tried.
const LOWER: f64 = 0.85;
/// The time to warm up.
const WARM: Duration = Duration::from_secs(2);

/// The settings of a measurement.
#[derive(Debug, Clone)]
pub struct MixedOptions {
    /// The number of products, each with its stock and on display.
    pub aggregates: usize,
    /// The number of connections, each with one command in flight.
    pub connections: usize,
    /// The time for which a rate is held.
    pub length: Duration,
    /// The rate to measure; without it, one that the views keep up with is looked for.
    pub rate: Option<u64>,
    /// True if the nats-server syncs each append.
    pub durable: bool,
    /// The nats-server to start.
    pub nats_server: Option<PathBuf>,
}

/// A rate, and what came of it.
struct Try {
    /// As many as go where there is none.
    rate: Option<u64>,
    sample: Sample,
    observed: Observed,
}

impl Try {
    fn holds(&self) -> bool {
        self.observed.most_behind() < LAG
    }

    fn per_second(&self) -> f64 {
        self.sample.figures().per_second
    }

    fn told(&self) -> Value {
        json!({
            "rate": self.rate,
            "per_second": self.per_second().round(),
            "most_behind_ms": self.observed.most_behind().as_millis() as u64,
        })
    }
}

/// Measures commands and views together.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started, a command fails, or the views do not keep up with any
/// rate that was tried.
pub async fn run(options: MixedOptions) -> Result<Bench, BenchError> {
    let durability = match options.durable {
        true => Durability::SingleDurable,
        false => Durability::Dev,
    };
    let scratch = Scratch::start(durability, options.nats_server.clone()).await?;
    let measured = measure(&options, &scratch).await;
    scratch.stop().await;
    measured
}

async fn measure(options: &MixedOptions, scratch: &Scratch) -> Result<Bench, BenchError> {
    let threads = LoadThreads::start()?;
    let replica = Replica::start(scratch, options.aggregates).await?;
    let given = Given::new(replica.address, options.aggregates);
    given.prepare(threads.handle()).await?;
    let attempt = async |rate, length| {
        replica.caught_up().await?;
        let connections = options.connections;
        let give = given.give(threads.handle(), connections, rate, length);
        let (sample, observed) = replica.observe(scratch, give).await?;
        Ok::<_, BenchError>(Try {
            rate,
            sample,
            observed,
        })
    };
    attempt(options.rate, WARM).await?;
    let mut tries = vec![attempt(options.rate, options.length).await?];
    while options.rate.is_none()
        && let Some(last) = tries.last().filter(|last| !last.holds())
    {
        if tries.len() == TRIES {
            return Err(BenchError::new(format!(
                "a view fell behind by a second at {:.0} commands/s too",
                last.per_second()
            )));
        }
        let lower = (last.per_second() * LOWER).max(1.0) as u64;
        tries.push(attempt(Some(lower), options.length).await?);
    }
    replica.caught_up().await?;
    replica.stop().await;
    let told: Vec<_> = tries.iter().map(Try::told).collect();
    let best = tries.pop();
    let best = best.ok_or_else(|| BenchError::new("no rate was tried"))?;
    let views = views::alone(scratch, &threads, &best.observed).await?;
    Ok(Bench {
        bench: "mixed",
        ours: best.sample.figures(),
        rounds: lines(&[best.sample.figures()], std::iter::empty()),
        floors: BTreeMap::new(),
        ratios: BTreeMap::from([("keeps_up", f64::from(u8::from(best.holds())))]),
        settings: settings(options, &best, told, views),
    })
}

fn settings(
    options: &MixedOptions,
    best: &Try,
    tries: Vec<Value>,
    views: Map<String, Value>,
) -> Map<String, Value> {
    let mut settings = common_settings();
    let commands = best.sample.count();
    settings.extend([
        ("aggregates".to_owned(), options.aggregates.into()),
        ("connections".to_owned(), options.connections.into()),
        ("seconds".to_owned(), options.length.as_secs_f64().into()),
        ("tries".to_owned(), tries.into()),
        (
            "cpu_us_per_command".to_owned(),
            best.observed.cpu_each(commands),
        ),
        (
            "replica_threads_us_per_command".to_owned(),
            best.observed.threads_each(commands),
        ),
        ("views".to_owned(), views.into()),
    ]);
    settings
}
