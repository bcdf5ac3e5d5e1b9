//! The index of texts beside an embedded store: which documents `q` finds, under which filters, in which
//! order, whatever the number of those that match.
//!
//! It is derived, and a cache: what is missing, damaged, of other documents or of another form is made anew
//! from the store, which meanwhile is searched itself. It has what is stored and nothing else: each
//! transaction of a projector is noted here before any reader hears of it, and what the index does not have
//! yet is kept in memory beside it and asked too. With each commit of its own it remembers of which
//! transaction it is, and after a start it is compared with the store if that is another one. A transaction
//! that does not follow on the last one noted, or of which it is not known if it was written, has it compared
//! again.
//!
//! Only this module speaks to `tantivy`. Nothing of it holds a projector up for long: where it cannot be
//! written, or not fast enough, it is given up until it can be compared.

mod entry;
mod files;
mod keeper;
mod pieces;
mod question;
mod recent;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use entry::{Entry, EntryChange};
pub(crate) use question::Hit;

use super::{
    exchange::{Checkpoint, DocumentChange},
    ordering::Place,
    parameters::{ListQuery, MAX_COUNT},
    schema::{FieldPath, ViewTables},
    store::{StoreError, WeakStore},
    visible::Visibility,
};
use files::{Home, Stamp};
use keeper::Keeper;
use question::Question;
use recent::{Moment, Phase, Recent};
use serde_json::Value;
use std::{
    collections::{BTreeMap, HashMap},
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, sync::Notify, time::timeout};

/// The memory of the writer of an index unless set.
pub const DEFAULT_SEARCH_MEMORY: usize = 32 << 20;
/// The least that the library takes.
const LEAST: usize = 16 << 20;
/// The time a projector waits for an index that is behind with its writing.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of times that a search is made of which a document changes before it is read.
const SEARCHES: usize = 3;

/// The result of a search.
#[derive(Debug)]
pub(crate) struct Found {
    /// The documents of the page, and one more if there is one, in their order.
    pub(crate) hits: Vec<Hit>,
    /// The number on all pages, where that was asked for, up to one more than the bound.
    pub(crate) count: Option<u64>,
    /// The number of documents that have each value, by its JSON, for each facet that was asked for; and whether
    /// there are documents that were not looked at.
    pub(crate) facets: Vec<(BTreeMap<String, u64>, bool)>,
}

/// The indexes of a store's views, one for each generation with text search.
pub(crate) struct TextIndexes {
    folder: Option<PathBuf>,
    memory: usize,
    runtime: Handle,
    open: Mutex<HashMap<String, TextIndex>>,
}

/// An index that a thread keeps until this is dropped.
struct TextIndex(Arc<Shared>);

/// State that the keeper of an index and those who ask it share.
struct Shared {
    tables: ViewTables,
    recent: Mutex<Recent>,
    changed: Condvar,
    room: Notify,
    removed: Mutex<bool>,
}

impl TextIndexes {
    /// Those that are kept in a folder, or else in memory.
    pub(crate) fn new(folder: Option<PathBuf>, memory: usize, runtime: Handle) -> Self {
        Self {
            folder,
            memory: memory.max(LEAST),
            runtime,
            open: Mutex::default(),
        }
    }

    /// Keeps an index of these documents from now on, if they are searched.
    pub(crate) fn open(&self, tables: &ViewTables, store: WeakStore) {
        if tables.search.is_empty() || !tables.searchable {
            return;
        }
        let name = tables.documents.as_str();
        let mut open = self.lock();
        if open.contains_key(name) {
            return;
        }
        let shared = Arc::new(Shared {
            tables: tables.clone(),
            recent: Mutex::new(Recent::new()),
            changed: Condvar::new(),
            room: Notify::new(),
            removed: Mutex::new(false),
        });
        let keeper = Keeper {
            shared: Arc::clone(&shared),
            home: self.home(name),
            store,
            runtime: self.runtime.clone(),
            memory: self.memory,
        };
        let thread = std::thread::Builder::new().name("headwater-texts".to_owned());
        match thread.spawn(move || keeper.run()) {
            Ok(_) => {
                open.insert(name.to_owned(), TextIndex(shared));
            }
            Err(error) => {
                tracing::error!(%error, view.name = tables.view, "no thread keeps the index of texts; searches read the store");
            }
        }
    }

    fn home(&self, name: &str) -> Home {
        match &self.folder {
            Some(folder) => Home::Folder(folder.join(name)),
            None => Home::Memory,
        }
    }

