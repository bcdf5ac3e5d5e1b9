//! A view that is folded again from the log, beside the one that is served, to compare the two.
//!
//! It never looks at what is served to fold, with one exception: what the view has parked or skipped is
//! taken as given, since documents are right when they are what the log says without it. The served
//! documents are read a page at a time, each in one snapshot with the checkpoint; the fold then comes up
//! to exactly that checkpoint. So nothing is held still, and nothing is reported that was merely on its
//! way. Memory is bounded: see [`scratch`].

mod observed;
mod pace;
mod preview;
mod scratch;

pub(super) use pace::Pace;
pub use preview::Preview;
#[cfg(test)]
pub(super) use scratch::Memory;
pub use scratch::ScratchError;

use super::{
    explained::Explaining,
    fold::{Fold, Folded, Limits, Rehearsal},
    fold_error::FoldError,
    projector::ProjectorOptions,
    sample::Sample,
};
use crate::{
    event_log::{
        LoadError, Place,
        reader::{Commit, ReadError, Reader, ReaderOptions},
    },
    read_model::{
        exchange::SkippedPlace,
        schema::ViewTables,
        store::{Row, StoreError},
    },
    view::PartKey,
};
use scratch::Scratch;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// The number of documents that are compared at a time.
const PAGE: usize = if cfg!(test) { 8 } else { 200 };
/// Each event by itself, to see what it does.
const ONE_BY_ONE: Limits = Limits {
    one_event: true,
    ..Limits::USUAL
};
/// The time the log may say nothing of what it must have.
const WAIT: Duration = Duration::from_secs(10);
/// The time a next commit is waited for before the log is asked whether there is one.
const LOOK: Duration = Duration::from_millis(100);

/// A document that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Its id.
    pub id: String,
    /// The store's document, if there is one.
    pub stored: Option<Value>,
    /// The right document, if there is one.
    pub folded: Option<Value>,
}

/// A view cannot be folded again.
#[derive(Debug, thiserror::Error)]
pub enum RefoldError {
    /// The log has less than the view has applied.
    #[error("the log ends before what the view has applied")]
    Short,
    /// The view is of another log than the one that is there.
    #[error("the view is of another log, or of what this one has lost")]
    OtherLog,
    /// The log failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log failed, when it was asked for what is excluded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The view's data do not fit its types.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The documents that are folded again cannot be kept.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
}

/// A view that is folded again.
pub(super) struct Refold {
    options: ProjectorOptions,
    tables: ViewTables,
    sample: Sample,
    reader: Reader,
    consumer: String,
    fold: Box<dyn Fold>,
    scratch: Scratch,
    /// Commits that were read and are not folded yet.
    ahead: Vec<Commit>,
    position: u64,
    /// The place where the view was when this was opened.
    started: Place,
    rehearsal: Rehearsal,
    skipped: HashSet<SkippedPlace>,
    /// The notes on one document.
    observed: Option<Explaining>,
}

impl Refold {
    /// Begins to fold the documents of a sample again; reads so many commits ahead.
    pub(super) async fn open(
        options: &ProjectorOptions,
        tables: ViewTables,
        sample: Sample,
        prefetch: usize,
    ) -> Result<Self, RefoldError> {
        let (view, store) = (options.view.description(), &options.store);
        let consumer = format!("verify-{}", uuid::Uuid::now_v7().simple());
        let reading = ReaderOptions {
            inactive: ReaderOptions::PASSING,
            prefetch,
            ..options.reader(consumer.clone())
        };
        let started = store.checkpoint(&tables).await?.place();
        if !options.log.holds(started).await? {
            return Err(RefoldError::OtherLog);
        }
        // What is given is older than every page, so what is parked later is after it in the log.
        let skipped = store.skipped(&tables).await?;
        let rehearsal = Rehearsal {
            only: sample.clone(),
            set_aside: set_aside(options, &tables).await?,
        };
        let excluded = options.log.excluded_positions(view.aggregates).await?;
        let mut fold = options.view.fold();
        fold.reset(HashSet::new(), skipped.clone());
        fold.exclude(&excluded);
        fold.rehearse(rehearsal.clone());
        Ok(Self {
            reader: Reader::open(&options.log, &reading, 0).await?,
            scratch: Scratch::new(&options.verify.folder, &view.query.routes),
            options: options.clone(),
            ahead: Vec::new(),
            position: 0,
            consumer,
            tables,
            sample,
            fold,
            started,
            rehearsal,
            skipped,
            observed: None,
        })
    }

    /// Returns how many commits there were to read when it was opened.
    pub(super) fn pending(&self) -> u64 {
        self.reader.pending()
    }

    /// Returns how far it is.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Returns how many aggregates the view has set aside.
    pub(super) fn parked(&self) -> usize {
        self.rehearsal.set_aside.len()
    }

    /// Narrows it to a sample, before anything is folded.
    pub(super) fn narrow(&mut self, sample: Sample) {
        self.sample = sample.clone();
        self.rehearsal.only = sample;
        self.fold.rehearse(self.rehearsal.clone());
    }

