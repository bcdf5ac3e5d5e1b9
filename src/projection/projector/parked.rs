//! The projector's way with parked aggregates: tell which documents are behind, and try again.

use super::{Projector, ProjectorError};
use crate::{
    event_log::{
        Mark, StoredMessage,
        reader::Commit,
        subject::{self, Id},
    },
    projection::fold::{Again, EventPlace, Fold},
    read_model::{
        exchange::{Changes, Parked, Skipped, SkippedPlace, TriedAgain},
        store::parked::Of,
    },
    recorded::Recorded,
    view::PartKey,
};
use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// The number of commits before a parked one that are looked at to tell which documents it concerns.
const HISTORY: usize = 100;
/// The number of histories that are read at once, and of the events of them that are kept for one batch.
const HISTORIES: usize = 8;
const HISTORY_EVENTS: usize = 50_000;
/// The number of parked commits that are tried again in one transaction, and of their bytes.
const CHUNK: usize = if cfg!(test) { 4 } else { 500 };
const CHUNK_BYTES: usize = 4 << 20;
/// The time what is unknown is tried again at a time, while the view has other things to do.
const UNKNOWN: Duration = Duration::from_millis(50);

/// The way to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Try {
    /// Everything.
    Again,
    /// Without the event that could not be applied.
    WithoutFirst,
    /// Without any event that cannot be applied.
    WithoutAny,
}

