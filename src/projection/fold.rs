//! Folds a batch of commits into documents, in stream order. No I/O.
//!
//! A batch is applied on a [working set](super::working_set). What the working set does not hold is
//! noted and asked for; once it has been supplied the batch is applied again from its beginning, so
//! that only a pass in which nothing was missing counts. A pass that is missing something goes on to
//! the end all the same, to ask for as much as possible at once.

use super::working_set::{Unmet, WorkingSet};
use crate::{
    event_log::{reader::Commit, subject::Id},
    read_model::exchange::{Changes, Found, Needs, Parked},
    recorded::Recorded,
    view::{ApplyError, Change, PartKey, Parts, Route, View},
};
use std::{
    any::TypeId,
    collections::{BTreeSet, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

/// The fold of one view, whichever it is.
pub trait Fold: Send {
    /// Starts over: nothing is known of the store but which aggregates are parked, and which events
    /// are skipped (the commit's position, and the event's index in it). Nothing is excluded.
    fn reset(&mut self, parked: HashSet<PartKey>, skipped: HashSet<(u64, usize)>);

    /// Starts over on a store that holds nothing of the view: what was not written since is not there,
    /// and is not asked for.
    fn begin_empty(&mut self);

    /// Leaves an event out from now on; of a commit that cannot be understood the first stands for all.
    fn skip(&mut self, position: u64, event: usize);

    /// Passes over the commits at these positions from now on: an operator has excluded them from the log.
    fn exclude(&mut self, positions: &HashSet<u64>);

    /// Applies a batch: commits in stream order, all after the checkpoint. The same batch is passed
    /// again after each [`Folded::Needs`], when what it asks for was supplied.
    ///
    /// # Errors
    ///
    /// Returns [`FoldError`] when a document or a part does not serialise, a defect of the view.
    fn apply(&mut self, commits: &[Commit]) -> Result<Folded, FoldError>;

    /// Applies again, in stream order, what is parked of one aggregate, each commit from the event at
    /// the index beside it on. What fails again is parked again. The documents get `position`, since
    /// they may have gone on without it. Otherwise as [`Fold::apply`].
    ///
    /// # Errors
    ///
    /// As [`Fold::apply`].
    fn retry(
        &mut self,
        aggregate: &PartKey,
        commits: &[(usize, Commit)],
        position: u64,
    ) -> Result<Folded, FoldError>;

    /// Takes the events of an aggregate that came before those that are parked. Which documents a
    /// commit concerns that cannot be understood is told from them.
    fn history(&mut self, aggregate: PartKey, events: Vec<Recorded>);

    /// Takes what was asked for.
    ///
    /// # Errors
    ///
    /// Returns [`FoldError`] when something stored is not of the view's types: its shape was changed
    /// under the same version.
    fn supply(&mut self, needs: Needs, found: Found) -> Result<(), FoldError>;

    /// Keeps the last batch's results as what the store now holds.
    fn committed(&mut self);

    /// How many aggregates are parked.
    fn parked(&self) -> usize;
}

/// What became of a batch.
#[derive(Debug)]
pub enum Folded {
    /// This must be supplied first; none at all when what was missing is known to be nowhere.
    Needs(Needs),
    /// It is applied, and this is to be written.
    Changes(Changes),
}

/// A view whose data do not fit its own types.
#[derive(Debug, thiserror::Error)]
#[error("{what} of view {view} {problem}: {source}")]
pub struct FoldError {
    pub(super) view: &'static str,
    pub(super) what: String,
    pub(super) problem: &'static str,
    pub(super) source: serde_json::Error,
}

/// The fold of view `V`.
pub(super) struct ViewFold<V: View> {
    set: WorkingSet<V>,
    /// The parked aggregates as of the last committed batch, and those parked in this one.
    parked: HashSet<PartKey>,
    parking: HashSet<PartKey>,
    /// The events that are left out.
    skipped: HashSet<(u64, usize)>,
    /// The positions of the commits that are passed over.
    excluded: HashSet<u64>,
    /// The parked aggregate that is tried again, and the position that its documents get.
    retrying: Option<(PartKey, u64)>,
    /// What came before the parked events of aggregates whose parked commits cannot be understood.
    histories: HashMap<PartKey, Vec<Recorded>>,
}

impl<V: View> Default for ViewFold<V> {
    fn default() -> Self {
        Self {
            set: WorkingSet::default(),
            parked: HashSet::new(),
            parking: HashSet::new(),
            skipped: HashSet::new(),
            excluded: HashSet::new(),
            retrying: None,
            histories: HashMap::new(),
        }
    }
}

impl<V: View> Fold for ViewFold<V> {
    fn skip(&mut self, position: u64, event: usize) {
        self.skipped.insert((position, event));
    }

    fn exclude(&mut self, positions: &HashSet<u64>) {
        self.excluded.extend(positions);
    }

    fn reset(&mut self, parked: HashSet<PartKey>, skipped: HashSet<(u64, usize)>) {
        *self = Self {
            parked,
            skipped,
            ..Self::default()
        };
    }

    fn begin_empty(&mut self) {
        *self = Self::default();
        self.set.begin_empty();
    }

    fn apply(&mut self, commits: &[Commit]) -> Result<Folded, FoldError> {
        self.retrying = None;
        self.pass(commits.iter().map(|commit| (0, commit)))
    }

    fn retry(
        &mut self,
        aggregate: &PartKey,
        commits: &[(usize, Commit)],
        position: u64,
    ) -> Result<Folded, FoldError> {
        self.retrying = Some((aggregate.clone(), position));
        self.pass(commits.iter().map(|(from, commit)| (*from, commit)))
    }

    fn history(&mut self, aggregate: PartKey, events: Vec<Recorded>) {
        self.histories.insert(aggregate, events);
    }

    fn supply(&mut self, needs: Needs, found: Found) -> Result<(), FoldError> {
        self.set.rewind();
        self.set.supply(needs, found)
    }

    fn committed(&mut self) {
        self.set.committed();
        self.histories.clear();
        if let Some((aggregate, _)) = self.retrying.take() {
            self.parked.remove(&aggregate);
        }
        self.parked.extend(self.parking.drain());
    }

    fn parked(&self) -> usize {
        self.parked.len()
    }
}

struct SetAside {
    parked: Parked,
    /// Whether its aggregate was not parked before.
    first: bool,
}

impl<V: View> ViewFold<V> {
    /// Applies commits, each from the event at its index on.
    fn pass<'a>(
        &mut self,
        commits: impl Iterator<Item = (usize, &'a Commit)>,
    ) -> Result<Folded, FoldError> {
        let mut needs = Needs::default();
        let mut parked = Vec::new();
        self.set.rewind();
        self.parking.clear();
        for (from_event, commit) in commits {
            if let Some(set_aside) = self.commit(commit, from_event, &mut needs) {
                parked.push(set_aside);
            }
        }
        if !needs.is_empty() {
            self.set.settle(&mut needs);
            return Ok(Folded::Needs(needs));
        }
        for commit in parked.iter().filter(|parked| parked.first) {
            tracing::error!(
                view.name = V::NAME,
                aggregate.name = commit.parked.aggregate.0,
                aggregate.id = commit.parked.aggregate.1,
                event.position = commit.parked.position,
                error = commit.parked.reason,
                "parked an aggregate"
            );
        }
        let (documents, parts) = self.set.changes()?;
        Ok(Folded::Changes(Changes {
            documents,
            parts,
            parked: parked.into_iter().map(|parked| parked.parked).collect(),
            skipped: None,
            retried: self
                .retrying
                .as_ref()
                .map(|(aggregate, _)| aggregate.clone()),
        }))
    }

    /// Applies one commit, or sets it aside.
    fn commit(
        &mut self,
        commit: &Commit,
        from_event: usize,
        needs: &mut Needs,
    ) -> Option<SetAside> {
        if self.excluded.contains(&commit.position) {
            return None;
        }
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        let parked = |from_event, reason, documents| Parked {
            aggregate: aggregate.clone(),
            position: commit.position,
            from_event,
            reason,
            documents,
            at: None,
        };
        let retrying = self
            .retrying
            .as_ref()
            .is_some_and(|(key, _)| *key == aggregate);
        if self.parking.contains(&aggregate) || (self.parked.contains(&aggregate) && !retrying) {
            let documents = self.concerned(commit, from_event, needs);
            let reason = "an earlier event of the aggregate is parked".to_owned();
            return Some(SetAside {
                parked: parked(from_event, reason, documents),
                first: false,
            });
        }
        let failure = match &commit.events {
            Err(_) if self.skipped.contains(&(commit.position, 0)) => None,
            Err(reason) => Some((0, reason.clone())),
            Ok(events) => events
                .iter()
                .enumerate()
                .skip(from_event)
                .find_map(|(index, event)| {
                    if self.skipped.contains(&(commit.position, index)) {
                        return None;
                    }
                    match self.event(event, needs) {
                        Ok(()) => None,
                        // A pass that misses something proves nothing.
                        Err(Failure::Unmet) => None,
                        Err(Failure::Poison(_)) if !needs.is_empty() => None,
                        Err(Failure::Poison(reason)) => Some((index, reason)),
                    }
                }),
        };
        let (from_event, reason) = failure?;
        let documents = self.concerned(commit, from_event, needs);
        let parked = parked(from_event, reason, documents);
        self.parking.insert(aggregate);
        Some(SetAside {
            parked,
            first: true,
        })
    }

    /// The documents that a commit which is set aside would have changed, as far as can be told: those
    /// that its events are routed to, or if none is, those that the events before it are.
    fn concerned(&self, commit: &Commit, from_event: usize, needs: &mut Needs) -> Vec<String> {
        let routed = |events: &[Recorded], needs: &mut Needs| {
            let mut ids = BTreeSet::new();
            for event in events {
                // What cannot be routed is of no help here; why it is parked is noted elsewhere.
                if let Ok(found) = self.route(event, needs) {
                    ids.extend(found);
                }
            }
            ids.into_iter().collect::<Vec<_>>()
        };
        let events = commit.events.as_deref().unwrap_or_default();
        let ids = routed(events.get(from_event..).unwrap_or_default(), needs);
        if !ids.is_empty() {
            return ids;
        }
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        let history = self.histories.get(&aggregate);
        routed(history.map_or(&[], Vec::as_slice), needs)
    }

    /// Applies one event, entirely or not at all.
    fn event(&mut self, event: &Recorded, needs: &mut Needs) -> Result<(), Failure> {
        let undo = self.remember(event, needs)?;
        let applied = self.route(event, needs).and_then(|ids| {
            let mut changes = Vec::with_capacity(ids.len());
            let mut unmet = false;
            for id in ids {
                match self.document(id, event, needs) {
                    Ok(Some(change)) => changes.push(change),
                    Ok(None) => {}
                    Err(Failure::Unmet) => unmet = true,
                    Err(poison) => return Err(poison),
                }
            }
            if unmet {
                Err(Failure::Unmet)
            } else {
                Ok(changes)
            }
        });
        match applied {
            Ok(changes) => {
                let position = self.retrying.as_ref().map_or(event.position, |(_, at)| *at);
                for (id, document) in changes {
                    self.set.put(id, document, position);
                }
                Ok(())
            }
            // What is remembered stays: the pass is void in any case, and the events after this one
            // ask for more when they know it.
            Err(Failure::Unmet) => Err(Failure::Unmet),
            Err(poison) => {
                if let Some(part) = undo {
                    self.set.restore_part(event, part);
                }
                Err(poison)
            }
        }
    }

    /// Updates the part of the event's own aggregate; returns what it was if it was changed.
    fn remember(
        &mut self,
        event: &Recorded,
        needs: &mut Needs,
    ) -> Result<Option<Option<V::Part>>, Failure> {
        if TypeId::of::<V::Part>() == TypeId::of::<()>() {
            return Ok(None);
        }
        if !self.set.parts().knows(&event.aggregate, &event.id) {
            needs
                .parts
                .insert((event.aggregate.clone(), event.id.clone()));
            return Ok(None);
        }
        let part = self.set.parts().get(&event.aggregate, &event.id).cloned();
        let before = part.clone();
        let part = match guard(|| V::remember(part, event))? {
            Change::Keep => return Ok(None),
            Change::Put(part) => Some(part),
            Change::Delete => None,
        };
        self.set.put_part(event, part);
        Ok(Some(before))
    }

    /// The ids of the documents that the event touches, each once.
    fn route(&self, event: &Recorded, needs: &mut Needs) -> Result<Vec<String>, Failure> {
        let parts = self.set.parts();
        let route = guard_with_parts(parts, needs, || V::route(event, parts))?;
        match route {
            Route::Nothing => Ok(Vec::new()),
            Route::Ids(ids) => {
                let mut seen = HashSet::with_capacity(ids.len());
                let ids: Vec<_> = ids
                    .into_iter()
                    .filter(|id| seen.insert(id.clone()))
                    .collect();
                match ids.iter().find(|id| Id::document(id.as_str()).is_err()) {
                    Some(id) => Err(Failure::Poison(format!("{id:?} cannot be a document's id"))),
                    None => Ok(ids),
                }
            }
            Route::Where(fields) => match self.set.matches(fields) {
                Ok(ids) => Ok(ids),
                Err(Unmet::Needed(route)) => {
                    needs.routes.insert(route);
                    Err(Failure::Unmet)
                }
                Err(Unmet::Undeclared(fields)) => Err(Failure::Poison(format!(
                    "the view does not declare a route by {fields:?}"
                ))),
            },
        }
    }

    /// What the event makes of one document; `None` when it stays.
    #[allow(clippy::type_complexity)]
    fn document(
        &self,
        id: String,
        event: &Recorded,
        needs: &mut Needs,
    ) -> Result<Option<(String, Option<V::Document>)>, Failure> {
        let Some(document) = self.set.document(&id) else {
            needs.documents.insert(id);
            return Err(Failure::Unmet);
        };
        let document = document.cloned();
        let parts = self.set.parts();
        let change = guard_with_parts(parts, needs, || V::apply(&id, document, event, parts))?;
        Ok(match change {
            Change::Keep => None,
            Change::Put(document) => Some((id, Some(document))),
            Change::Delete => Some((id, None)),
        })
    }
}

/// Why an event was not applied.
enum Failure {
    /// Something is not known yet.
    Unmet,
    /// The view cannot apply it.
    Poison(String),
}

/// Calls into the view, which may panic: that is one more way to refuse an event.
fn guard<T>(call: impl FnOnce() -> Result<T, ApplyError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| Failure::Poison(error.to_string())),
        Err(panic) => {
            let message = panic
                .downcast_ref::<&str>()
                .map(|message| (*message).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(Failure::Poison(format!("the view panicked: {message}")))
        }
    }
}

/// As [`guard`]; the answer counts only if no part was missing.
fn guard_with_parts<P, T>(
    parts: &Parts<P>,
    needs: &mut Needs,
    call: impl FnOnce() -> Result<T, ApplyError>,
) -> Result<T, Failure> {
    let result = guard(call);
    let missing = parts.take_missing();
    if missing.is_empty() {
        return result;
    }
    needs.parts.extend(missing);
    Err(Failure::Unmet)
}
