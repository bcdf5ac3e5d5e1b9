//! Folds a batch of commits into documents, in stream order. No I/O.
//!
//! A batch is applied on a [working set](super::working_set). What the working set does not hold is
//! noted and asked for; once it has been supplied the batch is applied again from its beginning, so
//! that only a pass in which nothing was missing counts. A pass that is missing something goes on to
//! the end all the same, to ask for as much as possible at once.

mod poison;

use super::{
    refold::Sample,
    working_set::{Unmet, WorkingSet},
};
use crate::{
    event_log::{reader::Commit, subject::Id},
    read_model::exchange::{
        Changes, Found, Needs, Parked, RouteKey, Skipped, SkippedPlace, TriedAgain,
    },
    recorded::Recorded,
    view::{Change, PartKey, Route, View},
};
use poison::{Failure, Poison, guard, guard_with_parts};
use std::{
    any::TypeId,
    collections::{BTreeSet, HashMap, HashSet},
};

/// Of how many routes of parked commits it is remembered that they were followed.
const TOLD: usize = 100_000;

/// The fold of one view, whichever it is.
pub trait Fold: Send {
    /// Starts over: nothing is known of the store but which aggregates are parked, and which events
    /// are skipped. Nothing is excluded.
    fn reset(&mut self, parked: HashSet<PartKey>, skipped: HashSet<SkippedPlace>);

    /// Starts over on a store that holds nothing of the view: what was not written since is not there,
    /// and is not asked for.
    fn begin_empty(&mut self);

    /// Leaves an event out from now on.
    fn skip(&mut self, place: SkippedPlace);

    /// Passes over the commits at these positions from now on: an operator has excluded them from the log.
    fn exclude(&mut self, positions: &HashSet<u64>);

    /// Folds only to compare from now on: some documents, and without what is set aside.
    fn rehearse(&mut self, rehearsal: Rehearsal);

    /// Applies a batch: commits in stream order, all after the checkpoint. The same batch is passed
    /// again after each [`Folded::Needs`], when what it asks for was supplied.
    ///
    /// # Errors
    ///
    /// Returns [`FoldError`] when a document or a part does not serialise, a defect of the view.
    fn apply(&mut self, commits: &[Commit]) -> Result<Folded, FoldError>;

    /// Applies again, in stream order, the next of what is parked of one aggregate, each commit from the
    /// event at the index beside it on. What fails again is parked again. Otherwise as [`Fold::apply`].
    ///
    /// # Errors
    ///
    /// As [`Fold::apply`].
    fn retry(&mut self, again: &Again, commits: &[(usize, Commit)]) -> Result<Folded, FoldError>;

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

/// A try of what is parked of one aggregate.
#[derive(Debug, Clone)]
pub struct Again {
    /// Which of it.
    pub tried: TriedAgain,
    /// The position that the changed documents get, since they may have gone on without it.
    pub position: u64,
    /// Whether every event that still cannot be applied is left out from now on.
    pub skips: bool,
}

/// A fold beside the one that is served, to compare with.
#[derive(Debug, Clone, Default)]
pub struct Rehearsal {
    /// The documents that are folded.
    pub(super) only: Sample,
    /// The aggregates that are parked, each from the event on at this position and index in its commit.
    pub(super) set_aside: HashMap<PartKey, (u64, usize)>,
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
    /// The events that are left out, and those that this batch adds to them.
    skipped: HashSet<SkippedPlace>,
    skipping: Vec<Skipped>,
    /// The documents that this batch has made with parts of parked aggregates.
    behind: BTreeSet<(PartKey, String)>,
    /// The routes of parked commits that were followed, and those followed in this batch.
    told: HashSet<(PartKey, RouteKey)>,
    telling: HashSet<(PartKey, RouteKey)>,
    /// Where this batch withdraws personal data last.
    erases: Option<u64>,
    /// The positions of the commits that are passed over.
    excluded: HashSet<u64>,
    /// What is tried again.
    retrying: Option<Again>,
    /// What came before the parked events of aggregates whose parked commits cannot be understood.
    histories: HashMap<PartKey, Vec<Recorded>>,
    /// As what it folds, if it only folds to compare.
    rehearsal: Option<Rehearsal>,
}

impl<V: View> Default for ViewFold<V> {
    fn default() -> Self {
        Self {
            set: WorkingSet::default(),
            parked: HashSet::new(),
            parking: HashSet::new(),
            skipped: HashSet::new(),
            skipping: Vec::new(),
            behind: BTreeSet::new(),
            told: HashSet::new(),
            telling: HashSet::new(),
            erases: None,
            excluded: HashSet::new(),
            retrying: None,
            histories: HashMap::new(),
            rehearsal: None,
        }
    }
}

impl<V: View> Fold for ViewFold<V> {
    fn skip(&mut self, place: SkippedPlace) {
        self.skipped.insert(place);
    }

