//! `bench fresh`: from a command's acceptance until its document can be read, at a steady rate of
//! commands.

use super::{
    Bench, BenchError, LoadThreads, Sample,
    http::{self, Connection},
    queries::{Mart, QueriesOptions},
    report::{common_settings, lines},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{sync::Mutex, task::JoinSet, time::MissedTickBehavior};

/// Measures how soon a command shows.
///
/// # Errors
///
/// Returns [`BenchError`] when the servers cannot be started or a command or a read fails.
pub async fn run(options: QueriesOptions) -> Result<Bench, BenchError> {
    let scratch = options.scratch().await?;
    let measured = async {
        let threads = LoadThreads::start()?;
        let mart = Arc::new(Mart::start(&scratch, &options, threads.handle()).await?);
        let mut connections = Vec::new();
        for _ in 0..options.clients.max(1) {
            connections.push(Arc::new(Mutex::new(Connection::open(mart.address).await?)));
        }
        // The first second shows nothing: everything is cold.
        let warm = Duration::from_secs(1);
        give(&mart, &connections, &threads, options.rate, warm).await?;
        let sample = give(&mart, &connections, &threads, options.rate, options.length).await?;
        let mut settings = common_settings();
        settings.extend([
            ("documents".to_owned(), options.documents.into()),
            ("commands_per_second".to_owned(), options.rate.into()),
            ("connections".to_owned(), connections.len().into()),
            ("seconds".to_owned(), options.length.as_secs_f64().into()),
        ]);
        if let Some(mart) = Arc::into_inner(mart) {
            mart.stop().await;
        }
        Ok(Bench {
            bench: "fresh",
            ours: sample.figures(),
            rounds: lines(&[sample.figures()], std::iter::empty()),
            floors: BTreeMap::new(),
            ratios: BTreeMap::new(),
            settings,
        })
    }
    .await;
    scratch.stop().await;
    measured
}

/// Gives commands at a rate, whatever becomes of them, and reads what each has made. A read waits for
/// its connection too if all are in use: that is counted.
async fn give(
    mart: &Arc<Mart>,
    connections: &[Arc<Mutex<Connection>>],
    threads: &LoadThreads,
    rate: u64,
    length: Duration,
) -> Result<Sample, BenchError> {
    let begun = Instant::now();
    // A timer of a millisecond is as fine as there is: as many commands at each as are due.
    let mut interval = tokio::time::interval(Duration::from_millis(1));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut given, mut running) = (0_u64, JoinSet::new());
    while begun.elapsed() < length {
        interval.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        for number in given..due {
            let mart = Arc::clone(mart);
            let connection = Arc::clone(&connections[number as usize % connections.len()]);
            let one = async move {
                let product = number as usize % mart.documents();
                let position = mart.reprice(product, 1 + number % 1_000_000).await?;
                let accepted = Instant::now();
                let headers = [("Headwater-Min-Position", &*position)];
                let request = http::get(&mart.path(product), &headers);
                connection.lock().await.ask(&request).await?;
                Ok::<_, BenchError>(accepted.elapsed().as_nanos() as u64)
            };
            running.spawn_on(one, threads.handle());
        }
        given = given.max(due);
    }
    let mut latencies = Vec::with_capacity(given as usize);
    while let Some(one) = running.join_next().await {
        latencies.push(one.map_err(BenchError::new)??);
    }
    Ok(Sample::new(latencies, begun.elapsed()))
}
