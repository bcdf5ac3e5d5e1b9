//! The share of a batch that goes into one transaction, and how far it has come.

use crate::{
    event_log::{Place, reader::Commit},
    read_model::exchange::Within,
};

/// The most of a batch that one transaction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The number of rows: documents, parts, and what is set aside.
    pub rows: usize,
    /// The number of bytes of documents and parts, as JSON. A single row may have more.
    pub bytes: usize,
    /// The number of bytes of documents that are read for it before it takes what it has.
    pub read_bytes: usize,
    /// True if each event is to have a transaction of its own.
    pub one_event: bool,
}

impl Limits {
    /// A transaction of these limits is written in a fraction of a second, and is far below what a
    /// SurrealDB server takes in one message (64 MiB) or an embedded store holds in memory.
    pub const USUAL: Self = Self {
        rows: 2_000,
        bytes: 4 << 20,
        read_bytes: 16 << 20,
        one_event: false,
    };
}

/// The place that a fold has come to in a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// The number of commits, from the first on, that are applied or set aside.
    pub commits: usize,
    /// The place in the commit after these, if it was begun.
    pub within: Option<Within>,
}

/// A commit, or the rest of one, that is to be folded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span<'a> {
    pub(super) commit: &'a Commit,
    /// The index of the first event of it.
    pub(super) from: usize,
    /// The last document that this event is applied to already.
    pub(super) after: Option<&'a str>,
    /// The number of transactions it has taken so far.
    pub(super) pages: u32,
}

impl<'a> Span<'a> {
    pub(super) fn whole(commit: &'a Commit) -> Self {
        Self {
            commit,
            from: 0,
            after: None,
            pages: 0,
        }
    }

    /// Returns what is left of a commit after `within`.
    pub(super) fn rest(commit: &'a Commit, within: &'a Within) -> Self {
        Self {
            commit,
            from: within.event,
            after: within.after.as_deref(),
            pages: within.pages,
        }
    }

    /// A place within the commit.
    pub(super) fn within(&self, (event, after): EventPlace) -> Within {
        let Place { position, mark } = self.commit.place();
        Within {
            position,
            mark,
            event,
            after,
            pages: self.pages + 1,
        }
    }

    /// Returns whether nothing of it comes before this place.
    pub(super) fn begins_at(&self, (event, after): &EventPlace) -> bool {
        (self.from, self.after) == (*event, after.as_deref())
    }
}

/// An event's index in its commit, and the last document that it is applied to.
pub type EventPlace = (usize, Option<String>);
