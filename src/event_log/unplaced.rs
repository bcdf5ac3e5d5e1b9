//! Events that a process cannot place: `log.unplaced.<process>.<aggregate>.<id>`.
//!
//! The last message of a subject says from which position on nothing of the aggregate is given to an instance,
//! and why. What is held is not copied: it stands in the log.

use super::{Append, AppendError, EventLog, LoadError};
use async_nats::HeaderMap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The number of times that a note is tried again because another was first.
const RACES: u32 = 8;
/// The longest reason, in bytes.
const LONGEST: usize = 1_000;

/// An aggregate whose events a process cannot place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unplaced {
    /// The aggregate's name.
    #[serde(skip)]
    pub aggregate: String,
    /// The aggregate's id.
    #[serde(skip)]
    pub id: String,
    /// The position of the first commit that is held; 0 when nothing is held any more.
    pub from: u64,
    /// The reason why it cannot be placed, or why it is settled.
    pub reason: String,
    /// The time when that was noted.
    pub at: Timestamp,
    /// The wish of an operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted: Option<Wanted>,
}

/// The fate of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// It is to be placed again.
    Retry,
    /// Its first commit is to be passed over.
    Skip,
}

impl EventLog {
    /// Reads which aggregates a process cannot place the events of.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read.
    pub async fn unplaced(&self, process: &str) -> Result<Vec<Unplaced>, LoadError> {
        let all = format!("log.unplaced.{process}.>");
        let messages = self.messages(&all, 0, u64::MAX).await?;
        // The last one of each aggregate counts.
        let last: BTreeMap<_, _> = messages.iter().map(|it| (&it.subject, it)).collect();
        let read = last.into_iter().filter_map(|(subject, message)| {
            let mut named = subject.rsplit('.');
            let (id, aggregate) = (named.next()?, named.next()?);
            match serde_json::from_slice::<Unplaced>(&message.payload) {
                Ok(read) => Some(Unplaced {
                    aggregate: aggregate.to_owned(),
                    id: id.to_owned(),
                    ..read
                }),
                Err(error) => {
                    tracing::error!(log.subject = %subject, event.position = message.position, %error, "a note about events that cannot be placed is unreadable");
                    None
                }
            }
        });
        Ok(read.filter(|unplaced| unplaced.from > 0).collect())
    }

    /// Notes what a process cannot place, or that it can again.
    ///
    /// # Errors
    ///
    /// Returns [`LoadError`] when the log cannot be read or written.
    pub async fn note_unplaced(&self, process: &str, note: &Unplaced) -> Result<(), LoadError> {
        let Unplaced { aggregate, id, .. } = note;
        let subject = format!("log.unplaced.{process}.{aggregate}.{id}");
        let mut note = note.clone();
        let end = note.reason.floor_char_boundary(LONGEST);
        note.reason.truncate(end);
        let payload = serde_json::to_vec(&note);
        let payload = payload.map_err(|error| LoadError::Corrupt(error.to_string()))?;
        let mut refused = String::new();
        for _ in 0..RACES {
            let last = self.last_message(&subject).await?;
            if (last.as_ref()).is_some_and(|last| last.payload == payload) {
                return Ok(());
            }
            let append = Append {
                subject: subject.clone(),
                expected: last.map_or(0, |last| last.position),
                payload: payload.clone().into(),
                headers: HeaderMap::new(),
            };
            match self.append(append).await {
                Ok(_) => return Ok(()),
                // An append in doubt is settled by reading.
                Err(AppendError::LostRace | AppendError::InDoubt(_)) => {}
                Err(error) => refused = error.to_string(),
            }
        }
        Err(LoadError::Unavailable(refused))
    }
}
