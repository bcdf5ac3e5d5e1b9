//! Lists as walks: from a key on, forward, behind the values that an index begins with.

use super::{Row, StoreError, list::condition, select::path};
use crate::{
    read_model::{
        ordering::{Direction, KeyColumn, ListOrder, Place},
        parameters::{ListQuery, Order},
        schema::{FieldPath, SHARED_FIELD, ViewTables, sort_key},
    },
    view::{Compare, Filter},
};
use serde_json::Value as Json;
use surrealdb::types::{Object, SurrealValue, Value, Variables};

/// Adds a document's keys to its row, and what all rows share.
pub(super) fn insert_keys(row: &mut Object, tables: &ViewTables, id: &str, document: &Json) {
    let (mut up, mut down) = (Object::new(), Object::new());
    for order in &tables.orders {
        let field = order.field.as_ref();
        let value = field.and_then(|field| sort_key(field, document));
        let place = Place::of_document(value.as_ref(), id);
        up.insert(order.name.clone(), place.key(Direction::Up));
        down.insert(order.name.clone(), place.key(Direction::Down));
    }
    row.insert(SHARED_FIELD, 0_i64);
    row.insert(Direction::Up.word(), Value::Object(up));
    row.insert(Direction::Down.word(), Value::Object(down));
}

/// A list that an index has in its order. Only checked names are part of its text; every value is bound.
pub(super) struct Ordered {
    /// From where, and which.
    pub(super) matches: String,
    /// True if rows are compared on the way, so that more are read than are answered.
    pub(super) compares: bool,
    /// The column of the order.
    pub(super) key: KeyColumn,
    /// The place where the list ends, if that is before the end of the walk.
    pub(super) end: Option<RowsUpTo>,
    pub(super) variables: Variables,
}

impl Ordered {
    /// The walk that answers a list; none for what is searched for, which has another order, and where
    /// the indexes may be others.
    pub(super) fn of(tables: &ViewTables, query: &ListQuery) -> Result<Option<Self>, StoreError> {
        let Some((order, direction)) = order_of(tables, query)? else {
            return Ok(None);
        };
        let key = KeyColumn {
            direction,
            name: order.name.clone(),
        };
        let mut equal = Vec::new();
        for (filter, _) in &query.filters {
            if filter.compare == Compare::Equal {
                equal.push(path(filter.field)?);
            }
        }
        let equal: Vec<_> = equal.iter().collect();
        let Some(index) = tables.ordered_index(&equal, &key) else {
            return Ok(None);
        };

        let (mut variables, mut conditions, mut rest) = (Variables::new(), Vec::new(), Vec::new());
        if index.fields.is_empty() {
            conditions.push(format!("{SHARED_FIELD} = 0"));
        }
        let mut range = Range::of(order, direction, query);
        // An index is walked behind one value of each field.
        let mut pinned: Vec<FieldPath> = Vec::new();
        for (filter, value) in &query.filters {
            let field = path(filter.field)?;
            if order.field.as_ref() == Some(&field) && range.narrow(filter, value) {
                continue;
            }
            let name = format!("f_{}", filter.name);
            let pins = filter.compare == Compare::Equal
                && index.fields.contains(&field)
                && !pinned.contains(&field);
            let place = if pins { &mut conditions } else { &mut rest };
            place.push(condition(filter, &field, &name));
            variables.insert(name, value.clone().into_value());
            if pins {
                pinned.push(field);
            }
        }
        if let Some((compare, from)) = range.from() {
            // A page and the count of all pages are asked for together.
            let name = if query.after.is_some() {
                "after"
            } else {
                "start"
            };
            conditions.push(format!("{key} {compare} ${name}"));
            variables.insert(name, from);
        }
        let end = range.end(query.order);
        if let Some(end) = &end {
            variables.insert("end", end.key.as_str());
        }
        let compares = !rest.is_empty();
        conditions.append(&mut rest);
        Ok(Some(Self {
            matches: format!(
                "FROM {} WITH INDEX {} WHERE {}",
                tables.documents,
                index.name,
                conditions.join(" AND ")
            ),
            compares,
            key,
            end,
            variables,
        }))
    }
}

/// The order of a list among those that documents have keys under, and its direction.
fn order_of<'a>(
    tables: &'a ViewTables,
    query: &ListQuery,
) -> Result<Option<(&'a ListOrder, Direction)>, StoreError> {
    if query.search.is_some() || !tables.indexed {
        return Ok(None);
    }
    let (field, direction) = match query.order {
        Order::Rank => return Ok(None),
        Order::Id => (None, Direction::Up),
        Order::Field { sort, descending } => {
            let direction = match descending {
                false => Direction::Up,
                true => Direction::Down,
            };
            (Some(path(sort.field)?), direction)
        }
    };
    let order = tables.orders.iter().find(|order| order.field == field);
    Ok(order.map(|order| (order, direction)))
}

/// The part of an order that a list is of.
struct Range {
    direction: Direction,
    /// The lowest key, and the documents that are of it.
    low: Option<Place>,
    /// The highest key, and the documents that are of it.
    high: Option<Place>,
    /// The place where the page before ended.
    after: Option<Place>,
}

impl Range {
    fn of(order: &ListOrder, direction: Direction, query: &ListQuery) -> Self {
        let after = query.after.as_ref().map(|(key, id)| {
            let value = key.as_ref().filter(|_| order.field.is_some());
            Place::of_document(value, id)
        });
        Self {
            direction,
            low: None,
            high: None,
            after,
        }
    }

    /// Takes a filter by more or less into the range; whether it is one. What is of another kind, or
    /// missing, is neither more nor less.
    fn narrow(&mut self, filter: &Filter, value: &Json) -> bool {
        if filter.compare == Compare::Equal {
            return false;
        }
        let place = Place::of(Some(value));
        let kind = Place::of_kind(filter.kind);
        let lowest = self.low.get_or_insert_with(|| kind.clone());
        match filter.compare {
            Compare::Equal => {}
            Compare::AtLeast => {
                if place > *lowest {
                    *lowest = place;
                }
                self.high.get_or_insert(kind);
            }
            Compare::AtMost => {
                let narrower = |high: &Place| high.holds(&place) || place < *high;
                if self.high.as_ref().is_none_or(narrower) {
                    self.high = Some(place);
                }
            }
        }
        true
    }

    /// The comparison and the key that the walk begins at.
    fn from(&self) -> Option<(&'static str, String)> {
        let first = match self.direction {
            Direction::Up => &self.low,
            Direction::Down => &self.high,
        };
        let first = first
            .as_ref()
            .map(|place| (place.key(self.direction), ">="));
        let after = self.after.as_ref();
        let after = after.map(|place| (place.key(self.direction), ">"));
        let (key, compare) = first.into_iter().chain(after).max()?;
        Some((compare, key))
    }

    fn end(self, order: Order) -> Option<RowsUpTo> {
        let last = match self.direction {
            Direction::Up => self.high?,
            Direction::Down => self.low?,
        };
        Some(RowsUpTo {
            order,
            direction: self.direction,
            key: last.end(self.direction),
        })
    }
}

/// The end of a list, where it ends before the walk does.
pub(super) struct RowsUpTo {
    order: Order,
    direction: Direction,
    /// The first key that does not belong to the list.
    key: String,
}

impl RowsUpTo {
    /// Returns how many of the rows, in the order of the walk, belong to the list.
    pub(super) fn within(&self, rows: &[Row]) -> usize {
        rows.partition_point(|row| {
            let place = Place::of_document(row.key(self.order).as_ref(), &row.id);
            place.key(self.direction) < self.key
        })
    }
}
