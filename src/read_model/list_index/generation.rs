//! The sorted lists of one generation: filled from the store, told of what changes, and given up or made anew.

use super::{
    Room,
    keys::{DocumentKeys, KeyTable},
};
use crate::read_model::{
    ServedDocument,
    schema::{FieldPath, ViewTables},
    store::{StoreError, WeakStore},
};
use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// The number of documents that are read from the store at once.
const PAGE: usize = 250;
/// The size of an id that is told while documents are read, about.
const TOLD: usize = 96;
/// The pause before one that was thrown away is made anew, the longer the more often that happens.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(30),
];
/// One that was right for so long begins with the first pause again.
const WELL: Duration = Duration::from_secs(60);

/// The sorted lists of one generation.
pub(super) struct ListIndex {
    pub(super) tables: ViewTables,
    /// The fields whose values are kept.
    fields: Vec<FieldPath>,
    room: Arc<Room>,
    state: RwLock<State>,
    /// Told when the phase is another.
    turned: Notify,
}

pub(super) struct State {
    pub(super) phase: Phase,
    /// The number of times that it was opened.
    opened: u64,
    pub(super) keys: KeyTable,
    /// The bytes that the others are told that it takes.
    taken: usize,
    /// The documents that have changed since they began to be read from the store, while they are.
    told: HashSet<String>,
    /// The number of the last transaction that was noted.
    pub(super) revision: Option<u64>,
    /// The number of transactions of which it is not known what became of them.
    pub(super) under_way: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody asks for it.
    Closed,
    /// The documents are being read from the store.
    Filling,
    /// They are read, but what a transaction that is under way has changed may be there or not.
    Filled,
    /// It has all documents as they are stored.
    Ready,
    /// It may lack something: it is to be filled anew.
    Doubtful,
    /// There is no room for it.
    Full,
}

/// A change of a document, as far as it is kept.
pub(super) struct KeyChange {
    pub(super) id: String,
    pub(super) now: Now,
}

/// A document as it is now.
pub(super) enum Now {
    Gone,
    Keys(DocumentKeys),
    /// Its compared values are too long to be kept.
    TooLong,
}

impl ListIndex {
    pub(super) fn new(tables: &ViewTables, room: &Arc<Room>) -> Arc<Self> {
        Arc::new(Self {
            state: RwLock::new(State {
                phase: Phase::Closed,
                opened: 0,
                keys: KeyTable::new(tables),
                taken: 0,
                told: HashSet::new(),
                revision: None,
                under_way: 0,
            }),
            tables: tables.clone(),
            fields: KeyTable::fields_of(tables),
            room: Arc::clone(room),
            turned: Notify::new(),
        })
    }

    /// Begins to have it kept; returns the number of times that it was opened, unless somebody else has.
    pub(super) fn open(&self) -> Option<u64> {
        let mut state = self.write();
        if state.phase != Phase::Closed {
            return None;
        }
        state.phase = Phase::Doubtful;
        state.opened += 1;
        Some(state.opened)
    }

    /// Has it filled, and filled anew whenever it is in doubt, until it is closed.
    pub(super) async fn keep(self: Arc<Self>, opened: u64, store: WeakStore) {
        let (mut pauses, mut told) = (PAUSES.iter(), false);
        loop {
            let begun = Instant::now();
            match self.fill(opened, &store).await {
                Ok(()) => self.until_doubtful(opened).await,
                Err(StoreError::Stopped) => return,
                Err(error) if !told => {
                    told = true;
                    tracing::error!(
                        %error,
                        view.name = self.tables.view,
                        "the sorted lists cannot be made; lists are read from the store until they can"
                    );
                }
                Err(_) => {}
            }
            if !self.is_open(opened) {
                return;
            }
            if begun.elapsed() > WELL {
                (pauses, told) = (PAUSES.iter(), false);
            }
            let pause = pauses.next().copied().unwrap_or(PAUSES[PAUSES.len() - 1]);
            tokio::time::sleep(pause).await;
        }
    }

    /// Reads all documents from the store.
    async fn fill(&self, opened: u64, store: &WeakStore) -> Result<(), StoreError> {
        let begun = Instant::now();
        if !self.prepare(opened) {
            return Ok(());
        }
        let mut after = None;
        loop {
            let page = store.upgrade()?;
            let page = page
                .rows_after(&self.tables, after.as_deref(), PAGE)
                .await?;
            let Some(last) = page.last else { break };
            after = Some(last);
            let changes = page.rows.into_iter().map(|(row, _)| {
                let text = row.document.to_string();
                let now = self.now(&row.id, row.position, &row.document, &text);
                KeyChange { id: row.id, now }
            });
            if !self.take(opened, changes.collect()) {
                return Ok(());
            }
        }
        self.filled(opened);
        tracing::debug!(
            view.name = self.tables.view,
            documents = self.read().keys.len(),
            duration_ms = begun.elapsed().as_millis(),
            "the sorted lists were made"
        );
        Ok(())
    }

    /// Begins to fill it. What is told from now on is kept.
    fn prepare(&self, opened: u64) -> bool {
        let mut state = self.write();
        if state.opened != opened || state.phase != Phase::Doubtful {
            return false;
        }
        state.clear(&self.tables);
        state.phase = Phase::Filling;
        true
    }

    /// Takes documents as they were read, but those that have changed since; returns whether it is still being
    /// filled.
    fn take(&self, opened: u64, changes: Vec<KeyChange>) -> bool {
        let mut state = self.write();
        if state.opened != opened || state.phase != Phase::Filling {
            return false;
        }
        for change in changes {
            if !state.told.contains(&change.id) && !state.put(change) {
                return self.give_up(&mut state);
            }
        }
        self.has_room(&mut state)
    }

