//! A document that was read, as the events that tell of it.

use super::{EventId, LiveEvent, LiveKind};
use crate::read_model::ServedDocument;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;

/// A document as it was read; none where it is gone.
pub(in crate::read_model) type ReadDocument = (Arc<str>, Option<ServedDocument>);

/// A document as it was read, as the events that tell of it.
pub(super) struct Change<'a> {
    id: &'a str,
    pub(super) now: Arc<LiveEvent>,
    edition: &'a EventId,
    /// The transaction after which it was read.
    position: u64,
    again: Option<u64>,
}

impl<'a> Change<'a> {
    pub(super) fn new(
        edition: &'a EventId,
        id: &'a str,
        document: Option<&ServedDocument>,
        position: u64,
        again: Option<u64>,
    ) -> Self {
        let event = match document {
            Some(document) => {
                // It may be newer than what the transaction made of it, and changes between the two
                // are still to come for others of a list: it can only be gone on from the transaction.
                let from = edition.at(position.min(document.version));
                LiveEvent::put(id, from, document.version, document.body.clone())
            }
            None => LiveEvent::gone(LiveKind::Delete, id, edition.at(position), position),
        };
        Self {
            id,
            now: Arc::new(event.again(again)),
            edition,
            position,
            again,
        }
    }

    /// For who follows the document alone: nothing else is to come, and what it is now is all of it.
    pub(super) fn alone(&self) -> Arc<LiveEvent> {
        let (version, now) = (self.now.version, &self.now);
        match now.kind {
            LiveKind::Put if version > self.position => {
                let from = self.edition.at(version);
                let alone = LiveEvent::put(self.id, from, version, now.body.clone());
                Arc::new(alone.again(self.again))
            }
            _ => Arc::clone(now),
        }
    }

    /// For who follows a list that it is not in.
    pub(super) fn left(&self) -> Arc<LiveEvent> {
        let from = self.now.from.clone();
        let left = LiveEvent::gone(LiveKind::Leave, self.id, from, self.now.version);
        Arc::new(left.again(self.again))
    }
}

/// Sorts by where each can be gone on from.
pub(super) fn by_position(documents: &mut [ReadDocument], position: u64) {
    documents.sort_by_key(|(_, document)| {
        let version = document.as_ref().map_or(position, |d| d.version);
        version.min(position)
    });
}

/// The document within a served one.
pub(super) fn parse(body: &[u8]) -> Value {
    #[derive(serde::Deserialize)]
    struct Served<'a> {
        #[serde(borrow)]
        document: &'a RawValue,
    }
    let served: Result<Served<'_>, _> = serde_json::from_slice(body);
    served
        .and_then(|served| serde_json::from_str(served.document.get()))
        .unwrap_or_default()
}
