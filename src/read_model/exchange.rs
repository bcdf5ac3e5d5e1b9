//! The exchange between a projector and the store, in bulk: what a batch needs, what was found, and
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

/// The rows that must be read before a batch can be applied. Of no route more documents are read than a
/// transaction may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Parts, by the aggregate they belong to.
    pub parts: BTreeSet<PartKey>,
    /// Documents, by id.
    pub documents: BTreeSet<String>,
    /// All documents that have these values, where they are few: these are followed together.
    pub routes: BTreeSet<RouteKey>,
    /// The same, followed one by one.
    pub alone: BTreeSet<RouteKey>,
    /// Some of the documents of a route that leads to many.
    pub page: Option<PageKey>,
}

/// A page of the documents that a route leads to, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageKey {
    /// The route.
    pub route: RouteKey,
    /// The id after which it begins; none for the first page.
    pub after: Option<String>,
}

impl Needs {
    /// Returns whether nothing is needed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how much is needed.
    #[must_use]
    pub fn len(&self) -> usize {
        let routes = self.routes.len() + self.alone.len() + usize::from(self.page.is_some());
        self.parts.len() + self.documents.len() + routes
    }
}

/// The rows that were found in the store.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// The parts that exist, as JSON text.
    pub parts: Vec<(PartKey, String)>,
    /// The documents that exist.
    pub documents: Vec<(String, Value)>,
    /// For each route asked for, what it leads to.
    pub routes: Vec<(RouteKey, Led)>,
    /// The page asked for.
    pub page: Option<Page>,
    /// The ids of records among the documents that are none, which only somebody else can have put there.
    pub foreign: Vec<String>,
}

/// The documents that a route leads to.
#[derive(Debug, Clone)]
pub enum Led {
    /// These documents.
    To(Vec<(String, Value)>),
    /// More documents than were read at once, with those of other routes: it is to be followed alone.
    Crowd,
    /// More documents than a transaction may have: they are to be read page by page.
    Many,
}

/// Some of the documents that a route leads to.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The documents, in the order of their ids.
    pub documents: Vec<(String, Value)>,
    /// The id that the next page comes after, if there is one.
    pub through: Option<String>,
}

/// The change of one document.
#[derive(Debug, Clone, PartialEq)]
pub struct DocumentChange {
    /// The document's id.
    pub id: String,
    /// The position of the last event that changed it.
    pub position: u64,
    /// True if the store has a document of this id.
    pub exists: bool,
    /// The change of the document, in a view that counts documents by their values.
    pub before: Option<Value>,
    /// The document, or `None` when it is removed.
    pub document: Option<Value>,
}

/// The change of one part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartChange {
    /// The aggregate it belongs to.
    pub key: PartKey,
    /// True if the store has one.
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
    /// The reason: the failure, or that an earlier commit of the aggregate is parked.
    pub reason: String,
    /// The documents that it would have changed, those that are not known to be behind yet.
    pub documents: Vec<String>,
    /// True if it is the first of its aggregate that is set aside, for which the others wait.
    pub first: bool,
    /// True if this program does not know what it is; a later one may.
    pub unknown: bool,
    /// True if it cannot be told which documents are behind because of it.
    pub vague: bool,
    /// The last document, in the order of ids, that the first event was applied to before, if it was to
    /// some.
    pub after: Option<String>,
    /// The time when it was set aside; known once it is stored.
    pub at: Option<Timestamp>,
}

/// An event that an operator has had a view leave out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The aggregate's name and id.
    pub aggregate: PartKey,
    /// The event's place in the log.
    pub place: SkippedPlace,
}

/// The place of an event that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SkippedPlace {
    /// The commit's position.
    pub position: u64,
    /// The mark of that position. In another log it is something else, and not left out.
    pub mark: Mark,
    /// The event's index in the commit; none is the whole commit, which could not be read.
    pub event: Option<usize>,
}

/// Which of an aggregate's parked commits were tried again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriedAgain {
    /// The aggregate's name and id.
    pub aggregate: PartKey,
    /// The position of the last of them. What is parked up to it is replaced.
    pub through: u64,
    /// True if nothing is parked of the aggregate after it.
    pub last: bool,
}

