//! The sorted lists beside an embedded store: which documents are on a page, without asking the store.
//!
//! It is derived, kept in memory, and bounded. It is made for what is served, when a list of that is asked for
//! first, from what is stored; and from then on each transaction of a projector is noted here after the store
//! has it and before any reader hears of it. So it has what is stored and nothing else. What may not be so any
//! more (a transaction of which it is not known if it was written, or one that does not follow on the last one) is
//! thrown away and made anew. Until then, and where it has no room, lists are read from the store.
//!
//! It knows no documents, but of each the fingerprint of what is served: a reader who finds a document of another
//! one, in the store or in memory, looks here again.

mod generation;
mod keys;
mod question;
mod sorted;
mod transaction;

pub(crate) use transaction::ListTransaction;

use super::{
    exchange::DocumentChange, parameters::ListQuery, schema::ViewTables, store::WeakStore,
};
use generation::{ListIndex, Phase};
use question::Question;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, atomic::AtomicUsize},
};
use tokio::runtime::Handle;

/// The number of bytes that the sorted lists of all views take at most unless set.
pub const DEFAULT_LIST_INDEX: usize = 256 << 20;

/// The documents of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Walked {
    /// In their order, and one more if there is one.
    pub(crate) hits: Vec<Hit>,
    /// The number that were looked at for them.
    pub(crate) looks: usize,
    /// The number on all pages, where that was asked for.
    pub(crate) count: Option<u64>,
}

/// A document of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) id: String,
    /// The fingerprint of the document as it is served.
    pub(crate) fingerprint: u64,
}

/// The sorted lists of a store's views, of one generation each.
pub(crate) struct ListIndexes {
    room: Arc<Room>,
    runtime: Handle,
    /// By the name of the documents' table.
    known: RwLock<HashMap<String, Arc<ListIndex>>>,
    /// Held while what is served changes.
    opening: Mutex<()>,
}

/// The bytes that they may take, and those that they take.
struct Room {
    most: usize,
    taken: AtomicUsize,
}

impl ListIndexes {
    /// Those that take so many bytes at most.
    pub(crate) fn new(most: usize, runtime: Handle) -> Self {
        Self {
            room: Arc::new(Room {
                most,
                taken: AtomicUsize::new(0),
            }),
            runtime,
            known: RwLock::default(),
            opening: Mutex::default(),
        }
    }

    /// Returns the documents of a page, if that is known here. What is asked for first is prepared from then on;
    /// `store` is what it is read from.
    pub(crate) fn find(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
        store: impl FnOnce() -> WeakStore,
    ) -> Option<Walked> {
        if !tables.indexed {
            return None;
        }
        let index = self.of(tables);
        {
            let state = index.read();
            match state.phase {
                Phase::Ready => return Question::of(&state.keys, query)?.walk(&state.keys),
                Phase::Closed => {}
                _ => return None,
            }
        }
        self.open(&index, store());
        None
    }

    /// A transaction is about to be written. It is in doubt until it is said what has become of it.
    pub(crate) fn begin(&self, tables: &ViewTables, changes: &[DocumentChange]) -> ListTransaction {
        ListTransaction::begin(self.of(tables), changes)
    }

    /// The number of a generation's last transaction has moved on without a change.
    pub(crate) fn turn(&self, tables: &ViewTables) {
        let index = self.of(tables);
        if let Some(revision) = &mut index.write().revision {
            *revision += 1;
        }
    }

    /// Forgets documents that are removed.
    pub(crate) fn remove(&self, tables: &ViewTables) {
        let known = self.known.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = known.remove(tables.documents.as_str()) {
            index.turn_to(Phase::Closed);
        }
    }

    /// Returns whether lists of these documents are known here.
    #[cfg(test)]
    pub(crate) fn is_ready(&self, tables: &ViewTables) -> bool {
        self.of(tables).read().phase == Phase::Ready
    }

    /// Returns whether all documents are read.
    #[cfg(test)]
    pub(crate) fn is_filled(&self, tables: &ViewTables) -> bool {
        let phase = self.of(tables).read().phase;
        matches!(phase, Phase::Filled | Phase::Ready)
    }

    /// Returns whether there is no room for lists of these documents.
    #[cfg(test)]
    pub(crate) fn is_full(&self, tables: &ViewTables) -> bool {
        self.of(tables).read().phase == Phase::Full
    }

    /// The number of bytes that all take.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.room.taken.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Prepares it, and closes those of other generations of the view: they are not served any more.
    fn open(&self, index: &Arc<ListIndex>, store: WeakStore) {
        let _opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        let view = index.tables.view;
        let others: Vec<_> = self.known().values().cloned().collect();
        for other in others {
            if other.tables.view == view && !Arc::ptr_eq(&other, index) {
                other.turn_to(Phase::Closed);
            }
        }
        if let Some(opened) = index.open() {
            self.runtime.spawn(Arc::clone(index).keep(opened, store));
        }
    }

    fn of(&self, tables: &ViewTables) -> Arc<ListIndex> {
        let name = tables.documents.as_str();
        if let Some(index) = self.known().get(name) {
            return Arc::clone(index);
        }
        let known = self.known.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let index = known
            .entry(name.to_owned())
            .or_insert_with(|| ListIndex::new(tables, &self.room));
        Arc::clone(index)
    }

    fn known(&self) -> RwLockReadGuard<'_, HashMap<String, Arc<ListIndex>>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ListIndexes {
    fn drop(&mut self) {
        for index in self.known().values() {
            index.turn_to(Phase::Closed);
        }
    }
}