    fn filled(&self, opened: u64) {
        let mut state = self.write();
        if state.opened == opened && state.phase == Phase::Filling {
            state.phase = Phase::Filled;
            state.told = HashSet::new();
            self.ready(state);
        }
    }

    /// It is ready, unless something is under way of which some was read and some may not have been.
    fn ready(&self, mut state: RwLockWriteGuard<'_, State>) {
        if state.phase == Phase::Filled && state.under_way == 0 {
            state.phase = Phase::Ready;
            drop(state);
            self.tell(true);
        }
    }

    /// Makes sure that it takes no more than it may; returns whether that is so.
    fn has_room(&self, state: &mut State) -> bool {
        let size = state.keys.size() + state.told.len() * TOLD;
        let before = std::mem::replace(&mut state.taken, size);
        let taken = self.room.taken.fetch_add(size, Ordering::AcqRel) + size - before;
        self.room.taken.fetch_sub(before, Ordering::AcqRel);
        metrics::gauge!("headwater_list_index_bytes").set(taken as f64);
        taken <= self.room.most || self.give_up(state)
    }

    /// There is no room for it: lists are read from the store until another generation is served.
    fn give_up(&self, state: &mut State) -> bool {
        tracing::warn!(
            view.name = self.tables.view,
            documents = state.keys.len(),
            bytes.most = self.room.most,
            "the sorted lists have no room in --list-index-mb; lists are read from the store"
        );
        self.leave(state, Phase::Full);
        false
    }

    /// It may lack something.
    fn doubt(&self, state: &mut State) {
        if matches!(state.phase, Phase::Filling | Phase::Filled | Phase::Ready) {
            self.leave(state, Phase::Doubtful);
        }
    }

    pub(super) fn turn_to(&self, phase: Phase) {
        self.leave(&mut self.write(), phase);
    }

    /// Lets go of what it has.
    fn leave(&self, state: &mut State, phase: Phase) {
        state.clear(&self.tables);
        state.phase = phase;
        let own = std::mem::take(&mut state.taken);
        let taken = self.room.taken.fetch_sub(own, Ordering::AcqRel) - own;
        metrics::gauge!("headwater_list_index_bytes").set(taken as f64);
        self.tell(false);
        self.turned.notify_waiters();
    }

    fn tell(&self, ready: bool) {
        let gauge = metrics::gauge!("headwater_list_index_ready", "view" => self.tables.view);
        gauge.set(if ready { 1.0 } else { 0.0 });
    }

    async fn until_doubtful(&self, opened: u64) {
        loop {
            let turned = self.turned.notified();
            {
                let state = self.read();
                if state.opened != opened || !matches!(state.phase, Phase::Filled | Phase::Ready) {
                    return;
                }
            }
            turned.await;
        }
    }

    fn is_open(&self, opened: u64) -> bool {
        let state = self.read();
        state.opened == opened && !matches!(state.phase, Phase::Closed | Phase::Full)
    }

    pub(super) fn now(
        &self,
        id: &str,
        position: u64,
        document: &serde_json::Value,
        text: &str,
    ) -> Now {
        let served = ServedDocument::new(self.tables.view, id, position, text);
        let keys = DocumentKeys::of(&self.fields, served.fingerprint, id, document);
        keys.map_or(Now::TooLong, Now::Keys)
    }

    /// Takes note of what has become of a transaction.
    pub(super) fn end(&self, end: End) {
        let mut state = self.write();
        state.under_way -= 1;
        let is_open = matches!(state.phase, Phase::Filling | Phase::Filled | Phase::Ready);
        match end {
            _ if !is_open => return,
            End::Refused => {}
            End::Written { from, to, changes } if state.follows(from) => {
                state.revision = Some(to);
                for change in changes {
                    if state.phase == Phase::Filling {
                        state.told.insert(change.id.clone());
                    }
                    if !state.put(change) {
                        self.give_up(&mut state);
                        return;
                    }
                }
                if !self.has_room(&mut state) {
                    return;
                }
            }
            End::Written { .. } | End::Unknown => self.doubt(&mut state),
        }
        self.ready(state);
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        if self.state.is_poisoned() {
            drop(self.write());
        }
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(|poisoned| {
            // Whoever panicked may have left it half changed.
            let mut state = poisoned.into_inner();
            self.state.clear_poison();
            self.doubt(&mut state);
            state
        })
    }
}

impl State {
    fn clear(&mut self, tables: &ViewTables) {
        self.keys = KeyTable::new(tables);
        self.told = HashSet::new();
        self.revision = None;
    }

    /// Returns whether a transaction that was fenced on this number follows on the last one that was noted.
    fn follows(&self, from: u64) -> bool {
        self.revision.is_none_or(|last| last == from)
    }

    /// Takes a change over; returns whether that could be.
    fn put(&mut self, change: KeyChange) -> bool {
        match change.now {
            Now::Gone => self.keys.remove(&change.id),
            Now::Keys(keys) => self.keys.put(keys),
            Now::TooLong => return false,
        }
        true
    }
}

/// The end of a transaction.
pub(super) enum End {
    /// It was written: it was fenced on one number, and has another.
    Written {
        from: u64,
        to: u64,
        changes: Vec<KeyChange>,
    },
    /// Nothing was written.
    Refused,
    Unknown,
}