    /// Gives up the index of documents that are removed.
    pub(crate) fn remove(&self, tables: &ViewTables) {
        let name = tables.documents.as_str();
        let removed = self.lock().remove(name);
        match removed {
            Some(index) => index.0.remove(),
            None => {
                let _: io::Result<()> = files::remove(&self.home(name));
            }
        }
    }

    /// A transaction is about to be written. It is in doubt until it is said what has become of it.
    pub(crate) fn begin(&self, tables: &ViewTables) -> Option<Transaction> {
        let shared = self.of(tables)?;
        Some(Transaction(Some(shared)))
    }

    /// The number of a generation's last transaction has moved on without a change.
    pub(crate) fn turn(&self, tables: &ViewTables) {
        if let Some(shared) = self.of(tables) {
            shared.recent().turn();
        }
    }

    /// Has what is kept beside the index be written now; whether there is something.
    #[cfg(test)]
    pub(crate) fn is_behind(&self, tables: &ViewTables) -> bool {
        let Some(shared) = self.of(tables) else {
            return false;
        };
        let behind = shared.recent().hurry();
        shared.changed.notify_all();
        behind
    }

    /// Returns whether these documents' index is asked.
    pub(crate) fn is_ready(&self, tables: &ViewTables) -> bool {
        let shared = self.of(tables);
        shared.is_some_and(|shared| shared.recent().phase == Phase::Ready)
    }

    /// Finds what a list asks for; none where the index does not know.
    pub(crate) async fn find(&self, tables: &ViewTables, query: &ListQuery) -> Option<Found> {
        let shared = self.of(tables)?;
        // What is declared may be another since than when the index was opened.
        let tables = &shared.tables;
        let question = Question::of(tables, query)?;
        let facets: Vec<_> = query
            .facets
            .iter()
            .map(|facet| {
                let mut all = query.clone();
                all.after = None;
                // What is visible is no filter that a facet could be without.
                if query.visible != Visibility::Where(facet.field) {
                    all.filters
                        .retain(|(filter, _)| filter.field != facet.field);
                }
                let question = Question::of(tables, &all)?;
                let fields = tables.compared_fields();
                let path = FieldPath::parse(facet.field).ok()?;
                let field = fields.iter().position(|field| *field == path)?;
                Some((question, field))
            })
            .collect::<Option<_>>()?;
        let moment = shared.recent().moment()?;
        let count = query.count;
        let asked = self
            .runtime
            .spawn_blocking(move || moment.find(question, count, facets));
        let error = match asked.await {
            Ok(Ok(found)) => return Some(found),
            Ok(Err(error)) => error,
            // Files that are damaged under it lead anywhere.
            Err(error) if error.is_panic() => IndexError::Damaged,
            Err(_) => return None,
        };
        tracing::error!(%error, view.name = tables.view, "the index of texts cannot be read; it is compared with the store");
        shared.doubt();
        None
    }

    fn of(&self, tables: &ViewTables) -> Option<Arc<Shared>> {
        let open = self.lock();
        open.get(tables.documents.as_str())
            .map(|index| Arc::clone(&index.0))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, TextIndex>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TextIndex {
    fn drop(&mut self) {
        self.0.recent().stopping = true;
        self.0.changed.notify_all();
    }
}

/// A transaction of which it is not known yet if it is written. Dropped as such, it leaves the index in
/// doubt.
pub(crate) struct Transaction(Option<Arc<Shared>>);

impl Transaction {
    /// Returns what the index has of documents that change.
    pub(crate) fn entries(&self, changes: &[DocumentChange]) -> Vec<EntryChange> {
        let entry = |change: &DocumentChange| {
            let (shared, document) = (self.0.as_ref()?, change.document.as_ref()?);
            Entry::of(&shared.tables, &change.id, change.position, document)
        };
        let changes = changes.iter();
        changes
            .map(|change| EntryChange {
                id: change.id.clone(),
                existed: change.exists,
                entry: entry(change),
            })
            .collect()
    }

    /// It was written, with these changes.
    pub(crate) async fn written(mut self, from: u64, next: &Checkpoint, changes: Vec<EntryChange>) {
        let Some(shared) = self.0.take() else { return };
        shared.recent().note(from, stamp(next), changes);
        shared.changed.notify_all();
        let room = async {
            loop {
                let room = shared.room.notified();
                if !shared.recent().is_full() {
                    break;
                }
                room.await;
            }
        };
        if shared.recent().is_full() && timeout(PATIENCE, room).await.is_err() {
            tracing::warn!(
                view.name = shared.tables.view,
                "the index of texts does not keep up, and is compared with the store later"
            );
            shared.doubt();
        }
    }

    /// Nothing was written.
    pub(crate) fn refused(mut self) {
        self.0 = None;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.doubt();
        }
    }
}

impl Shared {
    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The index may lack something.
    fn doubt(&self) {
        self.recent().doubt();
        self.changed.notify_all();
        self.room.notify_waiters();
        self.tell(false);
    }

