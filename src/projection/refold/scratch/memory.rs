//! A store in memory, as far as a fold needs one.

use crate::{
    projection::working_set::keys,
    read_model::exchange::{Changes, Found, Led, Needs, Page, PageKey, RouteKey},
    view::PartKey,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Bound,
};

/// The number of documents a page has of a route that leads to many.
const PAGE: usize = 500;

/// The documents and parts of a view, and by what its routes find them.
#[derive(Default)]
pub(in crate::projection) struct Memory {
    pub(in crate::projection) documents: BTreeMap<String, Value>,
    parts: HashMap<PartKey, String>,
    routes: Vec<Vec<&'static str>>,
    routed: HashMap<RouteKey, BTreeSet<String>>,
    bytes: usize,
}

impl Memory {
    pub(in crate::projection) fn new(routes: &[Vec<&'static str>]) -> Self {
        Self {
            routes: sorted(routes),
            ..Self::default()
        }
    }

    /// About how much it takes, the index of the routes left out.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn into_parts(self) -> (BTreeMap<String, Value>, HashMap<PartKey, String>) {
        (self.documents, self.parts)
    }

    pub(in crate::projection) fn find(&self, needs: &Needs) -> Found {
        let document = |id: &String| Some((id.clone(), self.documents.get(id)?.clone()));
        let routed = |route: &RouteKey| {
            let ids = self.routed.get(route).into_iter().flatten();
            (route.clone(), Led::To(ids.filter_map(document).collect()))
        };
        let page = |PageKey { route, after }: &PageKey| {
            let ids = self.routed.get(route).into_iter().flatten();
            let mut ids = ids.filter(|id| after.as_ref().is_none_or(|after| *id > after));
            let documents: Vec<_> = ids.by_ref().take(PAGE).filter_map(document).collect();
            let last = documents.last().map(|(id, _)| id.clone());
            let through = ids.next().and(last);
            Page { documents, through }
        };
        Found {
            parts: needs
                .parts
                .iter()
                .filter_map(|key| Some((key.clone(), self.parts.get(key)?.clone())))
                .collect(),
            documents: needs.documents.iter().filter_map(document).collect(),
            routes: needs
                .routes
                .iter()
                .chain(&needs.alone)
                .map(routed)
                .collect(),
            page: needs.page.as_ref().map(page),
            foreign: Vec::new(),
        }
    }

    pub(in crate::projection) fn change(&mut self, changes: Changes) {
        for change in changes.documents {
            if let Some(before) = self.documents.remove(&change.id) {
                self.bytes -= change.id.len() + weight(&before);
                for key in self.routes.iter().flat_map(|route| keys(route, &before)) {
                    if let Some(ids) = self.routed.get_mut(&key) {
                        ids.remove(&change.id);
                        if ids.is_empty() {
                            self.routed.remove(&key);
                        }
                    }
                }
            }
            if let Some(document) = change.document {
                for key in self.routes.iter().flat_map(|route| keys(route, &document)) {
                    self.routed
                        .entry(key)
                        .or_default()
                        .insert(change.id.clone());
                }
                self.bytes += change.id.len() + weight(&document);
                self.documents.insert(change.id, document);
            }
        }
        for change in changes.parts {
            let key_bytes = change.key.0.len() + change.key.1.len() + 64;
            let before = match change.part {
                Some(part) => {
                    self.bytes += key_bytes + part.len();
                    self.parts.insert(change.key, part)
                }
                None => self.parts.remove(&change.key),
            };
            self.bytes -= before.map_or(0, |part| key_bytes + part.len());
        }
    }

    pub(super) fn range(
        &self,
        after: Option<&str>,
        last: Option<&str>,
        limit: usize,
    ) -> Vec<(String, Value)> {
        if let (Some(after), Some(last)) = (after, last)
            && after >= last
        {
            return Vec::new();
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let to = last.map_or(Bound::Unbounded, Bound::Included);
        let found = self.documents.range::<str, _>((from, to)).take(limit);
        found
            .map(|(id, document)| (id.clone(), document.clone()))
            .collect()
    }
}

/// The routes, each sorted by field, as what they are asked by is.
pub(super) fn sorted(routes: &[Vec<&'static str>]) -> Vec<Vec<&'static str>> {
    let mut routes = routes.to_vec();
    for fields in &mut routes {
        fields.sort_unstable();
    }
    routes
}

/// About how many bytes a value takes.
fn weight(value: &Value) -> usize {
    let inside = match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(weight).sum(),
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| name.len() + 64 + weight(value))
            .sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    };
    32 + inside
}
