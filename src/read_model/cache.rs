//! Documents as they are served, kept in memory and bounded by bytes.
//!
//! It observes the views' watermarks: what has changed is gone from here before the watermark moves,
//! and a gap makes all of a view's entries unreachable. A read says beforehand that it begins
//! ([`ViewCache::begin`]); what it found is kept only if nothing of it was invalidated since, so an
//! older document never gets back in. That there is no such document is kept in the same way: it changes
//! like any other when there is one.

use super::{
    ServedDocument,
    announcement::Applied,
    watermark::{FreshDocument, Observer},
};
use metrics::{Counter, Gauge};
use quick_cache::{Equivalent, Weighter, sync::Cache};
use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// The size of an entry beside its document and its id, in bytes: the key, the table, the shared
/// buffer's head.
const OVERHEAD: usize = 160;
/// The size that a document is taken to have at first, to size the table; it grows.
const USUAL: usize = 512;
/// Among how many counters the ids are spread. Two that meet in one only cost a copy not kept.
const SLOTS: usize = 256;

/// The entries of all views, within one bound.
pub(super) struct DocumentCache {
    /// A document as it is, or that there is none.
    entries: Cache<Key, Option<ServedDocument>, Weight>,
}

impl DocumentCache {
    /// Room for so many bytes.
    pub(super) fn new(capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            entries: Cache::with_weighter(
                (capacity / USUAL).max(64),
                u64::try_from(capacity).unwrap_or(u64::MAX),
                Weight,
            ),
        })
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    view: usize,
    generation: u64,
    id: Box<str>,
}

/// A key that owns nothing.
struct Asked<'a> {
    view: usize,
    generation: u64,
    id: &'a str,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.view, self.generation, &*self.id).hash(state);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.view, self.generation, self.id).hash(state);
    }
}

impl Equivalent<Key> for Asked<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        (self.view, self.generation, self.id) == (key.view, key.generation, &key.id)
    }
}

#[derive(Clone)]
struct Weight;

impl Weighter<Key, Option<ServedDocument>> for Weight {
    fn weight(&self, key: &Key, document: &Option<ServedDocument>) -> u64 {
        let document = document.as_ref();
        let document = document.map_or(0, |document| document.body.len() + document.tag.len());
        (OVERHEAD + key.id.len() + document) as u64
    }
}

/// One view's part of the cache.
pub(super) struct ViewCache {
    cache: Arc<DocumentCache>,
    /// The view and its version, as a number.
    view: usize,
    /// Entries of earlier generations are never found again, and pushed out in time.
    generation: AtomicU64,
    /// The number of times that each share of the ids was invalidated. Held while an entry of it comes or goes.
    slots: Vec<Mutex<u64>>,
    hasher: RandomState,
    counts: Counts,
}

struct Counts {
    hits: Counter,
    misses: Counter,
    bytes: Gauge,
}

/// A read that has begun.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun {
    generation: u64,
    slot: usize,
    invalidated: u64,
}

impl ViewCache {
    /// The part of view number `view`.
    pub(super) fn new(cache: Arc<DocumentCache>, view: usize, name: &'static str) -> Arc<Self> {
        Arc::new(Self {
            cache,
            view,
            generation: AtomicU64::new(0),
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            counts: Counts {
                hits: metrics::counter!("headwater_cache_hits_total", "view" => name),
                misses: metrics::counter!("headwater_cache_misses_total", "view" => name),
                bytes: metrics::gauge!("headwater_cache_bytes"),
            },
        })
    }

    /// The document, or that there is none, if that is kept; otherwise it is missed.
    pub(super) fn get(&self, id: &str) -> Option<Option<ServedDocument>> {
        let found = self.find(id);
        if found.is_none() {
            self.counts.misses.increment(1);
        }
        found
    }

    /// The document, or that there is none, if that is kept.
    pub(super) fn find(&self, id: &str) -> Option<Option<ServedDocument>> {
        let asked = self.asked(self.generation.load(Ordering::Acquire), id);
        let found = self.cache.entries.get(&asked);
        if found.is_some() {
            self.counts.hits.increment(1);
        }
        found
    }

    /// Says that the document is about to be read from the store.
    pub(super) fn begin(&self, id: &str) -> Begun {
        let slot = self.slot(id);
        Begun {
            generation: self.generation.load(Ordering::Acquire),
            slot,
            invalidated: *self.lock(slot),
        }
    }

    /// Keeps what a read found, unless the document was invalidated since it began.
    pub(super) fn keep(&self, begun: Begun, id: &str, document: Option<ServedDocument>) {
        let invalidated = self.lock(begun.slot);
        if *invalidated == begun.invalidated {
            let key = Key {
                view: self.view,
                generation: begun.generation,
                id: id.into(),
            };
            self.cache.entries.insert(key, document);
        }
        drop(invalidated);
        self.counts.bytes.set(self.cache.entries.weight() as f64);
    }

