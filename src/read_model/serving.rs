//! The source that a view is served from: the tables of its live generation, which edition that is, and which of its
//! documents are behind because of something parked.
//!
//! Shared, beside the watermark, by who moves it and who reads. Several look in the store what is live,
//! and a look takes a while: one that was overtaken by another changes nothing.

use super::{
    announcement::BehindChange,
    generation::{Edition, Generation},
    schema::ViewTables,
    store::{StoreError, fence::Fence},
};
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

/// The news for readers of what is parked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Behind {
    /// The number of aggregates that are parked.
    pub(crate) aggregates: usize,
    /// True if there is one of which it cannot be told which documents are behind.
    pub(crate) vague: bool,
    /// The documents that are behind.
    pub(crate) documents: HashSet<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Serving {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    live: Option<Arc<ViewTables>>,
    /// The edition that is not served any more, as its documents are of another log.
    lost: Option<Edition>,
    seen: Seen,
    parked: Behind,
    stands_still: Option<Arc<str>>,
    parked_at: u64,
}

impl State {
    fn tables(&self) -> Result<Arc<ViewTables>, StoreError> {
        match (&self.live, &self.lost) {
            (Some(live), _) => Ok(Arc::clone(live)),
            (None, Some(_)) => Err(StoreError::OtherLog),
            (None, None) => Err(StoreError::Unprepared),
        }
    }
}

/// Knowledge of what is served, at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// The edition of the documents. Whoever remembers something of a view by its position (the event
    /// id of a live stream, a cursor) remembers the edition with it: under another one, the same
    /// position is of other documents.
    pub(crate) edition: Edition,
    /// The revision of the view's generations that it is live by.
    pub(crate) generations: u64,
    /// The highest revision of its checkpoint that was heard of.
    pub(crate) revision: u64,
    /// The number of times that what is served has been another.
    turns: u64,
}

impl Seen {
    /// Returns what the store told.
    pub(crate) fn of(edition: Edition, generations: u64, revision: u64) -> Self {
        Self {
            edition,
            generations,
            revision,
            turns: 0,
        }
    }
}

/// The changes that a look in the store has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Nothing: another look was faster.
    Overtaken,
    /// The same documents are served as before.
    Same,
    /// Other documents are served.
    Other,
}

impl Serving {
    /// The tables to read; `None` before any is known.
    pub(crate) fn live(&self) -> Option<Arc<ViewTables>> {
        self.read(|state| state.live.clone())
    }

    /// The tables to read, or why there are none.
    pub(crate) fn tables(&self) -> Result<Arc<ViewTables>, StoreError> {
        self.read(State::tables)
    }

    /// As [`Serving::tables`], with what is known of what they hold.
    pub(crate) fn fenced(&self) -> Result<(Arc<ViewTables>, Fence), StoreError> {
        self.read(|state| {
            let fence = Fence {
                edition: state.seen.edition.clone(),
                revision: state.seen.revision,
            };
            Ok((state.tables()?, fence))
        })
    }

    /// Returns whether nothing is served until the view has been filled from the log that there is now.
    pub(crate) fn is_lost(&self) -> bool {
        self.read(|state| state.lost.is_some())
    }

