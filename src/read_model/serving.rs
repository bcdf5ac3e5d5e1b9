//! What a view is served from: the tables of its live generation, and which of its documents are behind
//! because of something parked.
//!
//! Shared, beside the watermark, by who moves it and who reads. The live generation only changes for
//! one of a later revision, so that news which come late change nothing.

use super::schema::ViewTables;
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
};

#[derive(Debug, Clone, Default)]
pub(crate) struct Serving {
    state: Arc<RwLock<State>>,
}

#[derive(Debug, Default)]
struct State {
    revision: u64,
    live: Option<Arc<ViewTables>>,
    parked: Arc<HashSet<String>>,
    parked_at: u64,
}

impl Serving {
    /// The tables to read; `None` before any is known.
    pub(crate) fn live(&self) -> Option<Arc<ViewTables>> {
        self.read(|state| state.live.clone())
    }

    /// The revision of the view's generations that the live one is of.
    pub(crate) fn revision(&self) -> u64 {
        self.read(|state| state.revision)
    }

    /// Reads from these tables from now on, if the revision is a later one; whether they are others.
    pub(crate) fn turn(&self, revision: u64, tables: ViewTables) -> bool {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.live.is_some() && revision <= state.revision {
            return false;
        }
        let other = state
            .live
            .as_ref()
            .is_some_and(|live| live.documents != tables.documents);
        state.revision = revision;
        state.live = Some(Arc::new(tables));
        if other {
            state.parked_at = 0;
        }
        other
    }

    /// Whether a document is behind because of something parked.
    pub(crate) fn is_parked(&self, id: &str) -> bool {
        self.read(|state| state.parked.contains(id))
    }

    /// The number of the transaction that the parked documents are of.
    pub(crate) fn parked_at(&self) -> u64 {
        self.read(|state| state.parked_at)
    }

    /// Which documents are behind as of the transaction `at`.
    pub(crate) fn park(&self, at: u64, documents: HashSet<String>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.parked = Arc::new(documents);
        state.parked_at = at;
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}
