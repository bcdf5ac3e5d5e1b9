//! What passes between a projector and the store, in bulk: what a batch needs, what was found, and
//! what the batch changes.

use crate::{
    event_log::{LogName, Mark, Place},
    view::PartKey,
};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeSet;

/// A combination of document fields and their values that documents are routed to by, sorted by field.
pub type RouteKey = Vec<(&'static str, String)>;

/// What must be read before a batch can be applied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Parts, by the aggregate they belong to.
    pub parts: BTreeSet<PartKey>,
    /// Documents, by id.
    pub documents: BTreeSet<String>,
    /// All documents that have these values.
    pub routes: BTreeSet<RouteKey>,
}

impl Needs {
    /// Whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.documents.is_empty() && self.routes.is_empty()
    }
}

/// What was found in the store.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The parts that exist, as JSON text.
    pub parts: Vec<(PartKey, String)>,
    /// The documents that exist.
    pub documents: Vec<(String, Value)>,
    /// For each route asked for, the documents that have its values.
    pub routes: Vec<(RouteKey, Vec<(String, Value)>)>,
}

/// What becomes of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentChange {
    /// The document's id.
    pub id: String,
    /// The position of the last event that changed it.
    pub position: u64,
    /// Whether the store has a document of this id.
    pub exists: bool,
    /// The document, or `None` when it is removed.
    pub document: Option<Value>,
}

/// What becomes of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartChange {
    /// The aggregate it belongs to.
    pub key: PartKey,
    /// Whether the store has one.
    pub exists: bool,
    /// The part as JSON text, or `None` when it is removed.
    pub part: Option<String>,
}

/// A commit, or the rest of one, that a view has set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The aggregate's name and id.
    pub aggregate: PartKey,
    /// The commit's position.
    pub position: u64,
    /// The index within the commit of the first event that was not applied.
    pub from_event: usize,
    /// Why: the failure, or that an earlier commit of the aggregate is parked.
    pub reason: String,
    /// The documents that are known to be behind because of it.
    pub documents: Vec<String>,
    /// When it was set aside; known once it is stored.
    pub at: Option<Timestamp>,
}

/// Everything that one batch changes, written in one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The documents, each once.
    pub documents: Vec<DocumentChange>,
    /// The parts, each once.
    pub parts: Vec<PartChange>,
    /// What was set aside, in stream order.
    pub parked: Vec<Parked>,
    /// The aggregate that was tried again: what is parked of it is replaced.
    pub retried: Option<PartKey>,
    /// The event that is left out from now on, by its aggregate: the commit's position, and its index.
    pub skipped: Option<(PartKey, u64, usize)>,
}

impl Changes {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
            && self.parts.is_empty()
            && self.parked.is_empty()
            && self.retried.is_none()
            && self.skipped.is_none()
    }
}

/// How far a view's documents in the store have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position of the last commit whose effects are stored, or of a later one that it does not follow.
    pub position: u64,
    /// What stands there: where the log has something else, it is another log.
    pub mark: Mark,
    /// The name of the log.
    pub log: LogName,
    /// How often documents were exchanged without the view getting on: what is known of them by its
    /// position alone may be of before.
    pub exchanges: u32,
    /// The number of transactions so far: what the next one is fenced on.
    pub revision: u64,
    /// Who wrote it last.
    pub writer: String,
    /// When it was written, by the writer's clock.
    pub at: Timestamp,
}

impl Checkpoint {
    /// The message of the log that it stands on.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            position: self.position,
            mark: self.mark,
        }
    }
}