/// The result of trying again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// The number of commits of the aggregate that are applied now.
    pub applied: usize,
    /// The number that are parked still.
    pub parked: usize,
    /// The reason why the first of those could not be applied.
    pub reason: Option<String>,
    /// True if it was only a part of what is parked, and the rest is to be tried next.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Projector {
    /// Tries again, in order, the next of what is parked of an aggregate.
    pub(in crate::projection) async fn retry(
        &mut self,
        aggregate: &PartKey,
        how: Try,
    ) -> Result<Retried, ProjectorError> {
        let retried = self.try_retry(aggregate, how).await;
        if retried.is_err() {
            self.close();
        }
        retried
    }

    async fn try_retry(
        &mut self,
        aggregate: &PartKey,
        how: Try,
    ) -> Result<Retried, ProjectorError> {
        self.ensure_open().await?;
        self.compare_with_log().await?;
        let gate = Arc::clone(&self.options.gate);
        let _turn = gate.lock().await;
        self.apply_parked(aggregate, how).await
    }

    /// Tries again, a part after the other, all that is parked of an aggregate. The caller holds the gate.
    pub(super) async fn apply_all_parked(
        &mut self,
        aggregate: &PartKey,
    ) -> Result<Retried, ProjectorError> {
        let mut all = Retried::default();
        loop {
            let next = self.apply_parked(aggregate, Try::Again).await?;
            all.applied += next.applied;
            (all.parked, all.reason) = (next.parked, next.reason);
            if !next.more {
                return Ok(all);
            }
        }
    }

    /// Notes, once, what is to be tried again because an earlier program did not know it.
    pub(super) fn look_for_unknown(&mut self) {
        if std::mem::replace(&mut self.looked, true) {
            return;
        }
        let heads = self.parked.heads().iter();
        let unknown = heads.filter(|(_, head)| head.unknown);
        self.unknown = unknown.map(|(key, _)| key.clone()).collect();
    }

    /// Tries some of what is parked as unknown again, once; returns whether there was some. The caller
    /// holds the gate.
    pub(super) async fn apply_unknown(&mut self) -> Result<bool, ProjectorError> {
        let begun = Instant::now();
        let some = !self.unknown.is_empty();
        while let Some(aggregate) = self.unknown.front().cloned() {
            let retried = self.apply_parked(&aggregate, Try::Again).await?;
            if !retried.more {
                self.unknown.pop_front();
            }
            if retried.applied > 0 {
                tracing::info!(
                    view.name = self.view(),
                    aggregate.name = aggregate.0,
                    aggregate.id = aggregate.1,
                    commits.applied = retried.applied,
                    commits.parked = retried.parked,
                    "applied what an earlier program did not know"
                );
            }
            if begun.elapsed() > UNKNOWN {
                break;
            }
        }
        Ok(some)
    }

    /// Applies again the next of what is parked of an aggregate, in one transaction; what comes after it
    /// stays parked meanwhile. The caller holds the gate.
    pub(super) async fn apply_parked(
        &mut self,
        aggregate: &PartKey,
        how: Try,
    ) -> Result<Retried, ProjectorError> {
        let Some(here) = self.here() else {
            return Err(ProjectorError::Panicked("nothing is open".to_owned()));
        };
        let store = self.options.store.clone();
        let of = Of::one(aggregate);
        let mut parked = store.parked_page(&self.tables, of, None, CHUNK + 1).await?;
        let mut last = parked.len() <= CHUNK;
        parked.truncate(CHUNK);
        let Some(first) = parked.first().cloned() else {
            return Ok(Retried::default());
        };
        let commits = self.parked_commits(aggregate, &parked).await?;
        last &= commits.len() == parked.len();
        parked.truncate(commits.len());
        for place in store.skipped_of(&self.tables, of).await? {
            self.fold.skip(place);
        }
        let skipped = (how == Try::WithoutFirst).then(|| Skipped {
            aggregate: aggregate.clone(),
            place: place_of(&first, commits.first().map(|(_, commit)| commit)),
        });
        if let Some(skipped) = &skipped {
            self.fold.skip(skipped.place);
        }
        let through = parked.last().map_or(first.position, |last| last.position);
        let again = Again {
            tried: TriedAgain {
                aggregate: aggregate.clone(),
                through,
                last,
            },
            position: here.place.position,
            skips: how == Try::WithoutAny,
        };
        let pass = &mut |fold: &mut dyn Fold| fold.retry(&again, &commits);
        let (mut changes, reach) = self.fold(pass).await?;
        last &= reach.commits == commits.len();
        // What is left of a commit that has not failed is not one that did.
        let rest = usize::from(reach.within.is_some());
        changes.skipped.extend(skipped);
        let since: HashMap<u64, Option<Timestamp>> =
            parked.iter().map(|p| (p.position, p.at)).collect();
        for again in &mut changes.parked {
            again.at = since.get(&again.position).copied().flatten();
        }
        let failures = changes.parked.len() - rest;
        let failed = changes.parked[..failures].first();
        let failed = failed.map(|parked| parked.reason.clone());
        if how == Try::Again && rest == 0 && comes_to_the_same(&first, reach.commits, &changes) {
            return Ok(Retried {
                parked: store.count_parked(&self.tables, aggregate).await?,
                reason: failed,
                ..Retried::default()
            });
        }
        let mut retried = Retried {
            applied: reach.commits - failures,
            parked: 0,
            more: !last && failed.is_none(),
            reason: failed,
        };
        let applied = self.commit(here, changes).await?;
        if retried.reason.is_some() {
            retried.parked = store.count_parked(&self.tables, aggregate).await?;
        }
        let parked = self.fold.parked();
        self.status.send_modify(|status| status.parked = parked);
        if self.live().is_some() {
            self.options.watermark.note(&applied);
        }
        self.publish(&applied).await?;
        Ok(retried)
    }

    /// Reads parked commits from the log, as many of them as one transaction may take. One that is not
    /// there cannot be read, but is not forgotten.
    async fn parked_commits(
        &self,
        aggregate: &PartKey,
        parked: &[Parked],
    ) -> Result<Vec<(EventPlace, Commit)>, ProjectorError> {
        let mut messages: HashMap<u64, StoredMessage> = HashMap::new();
        let mut bytes = 0;
        let log = &self.options.log;
        let last = parked.last().map_or(0, |last| last.position);
        let subject = Id::new(aggregate.1.as_str())
            .map(|id| subject::events_of(&aggregate.0, &id))
            .ok();
        let mut after = parked.first().map_or(0, |first| first.position - 1);
        while let Some(subject) = &subject
            && after < last
            && bytes < CHUNK_BYTES
        {
            let next = log.next_messages(subject, after, last).await?;
            after = next.last().map_or(last, |message| message.position);
            bytes += next.iter().map(|m| m.payload.len()).sum::<usize>();
            messages.extend(next.into_iter().map(|message| (message.position, message)));
        }
        let mut commits = Vec::with_capacity(parked.len());
        for parked in parked {
            let message = match (messages.remove(&parked.position), &subject) {
                // It was not read yet.
                (None, Some(_)) if parked.position > after => break,
                // What is not addressed by an id is found by its position alone.
                (None, None) => log.message_at(parked.position).await?,
                (message, _) => message,
            };
            let commit = match message.as_ref().map(Commit::of) {
                Some(commit) if (&commit.aggregate, &commit.id) == (&aggregate.0, &aggregate.1) => {
                    commit
                }
                _ => lost(aggregate, parked.position),
            };
            let place = (parked.from_event, parked.after.clone());
            commits.push((place, commit));
        }
        Ok(commits)
    }

    /// Reads what came before those commits of a batch that are set aside and of which it cannot be told
    /// by themselves which documents they concern; `None` when there are none, or else those aggregates of
    /// which it still cannot be told.
    pub(super) async fn tell_histories(
        &mut self,
        changes: &Changes,
    ) -> Result<Option<HashSet<PartKey>>, ProjectorError> {
        let untold = changes.parked.iter().filter(|parked| {
            let known = self.parked.heads().contains_key(&parked.aggregate);
            parked.first && !known && !parked.vague && parked.documents.is_empty()
        });
        let untold: Vec<_> = untold
            .map(|parked| (parked.aggregate.clone(), parked.position))
            .collect();
        if untold.is_empty() {
            return Ok(None);
        }
        let (mut nothing, mut events) = (HashSet::new(), 0);
        for some in untold.chunks(HISTORIES) {
            let reading = some.iter().map(|(aggregate, position)| async {
                match events < HISTORY_EVENTS {
                    true => self.history(aggregate, *position).await,
                    false => Ok(Vec::new()),
                }
            });
            let histories = stream::iter(reading).buffered(HISTORIES);
            let histories: Vec<_> = histories.try_collect().await?;
            for ((aggregate, _), history) in some.iter().zip(histories) {
                events += history.len();
                if history.is_empty() {
                    nothing.insert(aggregate.clone());
                }
                self.fold.history(aggregate.clone(), history);
            }
        }
        Ok(Some(nothing))
    }

    /// The last events of an aggregate before a position, those that can be understood.
    async fn history(
        &self,
        (aggregate, id): &PartKey,
        position: u64,
    ) -> Result<Vec<Recorded>, ProjectorError> {
        let Ok(id) = Id::new(id.as_str()) else {
            return Ok(Vec::new());
        };
        let subject = subject::events_of(aggregate, &id);
        let log = &self.options.log;
        let messages = log.messages_before(&subject, position, HISTORY).await?;
        let commits = messages.iter().map(Commit::of);
        Ok(commits
            .filter_map(|commit| commit.events.ok())
            .flatten()
            .collect())
    }
}

