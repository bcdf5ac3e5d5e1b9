//! The documents and parts that a batch works on: what the store holds, and over it what the batch
//! has changed so far.
//!
//! What a committed batch leaves behind is kept for the next ones, as this view's only writer may,
//! up to a bound, and so is where [routes](super::followed) have led. Where the store began
//! empty, it is also remembered, for much longer, what was ever written: nothing else is there.

use super::{fold_error::FoldError, followed::FollowedRoutes};
use crate::{
    read_model::{
        exchange::{DocumentChange, Found, Led, Needs, Page, PageKey, PartChange, RouteKey},
        schema::FieldPath,
    },
    recorded::Recorded,
    view::{PartKey, Parts, Query, View},
};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
};

/// The number of documents, and of parts, that are kept between batches. Few in tests, which are to go
/// beyond.
const KEPT: usize = if cfg!(test) { 8 } else { 20_000 };
/// The bytes of documents, and of parts, as JSON, that are kept between batches.
const KEPT_BYTES: usize = 16 << 20;
/// Of how many documents and parts it is remembered that they were written. Beyond, the store is asked.
const WRITTEN: usize = if cfg!(test) { 16 } else { 1_000_000 };

pub(super) struct WorkingSet<V: View> {
    /// The declared routes, each sorted by field.
    routes: Vec<Vec<&'static str>>,
    /// True if documents are counted by their values, and so by those that they had.
    counts: bool,
    /// The rows that the store holds.
    stored: HashMap<String, Stored<V::Document>>,
    /// The size of all of it.
    stored_bytes: usize,
    /// The share of it that was read for this batch.
    read_bytes: usize,
    /// The ids of what the store holds in the place of documents.
    foreign: HashSet<String>,
    /// The documents that the batch has made.
    changed: BTreeMap<String, Changed<V::Document>>,
    /// Parts as the batch has left them.
    parts: Parts<V::Part>,
    known_parts: usize,
    parts_bytes: usize,
    /// The changed parts as they were before the batch.
    parts_before: BTreeMap<PartKey, Option<V::Part>>,
    /// The store's answers to routes, of this batch and of those before.
    routed: HashMap<RouteKey, Routed>,
    followed: FollowedRoutes,
    /// The page that was read of a route that leads to many documents.
    page: Option<(PageKey, PageIds)>,
    /// The changed documents by what routes find them by. Made when a route is first followed.
    index: RefCell<RouteIndex>,
    /// The ids that may be in a store that began empty, and the routes that may lead to something there.
    written: Option<Written>,
    led_to: Option<Written>,
}

/// Documents and parts by a hash: that one is taken for another only means that the store is asked.
#[derive(Default)]
struct Written {
    hasher: RandomState,
    hashes: HashSet<u64>,
}

impl Written {
    fn note(&mut self, what: impl Hash) {
        self.hashes.insert(self.hasher.hash_one(what));
    }

    fn may_have(&self, what: impl Hash) -> bool {
        self.hashes.contains(&self.hasher.hash_one(what))
    }
}

/// The store's row of one id: no document where it is known to hold none.
struct Stored<D> {
    document: Option<D>,
    bytes: usize,
}

struct Changed<D> {
    document: Option<D>,
    position: u64,
    /// Its size, once it was written as JSON.
    bytes: usize,
}

/// The store's answer to a route.
enum Routed {
    To(Vec<String>),
    Crowd,
    Many,
}

/// The ids of a page of documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageIds {
    pub(super) ids: Vec<String>,
    /// The id that the next page comes after, if there is one.
    pub(super) through: Option<String>,
}

#[derive(Default)]
struct RouteIndex {
    found: HashMap<RouteKey, BTreeSet<String>>,
    keys: HashMap<String, Vec<RouteKey>>,
    stale: HashSet<String>,
}

