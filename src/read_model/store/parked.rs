//! What a view has set aside, as it is stored: each aggregate's commits in stream order.

use super::{Store, StoreError, field, load::unsigned, rows, take};
use crate::{
    read_model::{exchange::Parked, schema::ViewTables},
    view::PartKey,
};
use std::collections::HashSet;
use surrealdb::types::{Object, Value, Variables};

impl Store {
    /// Reads which aggregates a view has parked.
    pub(crate) async fn parked(&self, tables: &ViewTables) -> Result<HashSet<PartKey>, StoreError> {
        let found = self
            .parked_rows(
                tables,
                "SELECT aggregate, instance FROM parked:[$view, NONE]..[$view, ..];",
            )
            .await?;
        found
            .into_iter()
            .map(|mut row| aggregate(&mut row))
            .collect()
    }

    /// Reads which documents of a view are behind because of what it has parked.
    pub(crate) async fn parked_documents(
        &self,
        tables: &ViewTables,
    ) -> Result<HashSet<String>, StoreError> {
        let found = self
            .parked_rows(
                tables,
                "SELECT documents FROM parked:[$view, NONE]..[$view, ..];",
            )
            .await?;
        let mut ids = HashSet::new();
        for mut row in found {
            ids.extend(field::<Vec<String>>(&mut row, "documents")?);
        }
        Ok(ids)
    }

    /// Reads what a view has parked, each aggregate's in stream order.
    pub(crate) async fn parked_commits(
        &self,
        tables: &ViewTables,
    ) -> Result<Vec<Parked>, StoreError> {
        let found = self
            .parked_rows(
                tables,
                "SELECT * OMIT id FROM parked:[$view, NONE]..[$view, ..];",
            )
            .await?;
        found.into_iter().map(read).collect()
    }

    /// Reads which events a view leaves out: the commit's position, and the event's index in it.
    pub(crate) async fn skipped(
        &self,
        tables: &ViewTables,
    ) -> Result<HashSet<(u64, usize)>, StoreError> {
        let found = self
            .parked_rows(
                tables,
                "SELECT position, event FROM skipped:[$view, NONE]..[$view, ..];",
            )
            .await?;
        let read = |mut row: Object| {
            let event = unsigned(&mut row, "event")?;
            let event = usize::try_from(event).map_err(|_| StoreError::shape("skipped.event"))?;
            Ok((unsigned(&mut row, "position")?, event))
        };
        found.into_iter().map(read).collect()
    }

    async fn parked_rows(
        &self,
        tables: &ViewTables,
        sql: &'static str,
    ) -> Result<Vec<Object>, StoreError> {
        let mut variables = Variables::new();
        variables.insert("view", tables.documents.as_str());
        let mut results = self.query(sql, variables).await?;
        rows(take(&mut results, 0)?)
            .into_iter()
            .map(|row| match row {
                Value::Object(row) => Ok(row),
                _ => Err(StoreError::shape("parked")),
            })
            .collect()
    }
}

fn read(mut row: Object) -> Result<Parked, StoreError> {
    let at: String = field(&mut row, "at")?;
    Ok(Parked {
        aggregate: aggregate(&mut row)?,
        position: unsigned(&mut row, "position")?,
        from_event: field::<i64>(&mut row, "from_event")?
            .try_into()
            .map_err(|_| StoreError::shape("parked.from_event"))?,
        reason: field(&mut row, "reason")?,
        documents: field(&mut row, "documents")?,
        at: at.parse().ok(),
    })
}

fn aggregate(row: &mut Object) -> Result<PartKey, StoreError> {
    Ok((field(row, "aggregate")?, field(row, "instance")?))
}