    fn exclude(&mut self, positions: &HashSet<u64>) {
        self.excluded.extend(positions);
    }

    fn rehearse(&mut self, rehearsal: Rehearsal) {
        self.rehearsal = Some(rehearsal);
    }

    fn reset(&mut self, parked: HashSet<PartKey>, skipped: HashSet<SkippedPlace>) {
        *self = Self {
            skipped,
            ..Self::default()
        };
        for aggregate in &parked {
            self.set.watch(aggregate.clone());
        }
        self.parked = parked;
    }

    fn begin_empty(&mut self) {
        *self = Self::default();
        self.set.begin_empty();
    }

    fn apply(&mut self, commits: &[Commit]) -> Result<Folded, FoldError> {
        self.retrying = None;
        self.pass(commits.iter().map(|commit| (0, commit)))
    }

    fn retry(&mut self, again: &Again, commits: &[(usize, Commit)]) -> Result<Folded, FoldError> {
        self.retrying = Some(again.clone());
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
        self.skipped
            .extend(self.skipping.drain(..).map(|skipped| skipped.place));
        if self.told.len() > TOLD {
            self.told.clear();
        }
        self.told.extend(self.telling.drain());
        if let Some(Again { tried, .. }) = self.retrying.take()
            && tried.last
            && !self.parking.contains(&tried.aggregate)
        {
            self.parked.remove(&tried.aggregate);
            self.set.unwatch(&tried.aggregate);
            self.told.retain(|(told, _)| *told != tried.aggregate);
        }
        self.parked.extend(self.parking.drain());
    }

    fn parked(&self) -> usize {
        self.parked.len()
    }
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
        for aggregate in self.parking.drain() {
            if !self.parked.contains(&aggregate) {
                self.set.unwatch(&aggregate);
            }
        }
        self.skipping.clear();
        self.behind.clear();
        self.telling.clear();
        self.erases = None;
        for (from_event, commit) in commits {
            if let Some(set_aside) = self.commit(commit, from_event, &mut needs) {
                parked.push(set_aside);
            }
        }
        if !needs.is_empty() {
            self.set.settle(&mut needs);
            return Ok(Folded::Needs(needs));
        }
        let (documents, parts) = self.set.changes()?;
        Ok(Folded::Changes(Changes {
            documents,
            parts,
            parked,
            behind: self.behind.iter().cloned().collect(),
            skipped: self.skipping.clone(),
            retried: self.retrying.as_ref().map(|again| again.tried.clone()),
            erases: self.erases,
            in_place: false,
        }))
    }

