//! The fate of a batch: a transaction, or where it changes nothing, only a look at the checkpoint.

use super::{Open, Projector, ProjectorError, Written, edition, pace::SMALL};
use crate::{
    event_log::{LogName, Place, reader::Commit},
    read_model::{
        Applied, BehindChange, FreshDocument, ServedDocument,
        exchange::{Changes, Checkpoint, Within},
        store::{StoreError, text},
    },
};
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// The time the stored checkpoint may stay where it is while nothing changes. Long in tests, which say
/// themselves when it follows.
const DEFERRED: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });

impl Open {
    /// The name of the log of which the documents are. Before the first commit is applied they may be of
    /// whichever log is there.
    fn log_name(&self) -> LogName {
        match self.checkpoint.position {
            0 => self.log,
            _ => self.checkpoint.log,
        }
    }

    /// The commit that is applied in part, or else the last one that is applied.
    pub(super) fn begun(&self) -> Place {
        let within = self.checkpoint.within.as_ref();
        within.map_or(self.place, Within::place)
    }
}

/// The place that a view has come to.
pub(super) struct Reached {
    /// The last commit that is applied.
    pub(super) place: Place,
    /// The place in the commit after it, if it is in part.
    pub(super) within: Option<Within>,
}

impl Projector {
    /// Applies as much of a batch that was fetched as one transaction takes, and writes what it changes.
    pub(in crate::projection) async fn apply(
        &mut self,
        batch: &[Commit],
    ) -> Result<Written, ProjectorError> {
        let (Some(open), Some(last)) = (&self.open, batch.last()) else {
            return Err(ProjectorError::Panicked("nothing was fetched".to_owned()));
        };
        let within = open.checkpoint.within.clone();
        let begun = within.as_ref().zip(batch.first());
        if begun.is_some_and(|(within, next)| within.place() != next.place()) {
            let (edition, position) = (open.edition.clone(), open.place.position);
            return Err(self.lose(&edition, self.live().is_some(), position));
        }
        let some = self.some_of(batch);
        self.tries(some, within.as_ref());
        let (changes, reach) = self
            .fold(&mut |fold| fold.apply(some, within.as_ref()))
            .await?;
        if reach.commits == 0 && reach.within == within {
            return Err(ProjectorError::Panicked(
                "a commit is not got on with".to_owned(),
            ));
        }
        let (done, left) = batch.split_at(reach.commits);
        self.writes(done.len(), changes.documents.len());
        let whole = within.is_none() && reach.within.is_none();
        let deferred = whole && changes.is_empty() && self.may_defer(done.len());
        let fresh = self.wanted(&changes)?;
        let to = self.reached(done, reach.within);
        let mut applied = match deferred {
            true => self.defer(to.place, done.len()).await?,
            false => self.commit(to, changes).await?,
        };
        self.recover();
        // Once more: who reads may have learnt meanwhile that the log is another one, and counts on it that
        // nothing is told from then on of the one before.
        self.compare_with_log().await?;
        applied.behind_since = match left.first() {
            Some(next) => Some(next.published),
            None => (last.pending > 0).then_some(last.published),
        };
        if self.live().is_some() {
            // At once: until then, copies of these documents are served that are older than the store's.
            self.options.watermark.note_fresh(&applied, &fresh);
        }
        Ok(Written {
            applied,
            commits: done.len(),
            pending: left.len() as u64 + last.pending,
            deferred,
        })
    }

    /// Returns how far the view is once these commits, and that much of the next one, are applied.
    fn reached(&self, done: &[Commit], within: Option<Within>) -> Reached {
        let before = self.open.as_ref().map(|open| open.place);
        let place = done.last().map(Commit::place).or(before);
        Reached {
            place: place.unwrap_or_default(),
            within,
        }
    }

    /// Those of a few changed documents that readers in this process have had, so that the next ones
    /// need not ask the store.
    fn wanted(&self, changes: &Changes) -> Result<Vec<FreshDocument>, StoreError> {
        if self.live().is_none() || changes.documents.len() > SMALL {
            return Ok(Vec::new());
        }
        let fresh = changes.documents.iter().filter_map(|change| {
            let document = change.document.as_ref()?;
            self.options.watermark.wants(&change.id).then(|| {
                let text = text(document)?;
                Ok(FreshDocument {
                    document: ServedDocument::new(self.view(), &change.id, change.position, &text),
                    id: change.id.clone(),
                })
            })
        });
        fresh.collect()
    }