    fn invalidate(&self, id: &str) {
        let mut invalidated = self.lock(self.slot(id));
        *invalidated += 1;
        let generation = self.generation.load(Ordering::Acquire);
        self.cache.entries.remove(&self.asked(generation, id));
    }

    fn asked<'a>(&self, generation: u64, id: &'a str) -> Asked<'a> {
        Asked {
            view: self.view,
            generation,
            id,
        }
    }

    fn slot(&self, id: &str) -> usize {
        (self.hasher.hash_one(id) % SLOTS as u64) as usize
    }

    fn lock(&self, slot: usize) -> MutexGuard<'_, u64> {
        self.slots[slot]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for ViewCache {
    fn changed(&self, applied: &Applied, fresh: &[FreshDocument]) {
        for id in &applied.ids {
            self.invalidate(id);
        }
        for FreshDocument { id, document } in fresh {
            self.keep(self.begin(id), id, Some(document.clone()));
        }
    }

    fn wants(&self, id: &str) -> bool {
        let asked = self.asked(self.generation.load(Ordering::Acquire), id);
        self.cache.entries.peek(&asked).is_some()
    }

    fn lost(&self, _: u64) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(capacity: usize) -> Arc<ViewCache> {
        ViewCache::new(DocumentCache::new(capacity), 0, "v")
    }

    fn document(version: u64) -> ServedDocument {
        ServedDocument::new("v", "a", version, "{}")
    }

    fn changed(ids: &[&str]) -> Applied {
        Applied {
            view: "v".to_owned(),
            previous: 0,
            position: 1,
            behind_since: None,
            ids: ids.iter().map(|&id| id.to_owned()).collect(),
            ..Applied::default()
        }
    }

    fn put(cache: &ViewCache, id: &str, version: u64) {
        cache.keep(cache.begin(id), id, Some(document(version)));
    }

    fn version(cache: &ViewCache, id: &str) -> Option<u64> {
        cache.get(id)?.map(|document| document.version)
    }

    #[test]
    fn what_was_kept_is_found_until_it_changes() {
        let cache = cache(1 << 20);
        put(&cache, "a", 1);
        put(&cache, "b", 2);
        cache.changed(&changed(&["a"]), &[]);
        assert_eq!(version(&cache, "a"), None);
        assert_eq!(version(&cache, "b"), Some(2));
    }

    #[test]
    fn a_copy_is_wanted_anew_and_kept_when_it_is_given() {
        let cache = cache(1 << 20);
        assert!(!cache.wants("a"));
        put(&cache, "a", 1);
        assert!(cache.wants("a"));
        let begun = cache.begin("a");
        let fresh = FreshDocument {
            id: "a".to_owned(),
            document: document(2),
        };
        cache.changed(&changed(&["a"]), &[fresh]);
        cache.keep(begun, "a", Some(document(1)));
        assert_eq!(version(&cache, "a"), Some(2));
        cache.lost(7);
        assert!(!cache.wants("a"));
    }

    #[test]
    fn a_read_that_began_before_a_change_is_not_kept() {
        let cache = cache(1 << 20);
        let begun = cache.begin("a");
        cache.changed(&changed(&["a"]), &[]);
        cache.keep(begun, "a", Some(document(1)));
        assert_eq!(version(&cache, "a"), None);
    }

    #[test]
    fn that_there_is_no_document_is_known_until_there_is_one() {
        let cache = cache(1 << 20);
        cache.keep(cache.begin("a"), "a", None);
        assert!(matches!(cache.get("a"), Some(None)));
        let begun = cache.begin("a");
        cache.changed(&changed(&["a"]), &[]);
        cache.keep(begun, "a", None);
        assert!(cache.get("a").is_none());
        put(&cache, "a", 1);
        assert_eq!(version(&cache, "a"), Some(1));
    }

    #[test]
    fn a_gap_empties_the_view_and_what_is_being_read_of_it() {
        let cache = cache(1 << 20);
        put(&cache, "a", 1);
        let begun = cache.begin("b");
        cache.lost(7);
        cache.keep(begun, "b", Some(document(1)));
        assert_eq!(version(&cache, "a"), None);
        assert_eq!(version(&cache, "b"), None);
        put(&cache, "a", 8);
        assert_eq!(version(&cache, "a"), Some(8));
    }

    #[test]
    fn views_do_not_meet() {
        let all = DocumentCache::new(1 << 20);
        let (one, other) = (
            ViewCache::new(Arc::clone(&all), 0, "v"),
            ViewCache::new(all, 1, "w"),
        );
        put(&one, "a", 1);
        assert_eq!(version(&other, "a"), None);
        put(&other, "a", 2);
        other.lost(3);
        assert_eq!(version(&one, "a"), Some(1));
    }

    #[test]
    fn it_holds_no_more_bytes_than_it_may() {
        let cache = cache(64 << 10);
        for number in 0..10_000 {
            put(&cache, &format!("d-{number}"), 1);
        }
        let weight = cache.cache.entries.weight();
        assert!(weight > 0 && weight <= 64 << 10, "{weight}");
    }
}