    fn told_ready(&self) {
        self.tell(true);
    }

    fn tell(&self, ready: bool) {
        let gauge = metrics::gauge!("headwater_search_index_ready", "view" => self.tables.view);
        gauge.set(if ready { 1.0 } else { 0.0 });
    }

    fn has_room(&self) {
        self.room.notify_waiters();
    }

    /// Has the keeper remove the files when it ends.
    fn remove(&self) {
        *self.removed.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn is_removed(&self) -> bool {
        *self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is to be written, or the keeper is to stop, or the index is in doubt; returns
    /// whether it is to stop.
    fn until_due(&self) -> bool {
        let mut recent = self.recent();
        loop {
            if recent.stopping || recent.phase == Phase::Doubtful {
                return recent.stopping;
            }
            let wait = match recent.due() {
                Some(Duration::ZERO) => return false,
                Some(wait) => wait,
                None => Duration::from_secs(3_600),
            };
            let waited = self.changed.wait_timeout(recent, wait);
            recent = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits so long, unless the keeper is to stop; returns whether it is.
    fn rest(&self, pause: Duration) -> bool {
        let recent = self.recent();
        let waited = self
            .changed
            .wait_timeout_while(recent, pause, |recent| !recent.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }
}

fn stamp(checkpoint: &Checkpoint) -> Stamp {
    Stamp {
        revision: checkpoint.revision,
        writer: checkpoint.writer.clone(),
        at: checkpoint.at.to_string(),
    }
}

impl Moment {
    fn find(
        &self,
        question: Question,
        count: bool,
        facets: Vec<(Question, usize)>,
    ) -> Result<Found, IndexError> {
        let mut hits = self.view.page(&question)?;
        hits.extend(self.recent.iter().filter_map(|entry| question.hit(entry)));
        hits.sort_by(|one, other| question.compare(one, other));
        hits.truncate(question.most);
        let count = match count {
            false => None,
            true => {
                let recent = self.recent.iter().filter(|entry| question.takes(entry));
                let most = MAX_COUNT + 1;
                let count = recent.count() + self.view.count(&question, most)?;
                Some(count.min(most) as u64)
            }
        };
        let facets = facets
            .iter()
            .map(|(question, field)| self.values(question, *field));
        Ok(Found {
            facets: facets.collect::<Result<_, _>>()?,
            hits,
            count,
        })
    }

    fn values(
        &self,
        question: &Question,
        field: usize,
    ) -> Result<(BTreeMap<String, u64>, bool), IndexError> {
        let matches = self.recent.iter().filter(|entry| question.takes(entry));
        let matches: Vec<_> = matches.take(MAX_COUNT).collect();
        let left = MAX_COUNT - matches.len();
        let (mut values, count) = self.view.values(question, field, left)?;
        let capped = count == left && self.view.count(question, left + 1)? > left;
        for entry in matches {
            let value = entry.values.get(field).and_then(|values| values.first());
            *values
                .entry(value.cloned().unwrap_or_default())
                .or_default() += 1;
        }
        let values = values.into_iter().filter_map(|(place, count)| {
            let value = Place::value(&place).filter(|value| !value.is_null())?;
            Some((value.to_string(), count))
        });
        Ok((values.collect(), capped))
    }
}

/// Returns how often a search is made of which a document changes before it is read.
pub(crate) const fn searches() -> usize {
    SEARCHES
}

/// Returns whether a document is one that a list asks for.
pub(crate) fn matches(tables: &ViewTables, query: &ListQuery, id: &str, document: &Value) -> bool {
    let asked = Question::of(tables, query).zip(Entry::of(tables, id, 0, document));
    asked.is_some_and(|(question, entry)| question.takes(&entry))
}

/// The index cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error(transparent)]
    Index(#[from] tantivy::TantivyError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("its files are damaged")]
    Damaged,
    #[error(transparent)]
    Store(#[from] StoreError),
}
