//! What readers read: one document by id, and a page of a list.

use super::{
    Store, StoreError, field,
    load::{document_id, unsigned},
    ordered::{Ordered, RowsUpTo},
    rows, take,
};
use crate::{
    read_model::{
        parameters::{ListQuery, MAX_COUNT, Order, SortKey},
        schema::{FieldPath, TEXT_INDEX, ViewTables, sort_key},
        search::RANK,
    },
    view::{Compare, Filter, Kind},
};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use surrealdb::types::{
    Array, Number, Object, RecordId, RecordIdKey, SurrealValue, Value, Variables,
};

/// The end of every statement of a reader: how long it may take, wherever it runs.
const LIMITED: &str = "TIMEOUT 5s";

/// A stored document.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) position: u64,
    pub(crate) document: Json,
    /// How well it matches the text searched for: less is better.
    rank: Option<i64>,
}

/// A stored document as it is served: its JSON is written once, and never looked into.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) id: String,
    pub(crate) position: u64,
    pub(crate) document: String,
}

impl Text {
    fn read(row: Value) -> Result<Self, StoreError> {
        let (id, mut row) = identified(row)?;
        let document = given(&mut row);
        Ok(Self {
            id,
            position: unsigned(&mut row, "seq")?,
            document: serde_json::to_string(&AsJson(&document))
                .map_err(|_| StoreError::shape("document.doc"))?,
        })
    }
}

/// A document's JSON as it will be served once it is stored.
pub(crate) fn text(document: &Json) -> Result<String, StoreError> {
    serde_json::to_string(&AsJson(&document.clone().into_value()))
        .map_err(|_| StoreError::shape("document.doc"))
}

/// A value as [`Value::into_json_value`] makes it, without making it.
struct AsJson<'a>(&'a Value);

impl Serialize for AsJson<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::None | Value::Null => to.serialize_unit(),
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Number(Number::Int(value)) => to.serialize_i64(*value),
            Value::Number(Number::Float(value)) => to.serialize_f64(*value),
            Value::String(value) => to.serialize_str(value),
            Value::Array(values) => to.collect_seq(values.iter().map(AsJson)),
            Value::Object(fields) => {
                to.collect_map(fields.iter().map(|(name, value)| (name, AsJson(value))))
            }
            // Nothing that came as JSON.
            other => other.clone().into_json_value().serialize(to),
        }
    }
}

/// The document as it was given. It is kept apart where the one that is compared is another.
fn given(row: &mut Object) -> Value {
    let compared = row.remove("doc").unwrap_or_default();
    match row.remove("given") {
        None | Some(Value::None) => compared,
        Some(given) => given,
    }
}

/// The id of a stored document, and what else its row has.
pub(super) fn identified(row: Value) -> Result<(String, Object), StoreError> {
    let Value::Object(mut row) = row else {
        return Err(StoreError::shape("document"));
    };
    match row.remove("id") {
        Some(Value::RecordId(RecordId {
            key: RecordIdKey::String(id),
            ..
        })) => Ok((id, row)),
        _ => Err(StoreError::shape("document.id")),
    }
}

impl Row {
    pub(super) fn read(row: Value) -> Result<Self, StoreError> {
        let (id, row) = identified(row)?;
        Self::of(id, row)
    }

    pub(super) fn of(id: String, mut row: Object) -> Result<Self, StoreError> {
        Ok(Self {
            id,
            position: unsigned(&mut row, "seq")?,
            rank: field(&mut row, "rank")?,
            document: given(&mut row).into_json_value(),
        })
    }

    /// What the next page goes on after, under this order.
    pub(crate) fn key(&self, order: Order) -> SortKey {
        match order {
            Order::Id => None,
            Order::Rank => self.rank.map(Json::from),
            Order::Field { sort, .. } => {
                let path = FieldPath::parse(sort.field).ok()?;
                sort_key(&path, &self.document)
            }
        }
    }
}

impl Store {
    /// Reads one document.
    pub(crate) async fn get(
        &self,
        tables: &ViewTables,
        id: &str,
    ) -> Result<Option<Row>, StoreError> {
        let mut variables = Variables::new();
        variables.insert("id", Value::RecordId(document_id(&tables.documents, id)));
        let mut results = self
            .query("SELECT id, seq, doc, given FROM ONLY $id", variables)
            .await?;
        match take(&mut results, 0)? {
            Value::None => Ok(None),
            row => Row::read(row).map(Some),
        }
    }

