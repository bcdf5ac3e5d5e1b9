//! The store alone: the floor that the query side is measured against.

use super::{
    Store, StoreError, StoreOptions, load::document_id, ordered::insert_keys, take,
    write::insert_text,
};
use crate::read_model::{OpenError, ViewDescription, refresh, schema::ViewTables};
use serde_json::Value as Json;
use std::sync::OnceLock;
use surrealdb::types::{Array, Object, SurrealValue, Value, Variables};
use tokio::runtime::Runtime;

/// The number of documents that are inserted at once: what a projector that catches up writes at once.
const BATCH: usize = 4_000;
/// The number that are updated at once: the rows of a projector's transaction.
const UPDATED: usize = 2_000;

/// A store of its own, on threads of its own, with one view's tables.
pub struct Floor {
    store: Store,
    tables: ViewTables,
}

/// Kept until the process ends: a store goes on writing for a while after its last handle is gone.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

impl Floor {
    /// Opens a store in this process, and defines the view's tables in it.
    ///
    /// # Errors
    ///
    /// Returns an error when the store cannot be opened.
    pub async fn open(url: &str, view: &ViewDescription) -> Result<Self, OpenError> {
        let runtime = match RUNTIME.get() {
            Some(runtime) => runtime,
            None => {
                let mut threads = tokio::runtime::Builder::new_multi_thread();
                threads
                    .thread_name("headwater-store")
                    .thread_stack_size(10 << 20);
                let runtime = threads.enable_all().build();
                let runtime = runtime.map_err(|_| StoreError::Stopped)?;
                RUNTIME.get_or_init(|| runtime)
            }
        };
        let store = Store::open(StoreOptions::new(url, runtime.handle().clone())).await?;
        let tables = ViewTables::of(view)?;
        store.define_shared().await?;
        refresh::join(&store, view).await?;
        store.define(&tables).await?;
        Ok(Self { store, tables })
    }

    /// The store, for a projector.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Inserts new documents, a batch after the other.
    ///
    /// # Errors
    ///
    /// Returns the store's.
    pub async fn bulk_insert(&self, documents: Vec<(String, Json)>) -> Result<(), StoreError> {
        let mut documents = documents.into_iter().peekable();
        while documents.peek().is_some() {
            let rows = documents.by_ref().take(BATCH).map(|(id, document)| {
                let mut row = Object::new();
                row.insert(
                    "id",
                    Value::RecordId(document_id(&self.tables.documents, &id)),
                );
                row.insert("seq", 1_i64);
                let full_text = self.store.inner.full_text;
                insert_text(&mut row, &self.tables, &document, full_text);
                insert_keys(&mut row, &self.tables, &id, &document);
                row.insert("doc", document.into_value());
                Value::Object(row)
            });
            let mut variables = Variables::new();
            let rows: Vec<_> = rows.collect();
            variables.insert("rows", Value::Array(Array::from(rows)));
            let insert = format!("INSERT INTO {} $rows RETURN NONE;", self.tables.documents);
            self.store.query(insert, variables).await?;
        }
        Ok(())
    }

    /// Writes documents that are there again, as many at once as a projector writes of them.
    ///
    /// # Errors
    ///
    /// Returns the store's.
    pub async fn bulk_update(&self, documents: Vec<(String, Json)>) -> Result<(), StoreError> {
        let mut documents = documents.into_iter().peekable();
        while documents.peek().is_some() {
            let rows = documents.by_ref().take(UPDATED).map(|(id, document)| {
                let mut row = Object::new();
                row.insert("seq", 1_i64);
                insert_keys(&mut row, &self.tables, &id, &document);
                row.insert("doc", document.into_value());
                let mut changed = Object::new();
                let id = document_id(&self.tables.documents, &id);
                changed.insert("id", Value::RecordId(id));
                changed.insert("row", Value::Object(row));
                Value::Object(changed)
            });
            let mut variables = Variables::new();
            let rows: Vec<_> = rows.collect();
            variables.insert("rows", Value::Array(Array::from(rows)));
            let update = "BEGIN; \
                FOR $row IN $rows { UPDATE $row.id CONTENT $row.row RETURN NONE }; COMMIT;";
            self.store.query(update, variables).await?;
        }
        Ok(())
    }

    /// Reads a document, and makes nothing of it; whether it is there.
    ///
    /// # Errors
    ///
    /// Returns the store's.
    pub async fn select(&self, id: &str) -> Result<bool, StoreError> {
        let mut variables = Variables::new();
        variables.insert(
            "id",
            Value::RecordId(document_id(&self.tables.documents, id)),
        );
        let mut results = self
            .store
            .query("SELECT * FROM ONLY $id", variables)
            .await?;
        Ok(!matches!(take(&mut results, 0)?, Value::None))
    }

    /// All documents, in no order.
    ///
    /// # Errors
    ///
    /// Returns the store's.
    pub async fn documents(&self) -> Result<Vec<(String, Json)>, StoreError> {
        let all = format!("SELECT id, seq, doc, given FROM {}", self.tables.documents);
        let mut results = self.store.query(all, Variables::new()).await?;
        let rows = super::rows(take(&mut results, 0)?).into_iter();
        let rows = rows.map(super::select::Row::read);
        rows.map(|row| row.map(|row| (row.id, row.document)))
            .collect()
    }
}
