//! What queries are answered from: the documents in SurrealDB, and how far they have come.
//!
//! The only module that speaks SurrealQL.

mod announcement;
mod answers;
mod cache;
mod cursor;
mod endpoint;
pub(crate) mod exchange;
mod follow;
mod freshness;
mod live;
mod parameters;
pub(crate) mod schema;
mod search;
pub(crate) mod store;
mod watermark;

pub use announcement::Applied;
pub use answers::{DEFAULT_CACHE, OpenError, ReadModel, ReadModelOptions};
pub use endpoint::{EndpointError, QueryEndpoint};
pub use follow::MAX_LIVE_DOCUMENTS;
pub use freshness::{Freshness, MAX_WAIT, MIN_POSITION};
#[cfg(test)]
pub(crate) use live::Feed;
pub use live::{LiveEvent, LiveKind, Subscription};
pub use parameters::{DEFAULT_LIMIT, MAX_LIMIT};
pub use schema::SchemaError;
pub use store::floor;
pub use store::{Credentials, Store, StoreError, StoreOptions};
pub use watermark::{Progress, Watermark, Watermarks};

use crate::view::View;
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{fmt::Write, sync::Arc};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

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

impl ViewDescription {
    /// Describes view `V`.
    #[must_use]
    pub fn of<V: View>() -> Self {
        let mut schemas = Vec::new();
        V::Document::schemas(&mut schemas);
        Self {
            name: V::NAME,
            version: V::VERSION,
            aggregates: V::AGGREGATES,
            query: V::query(),
            document: V::Document::schema(),
            schemas,
        }
    }
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

/// A document as it goes out: serialised once, however often it is asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServedDocument {
    /// The stream sequence of the last event that changed it.
    pub version: u64,
    /// A [`StoredDocument`] as JSON.
    pub body: Bytes,
    /// Its entity tag, in its quotes: visible ASCII.
    pub tag: Bytes,
}

impl ServedDocument {
    /// Serialises a document of a view and its version. The tag names the version of the shape too:
    /// a view that is rebuilt in another shape comes to the same positions.
    pub(crate) fn new(view: &str, shape: u32, id: &str, version: u64, document: &str) -> Self {
        let mut bytes = BytesMut::with_capacity(document.len() + id.len() + view.len() + 96);
        let written = write!(
            bytes,
            r#"{{"id":"{id}","version":{version},"document":{document}}}"#
        );
        let body = bytes.len();
        let tagged = write!(bytes, r#""{view}.{shape}.{version}""#);
        debug_assert!(written.is_ok() && tagged.is_ok());
        let mut body_and_tag = bytes.freeze();
        let tag = body_and_tag.split_off(body);
        Self {
            version,
            body: body_and_tag,
            tag,
        }
    }
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

#[cfg(test)]
pub(crate) mod tests {
    use crate::view::{Compare, Filter, Kind, Sort};

    pub(crate) fn filters() -> Vec<Filter> {
        let filter = |name, field, compare, kind| Filter {
            name,
            field,
            compare,
            kind,
        };
        vec![
            filter("category", "category", Compare::Equal, Kind::Text),
            filter("price_min", "price", Compare::AtLeast, Kind::Integer),
            filter("price_max", "price", Compare::AtMost, Kind::Integer),
            filter("in_stock", "in_stock", Compare::Equal, Kind::Boolean),
        ]
    }

    pub(crate) fn sorts() -> Vec<Sort> {
        vec![
            Sort {
                field: "price",
                kind: Kind::Integer,
            },
            Sort {
                field: "name",
                kind: Kind::Text,
            },
        ]
    }
}
