//! A question to the index, and a document's answer to it: the same for what the index has on disk and
//! for what it has not taken yet.

use super::entry::Entry;
use crate::{
    read_model::{
        ordering::Place,
        parameters::{ListQuery, Order},
        schema::{FieldPath, ViewTables},
        search::Search,
    },
    view::{Compare, Filter},
};
use std::cmp::Ordering;

/// The number of texts a class of ranks tells apart by their length.
pub(super) const LENGTHS: i64 = 10_000;
/// The last class: every word occurs, somewhere.
pub(super) const ELSEWHERE: i64 = 4;

/// A search, under filters and in an order.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) search: Search,
    /// The fields, by their number, and the value that each has.
    pub(super) equal: Vec<(usize, Vec<u8>)>,
    pub(super) ranges: Vec<FieldRange>,
    /// The field that the order is by, and whether downwards; none where it is by rank.
    pub(super) sort: Option<(usize, bool)>,
    pub(super) after: Option<After>,
    /// The number of documents that are wanted.
    pub(super) most: usize,
}

/// The values that a field may have.
#[derive(Debug, Clone)]
pub(super) struct FieldRange {
    pub(super) field: usize,
    pub(super) from: Vec<u8>,
    /// The first that does not belong to it.
    pub(super) until: Vec<u8>,
}

/// The beginning of a page.
#[derive(Debug, Clone)]
pub(super) struct After {
    pub(super) rank: i64,
    pub(super) value: Vec<u8>,
    pub(super) id: String,
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) id: String,
    pub(crate) position: u64,
    /// The rank, where that is the order.
    pub(crate) rank: Option<i64>,
    /// The place of the value that the order is by.
    pub(super) value: Vec<u8>,
}

impl Question {
    /// Returns what a list asks; none where that is no search, or by a field that the index does not have.
    pub(super) fn of(tables: &ViewTables, query: &ListQuery) -> Option<Self> {
        let search = query.search.clone()?;
        let number = |field: &str| {
            let field = FieldPath::parse(field).ok()?;
            let fields = tables.compared_fields();
            fields.iter().position(|known| *known == field)
        };
        let sort = match query.order {
            Order::Field { sort, descending } => Some((number(sort.field)?, descending)),
            Order::Rank => None,
            Order::Id => return None,
        };
        let (mut equal, mut ranges) = (Vec::new(), Vec::new());
        for (filter, value) in &query.filters {
            let (field, place) = (number(filter.field)?, Place::of(Some(value)).into_bytes());
            match filter.compare {
                Compare::Equal => equal.push((field, place)),
                Compare::AtLeast | Compare::AtMost => {
                    ranges.push(FieldRange::of(filter, field, place));
                }
            }
        }
        let after = query.after.as_ref().map(|(key, id)| After {
            rank: key
                .as_ref()
                .and_then(serde_json::Value::as_i64)
                .unwrap_or(0),
            value: Place::of(key.as_ref()).into_bytes(),
            id: id.clone(),
        });
        Some(Self {
            search,
            equal,
            ranges,
            sort,
            after,
            most: query.limit + 1,
        })
    }

    /// Returns what a text contains that is of one of the better classes.
    pub(super) fn part(&self, class: i64) -> String {
        let text = self.search.text();
        match class {
            0 => format!("\n{text}\n"),
            1 => format!("\n{text} "),
            2 => format!("\n{text}"),
            _ => format!(" {text}"),
        }
    }

    /// Returns how well a text matches, if it does.
    fn rank(&self, text: &str) -> Option<i64> {
        let words = self.search.words();
        if !words.iter().all(|word| text.contains(word)) {
            return None;
        }
        let class = (0..ELSEWHERE).find(|class| text.contains(&self.part(*class)));
        Some(class.unwrap_or(ELSEWHERE) * LENGTHS + length(text))
    }

    /// Returns whether a document that was not looked for in the index matches.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let has = |field: usize, wanted: &dyn Fn(&[u8]) -> bool| {
            let values = entry.values.get(field);
            values.is_some_and(|values| values.iter().any(|value| wanted(value)))
        };
        let mut words = self.search.words().iter();
        words.all(|word| entry.text.contains(word))
            && self
                .equal
                .iter()
                .all(|(field, wanted)| has(*field, &|value| value == wanted))
            && self
                .ranges
                .iter()
                .all(|range| has(range.field, &|value| range.has(value)))
    }

    /// The document as one that was found, if it matches and comes after where the page begins.
    pub(super) fn hit(&self, entry: &Entry) -> Option<Hit> {
        if !self.takes(entry) {
            return None;
        }
        let (rank, value) = match self.sort {
            None => (Some(self.rank(&entry.text)?), Vec::new()),
            Some((field, _)) => (None, entry.values.get(field)?.first()?.clone()),
        };
        let hit = Hit {
            id: entry.id.clone(),
            position: entry.position,
            rank,
            value,
        };
        let before = self.after.as_ref().is_some_and(|after| {
            let after = Hit {
                id: after.id.clone(),
                position: 0,
                rank: Some(after.rank),
                value: after.value.clone(),
            };
            self.compare(&hit, &after) != Ordering::Greater
        });
        (!before).then_some(hit)
    }

    /// Which of two documents comes first.
    pub(super) fn compare(&self, one: &Hit, other: &Hit) -> Ordering {
        match self.sort {
            None => (one.rank, &one.id).cmp(&(other.rank, &other.id)),
            Some((_, false)) => (&one.value, &one.id).cmp(&(&other.value, &other.id)),
            Some((_, true)) => (&other.value, &other.id).cmp(&(&one.value, &one.id)),
        }
    }
}

impl FieldRange {
    /// Of other kinds than the filter's, no value is more or less.
    fn of(filter: &Filter, field: usize, mut place: Vec<u8>) -> Self {
        let kind = Place::of_kind(filter.kind).into_bytes();
        if filter.compare == Compare::AtMost {
            // No place is the beginning of another.
            place.push(0);
            return Self {
                field,
                from: kind,
                until: place,
            };
        }
        let until = kind.iter().map(|kind| kind + 1).collect();
        Self {
            field,
            from: place,
            until,
        }
    }

    fn has(&self, value: &[u8]) -> bool {
        *self.from <= *value && *value < *self.until
    }
}

/// The length of a text, as far as it is told apart.
pub(super) fn length(text: &str) -> i64 {
    let length = text.chars().take(LENGTHS as usize).count() as i64;
    length.min(LENGTHS - 1)
}
