//! The documents in SurrealDB that queries are answered from, and how far they have come.
//!
//! The only module that speaks SurrealQL.

mod announcement;
mod answers;
mod cache;
mod comparable;
mod comparison;
pub(crate) mod counting;
mod endpoint;
pub(crate) mod exchange;
mod field_path;
mod follow;
mod freshness;
pub(crate) mod generation;
mod list_cache;
mod list_index;
mod list_slots;
mod live;
pub(crate) mod ordering;
pub(crate) mod other_log;
mod pages;
pub(crate) mod parameters;
mod reads;
pub(crate) mod refresh;
pub(crate) mod schema;
mod search;
pub(crate) mod serving;
mod sorted_pages;
mod standing;
pub(crate) mod store;
mod text_index;
mod upkeep;
mod visible;
mod waits;
mod watermark;

pub use announcement::{Applied, BehindChange};
pub use answers::{DEFAULT_CACHE, OpenError, ReadModel, ReadModelOptions};
pub use endpoint::{EndpointError, QueryEndpoint};
pub use freshness::{Freshness, MIN_POSITION};
pub use generation::{Edition, Generation, GenerationState, Generations};
pub use list_cache::DEFAULT_LIST_CACHE;
pub use list_index::DEFAULT_LIST_INDEX;
#[cfg(test)]
pub(crate) use live::Feed;
pub use live::{Delivery, EventId, LiveEvent, LiveKind, MAX_LIVE_DOCUMENTS, Subscription};
pub use parameters::{DEFAULT_LIMIT, MAX_COUNT, MAX_LIMIT, MAX_TEXT};
pub use schema::SchemaError;
pub use standing::Standing;
pub use store::{ComparedCounts, CountDifference, Credentials, Store, StoreError, StoreOptions};
pub(crate) use store::{aside, texts_beside};
pub use store::{closed, floor, set_aside};
pub use text_index::DEFAULT_SEARCH_MEMORY;
pub(crate) use watermark::FreshDocument;
pub use watermark::{Progress, Watermark, Watermarks};

use crate::{problem::Age, stable_hash, view::View};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt::Write, sync::Arc};
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
    /// The documents that a caller may see.
    pub visible: fn(&crate::caller::Caller) -> crate::view::Rows,
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
            visible: V::visible,
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
    /// The mark that tells it from what the document was before and will be: made of all that is in its body.
    pub(crate) fingerprint: u64,
}

impl ServedDocument {
    /// Serialises a document of a view and its version. The tag is made of what is served, and not of
    /// its position alone: another log, another shape of the view, or a change out of turn come to the
    /// same positions with other documents.
    pub(crate) fn new(view: &str, id: &str, version: u64, document: &str) -> Self {
        let mut bytes = BytesMut::with_capacity(document.len() + id.len() + view.len() + 96);
        let written = write!(
            bytes,
            r#"{{"id":"{id}","version":{version},"document":{document}}}"#
        );
        let body = bytes.len();
        let hash = stable_hash::of_bytes(&bytes);
        let tagged = write!(bytes, r#""{view}.{version}.{hash:016x}""#);
        debug_assert!(written.is_ok() && tagged.is_ok());
        let mut body_and_tag = bytes.freeze();
        let tag = body_and_tag.split_off(body);
        Self {
            version,
            body: body_and_tag,
            tag,
            fingerprint: hash,
        }
    }
}

/// A page of a list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Page {
    /// The documents, in the order asked for.
    pub items: Vec<StoredDocument>,
    /// The text to pass as `cursor` for the next page; `null` on the last.
    pub next: Option<String>,
    /// The number of documents match, on all pages, when that was asked for; at most 10,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// True if more match than were counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub count_capped: bool,
    /// The number of documents that have each value of a field, by the name of its filter, for each that was asked
    /// for: of those that match all filters but those by that field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub facets: BTreeMap<String, Facet>,
}

/// A page of a list as it goes out: serialised once, however often it is asked for. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ServedPage {
    /// A [`Page`] as JSON.
    pub body: Bytes,
    /// Its entity tag, in its quotes: half of the SHA-256 of its body.
    pub tag: Bytes,
}

impl ServedPage {
    /// Serialises a page.
    pub(crate) fn new(page: &Page) -> Self {
        Self::of_body(serde_json::to_vec(page).expect("a stored document is plain data"))
    }

    /// A page as JSON, written by somebody else.
    pub(crate) fn of_body(body: Vec<u8>) -> Self {
        let hash = Sha256::digest(&body);
        let tag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash[..16]));
        Self {
            body: body.into(),
            tag: tag.into(),
        }
    }
}

/// The number of documents that have each value of a field.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facet {
    /// The values that most documents have, at most 100, the most frequent first.
    pub values: Vec<FacetValue>,
    /// True if more documents match than were counted, so that each count is of at least as many.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub capped: bool,
    /// True if there are values besides.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A value, and how many documents have it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FacetValue {
    /// The value, as the filter takes it.
    pub value: serde_json::Value,
    /// The number of documents that have it.
    pub count: u64,
}

impl Facet {
    /// The most values of a facet that are told.
    pub const MOST: usize = 100;

    /// Makes a facet of the counts of values, by their JSON.
    pub(crate) fn new(counts: BTreeMap<String, u64>, capped: bool) -> Self {
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let more = counts.len() > Self::MOST;
        counts.truncate(Self::MOST);
        let values = counts.into_iter().filter_map(|(value, count)| {
            let value = serde_json::from_str(&value).ok()?;
            Some(FacetValue { value, count })
        });
        Self {
            values: values.collect(),
            capped,
            more,
        }
    }
}

/// An answer and how fresh it is.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The answer.
    pub value: T,
    /// The stream sequence up to which the view had applied the log when it was read.
    pub applied: u64,
    /// The lag of the view behind the log, in milliseconds; 0 when it had applied everything.
    pub lag_ms: u64,
    /// True if something in it is behind because of an event that could not be applied.
    pub parked: bool,
}

impl<T> Answer<T> {
    /// Returns how fresh it is.
    #[must_use]
    pub fn age(&self) -> Age {
        Age {
            applied: self.applied,
            lag_ms: self.lag_ms,
            parked: self.parked,
        }
    }
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