    /// Returns whether so many more commits that change nothing may wait for a later transaction to write the
    /// checkpoint. A crash then costs reading them again. Not those of a generation that is being
    /// filled: by its checkpoint it is told that it is.
    fn may_defer(&self, commits: usize) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.live.is_some()
                && open.deferred + commits <= self.options.batch
                && open.stored.elapsed() < DEFERRED
        })
    }

    /// Goes on to `place` without a transaction, if the store is still as this projector has left
    /// it, so that its documents are what they would be there.
    async fn defer(&mut self, place: Place, commits: usize) -> Result<Applied, ProjectorError> {
        let stored = self.options.store.find_checkpoint(&self.tables).await?;
        let Some(open) = &mut self.open else {
            return Err(ProjectorError::Panicked("nothing was fetched".to_owned()));
        };
        if stored.is_none_or(|stored| stored.revision != open.checkpoint.revision) {
            return Err(StoreError::Fenced.into());
        }
        let previous = std::mem::replace(&mut open.place, place).position;
        self.told = place;
        open.deferred += commits;
        self.fold.committed();
        Ok(Applied {
            previous,
            ..self.nothing()
        })
    }

    /// Writes the checkpoint where commits that changed nothing have put it off, and where a
    /// generation that is being filled has read the log to its end: the live one may follow
    /// aggregates that it does not, and be further by them.
    pub(super) async fn settle(&mut self) -> Result<(), ProjectorError> {
        let Some(open) = &self.open else {
            return Ok(());
        };
        if open.checkpoint.within.is_some() {
            return Ok(());
        }
        let mut place = open.place;
        if open.live.is_none()
            && let Some(end) = open.reader.read_up_to().await?
            && end > place.position
            && let Some(last) = self.options.log.message_at(end).await?
        {
            place = Place::of(&last);
        }
        let log = open.checkpoint.log;
        if place == open.checkpoint.place() && open.log_name() == log {
            return Ok(());
        }
        let to = Reached {
            place,
            within: None,
        };
        self.commit(to, Changes::default()).await?;
        self.acknowledge_to(place.position).await
    }

    /// Tells readers in this process which documents are behind.
    fn tell_parked(&self, change: &BehindChange) {
        let serving = self.options.watermark.serving();
        if self.live().is_some() && !serving.park_change(self.parked_at, change) {
            serving.park(self.parked_at, self.parked.told());
        }
    }

    /// Returns how far the view is now, where changes are made in place.
    pub(super) fn here(&self) -> Option<Reached> {
        let open = self.open.as_ref()?;
        Some(Reached {
            place: open.place,
            within: open.checkpoint.within.clone(),
        })
    }

    /// Writes changes with the checkpoint at `to`; returns what there is to announce.
    pub(super) async fn commit(
        &mut self,
        Reached { place, within }: Reached,
        mut changes: Changes,
    ) -> Result<Applied, ProjectorError> {
        let Some(open) = &mut self.open else {
            return Err(ProjectorError::Panicked("nothing is open".to_owned()));
        };
        let ids = changes.documents.iter().map(|d| d.id.clone()).collect();
        tell_operators(self.options.view.description().name, &changes);
        let parks = self.parked.prepare(&mut changes);
        let fence = &open.checkpoint;
        let (exchanged, log) = (fence.exchanges, fence.log);
        let in_place = changes.retried.is_some() || changes.in_place;
        let exchanges = match self.renews {
            // The next number may have been told already.
            true => rand::random(),
            false => fence.exchanges.wrapping_add(in_place.into()),
        };
        // One that goes on with a commit, or begins one that it does not end.
        let begun = fence.within.as_ref().map(|within| within.pages);
        let goes_on = begun.is_some() || within.is_some();
        let page = (goes_on && exchanges == exchanged).then_some(begun.unwrap_or(0));
        let next = Checkpoint {
            position: place.position,
            mark: place.mark,
            log: open.log_name(),
            exchanges,
            revision: fence.revision + 1,
            writer: self.options.writer.clone(),
            at: Timestamp::now(),
            within,
        };
        // The next documents of an event of many are read while these are written.
        let ahead = self.fold.next_page().filter(|_| next.within.is_some());
        let (store, rows) = (&self.options.store, self.fold.rows());
        let write = store.write(&self.tables, fence, next, changes);
        let read = async {
            let needs = ahead?;
            let found = store.load(&self.tables, &needs, rows).await;
            Some((needs, found.ok()?))
        };
        let both = async { tokio::join!(write, read) };
        let (written, page_ahead) = open.reader.ahead(self.options.batch, both).await;
        open.checkpoint = written?;
        open.page_ahead = page_ahead;
        self.fold.committed();
        let previous = std::mem::replace(&mut open.place, place).position;
        self.told = place;
        open.deferred = 0;
        open.stored = Instant::now();
        self.revision = open.checkpoint.revision;
        self.renews = false;
        if open.checkpoint.exchanges != exchanged || open.checkpoint.log != log {
            open.edition = edition(self.options.generation, open.era, &open.checkpoint);
        }
        let (live, edition) = (open.live, open.edition.clone());
        if live.is_some() {
            self.wrote(live, edition);
        }
        let parked = self.parked.commit(parks, self.parked_at);
        if let Some(change) = &parked {
            self.parked_at = self.revision;
            self.tell_parked(change);
        }
        Ok(Applied {
            previous,
            ids,
            parked,
            page,
            ..self.nothing()
        })
    }
}

/// Logs which aggregates are parked now. Those that are tried again were told of before.
fn tell_operators(view: &'static str, changes: &Changes) {
    if changes.retried.is_some() {
        return;
    }
    for parked in changes.parked.iter().filter(|parked| parked.first) {
        tracing::error!(
            view.name = view,
            aggregate.name = parked.aggregate.0,
            aggregate.id = parked.aggregate.1,
            event.position = parked.position,
            event.unknown = parked.unknown,
            error = parked.reason,
            "parked an aggregate"
        );
    }
}