    /// Folds up to a position of the log, and no further. `pace` says when to go on, and hears how far it
    /// is.
    pub(super) async fn up_to(
        &mut self,
        target: u64,
        pace: &mut Pace<'_>,
    ) -> Result<(), RefoldError> {
        let mut heard = Instant::now();
        while self.position < target {
            if self.ahead.is_empty() {
                self.ahead = self.reader.next_batch(pace.batch(), LOOK).await?;
            }
            if self.ahead.is_empty() {
                // The last commits up to the target may be none that the view follows.
                let end = self.reader.read_up_to().await?;
                if end.is_some_and(|end| end >= target) {
                    self.position = target;
                } else if heard.elapsed() > WAIT {
                    return Err(RefoldError::Short);
                }
                continue;
            }
            heard = Instant::now();
            let until = self.ahead.partition_point(|it| it.position <= target);
            let later = self.ahead.split_off(until);
            let now = std::mem::replace(&mut self.ahead, later);
            let Some(last) = now.last().map(|last| last.position) else {
                self.position = target;
                return Ok(());
            };
            self.apply(&now).await?;
            self.count(now.len());
            self.position = last;
            self.reader.ack(last).await?;
            pace.went(now.len() as u64, last, target).await;
        }
        Ok(())
    }

    async fn apply(&mut self, mut commits: &[Commit]) -> Result<(), RefoldError> {
        if self.observed.is_none() {
            return fold_into(&mut *self.fold, &mut self.scratch, commits).await;
        }
        let mut within = None;
        let mut one_by_one = false;
        while !commits.is_empty() {
            match self.fold.apply(commits, within.as_ref())? {
                Folded::Needs(needs) => {
                    let found = self.scratch.find(&needs)?;
                    self.fold.supply(needs, found)?;
                }
                // Which of these events it was shows when they are folded one by one.
                Folded::Changes(changes, _) if !one_by_one && self.is_observed(&changes) => {
                    one_by_one = true;
                    self.fold.limit(ONE_BY_ONE);
                }
                Folded::Changes(changes, reach) => {
                    if one_by_one {
                        self.note(&commits[0], within.as_ref(), &changes);
                    }
                    self.fold.committed();
                    self.scratch.change(changes).await?;
                    commits = &commits[reach.commits..];
                    within = reach.within;
                }
            }
        }
        if one_by_one {
            self.fold.limit(Limits::USUAL);
        }
        Ok(())
    }

    /// Compares the sample with what is served, and calls `differs` with each document that differs;
    /// returns how many were compared.
    pub(super) async fn compare(
        &mut self,
        pace: &mut Pace<'_>,
        mut differs: impl FnMut(Difference),
    ) -> Result<u64, RefoldError> {
        let mut checked = 0;
        let mut after = self.sample.after().map(str::to_owned);
        loop {
            let last = self.sample.last().map(str::to_owned);
            let (position, mut rows) = self.page(after.as_deref(), last.as_deref()).await?;
            self.up_to(position, pace).await?;
            let mut end = match rows.len() {
                PAGE => rows.last().map(|row| row.id.clone()),
                _ => last.clone(),
            };
            let limit = 2 * PAGE;
            let mut folded = self
                .scratch
                .range(after.as_deref(), end.as_deref(), limit)?;
            if folded.len() == limit {
                // So much is missing in the store that it is told in parts.
                end = folded.last().map(|(id, _)| id.clone());
                rows.retain(|row| Some(&row.id) <= end.as_ref());
            }
            rows.retain(|row| self.sample.has(&row.id));
            checked += compare_page(rows, &mut folded, &mut differs);
            if end == last {
                return Ok(checked);
            }
            after = end;
            pace.alive(self.position);
        }
    }

    /// A page of what is served, and the position that it is of.
    async fn page(
        &mut self,
        after: Option<&str>,
        last: Option<&str>,
    ) -> Result<(u64, Vec<Row>), RefoldError> {
        let store = &self.options.store;
        let page = store.page(&self.tables, after, last, PAGE).await?;
        Ok(page)
    }

    /// Compares some documents again at a position that the view is held at; returns those that differ.
    pub(super) async fn compare_again(
        &mut self,
        position: u64,
        ids: &[String],
        pace: &mut Pace<'_>,
    ) -> Result<Vec<Difference>, RefoldError> {
        self.up_to(position, pace).await?;
        let mut differences = Vec::new();
        for id in ids {
            let stored = self.options.store.get(&self.tables, id).await?;
            let stored = stored.map(|row| row.document);
            let folded = self.scratch.document(id)?;
            if !same_document(stored.as_ref(), folded.as_ref()) {
                let id = id.clone();
                differences.push(Difference { id, stored, folded });
            }
        }
        Ok(differences)
    }

