//! Documents counted by their values: what is written of them, and what a list needs to know.

use super::{StoreError, rows, select::path};
use crate::{
    read_model::{
        counting::{CountChanges, Counted},
        parameters::ListQuery,
        schema::{TableName, ViewTables},
    },
    view::{Compare, Filter},
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, fmt::Write};
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, SurrealValue, Value, Variables};

/// The most counts that are added up for an answer.
const MOST: usize = 5_000;

/// The counts that change, and by how much.
pub(super) fn count_rows(tables: &ViewTables, changes: CountChanges) -> Vec<Value> {
    let changes = changes.changes().map(|(number, values, by)| {
        let mut key = vec![Value::String(tables.counted[number].name.clone())];
        key.extend(values.into_iter().map(SurrealValue::into_value));
        let key = RecordIdKey::Array(Array::from(key));
        let mut row = Object::new();
        row.insert(
            "id",
            Value::RecordId(RecordId::new(tables.counts.as_str(), key)),
        );
        row.insert("by", by);
        Value::Object(row)
    });
    changes.collect()
}

/// Counts of what a list matches, without looking at it.
pub(super) struct Counts<'a> {
    table: &'a TableName,
    counted: &'a Counted,
    /// The value that each field must have.
    asked: Vec<Option<Json>>,
    /// The number of the field by whose values the counts are told apart, if they are.
    by: Option<usize>,
}

impl<'a> Counts<'a> {
    /// The counts that answer how many documents a list matches, or how many with each value of `by` it
    /// would match without a filter by that; none where there are no such counts.
    pub(super) fn of(
        tables: &'a ViewTables,
        query: &ListQuery,
        by: Option<&Filter>,
    ) -> Result<Option<Self>, StoreError> {
        if query.search.is_some() || !tables.indexed {
            return Ok(None);
        }
        let mut asked = Vec::new();
        for (filter, value) in &query.filters {
            if by.is_some_and(|by| by.field == filter.field) {
                continue;
            }
            if filter.compare != Compare::Equal {
                return Ok(None);
            }
            asked.push((path(filter.field)?, value));
        }
        let by = by.map(|by| path(by.field)).transpose()?;
        let fits = |counted: &&Counted| {
            let mut needed = asked.iter().map(|(field, _)| field).chain(&by);
            needed.all(|field| counted.fields.contains(field))
        };
        // The fewer fields there are besides, the fewer counts are to be added up.
        let counted = tables.counted.iter().filter(fits);
        let Some(counted) = counted.min_by_key(|counted| counted.fields.len()) else {
            return Ok(None);
        };
        let of = |field| {
            let mut asked = asked.iter();
            asked
                .find(|(asked, _)| asked == field)
                .map(|(_, value)| (*value).clone())
        };
        Ok(Some(Self {
            table: &tables.counts,
            counted,
            asked: counted.fields.iter().map(of).collect(),
            by: counted
                .fields
                .iter()
                .position(|field| Some(field) == by.as_ref()),
        }))
    }

    /// The statement that reads them, and what it is bound to under names that begin with `name`.
    pub(super) fn select(&self, name: &str, variables: &mut Variables) -> String {
        let mut prefix = format!("${name}");
        variables.insert(name, self.counted.name.as_str());
        // The first fields narrow the range, the others are compared with what comes of it.
        for (number, value) in self.asked.iter().map_while(Option::as_ref).enumerate() {
            write!(prefix, ", ${name}_{number}").expect("a string takes all that is written");
            variables.insert(format!("{name}_{number}"), value.clone().into_value());
        }
        let (table, most) = (self.table, MOST + 1);
        format!("SELECT id, n FROM {table}:[{prefix}]..[{prefix}, ..] LIMIT {most}")
    }

    /// Adds up what the statement found, for each value or for all; `None` if that were too many counts.
    pub(super) fn add_up(&self, found: Value) -> Result<Option<BTreeMap<String, u64>>, StoreError> {
        let found = rows(found);
        if found.len() > MOST {
            return Ok(None);
        }
        let mut sums = BTreeMap::<String, i64>::new();
        for row in found {
            let (mut key, count) = read_count(row)?;
            let matches = |(asked, value): (&Option<Json>, &Json)| {
                asked.as_ref().is_none_or(|asked| asked == value)
            };
            if !self.asked.iter().zip(&key).all(matches) {
                continue;
            }
            let by = match self.by {
                Some(by) if key[by].is_null() => continue,
                Some(by) => key.swap_remove(by),
                None => Json::Null,
            };
            *sums.entry(by.to_string()).or_default() += count;
        }
        let sums = sums.into_iter().filter(|(_, sum)| *sum > 0);
        Ok(Some(
            sums.map(|(value, sum)| (value, sum.unsigned_abs()))
                .collect(),
        ))
    }
}

/// The values that are counted, and how many documents there are.
pub(super) fn read_count(row: Value) -> Result<(Vec<Json>, i64), StoreError> {
    let shape = || StoreError::shape("count");
    let Value::Object(mut row) = row else {
        return Err(shape());
    };
    let count = super::field(&mut row, "n")?;
    match row.remove("id") {
        Some(Value::RecordId(RecordId {
            key: RecordIdKey::Array(key),
            ..
        })) => {
            let values = key.into_inner().into_iter().skip(1);
            Ok((values.map(Value::into_json_value).collect(), count))
        }
        _ => Err(shape()),
    }
}
