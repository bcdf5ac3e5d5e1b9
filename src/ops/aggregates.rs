//! An aggregate's history, with what the aggregate was after each event.

use super::{
    AggregateHome, Operations, ToldCommit,
    history::{Entry, History},
    unread,
};
use crate::{
    command::describe::{AggregateDescription, ReplayedState},
    event_log::{EventLog, Place, subject::Id},
    problem::Problem,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// The number of commits that a page is folded from at the most.
const FOLDED: usize = 20_000;
/// The largest state that is shown, in bytes.
const STATE_BYTES: usize = 64 << 10;
/// A page ends after so many bytes of events and states.
const PAGE_BYTES: usize = 1 << 20;

/// A page of an aggregate's history.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AggregateHistory {
    /// The aggregate's name.
    pub aggregate: String,
    /// Its id.
    pub id: String,
    /// The replica that decides its commands; null when no live one decides commands.
    pub home: Option<String>,
    /// Its version now; null where its last commit cannot be read.
    pub version: Option<u64>,
    /// The position of its last commit.
    pub position: u64,
    /// Its latest snapshot.
    pub snapshot: Option<SnapshotPlace>,
    /// Its commits, in order.
    pub commits: Vec<ToldCommit>,
    /// The reason why its state is not known, if it is not.
    pub state_unknown: Option<String>,
    /// The value of `after` for the next page; null on the last.
    pub next: Option<u64>,
}

/// The place where a snapshot was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct SnapshotPlace {
    /// The aggregate's version.
    pub version: u64,
    /// The position of the last commit that it has.
    pub position: u64,
}

/// The part of a snapshot that is read, of whichever aggregate.
#[derive(Deserialize)]
struct Snapshot {
    version: u64,
    place: Place,
}

/// The state as it is folded, or why it is not known.
struct Folding {
    fold: Result<Box<dyn ReplayedState>, String>,
}

impl Operations {
    /// Reads a page of an aggregate's history, after a position.
    ///
    /// # Errors
    ///
    /// Returns `unknown_aggregate`, `not_found` where the aggregate has no commits, `unavailable` where the log cannot
    /// be read.
    pub async fn aggregate(
        &self,
        aggregate: &str,
        id: &Id,
        after: u64,
        limit: usize,
    ) -> Result<AggregateHistory, Problem> {
        let described = self.known_aggregate(aggregate)?;
        let history = AggregateHistory::read(&self.options().log, described, id, after, limit);
        Ok(AggregateHistory {
            home: self.home_of(aggregate, id),
            ..history.await?
        })
    }
}

impl AggregateHistory {
    /// Reads a page of an aggregate's history, after a position, without its home.
    ///
    /// # Errors
    ///
    /// Returns `not_found` where the aggregate has no commits, `unavailable` where the log cannot be read.
    pub async fn read(
        log: &EventLog,
        described: &AggregateDescription,
        id: &Id,
        after: u64,
        limit: usize,
    ) -> Result<Self, Problem> {
        let aggregate = described.name;
        let now = AggregateHome::read(log, aggregate, id).await?;
        if now.position == 0 {
            let detail = format!("{aggregate} {id} has no commits");
            return Err(Problem::not_found("not_found", detail));
        }
        let snapshot = log.snapshot(aggregate, id.as_str()).await;
        let snapshot = snapshot.and_then(|body| serde_json::from_slice::<Snapshot>(&body).ok());
        let page = Page {
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.place.position),
            after,
            limit,
        };
        let (commits, folding, next) = page.read(log, described, id).await?;
        Ok(Self {
            aggregate: now.aggregate,
            id: now.id,
            home: now.home,
            version: now.version,
            position: now.position,
            snapshot: snapshot.map(|snapshot| SnapshotPlace {
                version: snapshot.version,
                position: snapshot.place.position,
            }),
            commits,
            state_unknown: folding.fold.err(),
            next,
        })
    }
}

struct Page {
    /// The position of the commit that the latest snapshot was made of.
    snapshot: Option<u64>,
    after: u64,
    limit: usize,
}