/// Returns the place of the first event that is parked of an aggregate: of a commit that cannot be read, all of it.
fn place_of(first: &Parked, commit: Option<&Commit>) -> SkippedPlace {
    let is_readable = commit.is_some_and(|commit| commit.events.is_ok());
    SkippedPlace {
        position: first.position,
        mark: commit.map_or_else(Mark::default, |commit| commit.mark),
        event: is_readable.then_some(first.from_event),
    }
}

/// Returns whether nothing is other than it was before what is parked was tried again.
fn comes_to_the_same(first: &Parked, commits: usize, changes: &Changes) -> bool {
    let same = changes.parked.first().is_some_and(|again| {
        (
            again.position,
            again.from_event,
            &again.reason,
            again.unknown,
        ) == (
            first.position,
            first.from_event,
            &first.reason,
            first.unknown,
        )
    });
    let documents = changes.documents.is_empty() && changes.parts.is_empty();
    same && documents && changes.parked.len() == commits && changes.skipped.is_empty()
}

/// A parked commit that the log does not have.
fn lost((aggregate, id): &PartKey, position: u64) -> Commit {
    Commit {
        position,
        mark: Mark::default(),
        aggregate: aggregate.clone(),
        id: id.clone(),
        published: Timestamp::now(),
        pending: 0,
        events: Err("the log has no commit of this aggregate there".to_owned()),
    }
}
