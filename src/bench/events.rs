//! `bench events`: the whole log as a file. Importing one, against batches of the same messages that nobody
//! reads or folds; exporting and checking it beside.

use super::{
    Bench, BenchError, Figures, LoadThreads, Rounds,
    log::{self, command_of, event_of},
    processes::Scratch,
    report::common_settings,
};
use crate::{
    aggregate::Aggregate,
    command::describe::AggregateDescription,
    event_log::{
        EventLog, StoredMessage, codec,
        subject::{self, Id},
        topology::Durability,
        whole::LoggedMessage,
    },
    log_file::{self, BATCH, ImportOptions, Target},
    mart::product::Product,
    replay::{self, ReplayOptions},
};
use jiff::Timestamp;
use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::Instant,
};

/// The settings of a measurement of the whole log.
#[derive(Debug, Clone)]
pub struct EventsOptions {
    /// The number of events, each a commit of its own.
    pub events: usize,
    /// The number of aggregates that they are of.
    pub aggregates: usize,
    /// In how many rounds.
    pub rounds: u32,
    /// True if the nats-servers that are started sync each append.
    pub durable: bool,
    /// The nats-server to start.
    pub nats_server: Option<PathBuf>,
}

/// Measures importing, exporting and checking a log of so many events.
///
/// # Errors
///
/// Returns [`BenchError`] when a server cannot be started, or the log is not what it was.
pub async fn run(options: EventsOptions) -> Result<Bench, BenchError> {
    let messages = messages(options.events, options.aggregates)?;
    let count = options.events;
    let mut rounds = Rounds::default();
    let (mut exported, mut checked) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.max(1) {
        let measured = on_a_log_of_its_own(&options, async |log, folder| {
            let file = folder.join("events.ndjson");
            let raw = timed(count, put_all(log, &messages)).await?;
            let exported = timed(count, export(log, &file)).await?;
            let checked = timed(count, check(log, count)).await?;
            let imported = on_a_log_of_its_own(&options, async |log, _| {
                timed(count, import(log, &file, count)).await
            });
            Ok((raw, exported, checked, imported.await?))
        });
        let (raw, export, check, import) = measured.await?;
        rounds.floor_as("raw_batches", raw);
        rounds.ours_as(import);
        exported.push(export.per_second);
        checked.push(check.per_second);
    }
    let mut settings = common_settings();
    settings.extend([
        ("events".to_owned(), options.events.into()),
        ("aggregates".to_owned(), options.aggregates.into()),
        ("rounds".to_owned(), options.rounds.into()),
        ("batch".to_owned(), BATCH.into()),
        ("exported_per_second".to_owned(), median(exported).into()),
        ("checked_per_second".to_owned(), median(checked).into()),
    ]);
    Ok(rounds.into_bench("events", settings))
}

fn median(rates: Vec<f64>) -> f64 {
    super::sample::median(rates).round()
}

/// Starts a nats-server, does this with its log, and stops it again.
async fn on_a_log_of_its_own<T>(
    options: &EventsOptions,
    work: impl AsyncFnOnce(&EventLog, &Path) -> Result<T, BenchError>,
) -> Result<T, BenchError> {
    let durability = match options.durable {
        true => Durability::SingleDurable,
        false => Durability::Dev,
    };
    let scratch = Scratch::start(durability, options.nats_server.clone()).await?;
    let worked = async {
        let threads = LoadThreads::start()?;
        let log = log::open(&scratch, &threads).await?;
        work(&log, scratch.folder()).await
    }
    .await;
    scratch.stop().await;
    worked
}

async fn timed(
    events: usize,
    work: impl Future<Output = Result<(), BenchError>>,
) -> Result<Figures, BenchError> {
    let begun = Instant::now();
    work.await?;
    Ok(Figures::of_one(events, begun.elapsed()))
}

/// The log, in memory: products that are registered, and given prices in turn.
fn messages(events: usize, aggregates: usize) -> Result<Vec<LoggedMessage>, BenchError> {
    let now = Timestamp::now();
    let numbers = 0..events;
    numbers.map(|it| message(it, aggregates, now)).collect()
}

fn message(number: usize, aggregates: usize, now: Timestamp) -> Result<LoggedMessage, BenchError> {
    let (product, version) = (number % aggregates, (number / aggregates) as u64);
    let id = Id::new(format!("bench-{product}")).map_err(BenchError::new)?;
    let event = event_of(product, version);
    let command = command_of::<Product>(&id, version, now, &[event])?;
    let payload = codec::encode(Product::NAME, id.as_str(), &[command]);
    Ok(LoggedMessage {
        message: StoredMessage {
            subject: subject::events_of(Product::NAME, &id),
            position: number as u64 + 1,
            time: now.as_second(),
            stored: now,
            traceparent: None,
            payload: payload.map_err(BenchError::new)?.into(),
        },
        trace: None,
    })
}

async fn put_all(log: &EventLog, messages: &[LoggedMessage]) -> Result<(), BenchError> {
    let mut after = 0;
    for batch in messages.chunks(BATCH) {
        let put = log.put_back(batch, after).await;
        put.map_err(BenchError::new)?;
        after += batch.len() as u64;
    }
    Ok(())
}

async fn export(log: &EventLog, file: &Path) -> Result<(), BenchError> {
    let exported = log_file::export(log, Some(file), |_, _| {}).await;
    exported.map(drop).map_err(BenchError::new)
}

async fn import(log: &EventLog, file: &Path, events: usize) -> Result<(), BenchError> {
    let file = BufReader::with_capacity(1 << 20, File::open(file)?);
    let products = AggregateDescription::of::<Product>();
    let options = ImportOptions::default();
    let to = Target::Log(log);
    let imported = log_file::import(to, [&products].into_iter(), file, &options, |_, _| {}).await;
    let imported = imported.map_err(BenchError::new)?;
    is_all("imported", imported.messages, events)
}

async fn check(log: &EventLog, events: usize) -> Result<(), BenchError> {
    let products = AggregateDescription::of::<Product>();
    let options = ReplayOptions::default();
    let report = replay::replay(log, [&products].into_iter(), &options, |_, _| {}).await;
    let report = report.map_err(BenchError::new)?;
    match report.is_well() {
        true => is_all("folded", report.commits, events),
        false => Err(BenchError::new("the check found a fault")),
    }
}

fn is_all(what: &str, messages: u64, events: usize) -> Result<(), BenchError> {
    match messages == events as u64 {
        true => Ok(()),
        false => Err(BenchError::new(format!(
            "{messages} of {events} are {what}"
        ))),
    }
}
