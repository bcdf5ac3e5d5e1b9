//! Replaying a whole log: every commit is decoded, upcast and folded by this build, and nothing is written.
//!
//! It tells what a log and a build make of each other before the one meets the other in earnest: how many
//! events of each type there are, and which aggregates break, at which event and field. Aggregates are shared
//! out to threads by a hash of their names, so each is folded in order. What is folded is bounded in memory: what
//! does not fit is left for another reading of the log.

mod counts;
mod fault;
mod folder;
mod part;

pub use counts::{Report, TypeCounts};
pub use fault::Fault;
pub(crate) use {counts::Counts, folder::CommitFolder};

use crate::{
    command::describe::{AggregateDescription, ReplayedState},
    event_log::{EventLog, Extent, LoadError, StoredMessage, exclusion::Exclusions},
    stable_hash,
};
use part::{Pass, Passed};
use std::{collections::HashMap, sync::Arc, thread};
use tokio::sync::mpsc;

/// The parts that the aggregates of a log are shared out to: those of one part are folded in one reading.
const PARTS: u32 = 64;
/// The number of batches that wait for one thread at the most.
const WAITING: usize = 4;

/// The settings of a replay.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// About how many bytes of folded states are kept at once, in all.
    pub memory: usize,
    /// The number of threads that fold.
    pub threads: usize,
    /// The most faults that are told one by one.
    pub faults: usize,
    /// The aggregates that are left out, and count as known.
    pub left_out: Vec<String>,
}

impl Default for ReplayOptions {
    /// 1 GiB, a thread for each core, and a hundred faults.
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            threads: thread::available_parallelism().map_or(1, usize::from),
            faults: 100,
            left_out: Vec::new(),
        }
    }
}

/// The means of a replay: how each aggregate is folded, and what is excluded.
#[derive(Clone)]
pub(crate) struct Known {
    kinds: HashMap<&'static str, fn() -> Box<dyn ReplayedState>>,
    pub(crate) exclusions: HashMap<String, Exclusions>,
    left_out: Vec<String>,
    faults: usize,
}

impl Known {
    pub(crate) fn new<'a>(
        aggregates: impl Iterator<Item = &'a AggregateDescription>,
        exclusions: HashMap<String, Exclusions>,
        options: &ReplayOptions,
    ) -> Self {
        Self {
            kinds: aggregates.map(|it| (it.name, it.replay)).collect(),
            exclusions,
            left_out: options.left_out.clone(),
            faults: options.faults,
        }
    }
}

/// A log cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A thread cannot be started, or has ended.
    #[error("a thread that folds has failed: {0}")]
    Thread(String),
}

/// Replays the whole log, up to where it ends now. `tell` hears how many of how many messages are read.
///
/// # Errors
///
/// Returns [`ReplayError`] when the log cannot be read. What is wrong in it is no error but told by the report.
pub async fn replay<'a>(
    log: &EventLog,
    aggregates: impl Iterator<Item = &'a AggregateDescription>,
    options: &ReplayOptions,
    mut tell: impl FnMut(u64, u64),
) -> Result<Report, ReplayError> {
    let extent = log.extent().await?;
    let exclusions = log.all_exclusions().await?;
    let known = Arc::new(Known::new(aggregates, exclusions, options));
    let mut report = Report::of(extent);
    let mut left = u64::MAX;
    while left != 0 {
        let passed = pass(log, extent, &known, left, options, &mut tell).await?;
        report.readings += 1;
        left = passed.iter().fold(0, |left, it| left | it.left);
        for counts in passed.into_iter().flat_map(|it| it.counts) {
            report.add(counts, options.faults);
        }
    }
    Ok(report)
}

/// Reads the log once, and folds the aggregates of these parts, as far as they fit.
async fn pass(
    log: &EventLog,
    extent: Extent,
    known: &Arc<Known>,
    parts: u64,
    options: &ReplayOptions,
    tell: &mut impl FnMut(u64, u64),
) -> Result<Vec<Passed>, ReplayError> {
    let count = options.threads.clamp(1, PARTS as usize);
    let mut folding = Vec::with_capacity(count);
    for number in 0..count {
        let (give, mut take) = mpsc::channel::<Vec<(u32, StoredMessage)>>(WAITING);
        let own = (0..PARTS).filter(|part| *part as usize % count == number);
        let own = own.fold(0, |own, part| own | (1 << part)) & parts;
        let mut pass = Pass::new(known.clone(), own, options.memory / count);
        let work = move || {
            while let Some(messages) = take.blocking_recv() {
                for (part, message) in messages {
                    pass.apply(part, &message);
                }
            }
            pass.finish()
        };
        let thread = thread::Builder::new().name(format!("replay-{number}"));
        // Folding may go deep where an event does.
        let thread = thread.stack_size(4 << 20).spawn(work);
        let thread = thread.map_err(|error| ReplayError::Thread(error.to_string()))?;
        folding.push((give, thread));
    }
    let mut read = 0;
    let mut whole = log.whole(extent.first.saturating_sub(1), extent.last);
    while let Some(messages) = whole.next().await? {
        read += messages.len() as u64;
        let mut shares: Vec<Vec<_>> = vec![Vec::new(); count];
        for message in messages {
            let part = part_of(&message.message.subject);
            if parts & (1 << part) != 0 {
                shares[part as usize % count].push((part, message.message));
            }
        }
        for ((give, _), share) in folding.iter().zip(shares) {
            let given = give.send(share).await;
            given.map_err(|_| ReplayError::Thread("it has ended".to_owned()))?;
        }
        tell(read, extent.messages);
    }
    let mut passed = Vec::with_capacity(count);
    for (give, thread) in folding {
        drop(give);
        // It has little left to do, and nothing else runs here.
        let done = thread.join();
        passed.push(done.map_err(|_| ReplayError::Thread("it has panicked".to_owned()))?);
    }
    Ok(passed)
}

/// The part that the aggregate of a subject belongs to.
fn part_of(subject: &str) -> u32 {
    (stable_hash::of_bytes(subject.as_bytes()) >> 32) as u32 % PARTS
}

#[cfg(test)]
mod tests;
