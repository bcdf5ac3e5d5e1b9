//! Folds a batch of commits into documents, in stream order. No I/O.
//!
//! A batch is applied on a [working set](super::working_set). What the working set does not hold is
//! noted and asked for; once it has been supplied the batch is applied again from its beginning, so
//! that only a pass in which nothing was missing counts. A pass that is missing something goes on to
//! the end all the same, to ask for as much as possible at once.
//!
//! A transaction has [`Limits`]. What does not fit is left for the next one: commits, then events of one
//! commit, then documents of one event, in the order of their ids.

mod commit;
mod concerned;
mod event;
mod limits;
mod poison;
mod targets;

pub use limits::{EventPlace, Limits, Reach};

use super::{fold_error::FoldError, sample::Sample, working_set::WorkingSet};
use crate::{
    event_log::reader::Commit,
    read_model::exchange::{
        Changes, Found, Needs, Parked, RouteKey, Skipped, SkippedPlace, TriedAgain, Within,
    },
    recorded::Recorded,
    view::{PartKey, View},
};
use commit::Outcome;
use limits::Span;
use std::collections::{BTreeSet, HashMap, HashSet};

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

    /// Sets the most that one transaction takes.
    fn limit(&mut self, limits: Limits);

    /// Returns how many documents of one route are to be read at once, at the most.
    fn rows(&self) -> usize;

    /// Returns what the next batch will need first, if the last one left an event of many documents in the middle:
    /// nothing that is written meanwhile changes it.
    fn next_page(&self) -> Option<Needs>;

    /// Sets an event aside when it comes next, because it cannot be written.
    fn refuse(&mut self, place: &Within, reason: String);

    /// Applies as much of a batch as one transaction takes: commits in stream order, all after the
    /// checkpoint, the first of them from `within` on. The same batch is passed again after each
    /// [`Folded::Needs`], when what it asks for was supplied.
    ///
    /// # Errors
    ///
    /// Returns [`FoldError`] when a document or a part does not serialise, a defect of the view.
    fn apply(&mut self, commits: &[Commit], within: Option<&Within>) -> Result<Folded, FoldError>;

    /// Applies again, in stream order, the next of what is parked of one aggregate, each commit from the
    /// place beside it on. What does not fit into the transaction stays parked. What fails again is parked again. Otherwise as [`Fold::apply`].
    ///
    /// # Errors
    ///
    /// As [`Fold::apply`].
    fn retry(
        &mut self,
        again: &Again,
        commits: &[(EventPlace, Commit)],
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

    /// Returns how many aggregates are parked.
    fn parked(&self) -> usize;
}