/// The reason why it is not known which documents match.
pub(super) enum Unmet {
    /// The store must be asked.
    Needed(RouteKey),
    /// The store must be asked for these alone.
    Alone(RouteKey),
    /// They are too many to be known at once.
    Many,
    /// The view declares no such combination.
    Undeclared(Vec<&'static str>),
}

impl<V: View> Default for WorkingSet<V> {
    fn default() -> Self {
        let Query {
            mut routes,
            counted,
            ..
        } = V::query();
        for fields in &mut routes {
            fields.sort_unstable();
        }
        Self {
            routes,
            counts: !counted.is_empty(),
            stored: HashMap::new(),
            stored_bytes: 0,
            read_bytes: 0,
            foreign: HashSet::new(),
            changed: BTreeMap::new(),
            parts: Parts::default(),
            known_parts: 0,
            parts_bytes: 0,
            parts_before: BTreeMap::new(),
            routed: HashMap::new(),
            followed: FollowedRoutes::default(),
            page: None,
            index: RefCell::default(),
            written: None,
            led_to: None,
        }
    }
}

impl<V: View> WorkingSet<V> {
    /// The store holds nothing of the view yet.
    pub(super) fn begin_empty(&mut self) {
        self.written = Some(Written::default());
        self.led_to = Some(Written::default());
    }

    /// A document as the batch has left it; the outer `None` when it is not known.
    pub(super) fn document(&self, id: &str) -> Option<Option<&V::Document>> {
        if let Some(changed) = self.changed.get(id) {
            return Some(changed.document.as_ref());
        }
        if let Some(stored) = self.stored.get(id) {
            return Some(stored.document.as_ref());
        }
        let written = self.written.as_ref()?;
        (!written.may_have(id)).then_some(None)
    }

    /// Returns whether the store holds something of this id that is no document.
    pub(super) fn is_foreign(&self, id: &str) -> bool {
        !self.foreign.is_empty() && self.foreign.contains(id)
    }

    /// Returns how many rows a transaction of what the batch has changed would have.
    pub(super) fn rows(&self) -> usize {
        self.changed.len() + self.parts_before.len()
    }

    /// Returns how many bytes of documents were read for this batch.
    pub(super) fn read_bytes(&self) -> usize {
        self.read_bytes
    }

    /// Takes the parts that are known not to be in the store out of what is needed.
    pub(super) fn settle(&mut self, needs: &mut Needs) {
        let Some(written) = &self.written else {
            return;
        };
        let parts = std::mem::take(&mut needs.parts).into_iter();
        let (asked, absent): (BTreeSet<_>, BTreeSet<_>) =
            parts.partition(|key| written.may_have(key));
        needs.parts = asked;
        self.known_parts += absent.len();
        for (aggregate, id) in absent {
            self.parts.set(&aggregate, &id, None);
        }
    }

    /// Changes a document, which must be known.
    pub(super) fn put(&mut self, id: String, document: Option<V::Document>, position: u64) {
        if !self.routes.is_empty() {
            self.index.get_mut().stale.insert(id.clone());
        }
        let changed = Changed {
            document,
            position,
            bytes: 0,
        };
        self.changed.insert(id, changed);
    }

    /// The parts as the batch has left them.
    pub(super) fn parts(&self) -> &Parts<V::Part> {
        &self.parts
    }

    /// Notes from now on which documents are made with the part of this aggregate, which is behind.
    pub(super) fn watch(&mut self, aggregate: PartKey) {
        self.parts.watch(aggregate);
    }

    /// No longer notes it.
    pub(super) fn unwatch(&mut self, aggregate: &PartKey) {
        self.parts.unwatch(aggregate);
    }

    /// Changes the part of the event's aggregate, which must be known.
    pub(super) fn put_part(&mut self, event: &Recorded, part: Option<V::Part>) {
        let key = (event.aggregate.clone(), event.id.clone());
        let parts = &self.parts;
        self.parts_before
            .entry(key)
            .or_insert_with(|| parts.get(&event.aggregate, &event.id).cloned());
        self.parts.set(&event.aggregate, &event.id, part);
    }