    /// Returns whether what was taken as given, up to where this is, is still so, and the log is still the one:
    /// otherwise differences may be only of that.
    pub(super) async fn is_still_given(&mut self) -> Result<bool, RefoldError> {
        if !self.options.log.holds(self.started).await? {
            return Err(RefoldError::OtherLog);
        }
        let store = &self.options.store;
        let up_to_here = |position: u64| position <= self.position;
        let parked = set_aside(&self.options, &self.tables).await?;
        let skipped = store.skipped(&self.tables).await?;
        let same = parked.len() >= self.rehearsal.set_aside.len()
            && self
                .rehearsal
                .set_aside
                .iter()
                .all(|(aggregate, from)| parked.get(aggregate) == Some(from));
        let new = parked.iter().any(|(aggregate, (position, _))| {
            up_to_here(*position) && !self.rehearsal.set_aside.contains_key(aggregate)
        });
        Ok(same && !new && skipped == self.skipped)
    }

    /// Removes what it has left in the log's server and on the disk.
    pub(super) async fn discard(self) {
        let options = &self.options;
        let forgotten = Reader::forget(&options.log, &options.stream, &self.consumer).await;
        if let Err(error) = forgotten {
            tracing::debug!(%error, "a consumer stays until it has been left alone for a while");
        }
        self.scratch.discard().await;
    }
}

/// Folds commits into what is kept of a view.
async fn fold_into(
    fold: &mut dyn Fold,
    scratch: &mut Scratch,
    mut commits: &[Commit],
) -> Result<(), RefoldError> {
    let mut within = None;
    while !commits.is_empty() {
        match fold.apply(commits, within.as_ref())? {
            Folded::Needs(needs) => {
                let found = scratch.find(&needs)?;
                fold.supply(needs, found)?;
            }
            Folded::Changes(changes, reach) => {
                fold.committed();
                scratch.change(changes).await?;
                commits = &commits[reach.commits..];
                within = reach.within;
            }
        }
    }
    Ok(())
}

/// From where on each aggregate is set aside that a view has parked.
async fn set_aside(
    options: &ProjectorOptions,
    tables: &ViewTables,
) -> Result<HashMap<PartKey, (u64, usize)>, StoreError> {
    let heads = options.store.parked(tables).await?.into_iter();
    let from = heads.map(|(aggregate, head)| (aggregate, (head.position, head.from_event)));
    Ok(from.collect())
}

/// Compares documents in the order of ids; returns how many.
fn compare_page(
    rows: Vec<Row>,
    folded: &mut Vec<(String, Value)>,
    differs: &mut impl FnMut(Difference),
) -> u64 {
    let mut checked = 0;
    let mut folded = folded.drain(..).peekable();
    let mut rows = rows.into_iter().peekable();
    loop {
        let (stored, folded) = match (rows.peek(), folded.peek()) {
            (None, None) => return checked,
            (Some(row), Some((id, _))) if row.id == *id => (rows.next(), folded.next()),
            (Some(row), Some((id, _))) if row.id > *id => (None, folded.next()),
            (Some(_), _) => (rows.next(), None),
            (None, Some(_)) => (None, folded.next()),
        };
        checked += 1;
        let stored = stored.map(|row| (row.id, row.document));
        let id = stored.as_ref().or(folded.as_ref());
        let id = id.map(|(id, _)| id.clone()).unwrap_or_default();
        let (stored, folded) = (stored.map(|(_, it)| it), folded.map(|(_, it)| it));
        if !same_document(stored.as_ref(), folded.as_ref()) {
            differs(Difference { id, stored, folded });
        }
    }
}

/// Returns whether a stored document, or its absence, is what storing `folded` makes of it.
pub(crate) fn same_document(stored: Option<&Value>, folded: Option<&Value>) -> bool {
    match (stored, folded) {
        (Some(stored), Some(folded)) => same(stored, folded),
        (None, None) => true,
        _ => false,
    }
}

/// Returns whether a stored value is what storing `folded` makes of it: a whole number that does not fit 64 bits
/// with a sign becomes a floating one.
fn same(stored: &Value, folded: &Value) -> bool {
    match (stored, folded) {
        (Value::Array(stored), Value::Array(folded)) => {
            stored.len() == folded.len()
                && stored
                    .iter()
                    .zip(folded)
                    .all(|(one, other)| same(one, other))
        }
        (Value::Object(stored), Value::Object(folded)) => {
            stored.len() == folded.len()
                && stored
                    .iter()
                    .all(|(name, one)| folded.get(name).is_some_and(|other| same(one, other)))
        }
        (Value::Number(stored), Value::Number(folded)) => {
            stored == folded
                || (stored.is_f64()
                    && folded.as_i64().is_none()
                    && stored.as_f64() == folded.as_f64())
        }
        (stored, folded) => stored == folded,
    }
}

#[cfg(test)]
mod tests {
    use super::same;
    use serde_json::json;

    #[test]
    fn a_number_is_compared_as_it_is_stored() {
        let most = u64::MAX;
        assert!(same(&json!({"n": [most as f64]}), &json!({"n": [most]})));
        assert!(!same(&json!(most as f64), &json!(u64::MAX / 2 + 1)));
        assert!(same(&json!(7), &json!(7)));
        assert!(!same(&json!(7.0), &json!(7)));
        assert!(!same(&json!({"a": 1}), &json!({"a": 1, "b": null})));
    }
}
