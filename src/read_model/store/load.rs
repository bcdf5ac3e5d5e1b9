//! The projectors' readings: checkpoints, parked aggregates, and what a batch needs, in bulk.

use super::{
    Row, Store, StoreError, field, routes::Routes, rows, select::identified, take,
    write::checkpoint_row,
};
use crate::{
    event_log::{LogName, Mark},
    read_model::{
        exchange::{Checkpoint, Found, Needs, Within},
        schema::{TableName, ViewTables},
    },
    view::PartKey,
};
use jiff::Timestamp;
use std::str::FromStr;
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, Value, Variables};

impl Store {
    /// Reads a view's checkpoint; one at the beginning of a log is made when there is none.
    pub(crate) async fn checkpoint(&self, tables: &ViewTables) -> Result<Checkpoint, StoreError> {
        self.checkpoint_of(tables, LogName::default()).await
    }

    /// As [`Store::checkpoint`]; one that is made is of the log of this name.
    pub(crate) async fn checkpoint_of(
        &self,
        tables: &ViewTables,
        log: LogName,
    ) -> Result<Checkpoint, StoreError> {
        if let Some(checkpoint) = self.find_checkpoint(tables).await? {
            return Ok(checkpoint);
        }
        let mut variables = Variables::new();
        let first = Checkpoint {
            position: 0,
            mark: Mark::default(),
            log,
            exchanges: 0,
            revision: 0,
            writer: String::new(),
            at: Timestamp::now(),
            within: None,
        };
        let mut row = checkpoint_row(&first);
        row.insert("id", Value::RecordId(checkpoint_id(tables)));
        variables.insert("first", Value::Object(row));
        let insert = "INSERT IGNORE INTO checkpoint $first RETURN NONE;";
        self.query(insert, variables).await?;
        let made = self.find_checkpoint(tables).await?;
        made.ok_or_else(|| StoreError::shape("checkpoint"))
    }

    /// Reads a view's checkpoint, if the view was ever written.
    pub(crate) async fn find_checkpoint(
        &self,
        tables: &ViewTables,
    ) -> Result<Option<Checkpoint>, StoreError> {
        let mut variables = Variables::new();
        variables.insert("id", Value::RecordId(checkpoint_id(tables)));
        let mut results = self.query("SELECT * FROM ONLY $id;", variables).await?;
        let mut row = match take(&mut results, 0)? {
            Value::Object(row) => row,
            Value::None => return Ok(None),
            _ => return Err(StoreError::shape("checkpoint")),
        };
        let at: String = field(&mut row, "at")?;
        Ok(Some(Checkpoint {
            position: unsigned(&mut row, "position")?,
            mark: digits(&mut row, "mark")?,
            log: digits(&mut row, "log")?,
            exchanges: unsigned(&mut row, "exchanges")?
                .try_into()
                .map_err(|_| StoreError::shape("checkpoint.exchanges"))?,
            revision: unsigned(&mut row, "revision")?,
            writer: field(&mut row, "writer")?,
            at: at.parse().map_err(|_| StoreError::shape("checkpoint.at"))?,
            within: within(&mut row)?,
        }))
    }

    /// Returns whether a view has neither documents nor parts.
    pub(crate) async fn is_empty(&self, tables: &ViewTables) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT VALUE id FROM {} LIMIT 1; SELECT VALUE id FROM {} LIMIT 1;",
            tables.documents, tables.parts
        );
        let mut results = self.query(sql, Variables::new()).await?;
        Ok(rows(take(&mut results, 0)?).is_empty() && rows(take(&mut results, 1)?).is_empty())
    }

    /// Reads all that a batch needs, in one round trip, and of no route more than `most` documents.
    pub(crate) async fn load(
        &self,
        tables: &ViewTables,
        needs: &Needs,
        most: usize,
    ) -> Result<Found, StoreError> {
        if needs.is_empty() {
            return Ok(Found::default());
        }
        let mut variables = Variables::new();
        let parts = needs.parts.iter().map(|key| part_id(&tables.parts, key));
        let documents = needs.documents.iter();
        let documents = documents.map(|id| document_id(&tables.documents, id));
        variables.insert("parts", ids(parts));
        variables.insert("documents", ids(documents));
        let mut sql =
            "SELECT id, part FROM $parts; SELECT id, seq, doc, given FROM $documents;".to_owned();
        let routes = Routes::of(needs, most)?;
        routes.write(&mut sql, &mut variables, tables);
        let mut results = self.query(sql, variables).await?;
        let parts = rows(take(&mut results, 0)?);
        let parts = parts.into_iter().map(read_part).collect::<Result<_, _>>()?;
        let mut found = Found {
            parts,
            ..Found::default()
        };
        let documents = rows(take(&mut results, 1)?);
        (found.documents, _) = documents_of(documents, &mut found.foreign)?;
        routes.read(&mut results, 2, &mut found)?;
        Ok(found)
    }
}