/// The parked commits of one aggregate, in short.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParkedHead {
    /// The position of the first commit that is not applied, or one before it.
    pub position: u64,
    /// The index within it of the first event that was not applied.
    pub from_event: usize,
    /// As [`Parked::unknown`].
    pub unknown: bool,
    /// As [`Parked::vague`].
    pub vague: bool,
}

/// Everything that one batch changes, written in one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes {
    /// The documents, each once.
    pub documents: Vec<DocumentChange>,
    /// The parts, each once.
    pub parts: Vec<PartChange>,
    /// The commits that were set aside, in stream order.
    pub parked: Vec<Parked>,
    /// The documents that were made with what is remembered of a parked aggregate, those that are not
    /// known to be behind yet.
    pub behind: Vec<(PartKey, String)>,
    /// The commits that were tried again.
    pub retried: Option<TriedAgain>,
    /// The events that are left out from now on.
    pub skipped: Vec<Skipped>,
    /// The position of the last event among those applied that withdraws personal data.
    pub erases: Option<u64>,
    /// True if documents are exchanged out of their turn, where the view is, though nothing is tried again.
    pub in_place: bool,
}

/// The part of [`Changes`] that is about what was set aside.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    pub(crate) parked: Vec<Parked>,
    pub(crate) behind: Vec<(PartKey, String)>,
    pub(crate) retried: Option<TriedAgain>,
    pub(crate) skipped: Vec<Skipped>,
    /// The position by which personal data was withdrawn.
    pub(crate) erased: Option<u64>,
}

impl Changes {
    /// Takes what was set aside out.
    pub(crate) fn take_aside(&mut self) -> Aside {
        Aside {
            parked: std::mem::take(&mut self.parked),
            behind: std::mem::take(&mut self.behind),
            retried: self.retried.take(),
            skipped: std::mem::take(&mut self.skipped),
            erased: self.erases,
        }
    }

    /// Returns whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
            && self.parts.is_empty()
            && self.parked.is_empty()
            && self.behind.is_empty()
            && self.retried.is_none()
            && self.skipped.is_empty()
            && self.erases.is_none()
    }
}

/// The place that a view has come to in a commit that takes more than one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The commit's position.
    pub position: u64,
    /// The mark of that position: where the log has something else, it is another log.
    pub mark: Mark,
    /// The index of the first of its events that is not applied wholly.
    pub event: usize,
    /// The last document, in the order of ids, that this event is applied to; then it is remembered, too.
    /// None if it has not been begun.
    pub after: Option<String>,
    /// The number of transactions the commit has taken so far.
    pub pages: u32,
}

impl Within {
    /// The message of the log that it is.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            position: self.position,
            mark: self.mark,
        }
    }

    /// Before the first event of the commit at this place.
    pub(crate) fn before(place: Place) -> Self {
        Self {
            position: place.position,
            mark: place.mark,
            event: 0,
            after: None,
            pages: 0,
        }
    }
}

/// The position that a view's documents in the store have come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The position of the last commit whose effects are stored, or of a later one that it does not follow.
    pub position: u64,
    /// The mark of that position: where the log has something else, it is another log.
    pub mark: Mark,
    /// The name of the log.
    pub log: LogName,
    /// The number of exchanges of documents without the view getting on: what is known of them by its
    /// position alone may be of before.
    pub exchanges: u32,
    /// The number of transactions so far: what the next one is fenced on.
    pub revision: u64,
    /// The last writer.
    pub writer: String,
    /// The time when it was written, by the writer's clock.
    pub at: Timestamp,
    /// The place in the commit after that position, if it is in part.
    pub within: Option<Within>,
}

impl Checkpoint {
    /// The commit that is applied in part, or else the last one that is applied.
    #[must_use]
    pub fn begun(&self) -> Place {
        self.within
            .as_ref()
            .map_or_else(|| self.place(), Within::place)
    }

    /// The message of the log that it stands on.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            position: self.position,
            mark: self.mark,
        }
    }
}