impl Page {
    async fn read(
        &self,
        log: &EventLog,
        described: &AggregateDescription,
        id: &Id,
    ) -> Result<(Vec<ToldCommit>, Folding, Option<u64>), Problem> {
        let reads = Some(described.read_event);
        let mut history = History::open(log, described.name, id, reads).await;
        let mut history = history.as_mut().map_err(|error| unread(error))?;
        let mut folding = Folding::begin(described);
        let (mut commits, mut bytes, mut read) = (Vec::new(), 0, 0);
        let mut later;
        loop {
            let entry = history.next().await.map_err(|error| unread(&error))?;
            let Some(entry) = entry else {
                return Ok((commits, folding, None));
            };
            read += 1;
            if entry.message.position <= self.after {
                folding.skip(&entry);
                if read >= FOLDED {
                    // What comes before is too much to be read again for each page.
                    folding.fold = Err(format!("its first {FOLDED} commits end before this page"));
                    later = History::open_after(log, described.name, id, reads, self.after).await;
                    history = later.as_mut().map_err(|error| unread(error))?;
                    read = 0;
                }
                continue;
            }
            if commits.len() == self.limit || bytes > PAGE_BYTES {
                let last = commits.last().map(|last: &ToldCommit| last.position);
                return Ok((commits, folding, last));
            }
            let (commit, size) = folding.take(&entry, self.snapshot);
            bytes += size;
            commits.push(commit);
        }
    }
}

impl Folding {
    fn begin(described: &AggregateDescription) -> Self {
        Self {
            fold: Ok((described.replay)()),
        }
    }

    /// Folds a commit in that is not shown.
    fn skip(&mut self, entry: &Entry) {
        if entry.excluded.is_some() {
            return;
        }
        if let Some(fault) = &entry.fault {
            return self.fail(entry, fault.clone());
        }
        for event in entry.events.iter().flatten() {
            self.apply(entry, &event.recorded.event_type, &event.recorded.data);
        }
    }

    fn fail(&mut self, entry: &Entry, reason: String) {
        if self.fold.is_ok() {
            let position = entry.message.position;
            self.fold = Err(format!(
                "the commit at {position} cannot be folded: {reason}"
            ));
        }
    }

    fn apply(&mut self, entry: &Entry, event_type: &str, data: &serde_json::value::RawValue) {
        if let Ok(fold) = &mut self.fold
            && let Err(fault) = fold.fold(event_type, data)
        {
            self.fail(entry, fault.reason);
        }
    }

    /// The state now as it is shown, and its bytes.
    fn shown(&self) -> (Value, Option<usize>) {
        let state = self.fold.as_ref().ok().and_then(|fold| fold.state().ok());
        let Some(state) = state else {
            return (Value::Null, None);
        };
        let bytes = state.to_string().len();
        match bytes <= STATE_BYTES {
            true => (state, Some(bytes)),
            false => (Value::Null, Some(bytes)),
        }
    }

    /// Folds a commit in and tells of it; returns its bytes as it is told.
    fn take(&mut self, entry: &Entry, snapshot: Option<u64>) -> (ToldCommit, usize) {
        let mut commit = ToldCommit::of(&entry.message);
        commit.excluded = entry.excluded.as_ref().map(Into::into);
        commit.fault.clone_from(&entry.fault);
        commit.snapshot = Some(snapshot == Some(commit.position));
        let mut bytes = commit.body.as_ref().map_or(0, String::len);
        if entry.excluded.is_none()
            && let Some(fault) = &entry.fault
        {
            self.fail(entry, fault.clone());
        }
        for event in &mut commit.events {
            if entry.excluded.is_none() {
                self.apply(entry, &event.event_type, &event.data);
            }
            let (state, size) = self.shown();
            bytes += event.data.get().len() + size.unwrap_or(0).min(STATE_BYTES);
            event.state = Some(state);
        }
        let (state, size) = self.shown();
        bytes += size.unwrap_or(0).min(STATE_BYTES);
        commit.state = Some(state);
        commit.state_bytes = size;
        (commit, bytes)
    }
}
