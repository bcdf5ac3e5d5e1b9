//! The instances of a process as their records tell of them, in memory as long as somebody asks.
//!
//! They are read from the log when they are asked for first, and what has come since with every further
//! question. That of instances which have ended goes first where memory would be without bound: each of them can
//! still be shown by its id.

use super::{ToldInstance, ToldInstances, ToldStatus};
use crate::{
    event_log::{
        EventLog, LogName,
        reader::{Reader, ReaderOptions},
        subject::{Id, STREAM},
        unplaced::Unplaced,
    },
    problem::Problem,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    ops::Bound,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// The number of instances on a page, unless it is asked for another.
pub const DEFAULT_LIMIT: usize = 50;
/// The most on a page.
pub const MAX_LIMIT: usize = 200;
/// The most bytes of a page: it has to fit into a message.
const MAX_BYTES: usize = 512 * 1024;
/// The most instances that have ended.
const MAX_ENDED: usize = 20_000;
/// The most instances that have not.
const MAX_OPEN: usize = 250_000;
/// The number of commits that are read at once.
const BATCH: usize = 4_000;
/// The time a commit is waited for that the log has.
const WAIT: Duration = Duration::from_secs(2);
/// The time that one question may read for. The next one goes on from there.
const PATIENCE: Duration = Duration::from_secs(5);
/// Forgotten when nobody has asked for so long.
const UNUSED: Duration = Duration::from_secs(300);

/// Which instances are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListAsk {
    /// Only those that are so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ToldStatus>,
    /// The most of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Those after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One instance in a list.
#[derive(Debug, Serialize)]
pub struct ListedInstance<'a> {
    /// The instance's id.
    pub id: &'a str,
    /// The status.
    #[serde(flatten)]
    pub told: &'a ToldInstance,
}

/// A page of instances, in the order of their ids.
#[derive(Debug, Serialize)]
pub struct ListPage {
    items: Vec<serde_json::Value>,
    next: Option<String>,
    /// The aggregates whose events the process cannot place; with the first page of what is parked, or of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unplaced: Vec<serde_json::Value>,
    /// True if there are more than are kept in mind: those that ended long ago are not among the items.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shortened: bool,
}

/// The instances of one process.
#[derive(Debug)]
pub struct Index {
    process: &'static str,
    known: Mutex<Option<Known>>,
}

/// The entries that have been read so far.
#[derive(Debug)]
struct Known {
    log: LogName,
    read_to: u64,
    instances: ToldInstances,
    /// Those that have ended, in the order in which they did.
    ended: VecDeque<String>,
    shortened: bool,
    used: Instant,
}

impl Index {
    /// The instances of this process, of which nothing is known yet.
    #[must_use]
    pub fn new(process: &'static str) -> Self {
        Self {
            process,
            known: Mutex::new(None),
        }
    }

    /// Forgets all when nobody has asked for a while.
    pub(super) async fn forget_unused(&self) {
        let mut known = self.known.lock().await;
        if (known.as_ref()).is_some_and(|known| known.used.elapsed() > UNUSED) {
            *known = None;
        }
    }

    /// Reads a page, as new as the log was when it was asked for.
    ///
    /// # Errors
    ///
    /// Returns `malformed` where the limit or the cursor is none, `unavailable` where the log cannot be read in time: the next
    /// question goes on from there.
    pub async fn page(&self, log: &EventLog, ask: &ListAsk) -> Result<ListPage, Problem> {
        let limit = ask.limit.unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            let detail = format!("the limit is a number from 1 to {MAX_LIMIT}");
            return Err(Problem::malformed("limit".to_owned(), detail));
        }
        let after = ask.cursor.as_deref().map(Id::new).transpose();
        let after = after.map_err(|_| {
            let detail = "the cursor is not one that a list answered as next";
            Problem::malformed("cursor".to_owned(), detail)
        })?;
        let mut known = self.known.lock().await;
        let known = self.refresh(log, &mut known).await?;
        let mut page = known.page(ask.status, after.as_ref(), limit);
        if after.is_none() && matches!(ask.status, None | Some(ToldStatus::Parked)) {
            let unplaced = log.unplaced(self.process).await;
            let unplaced = unplaced.map_err(|error| Problem::unavailable(error.to_string()))?;
            page.unplaced = unplaced.iter().take(MAX_LIMIT).map(unplaced_item).collect();
        }
        Ok(page)
    }

    /// Reads all instances of a process.
    ///
    /// # Errors
    ///
    /// Returns `unavailable` when the log cannot be read.
    pub async fn all(&self, log: &EventLog) -> Result<ToldInstances, Problem> {
        let mut known = self.known.lock().await;
        loop {
            match self.refresh(log, &mut known).await {
                Ok(known) => return Ok(known.instances.clone()),
                // It has got on, and goes on from there.
                Err(Behind::Reading(_)) => {}
                Err(Behind::Failed(problem)) => return Err(problem),
            }
        }
    }

    async fn refresh<'a>(
        &self,
        log: &EventLog,
        known: &'a mut Option<Known>,
    ) -> Result<&'a mut Known, Behind> {
        let failed = |error: &dyn fmt::Display| {
            Behind::Failed(Problem::unavailable(format!(
                "the log cannot be read: {error}"
            )))
        };
        let name = log.name().await.map_err(|error| failed(&error))?;
        let end = log.end().await.map_err(|error| failed(&error))?;
        // What was read of another log, or of a longer one, is of no use.
        if (known.as_ref()).is_some_and(|known| known.log != name || known.read_to > end) {
            *known = None;
        }
        let known = known.get_or_insert_with(|| Known::of(name));
        known.used = Instant::now();
        if known.read_to < end {
            let reading = self.read(log, known, end);
            reading.await?;
        }
        Ok(known)
    }

    /// Reads up to `end`, as far as there is time for it.
    async fn read(&self, log: &EventLog, known: &mut Known, end: u64) -> Result<(), Behind> {
        let failed = |error: &dyn fmt::Display| {
            Behind::Failed(Problem::unavailable(format!(
                "the log cannot be read: {error}"
            )))
        };
        let unique = uuid::Uuid::now_v7().simple();
        let options = ReaderOptions {
            stream: STREAM.to_owned(),
            name: format!("process-{}-list-{unique}", self.process),
            aggregates: vec![self.process.to_owned()],
            prefetch: ReaderOptions::PREFETCH,
            inactive: ReaderOptions::PASSING,
        };
        let reader = Reader::open(log, &options, known.read_to).await;
        let mut reader = reader.map_err(|error| failed(&error))?;
        let begun = Instant::now();
        let mut pending = reader.pending();
        while pending > 0 && begun.elapsed() < PATIENCE {
            let batch = reader.next_batch(BATCH, WAIT).await;
            for commit in batch.map_err(|error| failed(&error))? {
                if commit.position > end {
                    pending = 0;
                    break;
                }
                pending = commit.pending;
                known.read_to = commit.position;
                known.take(self.process, &commit);
                let acknowledged = reader.ack(commit.position).await;
                acknowledged.map_err(|error| failed(&error))?;
            }
        }
        drop(reader);
        let forgotten = Reader::forget(log, STREAM, &options.name).await;
        forgotten.map_err(|error| failed(&error))?;
        match pending {
            0 => {
                known.read_to = end;
                Ok(())
            }
            more => Err(Behind::Reading(more)),
        }
    }
}