fn ids(ids: impl Iterator<Item = RecordId>) -> Value {
    Value::Array(ids.map(Value::RecordId).collect::<Vec<_>>().into())
}

/// The documents among records, and the last id. Of what has the id of a document and is none, the id is
/// noted.
#[allow(clippy::type_complexity)]
pub(super) fn documents_of(
    records: Vec<Value>,
    foreign: &mut Vec<String>,
) -> Result<(Vec<(String, serde_json::Value)>, Option<String>), StoreError> {
    let mut documents = Vec::with_capacity(records.len());
    let mut last = None;
    for record in records {
        let Ok((id, row)) = identified(record) else {
            continue;
        };
        last = Some(id.clone());
        match Row::of(id.clone(), row) {
            Ok(row) => documents.push((row.id, row.document)),
            Err(_) => foreign.push(id),
        }
    }
    Ok((documents, last))
}

fn within(row: &mut Object) -> Result<Option<Within>, StoreError> {
    let mut within = match row.remove("within") {
        None | Some(Value::None | Value::Null) => return Ok(None),
        Some(Value::Object(within)) => within,
        Some(_) => return Err(StoreError::shape("checkpoint.within")),
    };
    let small = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    Ok(Some(Within {
        position: unsigned(&mut within, "position")?,
        mark: digits(&mut within, "mark")?,
        event: small(unsigned(&mut within, "event")?),
        after: field(&mut within, "after")?,
        pages: u32::try_from(unsigned(&mut within, "pages")?).unwrap_or(u32::MAX),
    }))
}

fn read_part(row: Value) -> Result<(PartKey, String), StoreError> {
    let Value::Object(mut row) = row else {
        return Err(StoreError::shape("part"));
    };
    let (aggregate, id) = match row.remove("id") {
        Some(Value::RecordId(RecordId {
            key: RecordIdKey::Array(key),
            ..
        })) => match <[Value; 2]>::try_from(key.into_inner()) {
            Ok([Value::String(aggregate), Value::String(id)]) => (aggregate, id),
            _ => return Err(StoreError::shape("part.id")),
        },
        _ => return Err(StoreError::shape("part.id")),
    };
    match field(&mut row, "part") {
        Ok(part) => Ok(((aggregate, id), part)),
        Err(_) => Err(StoreError::Foreign(format!("the part of {aggregate} {id}"))),
    }
}

pub(super) fn unsigned(row: &mut Object, name: &'static str) -> Result<u64, StoreError> {
    let value: i64 = field(row, name)?;
    u64::try_from(value).map_err(|_| StoreError::shape(name))
}

/// A number that is stored as its digits.
pub(super) fn digits<T: FromStr>(row: &mut Object, name: &'static str) -> Result<T, StoreError> {
    let digits: String = field(row, name)?;
    digits.parse().map_err(|_| StoreError::shape(name))
}

pub(super) fn checkpoint_id(tables: &ViewTables) -> RecordId {
    RecordId::new("checkpoint", tables.documents.as_str())
}

pub(super) fn followed_id(tables: &ViewTables) -> RecordId {
    RecordId::new("followed", tables.documents.as_str())
}

pub(super) fn document_id(table: &TableName, id: &str) -> RecordId {
    RecordId::new(table.as_str(), id)
}

pub(super) fn part_id(table: &TableName, (aggregate, id): &PartKey) -> RecordId {
    let key = [aggregate, id].map(|part| Value::String(part.clone()));
    RecordId::new(
        table.as_str(),
        RecordIdKey::Array(Array::from(key.to_vec())),
    )
}
