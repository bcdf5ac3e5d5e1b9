//! Lists: a page, how many documents there are on all pages, and how many with each value of a field.

use super::{
    Row, Store, StoreError, WeakStore,
    counts::Counts,
    fence::Fence,
    load::document_id,
    ordered::{Ordered, RowsUpTo},
    rows,
    select::{LIMITED, path},
    take,
};
use crate::{
    read_model::{
        list_index::Walked,
        ordering::KeyColumn,
        parameters::{ListQuery, MAX_COUNT, Order},
        schema::{FieldPath, TEXT_INDEX, ViewTables},
        search::RANK,
        visible::Visibility,
    },
    view::{Compare, Filter, Kind},
};
use serde_json::Value as Json;
use std::{collections::BTreeMap, fmt::Write, sync::Arc};
use surrealdb::types::{SurrealValue, Value, Variables};

/// The store's answer to a list.
#[derive(Debug)]
pub(crate) struct Listed {
    /// The documents of the page, and one more if there is one.
    pub(crate) rows: Vec<Row>,
    /// The number on all pages, where that was asked for; not told apart beyond the bound.
    pub(crate) count: Option<u64>,
    /// The number of documents that have each value, for each facet that was asked for.
    pub(crate) facets: Vec<ValueCounts>,
    /// The way to the page: `index`, `rows`, `sorted` or `text`.
    pub(crate) by: &'static str,
    /// The number of documents that were read for the page, where that is known.
    pub(crate) read: Option<u64>,
}

impl Listed {
    /// Returns what is known of a list of which nothing is to be seen.
    pub(crate) fn nothing(query: &ListQuery) -> Self {
        let counts = |_: &Filter| ValueCounts {
            counts: BTreeMap::new(),
            capped: false,
        };
        Self {
            rows: Vec::new(),
            count: query.count.then_some(0),
            facets: query.facets.iter().map(counts).collect(),
            by: "index",
            read: None,
        }
    }
}

/// The number of documents that have each value of a field.
#[derive(Debug)]
pub(crate) struct ValueCounts {
    /// By the value's JSON.
    pub(crate) counts: BTreeMap<String, u64>,
    /// True if there are documents that were not looked at.
    pub(crate) capped: bool,
}

impl Store {
    /// Reads a page, and one document more if there is one; and, where that is asked for, how many there
    /// are on all pages, up to one more than the bound, and how many with each value of some fields. All is
    /// of one moment, and as of a fence where there is one.
    pub(crate) async fn list(
        &self,
        tables: &ViewTables,
        fence: Option<&Fence>,
        query: &ListQuery,
    ) -> Result<Listed, StoreError> {
        if let Some(found) = self.searched(tables, query).await? {
            return Ok(found);
        }
        match self.listed(tables, fence, query, true).await? {
            Some(listed) => Ok(listed),
            None => {
                let walked = self.listed(tables, fence, query, false).await?;
                walked.ok_or_else(|| StoreError::shape("count"))
            }
        }
    }

    /// Returns which documents are on a page, where the sorted lists beside the store know it.
    pub(crate) fn sorted(&self, tables: &ViewTables, query: &ListQuery) -> Option<Walked> {
        let lists = self.inner.lists.as_ref()?;
        lists.find(tables, query, || WeakStore(Arc::downgrade(&self.inner)))
    }

    /// Returns whether there are sorted lists beside the store.
    #[cfg(test)]
    pub(crate) fn sorts(&self) -> bool {
        self.inner.lists.is_some()
    }

    /// Returns whether the sorted lists of these documents are ready.
    #[cfg(test)]
    pub(crate) fn is_sorted(&self, tables: &ViewTables) -> bool {
        let lists = self.inner.lists.as_ref();
        lists.is_some_and(|lists| lists.is_ready(tables))
    }

    /// Returns whether a list compares or sorts documents that it does not answer.
    pub(crate) fn walks(&self, tables: &ViewTables, query: &ListQuery) -> bool {
        let texts = self.inner.texts.as_ref().filter(|_| query.search.is_some());
        if texts.is_some_and(|texts| texts.is_ready(tables)) {
            return false;
        }
        Statement::of(tables, query, self.inner.full_text)
            .is_ok_and(|statement| statement.by != "index")
    }

