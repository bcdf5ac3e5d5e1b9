//! The most naive projector: one event at a time, in memory.

use crate::{
    recorded::Recorded,
    view::{ApplyError, Change, PartKey, Parts, Route, View},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeMap;

/// Folds events into the documents of view `V`, exactly as [`View`] says and no faster.
///
/// Documents and parts are kept as JSON between events, as in a store.
#[derive(Debug, Clone)]
pub struct ViewFold<V: View> {
    documents: BTreeMap<String, Value>,
    versions: BTreeMap<String, u64>,
    parts: BTreeMap<PartKey, Value>,
    view: std::marker::PhantomData<V>,
}

impl<V: View> Default for ViewFold<V> {
    fn default() -> Self {
        Self {
            documents: BTreeMap::new(),
            versions: BTreeMap::new(),
            parts: BTreeMap::new(),
            view: std::marker::PhantomData,
        }
    }
}

impl<V: View> ViewFold<V> {
    /// A view without documents.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies these events in their order.
    ///
    /// # Panics
    ///
    /// Panics when the view refuses one of them.
    #[must_use]
    #[track_caller]
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Recorded>) -> Self {
        let mut fold = Self::new();
        for event in events {
            if let Err(error) = fold.apply(event) {
                panic!("{} of {} is refused: {error}", event.event_type, event.id);
            }
        }
        fold
    }

    /// Applies one event. When it fails, nothing has changed.
    ///
    /// # Errors
    ///
    /// Returns what the view answers.
    ///
    /// # Panics
    ///
    /// Panics when the view breaks its contract: a route by fields that it does not declare, a
    /// document id of another form than 1 to 129 of `A-Z a-z 0-9 _ -` or `live`, a document that is not an object.
    pub fn apply(&mut self, event: &Recorded) -> Result<(), ApplyError> {
        if !V::AGGREGATES.contains(&event.aggregate.as_str()) {
            return Ok(());
        }
        let own = (event.aggregate.clone(), event.id.clone());
        let part = self.parts.get(&own);
        let part = match V::remember(part.map(from_json), event)? {
            Change::Put(part) => Some(to_json(&part)),
            Change::Delete => None,
            Change::Keep => part.cloned(),
        };
        let load = |key: &PartKey| match key {
            key if *key == own => part.as_ref().map(from_json),
            key => self.parts.get(key).map(from_json),
        };
        let mut changes = Vec::new();
        for id in self.touched(with_parts(load, |parts| V::route(event, parts))?) {
            let document = || self.documents.get(&id).map(from_json);
            let change = with_parts(load, |parts| V::apply(&id, document(), event, parts))?;
            changes.push((id, change));
        }
        match part {
            Some(part) => self.parts.insert(own, part),
            None => self.parts.remove(&own),
        };
        for (id, change) in changes {
            self.change(id, change, event.position);
        }
        Ok(())
    }

    /// The document with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<V::Document> {
        self.documents.get(id).map(from_json)
    }

    /// The document with this id as it is served.
    #[must_use]
    pub fn json(&self, id: &str) -> Option<&Value> {
        self.documents.get(id)
    }

    /// The position of the last event that changed this document.
    #[must_use]
    pub fn version(&self, id: &str) -> Option<u64> {
        self.versions.get(id).copied()
    }

    /// All documents as they are served, by id.
    #[must_use]
    pub fn documents(&self) -> &BTreeMap<String, Value> {
        &self.documents
    }

    /// Returns what the view remembers, by aggregate and id.
    #[must_use]
    pub fn parts(&self) -> &BTreeMap<PartKey, Value> {
        &self.parts
    }

    fn change(&mut self, id: String, change: Change<V::Document>, position: u64) {
        match change {
            Change::Put(document) => {
                let document = to_json(&document);
                assert!(document.is_object(), "a document is a JSON object");
                self.documents.insert(id.clone(), document);
                self.versions.insert(id, position);
            }
            Change::Delete => {
                self.documents.remove(&id);
                self.versions.remove(&id);
            }
            Change::Keep => {}
        }
    }

    fn touched(&self, route: Route) -> Vec<String> {
        match route {
            Route::Nothing => Vec::new(),
            Route::Ids(ids) => {
                for id in &ids {
                    assert!(is_document_id(id), "{id:?} is not the id of a document");
                }
                ids
            }
            Route::Where(fields) => {
                let names: Vec<_> = fields.iter().map(|(field, _)| *field).collect();
                let declared = V::query().routes;
                assert!(
                    declared.contains(&names),
                    "{names:?} is not a declared route"
                );
                let matches = |document: &Value| {
                    let mut fields = fields.iter();
                    fields.all(|(field, value)| reaches(document, field, value))
                };
                let documents = self.documents.iter();
                let found = documents.filter(|(_, document)| matches(document));
                found.map(|(id, _)| id.clone()).collect()
            }
        }
    }
}

/// Calls until nothing is asked for that was not handed in: the demand loading of a projector.
fn with_parts<P, T>(
    load: impl Fn(&PartKey) -> Option<P>,
    call: impl Fn(&Parts<P>) -> Result<T, ApplyError>,
) -> Result<T, ApplyError> {
    let mut parts = Parts::default();
    loop {
        let answer = call(&parts);
        let missing = parts.take_missing();
        if missing.is_empty() {
            return answer;
        }
        for key in missing {
            let part = load(&key);
            parts.set(&key.0, &key.1, part);
        }
    }
}

/// Returns whether the path, such as `member.id` or `lines[].sku`, reaches this value in the document.
fn reaches(document: &Value, path: &str, value: &str) -> bool {
    let (step, rest) = path.split_once('.').unwrap_or((path, ""));
    let (field, each) = match step.strip_suffix("[]") {
        Some(field) => (field, true),
        None => (step, false),
    };
    let found = &document[field];
    let here = |found: &Value| match rest {
        "" => found == value,
        rest => reaches(found, rest, value),
    };
    if each {
        found.as_array().is_some_and(|list| list.iter().any(here))
    } else {
        here(found)
    }
}

fn is_document_id(id: &str) -> bool {
    id != "live"
        && (1..=129).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

fn to_json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("documents and parts are plain data")
}

fn from_json<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("what was written can be read")
}
