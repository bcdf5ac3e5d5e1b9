//! What a projector tells everyone after each transaction: `applied.<view>`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One transaction of a view's projector, as announced on `applied.<view>` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The store that was written. Replicas that keep documents of their own have each their own.
    pub store: String,
    /// The view's name.
    pub view: String,
    /// The version of its documents' shape.
    pub version: u32,
    /// The view's position before.
    pub previous: u64,
    /// The view's position now.
    pub position: u64,
    /// The time of the first commit that is known not to be applied yet, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
    /// The ids of the documents that changed.
    pub ids: Vec<String>,
}

impl Applied {
    /// The subject that all announcements of one view have.
    #[must_use]
    pub fn subject(view: &str) -> String {
        format!("applied.{view}")
    }
}