    /// Serves nothing any more, as this edition is of another log; returns whether that is news.
    pub(crate) fn lose(&self, edition: &Edition) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let other = state.live.is_some() && state.seen.edition != *edition;
        if other || state.lost.as_ref() == Some(edition) {
            return false;
        }
        state.live = None;
        state.lost = Some(edition.clone());
        state.seen.turns += 1;
        true
    }

    /// Knows nothing any more.
    pub(crate) fn forget(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let turns = state.seen.turns + 1;
        *state = State::default();
        state.seen.turns = turns;
    }

    /// This edition is of the log that there is now.
    pub(crate) fn is_found(&self, edition: &Edition) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.lost.as_ref() == Some(edition) {
            state.lost = None;
            state.seen.turns += 1;
        }
    }

    /// Returns what is known now. To be asked for before the store is: see [`Serving::turn`].
    pub(crate) fn seen(&self) -> Seen {
        self.read(|state| state.seen.clone())
    }

    /// The edition of what is served. See [`Seen::edition`].
    pub(crate) fn edition(&self) -> Edition {
        self.read(|state| state.seen.edition.clone())
    }

    /// Reads from these tables from now on, of which the store has told `found`, unless that was asked
    /// before somebody else has learnt something newer than `before`.
    pub(crate) fn turn(&self, before: &Seen, tables: ViewTables, found: Seen) -> Turned {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.seen.turns != before.turns || state.lost.as_ref() == Some(&found.edition) {
            return Turned::Overtaken;
        }
        state.lost = None;
        let same = state.seen.edition == found.edition;
        let same_tables = state
            .live
            .as_ref()
            .is_some_and(|live| live.documents == tables.documents);
        if !same_tables || found.revision < state.seen.revision {
            state.parked_at = 0;
        }
        if !same_tables {
            state.live = Some(Arc::new(tables));
        }
        state.seen = Seen {
            turns: state.seen.turns + 1,
            ..found
        };
        match same && same_tables {
            true => Turned::Same,
            false => Turned::Other,
        }
    }

    /// Takes note of a transaction of this generation, if it is the one that is served; returns whether
    /// it is another edition now.
    pub(crate) fn wrote(&self, generation: Generation, edition: &Edition, revision: u64) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let live = state.live.as_ref();
        if live.is_none_or(|live| live.generation != generation) {
            return false;
        }
        state.seen.revision = state.seen.revision.max(revision);
        let other = state.seen.edition != *edition;
        if other {
            state.seen.edition.clone_from(edition);
            state.seen.turns += 1;
        }
        other
    }

    /// Takes note of the revision of a checkpoint of what is served.
    pub(crate) fn heard_of(&self, revision: u64) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.seen.revision = state.seen.revision.max(revision);
    }

    /// The reason why nobody keeps up to date what is served, if so.
    pub(crate) fn stands_still_because(&self) -> Option<Arc<str>> {
        self.read(|state| state.stands_still.clone())
    }

    /// Notes whether, and why, nobody keeps up to date what is served.
    pub(crate) fn stand_still(&self, because: Option<Arc<str>>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.stands_still = because;
    }

    /// Returns whether a document is behind because of something parked.
    pub(crate) fn is_parked(&self, id: &str) -> bool {
        self.read(|state| state.parked.documents.contains(id))
    }

    /// Returns whether anything is parked: a list may be another one without it.
    pub(crate) fn has_parked(&self) -> bool {
        self.read(|state| state.parked.aggregates > 0)
    }

    /// The number of the transaction that the parked documents are of.
    pub(crate) fn parked_at(&self) -> u64 {
        self.read(|state| state.parked_at)
    }

    /// Returns whether the document of this id, which is not there, may be missing because of something parked.
    pub(crate) fn may_miss(&self, id: &str) -> bool {
        self.read(|state| state.parked.vague || state.parked.documents.contains(id))
    }

    /// Knowledge of what is parked as of the transaction `at`. What is known of a later one stays.
    pub(crate) fn park(&self, at: u64, parked: Behind) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if at >= state.parked_at {
            state.parked = parked;
            state.parked_at = at;
        }
    }

    /// Takes over what the transaction `at` has changed of what is parked; returns whether that could be:
    /// what is known must be as of the one that changed it before, or as of one since.
    pub(crate) fn park_change(&self, at: u64, change: &BehindChange) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if change.from.is_none_or(|from| state.parked_at < from) || at <= state.parked_at {
            return false;
        }
        state.parked.aggregates = change.aggregates;
        state.parked.vague = change.vague;
        for document in &change.removed {
            state.parked.documents.remove(document);
        }
        let added = change.added.iter().cloned();
        state.parked.documents.extend(added);
        state.parked_at = at;
        true
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}