/// A try of what is parked of one aggregate.
#[derive(Debug, Clone)]
pub struct Again {
    /// Which of it.
    pub tried: TriedAgain,
    /// The position that the changed documents get, since they may have gone on without it.
    pub position: u64,
    /// True if every event that still cannot be applied is left out from now on.
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

/// The result of a batch.
#[derive(Debug)]
pub enum Folded {
    /// This must be supplied first; none at all when what was missing is known to be nowhere.
    Needs(Needs),
    /// It is applied this far, and this is to be written.
    Changes(Changes, Reach),
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
    /// The place where this batch withdraws personal data last.
    erases: Option<u64>,
    /// The positions of the commits that are passed over.
    excluded: HashSet<u64>,
    /// The commits that are tried again.
    retrying: Option<Again>,
    /// Events before the parked ones of aggregates whose parked commits cannot be understood.
    histories: HashMap<PartKey, Vec<Recorded>>,
    /// As what it folds, if it only folds to compare.
    rehearsal: Option<Rehearsal>,
    limits: Limits,
    /// The number of rows a transaction takes now: fewer than it may where documents are large.
    rows: usize,
    /// True if this pass has had a page of one event's many documents.
    paged: bool,
    /// The events that cannot be written, and why.
    refused: HashMap<(u64, EventPlace), String>,
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
            limits: Limits::USUAL,
            rows: Limits::USUAL.rows,
            paged: false,
            refused: HashMap::new(),
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
            ..self.cleared()
        };
        for aggregate in &parked {
            self.set.watch(aggregate.clone());
        }
        self.parked = parked;
    }

    fn begin_empty(&mut self) {
        *self = self.cleared();
        self.set.begin_empty();
    }

    fn limit(&mut self, limits: Limits) {
        self.limits = limits;
        self.rows = self.rows.min(limits.rows);
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn next_page(&self) -> Option<Needs> {
        Some(Needs {
            page: Some(self.set.next_page()?),
            ..Needs::default()
        })
    }

    fn refuse(&mut self, place: &Within, reason: String) {
        let event = (place.event, place.after.clone());
        self.refused.insert((place.position, event), reason);
    }

    fn apply(&mut self, commits: &[Commit], within: Option<&Within>) -> Result<Folded, FoldError> {
        self.retrying = None;
        let mut spans: Vec<_> = commits.iter().map(Span::whole).collect();
        if let (Some(first), Some(within)) = (spans.first_mut(), within) {
            *first = Span::rest(first.commit, within);
        }
        self.pass(&spans)
    }

    fn retry(
        &mut self,
        again: &Again,
        commits: &[(EventPlace, Commit)],
    ) -> Result<Folded, FoldError> {
        self.retrying = Some(again.clone());
        let spans = commits.iter().map(|((from, after), commit)| Span {
            from: *from,
            after: after.as_deref(),
            ..Span::whole(commit)
        });
        self.pass(&spans.collect::<Vec<_>>())
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
        self.refused.clear();
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

/// The result of a pass.
enum Passed {
    Folded(Box<Folded>),
    /// Only this many commits are to be applied.
    Shorter(usize),
    /// It is to be repeated with fewer rows.
    Narrower,
}

impl<V: View> ViewFold<V> {
    /// A fold that knows nothing, of the same limits.
    fn cleared(&self) -> Self {
        Self {
            limits: self.limits,
            rows: self.rows,
            refused: self.refused.clone(),
            ..Self::default()
        }
    }

    /// Applies as much as fits, from the first commit on.
    fn pass(&mut self, spans: &[Span<'_>]) -> Result<Folded, FoldError> {
        let mut some = spans;
        loop {
            match self.try_pass(some, spans.len())? {
                Passed::Folded(folded) => return Ok(*folded),
                Passed::Shorter(commits) => some = &some[..commits],
                Passed::Narrower => {}
            }
        }
    }

    /// Forgets what the last pass has come to.
    fn rewind(&mut self) {
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
        self.paged = false;
    }

    /// Applies some of `all` commits.
    fn try_pass(&mut self, spans: &[Span<'_>], all: usize) -> Result<Passed, FoldError> {
        let mut needs = Needs::default();
        let mut parked = Vec::new();
        let mut reach = Reach {
            commits: spans.len(),
            within: None,
        };
        let mut unmet = None;
        self.rewind();
        for (index, span) in spans.iter().enumerate() {
            let full = self.limits.one_event || self.set.rows() + parked.len() >= self.rows;
            if index > 0 && full {
                reach.commits = index;
                break;
            }
            match self.commit(span, &mut needs) {
                Outcome::Done => {}
                Outcome::Aside(set_aside) => parked.push(set_aside),
                Outcome::Cut(place) => {
                    reach.commits = index;
                    // A commit is only left in the middle where it does not fit by itself.
                    if !span.begins_at(&place) {
                        if index > 0 && needs.is_empty() {
                            return Ok(Passed::Shorter(index));
                        }
                        reach.within = Some(span.within(place));
                    }
                    break;
                }
                Outcome::Waits => break,
            }
            if !needs.is_empty() {
                unmet.get_or_insert(index);
                if needs.len() >= self.rows {
                    break;
                }
            }
        }
        if !needs.is_empty() {
            return Ok(match unmet {
                // There is enough in memory: what is met of it first.
                Some(met) if met > 0 && self.set.read_bytes() > self.limits.read_bytes => {
                    Passed::Shorter(met)
                }
                _ => {
                    self.set.settle(&mut needs);
                    Passed::Folded(Box::new(Folded::Needs(needs)))
                }
            });
        }
        let written = self.set.changes()?;
        if !self.fits(written.bytes) {
            return Ok(Passed::Narrower);
        }
        if self.retrying.is_some() && reach.commits < all {
            parked.extend(self.leave(spans, &reach));
        }
        let changes = Changes {
            documents: written.documents,
            parts: written.parts,
            parked,
            behind: self.behind.iter().cloned().collect(),
            skipped: self.skipping.clone(),
            retried: self.retrying.as_ref().map(|again| again.tried.clone()),
            erases: self.erases,
            in_place: false,
        };
        let folded = Folded::Changes(changes, reach);
        Ok(Passed::Folded(Box::new(folded)))
    }

    /// Takes down that a try has come no further; returns what stays parked of the commit that it has come
    /// into.
    fn leave(&mut self, spans: &[Span<'_>], reach: &Reach) -> Option<Parked> {
        let tried = &mut self.retrying.as_mut()?.tried;
        let within = reach.within.as_ref();
        let done = reach
            .commits
            .checked_sub(1)
            .and_then(|last| spans.get(last));
        let done = done.map(|span| span.commit.position);
        tried.through = within.map(|within| within.position).or(done)?;
        tried.last = false;
        let within = within?;
        Some(Parked {
            aggregate: tried.aggregate.clone(),
            position: within.position,
            from_event: within.event,
            after: within.after.clone(),
            reason: "it is being tried again".to_owned(),
            documents: Vec::new(),
            first: true,
            unknown: true,
            vague: true,
            at: None,
        })
    }

    /// Returns whether a transaction of this size is within the limits. If not, the next has fewer rows.
    fn fits(&mut self, bytes: usize) -> bool {
        let limit = self.limits.bytes;
        if bytes > limit && self.rows > 1 {
            let rows = self.set.rows().min(self.rows);
            self.rows = (rows * limit / bytes).clamp(1, self.rows - 1);
            return false;
        }
        if bytes < limit / 2 {
            self.rows = self.rows.saturating_mul(2).min(self.limits.rows);
        }
        true
    }
}
