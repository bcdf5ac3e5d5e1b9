//! Reading from a server's store only what is not older than what is known of it.
//!
//! A server can come back with other data at any moment: wiped, or as an older backup. The client makes its
//! connection anew and says nothing of it. So what is read there comes with the view's checkpoint and the
//! store's identity, in the same message. What is embedded cannot be exchanged under its program.

use super::{
    Store, StoreError,
    load::{checkpoint_id, digits, unsigned},
    take,
};
use crate::read_model::{generation::Edition, schema::ViewTables};
use surrealdb::{
    IndexedResults,
    types::{Value, Variables},
};

/// Knowledge of the documents that are to be read.
#[derive(Debug, Clone)]
pub(crate) struct Fence {
    pub(crate) edition: Edition,
    /// The number of its last transaction that was heard of.
    pub(crate) revision: u64,
}

/// The mark of the state of the documents that were read, after the statement that has read them.
const STATE: &str = "; SELECT log, exchanges, revision, \
    (SELECT VALUE identity FROM ONLY store:this) AS identity FROM ONLY $fence";

impl Store {
    /// Runs a statement that changes nothing. With a fence, what it reads at a server is of that edition and
    /// not older.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::GoneBack`] where it is of another edition, or older.
    pub(super) async fn read_fenced(
        &self,
        mut sql: String,
        mut variables: Variables,
        tables: &ViewTables,
        fence: Option<&Fence>,
    ) -> Result<IndexedResults, StoreError> {
        let Some(fence) = fence.filter(|_| self.inner.session.is_remote()) else {
            return self.read(sql, variables).await;
        };
        sql.push_str(STATE);
        variables.insert("fence", Value::RecordId(checkpoint_id(tables)));
        let mut results = match self.read(sql, variables).await {
            // A table that was read before is not there any more.
            Err(StoreError::Unavailable(error)) if error.is_not_found() => {
                return Err(StoreError::GoneBack);
            }
            results => results?,
        };
        let state = take(&mut results, 1)?;
        match self.is_behind(state, fence)? {
            true => Err(StoreError::GoneBack),
            false => Ok(results),
        }
    }

    fn is_behind(&self, state: Value, fence: &Fence) -> Result<bool, StoreError> {
        let Value::Object(mut state) = state else {
            // Nothing was written yet.
            return Ok(fence.edition != Edition::default());
        };
        let (log, exchanges) = (
            digits(&mut state, "log")?,
            unsigned(&mut state, "exchanges")?,
        );
        let identity = state.remove("identity").unwrap_or_default();
        let is_same = fence.edition.is_of(log, exchanges) && identity == Value::from_t(self.id());
        Ok(!is_same || unsigned(&mut state, "revision")? < fence.revision)
    }
}
