//! Which store it is, and of which form.
//!
//! A store has a name of its own from its first use on. A server that comes back with other data (its
//! volume was lost, or it keeps its data in memory) has another one, and whatever was known of the
//! documents before is then of no worth.

use super::{Store, StoreError, take};
use std::sync::PoisonError;
use surrealdb::types::{Object, Value, Variables};

/// The form that this program keeps documents and checkpoints in.
const FORM: i64 = 1;

impl Store {
    /// The store's identity, which tells announcements about it from those about others.
    #[must_use]
    pub fn id(&self) -> String {
        let id = self.inner.id.read();
        id.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the store's identity, which is made up on first use.
    pub(super) async fn identify(&self, prepares: bool) -> Result<String, StoreError> {
        if let Some(id) = self.stored_identity().await? {
            return Ok(id);
        }
        // One that may only read cannot even define what is defined.
        if !prepares {
            return Err(StoreError::Unprepared);
        }
        let mut variables = Variables::new();
        let mut row = Object::new();
        row.insert("id", "this");
        row.insert("identity", uuid::Uuid::now_v7().simple().to_string());
        row.insert("form", FORM);
        variables.insert("row", Value::Object(row));
        self.query(
            "DEFINE TABLE IF NOT EXISTS store SCHEMALESS; \
             INSERT IGNORE INTO store $row RETURN NONE;",
            variables,
        )
        .await?;
        let made = self.stored_identity().await?;
        made.ok_or(StoreError::Unprepared)
    }

    async fn stored_identity(&self) -> Result<Option<String>, StoreError> {
        let asked = self.query("SELECT * FROM ONLY store:this;", Variables::new());
        let row = match asked.await {
            Ok(mut results) => take(&mut results, 0)?,
            Err(StoreError::Unavailable(error)) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Value::Object(mut row) = row else {
            return Ok(None);
        };
        match (row.remove("identity"), row.remove("form")) {
            (Some(Value::String(id)), Some(form)) if form == Value::from_t(FORM) => Ok(Some(id)),
            _ => Err(StoreError::OtherForm),
        }
    }

    /// Looks whether the server has another store than before, and goes on with that. With `prepares`, one
    /// that nobody has used yet is given its identity.
    pub(crate) async fn look_which(&self, prepares: bool) -> Result<(), StoreError> {
        let stored = match self.stored_identity().await? {
            Some(id) => id,
            None if prepares => self.identify(true).await?,
            None => return Ok(()),
        };
        let mut id = self
            .inner
            .id
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if *id != stored {
            tracing::error!(
                store.before = *id,
                store.now = stored,
                "the store is another one than before; the views are filled anew in it"
            );
            *id = stored;
        }
        Ok(())
    }
}
