//! Documents that are followed: what they are now, then each change.
//!
//! One [`hub::ViewLive`] a view observes its watermark, reads what has changed once, and offers it to
//! all who follow it. Each of them is a [`client::Client`] with a short queue, in which a newer state
//! of a document replaces the one before. A client that does not keep up is cut off; nothing is
//! buffered without bound.
//!
//! An event may say where to go on from ([`Delivery::resumes`]). Everything up to there has been sent
//! by then: of several changes of one position only the last one says it.

mod change;
mod client;
mod condition;
mod event_id;
pub(super) mod hub;
mod pending;
mod topics;

pub(super) use change::ReadDocument;
pub(super) use topics::list_key;

#[cfg(test)]
pub(crate) use client::Feed;
pub use client::Subscription;
pub(super) use condition::Condition;
pub use event_id::EventId;

use crate::problem::Problem;
use bytes::Bytes;
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{Arc, LazyLock, OnceLock},
};

/// The most documents that a followed list may have at the start.
pub const MAX_LIVE_DOCUMENTS: usize = 1_000;
/// The most documents that a list may come to have while it is followed.
pub(super) const MAX_GROWN: usize = 2 * MAX_LIVE_DOCUMENTS;

/// The news of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LiveKind {
    /// The document is there, and this is it.
    Put,
    /// The document is gone.
    Delete,
    /// The document is there, but is not among what is followed any more.
    Leave,
    /// Everything sent before the connection broke is to be forgotten: all documents follow again.
    Reset,
    /// It cannot be followed any more, or not now. Nothing comes after it.
    Problem,
}

/// One change as it is sent.
pub struct LiveEvent {
    /// The news.
    pub kind: LiveKind,
    /// The document's id; empty where it is about none.
    pub id: Arc<str>,
    /// The place to go on from once this, and all other events of its position, have been received.
    pub from: EventId,
    /// A stored document as JSON; an object with the id alone where there is none.
    pub body: Bytes,
    /// The position of the document's last change, or up to which it is known to be gone.
    version: u64,
    /// Set where it was read because anything may have changed: the break that it makes up for.
    again: Option<u64>,
    /// The hash of the body.
    print: u64,
    rendered: OnceLock<Bytes>,
}

impl fmt::Debug for LiveEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} from {}", self.kind, self.id, self.from)
    }
}

impl LiveEvent {
    pub(crate) fn put(id: &str, from: EventId, version: u64, body: Bytes) -> Self {
        Self::new(LiveKind::Put, id, from, version, body)
    }

    pub(crate) fn gone(kind: LiveKind, id: &str, from: EventId, version: u64) -> Self {
        // An id has nothing in it that JSON would escape.
        let body = Bytes::from(format!(r#"{{"id":"{id}"}}"#));
        Self::new(kind, id, from, version, body)
    }

    pub(super) fn reset(from: EventId) -> Self {
        Self::new(LiveKind::Reset, "", from, 0, Bytes::from_static(b"{}"))
    }

    /// An event that tells why nothing follows.
    pub fn problem(problem: &Problem) -> Self {
        let from = EventId::new("".into(), 0);
        Self::new(LiveKind::Problem, "", from, 0, problem.to_json().into())
    }

    fn new(kind: LiveKind, id: &str, from: EventId, version: u64, body: Bytes) -> Self {
        Self {
            kind,
            id: id.into(),
            from,
            print: hash(&body),
            body,
            version,
            again: None,
            rendered: OnceLock::new(),
        }
    }

    /// The same, read to make up for this break.
    fn again(self, epoch: Option<u64>) -> Self {
        Self {
            again: epoch,
            ..self
        }
    }

    /// The position of the document's last change, or up to which it is known to be gone.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The event as a surface writes it, made once for all clients.
    pub fn rendered(&self, render: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.rendered.get_or_init(|| render(self)).clone()
    }
}

/// An event on its way to one client.
#[derive(Debug)]
pub struct Delivery {
    /// The event.
    pub event: Arc<LiveEvent>,
    /// True if the client may go on from this event: nothing more of its position is to come.
    pub resumes: bool,
}

/// Ids are told apart by a hash: 8 bytes instead of a string for each document of each client.
fn hash(bytes: &[u8]) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(bytes)
}

#[cfg(test)]
mod tests;
