//! The documents and parts that a batch works on: what the store holds, and over it what the batch
//! has changed so far.
//!
//! What a committed batch leaves behind is kept for the next ones, as this view's only writer may,
//! up to a bound. The results of routes are not: each batch asks for its own. Where the store began
//! empty, it is also remembered, for much longer, what was ever written: nothing else is there.

use super::fold::FoldError;
use crate::{
    read_model::{
        exchange::{DocumentChange, Found, Needs, PartChange, RouteKey},
        schema::FieldPath,
    },
    recorded::Recorded,
    view::{PartKey, Parts, View},
};
use serde_json::Value;
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    hash::{BuildHasher, Hash, RandomState},
};

/// How many documents, and how many parts, are kept between batches. Few in tests, which are to go
/// beyond.
const KEPT: usize = if cfg!(test) { 8 } else { 20_000 };
/// Of how many documents and parts it is remembered that they were written. Beyond, the store is asked.
const WRITTEN: usize = if cfg!(test) { 16 } else { 1_000_000 };

pub(super) struct WorkingSet<V: View> {
    /// The declared routes, each sorted by field.
    routes: Vec<Vec<&'static str>>,
    /// What the store holds: `None` where it is known to hold nothing.
    stored: HashMap<String, Option<V::Document>>,
    /// What the batch has made of documents.
    changed: BTreeMap<String, Changed<V::Document>>,
    /// Parts as the batch has left them.
    parts: Parts<V::Part>,
    known_parts: usize,
    /// What the changed parts were before the batch.
    parts_before: BTreeMap<PartKey, Option<V::Part>>,
    /// What the store answered to routes.
    routed: HashMap<RouteKey, Vec<String>>,
    /// The changed documents by what routes find them by. Made when a route is first followed.
    index: RefCell<RouteIndex>,
    /// What may be in a store that began empty.
    written: Option<Written>,
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

struct Changed<D> {
    document: Option<D>,
    position: u64,
}

#[derive(Default)]
struct RouteIndex {
    found: HashMap<RouteKey, BTreeSet<String>>,
    keys: HashMap<String, Vec<RouteKey>>,
    stale: HashSet<String>,
}

/// Why it is not known which documents match.
pub(super) enum Unmet {
    /// The store must be asked.
    Needed(RouteKey),
    /// The view declares no such combination.
    Undeclared(Vec<&'static str>),
}

impl<V: View> Default for WorkingSet<V> {
    fn default() -> Self {
        let mut routes = V::query().routes;
        for fields in &mut routes {
            fields.sort_unstable();
        }
        Self {
            routes,
            stored: HashMap::new(),
            changed: BTreeMap::new(),
            parts: Parts::default(),
            known_parts: 0,
            parts_before: BTreeMap::new(),
            routed: HashMap::new(),
            index: RefCell::default(),
            written: None,
        }
    }
}

impl<V: View> WorkingSet<V> {
    /// The store holds nothing of the view yet.
    pub(super) fn begin_empty(&mut self) {
        self.written = Some(Written::default());
    }

    /// A document as the batch has left it; the outer `None` when it is not known.
    pub(super) fn document(&self, id: &str) -> Option<Option<&V::Document>> {
        if let Some(changed) = self.changed.get(id) {
            return Some(changed.document.as_ref());
        }
        if let Some(stored) = self.stored.get(id) {
            return Some(stored.as_ref());
        }
        let written = self.written.as_ref()?;
        (!written.may_have(id)).then_some(None)
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
        self.changed.insert(id, Changed { document, position });
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
    pub(super) fn matches(
        &self,
        mut fields: Vec<(&'static str, String)>,
    ) -> Result<Vec<String>, Unmet> {
        fields.sort_unstable_by_key(|(field, _)| *field);
        if !self.routes.iter().any(|route| is_by(route, &fields)) {
            let fields = fields.into_iter().map(|(field, _)| field).collect();
            return Err(Unmet::Undeclared(fields));
        }
        let Some(stored) = self.routed.get(&fields) else {
            return Err(Unmet::Needed(fields));
        };
        let mut index = self.index.borrow_mut();
        self.refresh(&mut index);
        let unchanged = stored.iter().filter(|id| !self.changed.contains_key(*id));
        let mut ids: BTreeSet<String> = unchanged.cloned().collect();
        ids.extend(index.found.get(&fields).into_iter().flatten().cloned());
        Ok(ids.into_iter().collect())
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
            let part = serde_json::from_str(&part)
                .map_err(|source| unlike::<V>(format!("the part of {aggregate} {id}"), source))?;
            self.parts.set(&aggregate, &id, Some(part));
        }
        for id in needs.documents {
            self.stored.insert(id, None);
        }
        for (id, document) in found.documents {
            self.store(id, document)?;
        }
        for (route, documents) in found.routes {
            let mut ids = Vec::with_capacity(documents.len());
            for (id, document) in documents {
                ids.push(id.clone());
                if !self.stored.contains_key(&id) {
                    self.store(id, document)?;
                }
            }
            self.routed.insert(route, ids);
        }
        Ok(())
    }

    fn store(&mut self, id: String, document: Value) -> Result<(), FoldError> {
        let document = serde_json::from_value(document)
            .map_err(|source| unlike::<V>(format!("document {id}"), source))?;
        self.stored.insert(id, Some(document));
        Ok(())
    }

    /// What the batch has changed.
    pub(super) fn changes(&self) -> Result<(Vec<DocumentChange>, Vec<PartChange>), FoldError> {
        let mut documents = Vec::with_capacity(self.changed.len());
        for (id, changed) in &self.changed {
            let document = changed
                .document
                .as_ref()
                .map(serde_json::to_value)
                .transpose()
                .map_err(|source| unwritable::<V>(format!("document {id}"), source))?;
            let exists = self.stored.get(id).is_some_and(Option::is_some);
            if exists || document.is_some() {
                documents.push(DocumentChange {
                    id: id.clone(),
                    position: changed.position,
                    exists,
                    document,
                });
            }
        }
        let mut parts = Vec::with_capacity(self.parts_before.len());
        for (key, before) in &self.parts_before {
            let part = self
                .parts
                .get(&key.0, &key.1)
                .map(serde_json::to_string)
                .transpose()
                .map_err(|source| {
                    unwritable::<V>(format!("the part of {} {}", key.0, key.1), source)
                })?;
            let exists = before.is_some();
            if exists || part.is_some() {
                parts.push(PartChange {
                    key: key.clone(),
                    exists,
                    part,
                });
            }
        }
        Ok((documents, parts))
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
        for (id, changed) in std::mem::take(&mut self.changed) {
            self.stored.insert(id, changed.document);
        }
        self.parts_before.clear();
        self.routed.clear();
        *self.index.get_mut() = RouteIndex::default();
        if self.stored.len() > KEPT {
            self.stored.clear();
        }
        if self.known_parts > KEPT {
            self.parts.forget();
            self.known_parts = 0;
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