    /// Takes back the last change of the part of the event's aggregate.
    pub(super) fn restore_part(&mut self, event: &Recorded, part: Option<V::Part>) {
        self.parts.set(&event.aggregate, &event.id, part);
    }

    /// The ids of all documents in which each field has its value, in the order of ids.
    pub(super) fn matches(&self, fields: RouteKey) -> Result<Vec<String>, Unmet> {
        let fields = self.declared(fields)?;
        let led_to = self.led_to.as_ref();
        let unchanged = |ids: &mut dyn Iterator<Item = &String>| {
            ids.filter(|id| !self.changed.contains_key(*id))
                .cloned()
                .collect()
        };
        let mut ids: BTreeSet<String> = match self.routed.get(&fields) {
            Some(Routed::To(stored)) => unchanged(&mut stored.iter()),
            Some(Routed::Crowd) => return Err(Unmet::Alone(fields)),
            Some(Routed::Many) => return Err(Unmet::Many),
            None => match self.followed.get(&fields) {
                Some(stored) => unchanged(&mut stored.iter()),
                None if led_to.is_some_and(|led_to| !led_to.may_have(&fields)) => BTreeSet::new(),
                None => return Err(Unmet::Needed(fields)),
            },
        };
        let mut index = self.index.borrow_mut();
        self.refresh(&mut index);
        ids.extend(index.found.get(&fields).into_iter().flatten().cloned());
        Ok(ids.into_iter().collect())
    }

    /// The next of these after an id, as the store has them: none of them may have been changed by this
    /// batch. Or what the store must be asked for.
    pub(super) fn page(
        &self,
        fields: RouteKey,
        after: Option<&str>,
    ) -> Result<Result<PageIds, PageKey>, Unmet> {
        let key = PageKey {
            route: self.declared(fields)?,
            after: after.map(ToOwned::to_owned),
        };
        Ok(match &self.page {
            Some((known, page)) if *known == key => Ok(page.clone()),
            _ => Err(key),
        })
    }

    /// The page after the one that was read.
    pub(super) fn next_page(&self) -> Option<PageKey> {
        let (key, page) = self.page.as_ref()?;
        Some(PageKey {
            route: key.route.clone(),
            after: Some(page.through.clone()?),
        })
    }

    /// These fields in their order, if the view declares such a route.
    fn declared(&self, mut fields: RouteKey) -> Result<RouteKey, Unmet> {
        fields.sort_unstable_by_key(|(field, _)| *field);
        match self.routes.iter().any(|route| is_by(route, &fields)) {
            true => Ok(fields),
            false => {
                let fields = fields.into_iter().map(|(field, _)| field).collect();
                Err(Unmet::Undeclared(fields))
            }
        }
    }

    fn refresh(&self, index: &mut RouteIndex) {
        for id in std::mem::take(&mut index.stale) {
            for key in index.keys.remove(&id).unwrap_or_default() {
                if let Some(ids) = index.found.get_mut(&key) {
                    ids.remove(&id);
                }
            }
            let document = self
                .changed
                .get(&id)
                .and_then(|changed| changed.document.as_ref());
            let Some(Ok(document)) = document.map(serde_json::to_value) else {
                continue;
            };
            let keys: Vec<_> = self
                .routes
                .iter()
                .flat_map(|route| keys(route, &document))
                .collect();
            for key in &keys {
                index
                    .found
                    .entry(key.clone())
                    .or_default()
                    .insert(id.clone());
            }
            index.keys.insert(id, keys);
        }
    }

    /// Forgets what the batch has changed.
    pub(super) fn rewind(&mut self) {
        self.changed.clear();
        *self.index.get_mut() = RouteIndex::default();
        for ((aggregate, id), part) in std::mem::take(&mut self.parts_before) {
            self.parts.set(&aggregate, &id, part);
        }
        self.parts.take_missing();
    }

