//! The readers' readings: documents by their ids, and what every row is made into.

use super::{
    Store, StoreError,
    fence::Fence,
    field,
    load::{document_id, unsigned},
    rows, take,
};
use crate::read_model::{
    parameters::{Order, SortKey},
    schema::{FieldPath, ViewTables, sort_key},
};
use serde::{Serialize, Serializer};
use serde_json::Value as Json;
use surrealdb::types::{
    Array, Number, Object, RecordId, RecordIdKey, SurrealValue, Value, Variables,
};

/// The end of every statement of a reader: how long it may take, wherever it runs.
pub(super) const LIMITED: &str = "TIMEOUT 5s";

/// A stored document.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) position: u64,
    pub(crate) document: Json,
    /// The rank under the text searched for: less is better.
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

    /// The document as one that a search has found.
    pub(super) fn ranked(self, rank: Option<i64>) -> Self {
        Self { rank, ..self }
    }

    /// Returns what the next page goes on after, under this order.
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

    /// Reads those of these documents that there are, in any order, as of a fence where there is one.
    pub(crate) async fn texts(
        &self,
        tables: &ViewTables,
        fence: Option<&Fence>,
        ids: impl IntoIterator<Item = &str>,
    ) -> Result<Vec<Text>, StoreError> {
        let ids = ids.into_iter();
        let ids = ids.map(|id| Value::RecordId(document_id(&tables.documents, id)));
        let mut variables = Variables::new();
        variables.insert("ids", Value::Array(Array::from(ids.collect::<Vec<_>>())));
        let sql = format!("SELECT * FROM $ids {LIMITED}");
        let mut results = self.read_fenced(sql, variables, tables, fence).await?;
        let found = rows(take(&mut results, 0)?);
        found.into_iter().map(Text::read).collect()
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
