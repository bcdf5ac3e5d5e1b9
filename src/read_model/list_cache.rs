//! Pages of lists as they are served, kept in memory and bounded by bytes.
//!
//! A page is found for as long as no document of its view has changed since the reading of it began: any
//! change may be of a document that the list has, or is to have. So each page is kept with how many changes
//! were known by then. It observes the view's watermark as the copies of documents do: what has changed is
//! counted before the watermark moves, and whoever waited for a position never meets a page from before it.
//!
//! Equal lists that are asked for while one of them is being read are read once. Who asks after a change
//! does not join a reading that began before it. A reading ends when nobody waits for it any more.

use super::{
    Edition, ServedPage,
    announcement::Applied,
    answers::Unread,
    parameters::{ListQuery, Order},
    visible::Visibility,
    watermark::{FreshDocument, Observer},
};
use crate::problem::Problem;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use metrics::{Counter, Gauge};
use quick_cache::{Weighter, sync::Cache};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Semaphore;

/// The number of bytes of pages that are kept in memory unless set.
pub const DEFAULT_LIST_CACHE: usize = 32 << 20;

/// The size of an entry beside its page and its key, in bytes.
const OVERHEAD: usize = 200;
/// The size that a page is taken to have at first, to size the table; it grows.
const USUAL: usize = 4096;
/// The number that may wait for readings that others have begun.
const JOINED: usize = 4_096;
/// In the place of how many changes were known when a reading began that has not begun yet.
const NOT_BEGUN: u64 = u64::MAX;

/// The pages of all views, within one bound.
pub(super) struct ListCache {
    pages: Cache<ListKey, KeptPage, Weight>,
    joined: Semaphore,
}

impl ListCache {
    /// Room for so many bytes.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            pages: Cache::with_weighter(
                (capacity / USUAL).max(64),
                u64::try_from(capacity).unwrap_or(u64::MAX),
                Weight,
            ),
            joined: Semaphore::new(JOINED),
        })
    }
}

/// The mark that tells a list from all others: equal ones have the same, however they are written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ListKey {
    view: usize,
    question: Box<str>,
}

impl ListKey {
    fn new(view: usize, edition: &Edition, query: &ListQuery) -> Self {
        // Nothing that a list asks for may be left out.
        let ListQuery {
            filters,
            search,
            order,
            limit,
            count,
            facets,
            after,
            log: _,
            fingerprint: _,
            visible,
        } = query;
        let filters: Vec<_> = filters.iter().map(|(by, value)| (by.name, value)).collect();
        let order = match order {
            Order::Id => (0, "", false),
            Order::Rank => (1, "", false),
            Order::Field { sort, descending } => (2, sort.field, *descending),
        };
        let mut facets: Vec<_> = facets.iter().map(|facet| facet.name).collect();
        facets.sort_unstable();
        let search = search.as_ref().map(|search| search.text());
        // Facets by the field that says what is visible are of that alone.
        let visible = match visible {
            Visibility::All => (0, ""),
            Visibility::Where(field) => (1, *field),
            Visibility::Nothing => (2, ""),
        };
        let asked = (filters, search, order, limit, count, facets, after, visible);
        let asked = serde_json::to_string(&(edition.as_str(), asked));
        Self {
            view,
            question: asked.expect("parameters are plain data").into(),
        }
    }
}

/// A page, and the newest position of its documents.
#[derive(Debug, Clone)]
pub(super) struct FoundPage {
    pub(super) page: ServedPage,
    pub(super) newest: u64,
}

#[derive(Clone)]
struct KeptPage {
    found: FoundPage,
    /// The number of changes that were known when the reading of it began.
    changes: u64,
}

#[derive(Clone)]
struct Weight;

impl Weighter<ListKey, KeptPage> for Weight {
    fn weight(&self, key: &ListKey, kept: &KeptPage) -> u64 {
        let page = &kept.found.page;
        (OVERHEAD + key.question.len() + page.body.len() + page.tag.len()) as u64
    }
}

/// One view's part of the cache, and its lists that are being read.
pub(super) struct ViewLists {
    cache: Arc<ListCache>,
    /// The view, as a number.
    view: usize,
    /// The number of changes of its documents.
    changes: AtomicU64,
    readings: Mutex<HashMap<ListKey, Begun>>,
    counts: Counts,
}

struct Counts {
    memory: Counter,
    bytes: Gauge,
}

type Found = Result<FoundPage, Unread>;
type Reading = Shared<BoxFuture<'static, Found>>;

