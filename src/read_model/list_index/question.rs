//! A list as a walk through one of the sorted lists.

use super::{
    Hit, Walked,
    keys::{KeyTable, SortedList},
    sorted::Gap,
};
use crate::{
    read_model::{
        ordering::Place,
        parameters::{ListQuery, Order},
        schema::FieldPath,
    },
    view::Compare,
};
use std::cmp::Ordering;

/// The most documents that are looked at for a page, beside those that are answered. Where more would have to be
/// compared, the store does it, which holds nobody up.
const LOOKS: usize = 5_000;

/// A list as it is asked for.
pub(super) struct Question {
    /// The sorted list that is walked, by its number.
    list: usize,
    /// The value that all of it share, for each field that the sorted list begins with.
    equal: Vec<Vec<u8>>,
    /// The values of the field that it is ordered by.
    range: ValueRange,
    /// The conditions that the order says nothing of: each on a field, by its number.
    rest: Vec<(usize, ValueRange)>,
    after: Option<(Vec<u8>, String)>,
    descending: bool,
    /// The number of documents that are wanted.
    most: usize,
    count: bool,
}

/// The values from one place on and before another.
#[derive(Debug, Clone, Default)]
struct ValueRange {
    from: Option<Vec<u8>>,
    until: Option<Vec<u8>>,
}

impl ValueRange {
    fn narrow(&mut self, from: Vec<u8>, until: Vec<u8>) {
        let from = self
            .from
            .take()
            .map_or(from.clone(), |known| known.max(from));
        let until = self
            .until
            .take()
            .map_or(until.clone(), |known| known.min(until));
        (self.from, self.until) = (Some(from), Some(until));
    }

    fn begins_after(&self, value: &[u8]) -> bool {
        self.from.as_deref().is_some_and(|from| value < from)
    }

    fn ends_after(&self, value: &[u8]) -> bool {
        self.until.as_deref().is_none_or(|until| value < until)
    }

    fn has(&self, value: &[u8]) -> bool {
        !self.begins_after(value) && self.ends_after(value)
    }
}

impl Question {
    /// Returns what a list asks; none where the sorted lists cannot answer it: a search, facets, and what
    /// arrays hold.
    pub(super) fn of(table: &KeyTable, query: &ListQuery) -> Option<Self> {
        if query.search.is_some() || !query.facets.is_empty() {
            return None;
        }
        let number = |field: &str| {
            let field = FieldPath::parse(field).ok()?;
            table.fields.iter().position(|known| *known == field)
        };
        let (sort, descending) = match query.order {
            Order::Rank => return None,
            Order::Id => (None, false),
            Order::Field { sort, descending } => (Some(number(sort.field)?), descending),
        };
        let (mut equal, mut ranges) = (Vec::new(), Vec::new());
        for (filter, value) in &query.filters {
            let (field, place) = (number(filter.field)?, Place::of(Some(value)).into_bytes());
            // Of other kinds than the filter's, no value is more or less.
            let kind = Place::of_kind(filter.kind).into_bytes();
            let beyond = |place: &[u8]| {
                // No place is the beginning of another.
                let mut beyond = place.to_vec();
                beyond.push(0);
                beyond
            };
            match filter.compare {
                Compare::Equal => equal.push((field, place)),
                Compare::AtLeast => {
                    let after_kind = kind.iter().map(|kind| kind + 1).collect();
                    ranges.push((field, place, after_kind));
                }
                Compare::AtMost => ranges.push((field, kind, beyond(&place))),
            }
        }
        let list = best(table, sort, &equal)?;
        let fields = &table.lists[list].equal;
        let mut question = Self {
            list,
            equal: Vec::new(),
            range: ValueRange::default(),
            rest: Vec::new(),
            after: query.after.as_ref().map(|(key, id)| {
                let value = sort.map(|_| Place::of(key.as_ref()).into_bytes());
                (value.unwrap_or_default(), id.clone())
            }),
            descending,
            most: query.limit + 1,
            count: query.count,
        };
        for field in fields {
            let at = equal.iter().position(|(known, _)| known == field)?;
            question.equal.push(equal.swap_remove(at).1);
        }
        for (field, from, until) in ranges {
            if sort == Some(field) {
                question.range.narrow(from, until);
                continue;
            }
            let mut range = ValueRange::default();
            range.narrow(from, until);
            question.rest.push((field, range));
        }
        for (field, value) in equal {
            let mut range = ValueRange::default();
            let mut until = value.clone();
            until.push(0);
            range.narrow(value, until);
            question.rest.push((field, range));
        }
        // What is to be compared one by one is not counted here.
        (question.rest.is_empty() || !question.count).then_some(question)
    }