    /// Applies one commit, or sets it aside.
    fn commit(&mut self, commit: &Commit, from_event: usize, needs: &mut Needs) -> Option<Parked> {
        if self.excluded.contains(&commit.position) {
            return None;
        }
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        if self.set_aside_from(&aggregate, commit.position) == 0 {
            return None;
        }
        let retrying = self.retries(&aggregate);
        let waits =
            self.parking.contains(&aggregate) || (self.parked.contains(&aggregate) && !retrying);
        let (from_event, poison) = match waits {
            true => {
                let reason = "an earlier event of the aggregate is parked".to_owned();
                let unknown = false;
                (from_event, Poison { reason, unknown })
            }
            false => self.try_commit(commit, from_event, needs)?,
        };
        let documents = self.concerned(commit, from_event, needs);
        if !waits {
            self.set.watch(aggregate.clone());
            self.parking.insert(aggregate.clone());
        }
        Some(Parked {
            aggregate,
            position: commit.position,
            from_event,
            reason: poison.reason,
            documents,
            first: !waits,
            unknown: poison.unknown,
            vague: false,
            at: None,
        })
    }

    /// Whether this aggregate is the one that is tried again.
    fn retries(&self, aggregate: &PartKey) -> bool {
        let again = self.retrying.as_ref();
        again.is_some_and(|again| again.tried.aggregate == *aggregate)
    }

    /// Applies one commit; returns the index of the event that cannot be, and why.
    fn try_commit(
        &mut self,
        commit: &Commit,
        from_event: usize,
        needs: &mut Needs,
    ) -> Option<(usize, Poison)> {
        if self.skipped.contains(&(commit.position, None)) {
            return None;
        }
        let skips = self.retrying.as_ref().is_some_and(|again| again.skips);
        let skipped = |place| Skipped {
            aggregate: (commit.aggregate.clone(), commit.id.clone()),
            place,
        };
        let events = match &commit.events {
            Ok(events) => events,
            Err(_) if skips => {
                self.skipping.push(skipped((commit.position, None)));
                return None;
            }
            Err(reason) => return Some((0, Poison::unreadable(reason))),
        };
        let key = (commit.aggregate.clone(), commit.id.clone());
        let until = self.set_aside_from(&key, commit.position);
        for (index, event) in events.iter().enumerate().take(until).skip(from_event) {
            let place = (commit.position, Some(index));
            if self.skipped.contains(&place) {
                continue;
            }
            match self.event(event, needs) {
                Ok(()) if V::erases(event) => {
                    let again = self.retrying.as_ref();
                    let position = again.map_or(event.position, |again| again.position);
                    self.erases = self.erases.max(Some(position));
                }
                Ok(()) => {}
                // A pass that misses something proves nothing.
                Err(Failure::Unmet) => {}
                Err(Failure::Poison(_)) if !needs.is_empty() => {}
                Err(Failure::Poison(_)) if skips => self.skipping.push(skipped(place)),
                Err(Failure::Poison(poison)) => return Some((index, poison)),
            }
        }
        None
    }

    /// The index of the first event of a commit that is set aside in the fold to compare with.
    fn set_aside_from(&self, aggregate: &PartKey, position: u64) -> usize {
        let set_aside = self.rehearsal.as_ref().map(|it| &it.set_aside);
        match set_aside.and_then(|set_aside| set_aside.get(aggregate)) {
            Some((from, _)) if *from < position => 0,
            Some((from, event)) if *from == position => *event,
            _ => usize::MAX,
        }
    }

    /// Whether a document is folded at all.
    fn is_wanted(&self, id: &str) -> bool {
        let rehearsal = self.rehearsal.as_ref();
        rehearsal.is_none_or(|rehearsal| rehearsal.only.has(id))
    }

    /// The documents that a commit which is set aside would have changed, as far as can be told: those
    /// that its events are routed to, or if none is, those that the events before it are.
    fn concerned(&mut self, commit: &Commit, from_event: usize, needs: &mut Needs) -> Vec<String> {
        let events = commit.events.as_deref().unwrap_or_default();
        let ids = self.routed(events.get(from_event..).unwrap_or_default(), needs);
        if !ids.is_empty() {
            return ids;
        }
        let aggregate = (commit.aggregate.clone(), commit.id.clone());
        let history = self.histories.remove(&aggregate).unwrap_or_default();
        let ids = self.routed(&history, needs);
        self.histories.insert(aggregate, history);
        ids
    }

