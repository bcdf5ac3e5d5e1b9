//! What queries are answered from: the documents in SurrealDB, and how far they have come.
//!
//! The only module that speaks SurrealQL.

mod freshness;
mod reader;

pub use freshness::Freshness;
pub use reader::ReadModel;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::openapi::{RefOr, Schema};

/// One view and what it can be asked, for discovery and for the published API description.
#[derive(Debug, Clone)]
pub struct ViewDescription {
    /// The view's name.
    pub name: &'static str,
    /// The version of its documents' shape.
    pub version: u32,
    /// The aggregates whose events it reads.
    pub aggregates: &'static [&'static str],
    /// Its filters, sorts and searched fields.
    pub query: crate::view::Query,
    /// The schema of its document.
    pub document: RefOr<Schema>,
    /// The named schemas that the document refers to.
    pub schemas: Vec<(String, RefOr<Schema>)>,
}

/// A stored document as it is served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StoredDocument {
    /// The document's id.
    pub id: String,
    /// The stream sequence of the last event that changed it.
    pub version: u64,
    /// The document.
    pub document: Arc<RawValue>,
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page {
    /// The documents, in the order asked for.
    pub items: Vec<StoredDocument>,
    /// What to pass as `cursor` for the next page; `null` on the last.
    pub next: Option<String>,
}

/// An answer and how fresh it is.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// The stream sequence up to which the view had applied the log when it was read.
    pub applied: u64,
    /// How far behind the log the view was, in milliseconds; 0 when it had applied everything.
    pub lag_ms: u64,
}
