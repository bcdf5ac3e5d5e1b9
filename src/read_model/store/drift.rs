//! The position that a view was compared with the log up to, and what was found that is not what the log says: both as
//! they are stored beside the view.

use super::{Store, StoreError, field, load::unsigned, rows, take, write::integer};
use crate::read_model::schema::ViewTables;
use jiff::{SignedDuration, Timestamp};
use std::hash::{DefaultHasher, Hash, Hasher};
use surrealdb::types::{Array, Object, RecordId, RecordIdKey, SurrealValue, Value, Variables};

/// The number of documents whose evidence is kept of a generation.
const KEPT: usize = 100;
/// For how long. It holds what documents hold, of persons too.
const KEPT_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The position that a view was compared with the log up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Verification {
    /// The id of the last document that was compared; `None` when the next one is the first.
    pub(crate) after: Option<String>,
    /// The time.
    pub(crate) at: Timestamp,
    /// The number of documents that were compared.
    pub(crate) checked: u64,
    /// The number of times that one differed.
    pub(crate) different: u64,
    /// The number that were set right.
    pub(crate) repaired: u64,
}

/// A document that was not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Evidence {
    /// Its id.
    pub(crate) id: String,
    /// The document that was there, as JSON.
    pub(crate) stored: Option<String>,
    /// The document that should have been there, as JSON.
    pub(crate) folded: Option<String>,
    /// The time when it was found.
    pub(crate) at: Timestamp,
}

impl Store {
    /// Reads how far a view was compared.
    pub(crate) async fn verification(
        &self,
        tables: &ViewTables,
    ) -> Result<Verification, StoreError> {
        let mut variables = Variables::new();
        variables.insert("id", Value::RecordId(verified_id(tables)));
        let mut results = self.query("SELECT * FROM ONLY $id;", variables).await?;
        let Value::Object(mut row) = take(&mut results, 0)? else {
            return Ok(Verification::default());
        };
        let at: String = field(&mut row, "at")?;
        Ok(Verification {
            after: field(&mut row, "after")?,
            at: at.parse().map_err(|_| StoreError::shape("verified.at"))?,
            checked: unsigned(&mut row, "checked")?,
            different: unsigned(&mut row, "different")?,
            repaired: unsigned(&mut row, "repaired")?,
        })
    }

    /// Stores how far a view was compared, and drops evidence that is too old.
    pub(crate) async fn verified(
        &self,
        tables: &ViewTables,
        verification: &Verification,
    ) -> Result<(), StoreError> {
        let mut row = Object::new();
        row.insert("after", verification.after.clone());
        row.insert("at", verification.at.to_string());
        row.insert("checked", integer(verification.checked));
        row.insert("different", integer(verification.different));
        row.insert("repaired", integer(verification.repaired));
        let mut variables = Variables::new();
        variables.insert("id", Value::RecordId(verified_id(tables)));
        variables.insert("row", Value::Object(row));
        variables.insert("view", tables.documents.as_str());
        variables.insert("old", (verification.at - KEPT_FOR).to_string());
        let sql = "UPSERT $id CONTENT $row RETURN NONE; \
             DELETE drift:[$view, NONE]..[$view, ..] WHERE at < $old RETURN NONE;";
        self.query(sql, variables).await?;
        Ok(())
    }

    /// Keeps what was found, the newest of it.
    pub(crate) async fn keep_evidence(
        &self,
        tables: &ViewTables,
        evidence: Vec<Evidence>,
    ) -> Result<(), StoreError> {
        if evidence.is_empty() {
            return Ok(());
        }
        let found = evidence.into_iter().map(|it| evidence_row(tables, it));
        let mut variables = Variables::new();
        variables.insert("found", Value::Array(found.collect::<Vec<_>>().into()));
        variables.insert("view", tables.documents.as_str());
        let sql = format!(
            "FOR $row IN $found {{ UPSERT $row.id CONTENT $row.row RETURN NONE }}; \
             LET $kept = (SELECT id, at FROM drift:[$view, NONE]..[$view, ..] ORDER BY at DESC); \
             DELETE array::slice($kept.id, {KEPT}) RETURN NONE;"
        );
        self.query(sql, variables).await?;
        Ok(())
    }

    /// Reads what was found, the newest first.
    pub(crate) async fn evidence(
        &self,
        tables: &ViewTables,
        limit: usize,
    ) -> Result<Vec<Evidence>, StoreError> {
        let mut variables = Variables::new();
        variables.insert("view", tables.documents.as_str());
        let sql = format!(
            "SELECT document, stored, folded, at FROM drift:[$view, NONE]..[$view, ..] \
             ORDER BY at DESC LIMIT {limit};"
        );
        let mut results = self.query(sql, variables).await?;
        let found = rows(take(&mut results, 0)?).into_iter();
        found
            .map(|row| {
                let Value::Object(mut row) = row else {
                    return Err(StoreError::shape("drift"));
                };
                let at: String = field(&mut row, "at")?;
                Ok(Evidence {
                    id: field(&mut row, "document")?,
                    stored: field(&mut row, "stored")?,
                    folded: field(&mut row, "folded")?,
                    at: at.parse().map_err(|_| StoreError::shape("drift.at"))?,
                })
            })
            .collect()
    }
}

pub(super) fn verified_id(tables: &ViewTables) -> RecordId {
    RecordId::new("verified", tables.documents.as_str())
}

/// The same of the same document is one row, however often it is found.
fn evidence_row(tables: &ViewTables, evidence: Evidence) -> Value {
    let mut hasher = DefaultHasher::new();
    evidence.stored.hash(&mut hasher);
    let key = vec![
        Value::String(tables.documents.as_str().to_owned()),
        Value::String(evidence.id.clone()),
        Value::String(format!("{:016x}", hasher.finish())),
    ];
    let mut row = Object::new();
    row.insert("document", evidence.id);
    row.insert("stored", evidence.stored);
    row.insert("folded", evidence.folded);
    row.insert("at", evidence.at.to_string());
    let mut found = Object::new();
    let id = RecordId::new("drift", RecordIdKey::Array(Array::from(key)));
    found.insert("id", Value::RecordId(id));
    found.insert("row", Value::Object(row).into_value());
    Value::Object(found)
}