    /// The ids of the documents that these events of a parked aggregate are routed to.
    fn routed(&mut self, events: &[Recorded], needs: &mut Needs) -> Vec<String> {
        let mut ids = BTreeSet::new();
        for event in events {
            // What cannot be routed is of no help here; why it is parked is noted elsewhere.
            match self.route(event, needs) {
                // Once is enough: a later document is made with the part of the parked aggregate, and
                // is known to be behind by that.
                Ok(Route::Where(mut fields)) => {
                    fields.sort_unstable_by_key(|(field, _)| *field);
                    let aggregate = (event.aggregate.clone(), event.id.clone());
                    let route = (aggregate, fields.clone());
                    if self.told.contains(&route) {
                        continue;
                    }
                    if let Ok(found) = self.ids(Route::Where(fields), needs) {
                        ids.extend(found);
                        self.telling.insert(route);
                    }
                }
                Ok(route) => ids.extend(self.ids(route, needs).unwrap_or_default()),
                Err(_) => {}
            }
        }
        ids.into_iter().collect()
    }

    /// Applies one event, entirely or not at all.
    fn event(&mut self, event: &Recorded, needs: &mut Needs) -> Result<(), Failure> {
        let undo = self.remember(event, needs)?;
        let routed = self.route(event, needs);
        let routed = routed.and_then(|route| self.ids(route, needs));
        let applied = routed.and_then(|ids| {
            let mut changes = Vec::with_capacity(ids.len());
            let mut unmet = false;
            for id in ids {
                if !self.is_wanted(&id) {
                    continue;
                }
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
                let again = self.retrying.as_ref();
                let position = again.map_or(event.position, |again| again.position);
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

    /// Which documents the event touches.
    fn route(&self, event: &Recorded, needs: &mut Needs) -> Result<Route, Failure> {
        let parts = self.set.parts();
        let (route, _) = guard_with_parts(parts, needs, || V::route(event, parts))?;
        Ok(route)
    }

    /// The ids of these documents, each once.
    fn ids(&self, route: Route, needs: &mut Needs) -> Result<Vec<String>, Failure> {
        match route {
            Route::Nothing => Ok(Vec::new()),
            Route::Ids(ids) => {
                let mut seen = HashSet::with_capacity(ids.len());
                let ids: Vec<_> = ids
                    .into_iter()
                    .filter(|id| seen.insert(id.clone()))
                    .collect();
                match ids.iter().find(|id| Id::document(id.as_str()).is_err()) {
                    Some(id) => Err(Poison::new(format!("{id:?} cannot be a document's id"))),
                    None => Ok(ids),
                }
            }
            Route::Where(fields) => match self.set.matches(fields) {
                Ok(ids) => Ok(ids),
                Err(Unmet::Needed(route)) => {
                    needs.routes.insert(route);
                    Err(Failure::Unmet)
                }
                Err(Unmet::Undeclared(fields)) => Err(Poison::new(format!(
                    "the view does not declare a route by {fields:?}"
                ))),
            },
        }
    }

    /// What the event makes of one document; `None` when it stays.
    #[allow(clippy::type_complexity)]
    fn document(
        &mut self,
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
        let apply = || V::apply(&id, document, event, parts);
        let (change, asked) = guard_with_parts(parts, needs, apply)?;
        let keeps = matches!(change, Change::Keep);
        for aggregate in asked.into_iter().filter(|_| !keeps) {
            if !self.retries(&aggregate) {
                self.behind.insert((aggregate, id.clone()));
            }
        }
        Ok(match change {
            Change::Keep => None,
            Change::Put(document) => Some((id, Some(document))),
            Change::Delete => Some((id, None)),
        })
    }
}
