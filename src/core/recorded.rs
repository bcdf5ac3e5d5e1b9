//! An event as it stands in the log: the vocabulary that the command side's history and the query
//! side's views share. Pure.

use crate::aggregate::Aggregate;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;

/// One event of the log, with its place in it. `data` is decoded only by who needs it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Recorded {
    /// The aggregate's name, for example `"order"`.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The full storage name, for example `"order.placed.v1"`.
    pub event_type: String,
    /// The aggregate's version after this event; the first event is 1.
    pub version: u64,
    /// The stream sequence of the commit that carries the event. Events of one commit share it.
    pub position: u64,
    /// The time when the command was decided.
    pub time: Timestamp,
    /// The id of the command that caused the event.
    pub command_id: String,
    /// The id that all consequences of one original command share.
    pub correlation_id: String,
    /// The id of what caused the command: an event, or the command itself.
    pub causation_id: String,
    /// The caller of the command, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller_id: Option<String>,
    /// The event's fields as JSON.
    pub data: Arc<RawValue>,
}

impl Recorded {
    /// Decodes the event as one of aggregate `A`, upcasting older storage versions.
    ///
    /// # Errors
    ///
    /// Returns [`DecodeError`] when the type is not one that `A` knows, or the data has another shape.
    pub fn event<A: Aggregate>(&self) -> Result<A::Event, DecodeError> {
        decode_event::<A>(&self.event_type, &self.data)
    }
}

/// Decodes a stored event of aggregate `A` from its full storage name and its data.
///
/// # Errors
///
/// Returns [`DecodeError`] when the type is not one that `A` knows, or the data has another shape.
pub fn decode_event<A: Aggregate>(
    event_type: &str,
    data: &RawValue,
) -> Result<A::Event, DecodeError> {
    read_event::<A>(event_type, data)
        .and_then(|read| serde_json::from_str(&read.json))
        .map_err(|source| DecodeError {
            event_type: event_type.to_owned(),
            source,
        })
}

/// A stored event as `A::Event` is written, in its newest form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEvent {
    /// `{"type": …, "data": …}`.
    pub json: String,
    /// True if it was stored in an older form.
    pub upcast: bool,
}

/// Brings a stored event of aggregate `A` to its newest form, without decoding it.
///
/// # Errors
///
/// Returns an error when what the aggregate makes of it cannot be written down.
pub fn read_event<A: Aggregate>(
    event_type: &str,
    data: &RawValue,
) -> Result<ReadEvent, serde_json::Error> {
    #[derive(Serialize)]
    struct Tagged<'a, D> {
        r#type: &'a str,
        data: D,
    }
    let (json, upcast) = match A::upcast(event_type, data) {
        Some((event_type, data)) => {
            let tagged = Tagged {
                r#type: event_type,
                data,
            };
            (serde_json::to_string(&tagged), true)
        }
        None => {
            let tagged = Tagged {
                r#type: event_type,
                data,
            };
            (serde_json::to_string(&tagged), false)
        }
    };
    json.map(|json| ReadEvent { json, upcast })
}

/// A stored event that this program cannot read.
#[derive(Debug, thiserror::Error)]
#[error("event {event_type} cannot be decoded: {source}")]
pub struct DecodeError {
    /// The storage name found.
    pub event_type: String,
    /// The fault.
    pub source: serde_json::Error,
}

impl DecodeError {
    /// Returns whether the aggregate of this program has no event of this type. That of another build may.
    #[must_use]
    pub fn is_unknown_type(&self) -> bool {
        let unknown = format!("unknown variant `{}`", self.event_type);
        self.source.to_string().starts_with(&unknown)
    }
}
