//! The readings of comparing a view with the log: documents in the order of ids, with the position that they
//! are of.

use super::{Row, Store, StoreError, load::checkpoint_id, load::unsigned, rows, take};
use crate::read_model::schema::{TableName, ViewTables};
use std::{
    ops::Bound,
    time::{Duration, Instant},
};
use surrealdb::types::{RecordId, RecordIdKey, RecordIdKeyRange, Value, Variables};

/// The time a commit may be applied in part.
const WHOLE: Duration = Duration::from_secs(120);
/// The pause before looking again whether it is applied.
const AGAIN: Duration = Duration::from_millis(50);

impl Store {
    /// Reads the documents after one id and up to another, in the order of ids, at most so many, and the
    /// position that they are of: both in one snapshot. While a commit is applied in part they are of none,
    /// and it is waited for.
    pub(crate) async fn page(
        &self,
        tables: &ViewTables,
        after: Option<&str>,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(u64, Vec<Row>), StoreError> {
        let begun = Instant::now();
        loop {
            if let Some(page) = self.page_now(tables, after, last, limit).await? {
                return Ok(page);
            }
            if begun.elapsed() > WHOLE {
                return Err(StoreError::TooSlow);
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// As [`Store::page`]; none while a commit is applied in part.
    async fn page_now(
        &self,
        tables: &ViewTables,
        after: Option<&str>,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<(u64, Vec<Row>)>, StoreError> {
        let mut variables = between(&tables.documents, after, last);
        variables.insert("checkpoint", Value::RecordId(checkpoint_id(tables)));
        // One statement is one transaction.
        let sql = format!(
            "RETURN {{ position: (SELECT VALUE position FROM ONLY $checkpoint) ?? 0, \
             within: (SELECT VALUE within FROM ONLY $checkpoint), \
             rows: (SELECT id, seq, doc, given FROM $between LIMIT {limit}) }};"
        );
        let mut results = self.query(sql, variables).await?;
        let Value::Object(mut page) = take(&mut results, 0)? else {
            return Err(StoreError::shape("page"));
        };
        if !matches!(
            page.remove("within"),
            None | Some(Value::None | Value::Null)
        ) {
            return Ok(None);
        }
        let position = unsigned(&mut page, "position")?;
        let found = rows(page.remove("rows").unwrap_or_default()).into_iter();
        let found = found.map(Row::read).collect::<Result<_, _>>()?;
        Ok(Some((position, found)))
    }

    /// Reads the id of the document that is so many after this one, in the order of ids.
    pub(crate) async fn id_after(
        &self,
        tables: &ViewTables,
        after: Option<&str>,
        many: u64,
    ) -> Result<Option<String>, StoreError> {
        let variables = between(&tables.documents, after, None);
        let start = many.saturating_sub(1);
        let sql = format!("SELECT VALUE id FROM $between LIMIT 1 START {start};");
        let mut results = self.query(sql, variables).await?;
        match rows(take(&mut results, 0)?).pop() {
            None => Ok(None),
            Some(Value::RecordId(RecordId {
                key: RecordIdKey::String(id),
                ..
            })) => Ok(Some(id)),
            Some(_) => Err(StoreError::shape("document.id")),
        }
    }

    /// Counts the documents of a view.
    pub(crate) async fn documents(&self, tables: &ViewTables) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT VALUE count FROM ONLY (SELECT count() FROM {} GROUP ALL) LIMIT 1;",
            tables.documents
        );
        let mut results = self.query(sql, Variables::new()).await?;
        match take(&mut results, 0)?.into_json_value() {
            serde_json::Value::Null => Ok(0),
            count => count.as_u64().ok_or_else(|| StoreError::shape("count")),
        }
    }
}

#[cfg(test)]
impl Store {
    /// Writes a document as somebody may who does not know what a checkpoint is.
    pub(crate) async fn tamper(
        &self,
        tables: &ViewTables,
        change: crate::read_model::exchange::DocumentChange,
    ) -> Result<(), StoreError> {
        use super::load::document_id;
        use surrealdb::types::{Object, SurrealValue};
        let id = document_id(&tables.documents, &change.id);
        let mut variables = Variables::new();
        variables.insert("id", Value::RecordId(id));
        let sql = match change.document {
            Some(document) => {
                let mut row = Object::new();
                row.insert("seq", super::write::integer(change.position));
                row.insert("doc", document.into_value());
                variables.insert("row", Value::Object(row));
                "UPSERT $id CONTENT $row RETURN NONE;"
            }
            None => "DELETE $id RETURN NONE;",
        };
        self.query(sql, variables).await?;
        Ok(())
    }
}

pub(super) fn between(table: &TableName, after: Option<&str>, last: Option<&str>) -> Variables {
    let key = |id: &str| RecordIdKey::String(id.to_owned());
    let range = RecordIdKeyRange {
        start: after.map_or(Bound::Unbounded, |id| Bound::Excluded(key(id))),
        end: last.map_or(Bound::Unbounded, |id| Bound::Included(key(id))),
    };
    let range = RecordId::new(table.as_str(), RecordIdKey::Range(Box::new(range)));
    let mut variables = Variables::new();
    variables.insert("between", Value::RecordId(range));
    variables
}