    /// As [`Store::list`], by the counts that are kept, or without; none where those are too many.
    pub(super) async fn listed(
        &self,
        tables: &ViewTables,
        fence: Option<&Fence>,
        query: &ListQuery,
        kept: bool,
    ) -> Result<Option<Listed>, StoreError> {
        let Statement {
            sql: page,
            by,
            end,
            mut variables,
            ..
        } = Statement::of(tables, query, self.inner.full_text)?;
        if !query.count && query.facets.is_empty() {
            let mut results = self
                .read_fenced(format!("{page} {LIMITED}"), variables, tables, fence)
                .await?;
            let rows = read_rows(take(&mut results, 0)?)?;
            return Ok(Some(Listed {
                read: read_for(by, &rows),
                rows: within(end, rows),
                count: None,
                facets: Vec::new(),
                by,
            }));
        }
        let mut tallies = Vec::new();
        if query.count {
            tallies.push(Tally::of(tables, query, None, kept, self.inner.full_text)?);
        }
        for filter in &query.facets {
            tallies.push(Tally::of(
                tables,
                query,
                Some(filter),
                kept,
                self.inner.full_text,
            )?);
        }
        // One statement is one transaction, and so of one moment.
        let mut sql = format!("RETURN [({page} {LIMITED})");
        for (number, tally) in tallies.iter_mut().enumerate() {
            let select = tally.select(number, &mut variables);
            write!(sql, ", ({select} {LIMITED})").expect("a string takes all that is written");
        }
        sql.push(']');
        let mut results = self.read_fenced(sql, variables, tables, fence).await?;
        let mut found = rows(take(&mut results, 0)?).into_iter();
        let rows = read_rows(found.next().unwrap_or_default())?;
        let read = read_for(by, &rows);
        let rows = within(end, rows);
        let mut facets = Vec::new();
        for (tally, found) in tallies.iter().zip(found) {
            match tally.read(found)? {
                Some(counts) => facets.push(counts),
                None => return Ok(None),
            }
        }
        let count = query.count.then(|| facets.remove(0).total());
        Ok(Some(Listed {
            rows,
            count,
            facets,
            by,
            read,
        }))
    }

