//! Searches that the index of texts answers, and what it is compared with.

use super::{
    Listed, Row, Store, StoreError, field,
    list::ValueCounts,
    load::document_id,
    page::between,
    rows,
    select::{LIMITED, identified},
    take,
};
use crate::read_model::{
    parameters::ListQuery,
    schema::ViewTables,
    text_index::{Found, matches, searches},
};
use std::collections::HashMap;
use surrealdb::types::{Array, Value, Variables};

impl Store {
    /// Reads what a search finds; none where the index does not know, or nothing is searched for.
    pub(crate) async fn searched(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<Option<Listed>, StoreError> {
        let Some(texts) = &self.inner.texts else {
            return Ok(None);
        };
        if query.search.is_none() {
            return Ok(None);
        }
        for attempt in 1..=searches() {
            let Some(found) = texts.find(tables, query).await else {
                return Ok(None);
            };
            let ids = found.hits.iter().map(|hit| hit.id.as_str());
            let stored = self.rows_of(tables, ids).await?;
            let is_last = attempt == searches();
            if let Some(rows) = as_found(tables, query, &found, stored, is_last) {
                let facets = found.facets.into_iter();
                return Ok(Some(Listed {
                    read: Some(rows.len() as u64),
                    rows,
                    count: found.count,
                    facets: facets
                        .map(|(counts, capped)| ValueCounts { counts, capped })
                        .collect(),
                    by: "text",
                }));
            }
        }
        Ok(None)
    }

    /// Returns whether the documents have texts to be searched by.
    pub(super) async fn has_texts(&self, tables: &ViewTables) -> Result<bool, StoreError> {
        let sql = format!("SELECT VALUE text FROM {} LIMIT 1;", tables.documents);
        let mut results = match self.query(sql, Variables::new()).await {
            Ok(results) => results,
            Err(StoreError::Unavailable(error)) if error.is_not_found() => return Ok(false),
            Err(error) => return Err(error),
        };
        let first = rows(take(&mut results, 0)?).pop();
        Ok(matches!(first, Some(Value::String(_))))
    }

    /// Has the index of texts take what has changed.
    #[cfg(test)]
    pub(crate) async fn flush_texts(&self, tables: &ViewTables) {
        let texts = self.inner.texts.as_ref();
        while texts.is_some_and(|texts| texts.is_behind(tables)) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// Begins a transaction of which it is never said what becomes of it.
    #[cfg(test)]
    pub(crate) fn begin_text_transaction(&self, tables: &ViewTables) -> impl Drop + use<> {
        let texts = self.inner.texts.as_ref();
        texts
            .and_then(|texts| texts.begin(tables))
            .expect("there is an index")
    }

    /// As [`Store::list`], without the index of texts.
    #[cfg(test)]
    pub(crate) async fn unindexed(
        &self,
        tables: &ViewTables,
        query: &ListQuery,
    ) -> Result<Listed, StoreError> {
        let listed = self.listed(tables, None, query, true).await?;
        listed.ok_or_else(|| StoreError::shape("count"))
    }

    /// Returns whether the index of texts is asked for these documents.
    #[cfg(test)]
    pub(crate) fn is_text_indexed(&self, tables: &ViewTables) -> bool {
        let texts = self.inner.texts.as_ref();
        texts.is_some_and(|texts| texts.is_ready(tables))
    }

    /// Reads those of these documents that there are.
    async fn rows_of(
        &self,
        tables: &ViewTables,
        ids: impl Iterator<Item = &str>,
    ) -> Result<HashMap<String, Row>, StoreError> {
        let ids = ids.map(|id| Value::RecordId(document_id(&tables.documents, id)));
        let ids: Vec<_> = ids.collect();
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let mut variables = Variables::new();
        variables.insert("ids", Value::Array(Array::from(ids)));
        let sql = format!("SELECT id, seq, doc, given FROM $ids {LIMITED}");
        let mut results = self.read(sql, variables).await?;
        let found = rows(take(&mut results, 0)?).into_iter();
        found
            .map(|row| Row::read(row).map(|row| (row.id.clone(), row)))
            .collect()
    }

    /// Reads the documents after an id, in the order of ids, at most so many, with the text that each is
    /// searched by.
    pub(crate) async fn rows_after(
        &self,
        tables: &ViewTables,
        after: Option<&str>,
        limit: usize,
    ) -> Result<TextRows, StoreError> {
        let variables = between(&tables.documents, after, None);
        let sql = format!("SELECT id, seq, doc, given, text FROM $between LIMIT {limit};");
        let mut results = self.query(sql, variables).await?;
        let mut found = TextRows::default();
        for row in rows(take(&mut results, 0)?) {
            // What is no document is nobody's to find.
            let Ok((id, mut row)) = identified(row) else {
                continue;
            };
            found.last = Some(id.clone());
            let text = field(&mut row, "text");
            if let (Ok(text), Ok(row)) = (text, Row::of(id, row)) {
                found.rows.push((row, text));
            }
        }
        Ok(found)
    }
}

/// Some documents, each with the text that it is searched by.
#[derive(Default)]
pub(crate) struct TextRows {
    pub(crate) rows: Vec<(Row, Option<String>)>,
    /// The last id that was looked at; none at the end.
    pub(crate) last: Option<String>,
}

/// The documents that were found, as they were when they were found. Where one has changed since, none, so
/// that it is searched again; at last, those that still match.
fn as_found(
    tables: &ViewTables,
    query: &ListQuery,
    found: &Found,
    mut stored: HashMap<String, Row>,
    is_last: bool,
) -> Option<Vec<Row>> {
    let mut rows = Vec::with_capacity(found.hits.len());
    for hit in &found.hits {
        let row = stored.remove(&hit.id);
        match row {
            Some(row) if row.position == hit.position => rows.push(row.ranked(hit.rank)),
            Some(row) if is_last && matches(tables, query, &row.id, &row.document) => {
                rows.push(row.ranked(hit.rank));
            }
            _ if is_last => {}
            _ => return None,
        }
    }
    Some(rows)
}