    /// Walks; none where too many documents would have to be compared.
    pub(super) fn walk(&self, table: &KeyTable) -> Option<Walked> {
        let list = &table.lists[self.list];
        let (first, last) = self.whole(table, list);
        let (from, until) = self.page(table, list, first, last);
        let slots = list.slots.between(from, until);
        let mut hits = Vec::with_capacity(self.most.min(64));
        let mut looks = 0;
        let mut look = |slot: u32| {
            looks += 1;
            let of = |(field, range): &(usize, ValueRange)| range.has(table.value(slot, *field));
            if self.rest.iter().all(of) {
                hits.push(Hit {
                    id: table.id(slot).to_owned(),
                    fingerprint: table.fingerprint(slot),
                });
            }
            hits.len() < self.most && looks < LOOKS
        };
        let through = match self.descending {
            false => slots.take_while(|slot| look(*slot)).count(),
            true => slots.rev().take_while(|slot| look(*slot)).count(),
        };
        if hits.len() < self.most && through + 1 == looks {
            return None;
        }
        Some(Walked {
            hits,
            looks,
            count: self.count.then(|| list.slots.count(first, last) as u64),
        })
    }

    /// The part of a sorted list that is on all pages.
    fn whole(&self, table: &KeyTable, list: &SortedList) -> (Gap, Gap) {
        let first = list.slots.gap(|slot| match self.side(table, list, slot) {
            Ordering::Equal => self.range.begins_after(sort_value(table, list, slot)),
            side => side == Ordering::Less,
        });
        let last = list.slots.gap(|slot| match self.side(table, list, slot) {
            Ordering::Equal => self.range.ends_after(sort_value(table, list, slot)),
            side => side == Ordering::Less,
        });
        (first, last)
    }

    /// The part of it that comes after the page before.
    fn page(&self, table: &KeyTable, list: &SortedList, first: Gap, last: Gap) -> (Gap, Gap) {
        let Some((value, id)) = &self.after else {
            return (first, last);
        };
        let gap = list.slots.gap(|slot| {
            let place = self.side(table, list, slot).then_with(|| {
                let own = (sort_value(table, list, slot), table.id_bytes(slot));
                own.cmp(&(value.as_slice(), id.as_bytes()))
            });
            match self.descending {
                false => place != Ordering::Greater,
                true => place == Ordering::Less,
            }
        });
        match self.descending {
            false => (first.max(gap), last),
            true => (first, last.min(gap)),
        }
    }

    /// Returns on which side of the documents with the values that are asked for a document stands.
    fn side(&self, table: &KeyTable, list: &SortedList, slot: u32) -> Ordering {
        for (field, wanted) in list.equal.iter().zip(&self.equal) {
            let side = table.value(slot, *field).cmp(wanted);
            if side != Ordering::Equal {
                return side;
            }
        }
        Ordering::Equal
    }
}

/// The sorted list in this order that begins with most of the fields: as the store's own indexes, with the one
/// that is declared first.
fn best(table: &KeyTable, sort: Option<usize>, equal: &[(usize, Vec<u8>)]) -> Option<usize> {
    let asked = |field: &usize| equal.iter().any(|(known, _)| known == field);
    let fits = |list: &SortedList| list.sort == sort && list.equal.iter().all(asked);
    let lists = table.lists.iter().enumerate();
    let fitting = lists.filter(|(_, list)| fits(list));
    // Those of single fields are declared in the order in which they tell most.
    let best = fitting.max_by_key(|(number, list)| (list.equal.len(), std::cmp::Reverse(*number)));
    best.map(|(number, _)| number)
}

fn sort_value<'a>(table: &'a KeyTable, list: &SortedList, slot: u32) -> &'a [u8] {
    list.sort.map_or(&[], |field| table.value(slot, field))
}