    /// Reads those of these documents that there are, in any order.
    pub(crate) async fn texts(
        &self,
        tables: &ViewTables,
        ids: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<Text>, StoreError> {
        let ids = ids.into_iter();
        let ids = ids.map(|id| Value::RecordId(document_id(&tables.documents, id)));
        let mut variables = Variables::new();
        variables.insert("ids", Value::Array(Array::from(ids.collect::<Vec<_>>())));
        let sql = format!("SELECT * FROM $ids {LIMITED}");
        let mut results = self.read(sql, variables).await?;
        let found = rows(take(&mut results, 0)?);
        found.into_iter().map(Text::read).collect()
    }

    /// Reads a page, and one document more if there is one; and, where that is asked for, how many there
    /// are on all pages, up to one more than the bound. Both are of one moment.
    pub(crate) async fn list(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<(Vec<Row>, Option<u64>), StoreError> {
        let statement = Statement::of(tables, query)?;
        if !query.count {
            let sql = format!("{} {LIMITED}", statement.sql);
            let mut results = self.read(sql, statement.variables).await?;
            let page = read_rows(take(&mut results, 0)?)?;
            return Ok((within(statement.end, page), None));
        }
        let all = Statement::of(
            tables,
            &ListQuery {
                after: None,
                limit: MAX_COUNT,
                ..query.clone()
            },
        )?;
        // One statement is one transaction, and so of one moment.
        let (page, all_ids) = (&statement.sql, &all.ids);
        let sql = format!(
            "RETURN {{ page: ({page} {LIMITED}), count: array::len(({all_ids} {LIMITED})) }};"
        );
        let mut variables = statement.variables;
        variables.extend(all.variables);
        let mut results = self.read(sql, variables).await?;
        let Value::Object(mut found) = take(&mut results, 0)? else {
            return Err(StoreError::shape("page"));
        };
        let page = read_rows(found.remove("page").unwrap_or_default())?;
        Ok((
            within(statement.end, page),
            Some(unsigned(&mut found, "count")?),
        ))
    }

    /// How the engine would go about a list, as it describes it.
    #[cfg(test)]
    pub(crate) async fn explain(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<String, StoreError> {
        let statement = Statement::of(tables, query)?;
        let sql = format!("EXPLAIN {}", statement.sql);
        let mut results = self.query(sql, statement.variables).await?;
        Ok(match take(&mut results, 0)? {
            Value::String(plan) => plan,
            plan => plan.into_json_value().to_string(),
        })
    }
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
    /// As many of them, each by something that tells only how many they are.
    ids: String,
    /// The last of them that belong to the list, where the engine reads beyond.
    end: Option<RowsUpTo>,
    variables: Variables,
}

impl Statement {
    fn of(tables: &ViewTables, query: &ListQuery) -> Result<Self, StoreError> {
        match Ordered::of(tables, query)? {
            Some(ordered) => Ok(Self {
                sql: ordered.page(),
                ids: ordered.ids(),
                end: ordered.end,
                variables: ordered.variables,
            }),
            None => Self::sorted(tables, query),
        }
    }

    /// Of what a text index finds, and of tables that may not have the indexes that are declared here: all
    /// that matches is sorted.
    fn sorted(tables: &ViewTables, query: &ListQuery) -> Result<Self, StoreError> {
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
            conditions.push("pieces @0@ $q".to_owned());
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
        for (number, (filter, value)) in query.filters.iter().enumerate() {
            let (name, field) = (format!("f{number}"), path(filter.field)?);
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
        if query.search.is_some() {
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
            ids: format!("SELECT VALUE id {matches} LIMIT {limit}"),
            end: None,
            variables,
        })
    }
}

/// What comes before every value of a kind in the engine's order: none, null, truths, numbers, text, arrays.
fn before(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "NULL",
        Kind::Integer => "true",
        Kind::Text => "math::inf",
    }
}

/// What comes after every value of a kind.
fn beyond(kind: Kind) -> &'static str {
    match kind {
        Kind::Boolean => "-math::inf",
        Kind::Integer => "''",
        Kind::Text => "[]",
    }
}

/// What comes after the last key.
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

/// What a filter says of a field. Values of other types, and none at all, have their place in the engine's
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

pub(super) fn path(field: &str) -> Result<FieldPath, StoreError> {
    FieldPath::parse(field).map_err(|error| StoreError::shape(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_document_is_written_as_it_is_converted() {
        let document = json!({
            "text": "사과 \"a\"\n\u{1}", "none": null, "truth": [true, false], "whole": -7, "half": 0.5,
            "large": 1e300, "empty": {}, "deep": {"b": [{"a": []}], "a": ""}
        });
        let value = document.clone().into_value();
        let text = serde_json::to_string(&AsJson(&value)).unwrap();
        assert_eq!(text, value.clone().into_json_value().to_string());
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), document);
        let record = Value::RecordId(RecordId::new("t", "a"));
        let text = serde_json::to_string(&AsJson(&record)).unwrap();
        assert_eq!(text, record.into_json_value().to_string());
    }
}
