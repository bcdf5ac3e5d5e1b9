//! The message of a projector to everyone after each transaction: `applied.<view>`.

use super::generation::Edition;
use crate::event_log::Mark;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One transaction of a view's projector, as announced on `applied.<view>` in JSON.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Applied {
    /// The store that was written. Replicas that keep documents of their own have each their own.
    pub store: String,
    /// The view's name.
    pub view: String,
    /// The edition of the documents that were written. One that is not served is of no concern, however
    /// the positions compare.
    pub edition: Edition,
    /// The revision of the view's generations that the edition is known to be live by: whether it is
    /// worth a look when another one is served.
    #[serde(default)]
    pub generations: u64,
    /// The view's position before.
    pub previous: u64,
    /// The view's position now.
    pub position: u64,
    /// The mark of that position in the log that was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
    /// The time of the first commit that is known not to be applied yet, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
    /// The reason why the view does not get on, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled: Option<String>,
    /// The ids of the documents that changed. None in an announcement that only tells, once a second
    /// while there is nothing to do, how far the view is.
    pub ids: Vec<String>,
    /// Of a commit that takes several transactions, how many there were before this one. The position moves
    /// with the last of them. None where a transaction has whole commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page: Option<u32>,
    /// True if any document may have changed: there are more than can be named.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// The writer.
    #[serde(default)]
    pub writer: String,
    /// The number of the edition's last transaction.
    #[serde(default)]
    pub revision: u64,
    /// The number of the transaction that last changed what is parked.
    #[serde(default)]
    pub parked_at: u64,
    /// The changes of that transaction to it, where this announcement is of that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<BehindChange>,
}

/// A change of which documents are behind because of something parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindChange {
    /// The number of the transaction that last changed it before; none where there is more to tell than an
    /// announcement can hold, and it is to be read from the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The number of aggregates that are parked now.
    pub aggregates: usize,
    /// True if there is one of which it cannot be told which documents are behind.
    #[serde(default)]
    pub vague: bool,
    /// The documents that are behind since.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// The documents that are behind no more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removed: Vec<String>,
}

impl Applied {
    /// Returns the message of it, of at most so many bytes: where the ids are too many to be named, it
    /// says that any document may have changed.
    pub(crate) fn body(&self, most: usize) -> Vec<u8> {
        let body = serde_json::to_vec(self).expect("an announcement is plain data");
        if body.len() <= most {
            return body;
        }
        let all = Self {
            ids: Vec::new(),
            all: true,
            ..self.clone()
        };
        serde_json::to_vec(&all).expect("an announcement is plain data")
    }

    /// Returns whether it is about a part of a commit after its position, and others are to follow.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.page.is_some() && self.previous == self.position
    }

    /// Returns a position that is not before any of its changes.
    #[must_use]
    pub fn through(&self) -> u64 {
        self.position.saturating_add(self.is_partial().into())
    }

    /// Returns whether it has changes of commits after this position.
    #[must_use]
    pub fn is_after(&self, position: u64) -> bool {
        self.through() > position
    }

    /// The subject that all announcements of one view have.
    #[must_use]
    pub fn subject(view: &str) -> String {
        format!("applied.{view}")
    }
}