    /// Takes what the store holds of what was asked for.
    pub(super) fn supply(&mut self, needs: Needs, found: Found) -> Result<(), FoldError> {
        self.known_parts += needs.parts.len();
        for (aggregate, id) in needs.parts {
            self.parts.set(&aggregate, &id, None);
        }
        for ((aggregate, id), part) in found.parts {
            self.parts_bytes += part.len();
            let part = serde_json::from_str(&part)
                .map_err(|source| unlike::<V>(format!("the part of {aggregate} {id}"), source))?;
            self.parts.set(&aggregate, &id, Some(part));
        }
        for id in needs.documents {
            self.keep(id, None, 0);
        }
        for (id, document) in found.documents {
            self.store(id, document)?;
        }
        for (route, led) in found.routes {
            let routed = match led {
                Led::To(documents) => Routed::To(self.store_all(documents)?),
                Led::Crowd => Routed::Crowd,
                Led::Many => Routed::Many,
            };
            self.routed.insert(route, routed);
        }
        if let (Some(key), Some(Page { documents, through })) = (needs.page, found.page) {
            let ids = self.store_all(documents)?;
            self.page = Some((key, PageIds { ids, through }));
        }
        for id in found.foreign {
            self.stored.remove(&id);
            self.foreign.insert(id);
        }
        Ok(())
    }

    fn store_all(&mut self, documents: Vec<(String, Value)>) -> Result<Vec<String>, FoldError> {
        let mut ids = Vec::with_capacity(documents.len());
        for (id, document) in documents {
            ids.push(id.clone());
            if !self.stored.contains_key(&id) {
                self.store(id, document)?;
            }
        }
        Ok(ids)
    }

    fn store(&mut self, id: String, document: Value) -> Result<(), FoldError> {
        let bytes = weight(&document);
        self.read_bytes += bytes;
        let document = serde_json::from_value(document)
            .map_err(|source| unlike::<V>(format!("document {id}"), source))?;
        self.keep(id, Some(document), bytes);
        Ok(())
    }

    fn keep(&mut self, id: String, document: Option<V::Document>, bytes: usize) {
        self.stored_bytes += bytes;
        if let Some(before) = self.stored.insert(id, Stored { document, bytes }) {
            self.stored_bytes -= before.bytes;
        }
    }

    /// Returns what the batch has changed.
    pub(super) fn changes(&mut self) -> Result<WrittenOut, FoldError> {
        let mut written = WrittenOut {
            documents: Vec::with_capacity(self.changed.len()),
            parts: Vec::with_capacity(self.parts_before.len()),
            bytes: 0,
        };
        for (id, changed) in &mut self.changed {
            let document = changed
                .document
                .as_ref()
                .map(serde_json::to_value)
                .transpose()
                .map_err(|source| unwritable::<V>(format!("document {id}"), source))?;
            changed.bytes = document.as_ref().map_or(0, weight);
            written.bytes += changed.bytes;
            let before = self.stored.get(id).and_then(|it| it.document.as_ref());
            let exists = before.is_some();
            if exists || document.is_some() {
                let before = before.filter(|_| self.counts).map(serde_json::to_value);
                let before = before
                    .transpose()
                    .map_err(|source| unwritable::<V>(format!("document {id}"), source))?;
                written.documents.push(DocumentChange {
                    id: id.clone(),
                    position: changed.position,
                    exists,
                    before,
                    document,
                });
            }
        }
        for (key, before) in &self.parts_before {
            let part = self
                .parts
                .get(&key.0, &key.1)
                .map(serde_json::to_string)
                .transpose()
                .map_err(|source| {
                    unwritable::<V>(format!("the part of {} {}", key.0, key.1), source)
                })?;
            written.bytes += part.as_ref().map_or(0, String::len);
            let exists = before.is_some();
            if exists || part.is_some() {
                written.parts.push(PartChange {
                    key: key.clone(),
                    exists,
                    part,
                });
            }
        }
        Ok(written)
    }