    /// Returns how the engine would go about a list, as it describes it.
    #[cfg(test)]
    pub(crate) async fn explain(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<String, StoreError> {
        self.explained("EXPLAIN", tables, query).await
    }

    /// Returns how the engine went about a list, with how many rows each step has had.
    #[cfg(test)]
    pub(crate) async fn analyze(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<String, StoreError> {
        self.explained("EXPLAIN ANALYZE", tables, query).await
    }

    #[cfg(test)]
    async fn explained(
        &self,
        explain: &str,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<String, StoreError> {
        let statement = Statement::of(tables, query, self.inner.full_text)?;
        let sql = format!("{explain} {}", statement.sql);
        let mut results = self.query(sql, statement.variables).await?;
        Ok(match take(&mut results, 0)? {
            Value::String(plan) => plan,
            plan => plan.into_json_value().to_string(),
        })
    }
}

impl ValueCounts {
    fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// The way to the number of documents that a list matches: all of them, or by the values of a field.
enum Tally<'a> {
    /// By what is kept of it.
    Kept(Counts<'a>),
    /// By walking through them, up to a bound.
    Walked(Statement, Option<FieldPath>),
}

impl<'a> Tally<'a> {
    /// Under all filters, or all but those by the field whose values are told apart.
    fn of(
        tables: &'a ViewTables,
        query: &ListQuery,
        by: Option<&Filter>,
        kept: bool,
        full_text: bool,
    ) -> Result<Self, StoreError> {
        // What is visible is no filter that a facet could be without.
        let is_visible = |by: &Filter| query.visible == Visibility::Where(by.field);
        let kept = kept && !by.is_some_and(is_visible);
        if kept && let Some(counts) = Counts::of(tables, query, by)? {
            return Ok(Self::Kept(counts));
        }
        let mut all = ListQuery {
            after: None,
            limit: MAX_COUNT,
            ..query.clone()
        };
        if let Some(by) = by.filter(|by| !is_visible(by)) {
            all.filters.retain(|(filter, _)| filter.field != by.field);
        }
        let by = by.map(|by| path(by.field)).transpose()?;
        Ok(Self::Walked(Statement::of(tables, &all, full_text)?, by))
    }

    /// The statement, and what it is bound to.
    fn select(&mut self, number: usize, variables: &mut Variables) -> String {
        match self {
            Self::Kept(counts) => counts.select(&format!("kept{number}"), variables),
            Self::Walked(statement, by) => {
                variables.extend(std::mem::take(&mut statement.variables));
                match by {
                    Some(field) => statement.each(&field.to_string()),
                    None => statement.each("id"),
                }
            }
        }
    }

    /// Returns what the statement found; none where that were too many counts.
    fn read(&self, found: Value) -> Result<Option<ValueCounts>, StoreError> {
        let by = match self {
            Self::Kept(counts) => {
                let counts = counts.add_up(found)?;
                let capped = false;
                return Ok(counts.map(|counts| ValueCounts { counts, capped }));
            }
            Self::Walked(_, by) => by,
        };
        let found = rows(found);
        let capped = found.len() > MAX_COUNT;
        let mut counts = BTreeMap::<String, u64>::new();
        match by {
            None => {
                counts.insert(String::new(), found.len() as u64);
            }
            Some(_) => {
                for value in found.into_iter().take(MAX_COUNT) {
                    match value.into_json_value() {
                        Json::Null => {}
                        value => *counts.entry(value.to_string()).or_default() += 1,
                    }
                }
            }
        }
        Ok(Some(ValueCounts { counts, capped }))
    }
}

/// Returns how many rows were read for these. An index gives what is answered; where rows are compared or sorted on
/// the way, only the engine knows how many there were.
fn read_for(by: &str, rows: &[Row]) -> Option<u64> {
    (by == "index").then_some(rows.len() as u64)
}

/// The rows that belong to a list that ends before its walk does.
fn within(end: Option<RowsUpTo>, mut rows: Vec<Row>) -> Vec<Row> {
    if let Some(end) = end {
        rows.truncate(end.within(&rows));
    }
    rows
}

fn read_rows(found: Value) -> Result<Vec<Row>, StoreError> {
    rows(found).into_iter().map(Row::read).collect()
}

/// A list as SurrealQL. Only checked names are part of the text; every value is bound.
struct Statement {
    sql: String,
    /// The way to it: as an index has it, by comparing rows on the way, or by sorting all that matches.
    by: &'static str,
    /// From where, and which.
    matches: String,
    /// The column of the order, where the engine walks in it.
    key: Option<KeyColumn>,
    limit: usize,
    /// The last of them that belong to the list, where the engine reads beyond.
    end: Option<RowsUpTo>,
    variables: Variables,
}

impl Statement {
    fn of(tables: &ViewTables, query: &ListQuery, full_text: bool) -> Result<Self, StoreError> {
        match Ordered::of(tables, query)? {
            Some(Ordered {
                matches,
                compares,
                key,
                end,
                variables,
            }) => {
                let limit = query.limit + 1;
                Ok(Self {
                    sql: format!(
                        "SELECT id, seq, doc, given {matches} ORDER BY {key} ASC LIMIT {limit}"
                    ),
                    by: if compares { "rows" } else { "index" },
                    matches,
                    key: Some(key),
                    limit,
                    end,
                    variables,
                })
            }
            None => Self::sorted(tables, query, full_text),
        }
    }

    /// Of what is searched for, which the store's own index finds where it has one, and of tables that may not
    /// have the indexes that are declared here: all that matches is sorted.
    fn sorted(tables: &ViewTables, query: &ListQuery, full_text: bool) -> Result<Self, StoreError> {
        let mut variables = Variables::new();
        let mut conditions = Vec::new();
        let sort = match query.order {
            Order::Field { sort, .. } => Some(path(sort.field)?),
            Order::Id | Order::Rank => None,
        };
        if let Some(search) = &query.search {
            if !tables.searchable {
                return Err(StoreError::NotSearchable);
            }
            if full_text {
                conditions.push("pieces @0@ $q".to_owned());
            }
            for (number, word) in search.words().iter().enumerate() {
                conditions.push(format!("text CONTAINS $w{number}"));
                variables.insert(format!("w{number}"), word.as_str());
            }
            search.bind(&mut |name, value| variables.insert(name, value));
        }
        if let Some((key, id)) = &query.after {
            conditions.push(after(query.order, sort.as_ref()));
            let id = document_id(&tables.documents, id);
            variables.insert("after_id", Value::RecordId(id));
            let key = key.clone().map_or(Value::None, SurrealValue::into_value);
            variables.insert("after", key);
        }
        for (filter, value) in &query.filters {
            let (name, field) = (format!("f_{}", filter.name), path(filter.field)?);
            conditions.push(condition(filter, &field, &name));
            variables.insert(name, value.clone().into_value());
        }
        let rank = match query.order {
            Order::Rank => format!(", {RANK} AS rank"),
            Order::Id | Order::Field { .. } => String::new(),
        };
        let order = match (query.order, &sort) {
            (Order::Rank, _) => "rank ASC, id ASC".to_owned(),
            (Order::Field { descending, .. }, Some(sort)) => {
                let direction = if descending { "DESC" } else { "ASC" };
                format!("{sort} {direction}, id {direction}")
            }
            _ => "id ASC".to_owned(),
        };
        let mut matches = format!("FROM {}", tables.documents);
        if full_text && query.search.is_some() {
            matches = format!("{matches} WITH INDEX {TEXT_INDEX}");
        }
        if !conditions.is_empty() {
            matches = format!("{matches} WHERE {}", conditions.join(" AND "));
        }
        let limit = query.limit + 1;
        Ok(Self {
            sql: format!(
                "SELECT id, seq, doc, given{rank} {matches} ORDER BY {order} LIMIT {limit}"
            ),
            by: "sorted",
            matches,
            key: None,
            limit,
            end: None,
            variables,
        })
    }

    /// One value of each of as many rows, in no order. Where the list ends before the walk does, what is
    /// walked through is bounded first.
    fn each(&self, value: &str) -> String {
        let (matches, limit) = (&self.matches, self.limit);
        match &self.key {
            Some(key) if self.end.is_some() => format!(
                "SELECT VALUE v FROM (SELECT {value} AS v, {key} AS k {matches} \
                 ORDER BY {key} ASC LIMIT {limit}) WHERE k < $end"
            ),
            _ => format!("SELECT VALUE {value} {matches} LIMIT {limit}"),
        }
    }
}

/// Returns what comes before every value of a kind in the engine's order: none, null, truths, numbers, text, arrays.
fn before(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "NULL",
        Kind::Integer => "true",
        Kind::Text => "math::inf",
    }
}

/// Returns what comes after every value of a kind.
fn beyond(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "-math::inf",
        Kind::Integer => "''",
        Kind::Text => "[]",
    }
}

/// Returns what comes after the last key.
fn after(order: Order, sort: Option<&FieldPath>) -> String {
    match (order, sort) {
        (Order::Rank, _) => {
            format!("{RANK} >= $after AND ({RANK} > $after OR id > $after_id)")
        }
        (Order::Field { descending, .. }, Some(sort)) => {
            let beyond = if descending { "<" } else { ">" };
            format!("{sort} {beyond}= $after AND ({sort} {beyond} $after OR id {beyond} $after_id)")
        }
        _ => "id > $after_id".to_owned(),
    }
}

/// Returns what a filter says of a field. Values of other types, and none at all, have their place in the engine's
/// order too.
pub(super) fn condition(filter: &Filter, field: &FieldPath, value: &str) -> String {
    match filter.compare {
        Compare::Equal if field.is_many() => format!("{field} CONTAINS ${value}"),
        Compare::Equal => format!("{field} = ${value}"),
        Compare::AtLeast => {
            let beyond = beyond(filter.kind);
            format!("{field} >= ${value} AND {field} < {beyond}")
        }
        Compare::AtMost => {
            let before = before(filter.kind);
            format!("{field} <= ${value} AND {field} > {before}")
        }
    }
}
