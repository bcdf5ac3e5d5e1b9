//! A commit as it was read.

use crate::event_log::{Mark, Place, StoredMessage, codec, decoded::Events, subject};
use jiff::Timestamp;

/// One commit as it was read.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Its stream sequence.
    pub position: u64,
    /// The mark of its body.
    pub mark: Mark,
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The time when the log took it.
    pub published: Timestamp,
    /// The number of commits that this reader follows and that came after it, when it was delivered.
    pub pending: u64,
    /// Its events, or why they cannot be read, which is no failure of the reader.
    pub events: Result<Events, String>,
}

impl Commit {
    /// Returns where it stands in the log.
    #[must_use]
    pub fn place(&self) -> Place {
        Place {
            position: self.position,
            mark: self.mark,
        }
    }

    /// A commit that was read from the log by itself.
    #[must_use]
    pub fn of(message: &StoredMessage) -> Self {
        let (aggregate, id) = subject::parse_events(&message.subject).unwrap_or_default();
        Self {
            position: message.position,
            mark: Mark::of(&message.payload),
            aggregate: aggregate.to_owned(),
            id: id.to_owned(),
            published: Timestamp::now(),
            pending: 0,
            events: decode(&message.subject, message.position, &message.payload),
        }
    }
}

pub(super) fn decode(subject: &str, position: u64, payload: &[u8]) -> Result<Events, String> {
    codec::decode(subject, position, payload)
        .map(|events| events.into_iter().map(|event| event.recorded).collect())
        .map_err(|error| error.to_string())
}