    /// Keeps the store's answers to routes for the next batches, as this one has changed them.
    fn remember_routes(&mut self) {
        if self.routes.is_empty() {
            return;
        }
        for (route, routed) in std::mem::take(&mut self.routed) {
            if let Routed::To(ids) = routed {
                self.followed.learn(route, ids);
            }
        }
        let mut index = self.index.take();
        self.refresh(&mut index);
        for id in self.changed.keys() {
            let routes = index.keys.get(id).map_or(&[][..], Vec::as_slice);
            self.followed.move_document(id, routes);
            if let Some(led_to) = &mut self.led_to {
                routes.iter().for_each(|route| led_to.note(route));
            }
        }
        self.followed.bound();
        self.led_to.take_if(|led_to| led_to.hashes.len() > WRITTEN);
    }

    /// Takes the batch's changes for what the store holds.
    pub(super) fn committed(&mut self) {
        if let Some(written) = &mut self.written {
            self.changed.keys().for_each(|id| written.note(id));
            self.parts_before.keys().for_each(|key| written.note(key));
            if written.hashes.len() > WRITTEN {
                self.written = None;
            }
        }
        self.remember_routes();
        for (id, changed) in std::mem::take(&mut self.changed) {
            self.keep(id, changed.document, changed.bytes);
        }
        self.parts_before.clear();
        self.foreign.clear();
        // The many documents of one event are not worth keeping before others.
        if let Some((_, page)) = self.page.take() {
            for id in page.ids {
                let gone = self.stored.remove(&id);
                self.stored_bytes -= gone.map_or(0, |gone| gone.bytes);
            }
        }
        *self.index.get_mut() = RouteIndex::default();
        self.read_bytes = 0;
        if self.stored.len() > KEPT || self.stored_bytes > KEPT_BYTES {
            self.stored.clear();
            self.stored_bytes = 0;
        }
        if self.known_parts > KEPT || self.parts_bytes > KEPT_BYTES {
            self.parts.forget();
            (self.known_parts, self.parts_bytes) = (0, 0);
        }
    }
}

/// The changes of a batch, as they are to be written.
pub(super) struct WrittenOut {
    pub(super) documents: Vec<DocumentChange>,
    pub(super) parts: Vec<PartChange>,
    /// The size of both as JSON, roughly.
    pub(super) bytes: usize,
}

/// The size of a value as JSON, roughly.
fn weight(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(values) => 2 + values.iter().map(|value| weight(value) + 1).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter();
            2 + fields
                .map(|(name, value)| name.len() + 4 + weight(value))
                .sum::<usize>()
        }
    }
}

fn is_by(route: &[&'static str], fields: &RouteKey) -> bool {
    route.iter().eq(fields.iter().map(|(field, _)| field))
}

/// Every combination of values by which a route finds this document.
pub(super) fn keys(route: &[&'static str], document: &Value) -> Vec<RouteKey> {
    let mut keys = vec![RouteKey::new()];
    for field in route {
        let Ok(path) = FieldPath::parse(field) else {
            return Vec::new();
        };
        let mut values = BTreeSet::new();
        path.each(document, &mut |value| {
            if let Some(value) = value.as_str() {
                values.insert(value);
            }
        });
        keys = keys
            .iter()
            .flat_map(|key| {
                values.iter().map(|value| {
                    let mut key = key.clone();
                    key.push((*field, (*value).to_owned()));
                    key
                })
            })
            .collect();
    }
    keys
}

fn unlike<V: View>(what: String, source: serde_json::Error) -> FoldError {
    FoldError {
        view: V::NAME,
        what,
        problem: "is stored in another shape, which asks for a new VERSION",
        source,
    }
}

fn unwritable<V: View>(what: String, source: serde_json::Error) -> FoldError {
    FoldError {
        view: V::NAME,
        what,
        problem: "cannot be written as JSON",
        source,
    }
}