fn unplaced_item(unplaced: &Unplaced) -> serde_json::Value {
    let Unplaced {
        aggregate,
        id,
        from,
        reason,
        at,
        ..
    } = unplaced;
    serde_json::json!({ "aggregate": aggregate, "id": id, "from": from, "reason": reason, "at": at })
}

/// The reason why what is known is not as new as the log.
enum Behind {
    /// So many records are still to be read.
    Reading(u64),
    Failed(Problem),
}

impl From<Behind> for Problem {
    fn from(behind: Behind) -> Self {
        match behind {
            Behind::Reading(more) => Self::unavailable(format!(
                "the instances are being read, {more} records are left; ask again"
            )),
            Behind::Failed(problem) => problem,
        }
    }
}

impl Known {
    fn of(log: LogName) -> Self {
        Self {
            log,
            read_to: 0,
            instances: BTreeMap::new(),
            ended: VecDeque::new(),
            shortened: false,
            used: Instant::now(),
        }
    }

    fn take(&mut self, process: &str, commit: &crate::event_log::reader::Commit) {
        let first = commit.events.iter().flatten().next();
        let begins = first.is_some_and(|event| event.version == 1);
        let there = self.instances.contains_key(&commit.id);
        // One that is not there and does not begin has ended, and is forgotten.
        if !there && (!begins || self.instances.len() - self.ended.len() >= MAX_OPEN) {
            self.shortened = true;
            return;
        }
        let told = self.instances.entry(commit.id.clone()).or_default();
        let had_ended = told.status == ToldStatus::Ended;
        for event in commit.events.iter().flatten() {
            told.take(process, event);
        }
        if told.status != ToldStatus::Ended {
            return;
        }
        if told.open.is_empty() {
            told.shorten();
        }
        if !had_ended {
            self.ended.push_back(commit.id.clone());
        }
        if self.ended.len() > MAX_ENDED
            && let Some(oldest) = self.ended.pop_front()
        {
            self.instances.remove(&oldest);
            self.shortened = true;
        }
    }

    fn page(&self, status: Option<ToldStatus>, after: Option<&Id>, limit: usize) -> ListPage {
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.as_str()));
        let those = self.instances.range::<str, _>((from, Bound::Unbounded));
        let mut those = those
            .filter(|(_, told)| status.is_none_or(|status| told.status == status))
            .peekable();
        let (mut items, mut bytes, mut last) = (Vec::new(), 0, None);
        while items.len() < limit && bytes < MAX_BYTES {
            let Some((id, told)) = those.next() else {
                break;
            };
            let item = serde_json::json!(ListedInstance { id, told });
            let size = item.to_string().len();
            // A large one is listed without what it waits for; it can be shown by itself.
            let item = match size > MAX_BYTES / 4 {
                true => serde_json::json!({
                    "id": id, "status": told.status, "reason": told.reason, "last": told.last,
                    "steps_made": told.steps, "open": [], "deadlines": [], "held": [], "shortened": true,
                }),
                false => item,
            };
            bytes += size.min(MAX_BYTES / 4);
            items.push(item);
            last = Some(id.clone());
        }
        ListPage {
            items,
            next: last.filter(|_| those.peek().is_some()),
            unplaced: Vec::new(),
            shortened: self.shortened,
        }
    }
}