/// A list that is being read.
struct Begun {
    changes: Arc<AtomicU64>,
    /// It is over when nobody waits for it any more.
    reading: WeakShared<BoxFuture<'static, Found>>,
}

/// Says that a reading begins: what it finds is of now, or newer.
pub(super) struct Begin {
    lists: Arc<ViewLists>,
    changes: Arc<AtomicU64>,
}

impl Begin {
    /// Nothing was read before this. Until then anybody may join.
    pub(super) fn now(&self) {
        self.changes.store(self.lists.changes(), Ordering::Release);
    }
}

impl ViewLists {
    /// The part of view number `view`.
    pub(super) fn new(cache: Arc<ListCache>, view: usize, name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            cache,
            view,
            changes: AtomicU64::new(0),
            readings: Mutex::default(),
            counts: Counts {
                memory: metrics::counter!("headwater_lists_total", "view" => name, "by" => "memory"),
                bytes: metrics::gauge!("headwater_list_cache_bytes"),
            },
        })
    }

    /// Returns a page from memory, or from the reading of an equal list, or from `read`.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` (429) when too many wait for what others read, and what the reading returns.
    pub(super) async fn find<R>(
        self: &Arc<Self>,
        edition: &Edition,
        query: &ListQuery,
        read: impl FnOnce(Begin) -> R + Send,
    ) -> Found
    where
        R: Future<Output = Found> + Send + 'static,
    {
        let key = ListKey::new(self.view, edition, query);
        if let Some(found) = self.kept(&key) {
            self.counts.memory.increment(1);
            return Ok(found);
        }
        let (reading, joined) = self.reading(key, read);
        if !joined {
            return reading.await;
        }
        let Ok(_waits) = self.cache.joined.try_acquire() else {
            return Err(Unread::Refused(Problem {
                detail: "too many wait for lists that are being read".to_owned(),
                ..Problem::overloaded()
            }));
        };
        let found = reading.await?;
        self.counts.memory.increment(1);
        Ok(found)
    }

    /// The page, if nothing has changed since it was read.
    fn kept(&self, key: &ListKey) -> Option<FoundPage> {
        let changes = self.changes();
        let kept = self.cache.pages.get(key)?;
        (kept.changes == changes).then_some(kept.found)
    }

    /// The reading of a list, and whether somebody else has begun it.
    fn reading<R>(self: &Arc<Self>, key: ListKey, read: impl FnOnce(Begin) -> R) -> (Reading, bool)
    where
        R: Future<Output = Found> + Send + 'static,
    {
        let mut readings = self.lock();
        let now = [NOT_BEGUN, self.changes()];
        let begun = readings.get(&key);
        let begun = begun.filter(|begun| now.contains(&begun.changes.load(Ordering::Acquire)));
        if let Some(reading) = begun.and_then(|begun| begun.reading.upgrade()) {
            return (reading, true);
        }
        let changes = Arc::new(AtomicU64::new(NOT_BEGUN));
        let read = read(Begin {
            lists: Arc::clone(self),
            changes: Arc::clone(&changes),
        });
        let underway = Underway {
            lists: Arc::clone(self),
            key: key.clone(),
            changes: Arc::clone(&changes),
        };
        let reading = async move {
            let found = read.await;
            if let Ok(found) = &found {
                underway.keep(found);
            }
            found
        };
        let reading = reading.boxed().shared();
        if let Some(reading) = reading.downgrade() {
            readings.insert(key, Begun { changes, reading });
        }
        (reading, false)
    }

    fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ListKey, Begun>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for ViewLists {
    fn changed(&self, applied: &Applied, _: &[FreshDocument]) {
        // Many commits change no document.
        if !applied.ids.is_empty() || applied.all {
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn lost(&self, _: u64) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}

/// A reading among those that can be joined. When it ends, or is not waited for any more, it is not.
struct Underway {
    lists: Arc<ViewLists>,
    key: ListKey,
    changes: Arc<AtomicU64>,
}

impl Underway {
    /// Keeps what was found, unless something has changed meanwhile.
    fn keep(&self, found: &FoundPage) {
        let changes = self.changes.load(Ordering::Acquire);
        if changes != self.lists.changes() {
            return;
        }
        let found = found.clone();
        let pages = &self.lists.cache.pages;
        pages.insert(self.key.clone(), KeptPage { found, changes });
        self.lists.counts.bytes.set(pages.weight() as f64);
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        let mut readings = self.lists.lock();
        // Another may have begun since.
        let own = |begun: &Begun| Arc::ptr_eq(&begun.changes, &self.changes);
        if readings.get(&self.key).is_some_and(own) {
            readings.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests;
