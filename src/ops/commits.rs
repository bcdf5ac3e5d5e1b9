//! Commits as operators are shown them.

use crate::{
    event_log::{StoredMessage, codec, exclusion::Exclusion, subject},
    recorded::Recorded,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use std::sync::Arc;
use utoipa::ToSchema;

/// The most characters that are shown of what is no commit.
const SHOWN: usize = 500;

/// A commit of an aggregate.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldCommit {
    /// Its stream sequence.
    pub position: u64,
    /// The time when the log took it.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The aggregate's name.
    pub aggregate: String,
    /// The aggregate's id.
    pub id: String,
    /// The trace that it belongs to, where it was traced.
    pub trace_id: Option<String>,
    /// The reason why it cannot be read or folded.
    pub fault: Option<String>,
    /// The exclusion of it, if there is one: by whom, and why.
    pub excluded: Option<ToldExclusion>,
    /// The beginning of what stands there, where it is no commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Its events.
    pub events: Vec<ToldEvent>,
    /// True if the latest snapshot was made of it; in an aggregate's history.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<bool>,
    /// The aggregate after it; in an aggregate's history. Null where it is too large, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub state: Option<Value>,
    /// The bytes of that; in an aggregate's history, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<usize>,
}

/// An event of a commit.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldEvent {
    /// The aggregate's version after it.
    pub version: u64,
    /// Its full storage name.
    #[serde(rename = "type")]
    pub event_type: String,
    /// When its command was decided.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The id of the command that caused it.
    pub command_id: String,
    /// The id that all consequences of one original command share.
    pub correlation_id: String,
    /// The id of what caused the command.
    pub causation_id: String,
    /// The caller of the command, where that is known.
    pub caller_id: Option<String>,
    /// Its fields.
    #[schema(value_type = Object)]
    pub data: Arc<RawValue>,
    /// The aggregate after it; in an aggregate's history. Null where it is too large, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub state: Option<Value>,
}

/// An exclusion, as operators are told of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ToldExclusion {
    /// The operator who has left it out.
    pub by: String,
    /// The time.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// The reason.
    pub reason: String,
}

impl From<&Exclusion> for ToldExclusion {
    fn from(exclusion: &Exclusion) -> Self {
        Self {
            by: exclusion.by.clone(),
            at: exclusion.at,
            reason: exclusion.reason.clone(),
        }
    }
}

impl From<&Recorded> for ToldEvent {
    fn from(event: &Recorded) -> Self {
        Self {
            version: event.version,
            event_type: event.event_type.clone(),
            time: event.time,
            command_id: event.command_id.clone(),
            correlation_id: event.correlation_id.clone(),
            causation_id: event.causation_id.clone(),
            caller_id: event.caller_id.clone(),
            data: Arc::clone(&event.data),
            state: None,
        }
    }
}

impl ToldCommit {
    /// Tells of what stands at a place of an aggregate's subject.
    #[must_use]
    pub fn of(message: &StoredMessage) -> Self {
        let decoded = codec::decode(&message.subject, message.position, &message.payload);
        let (events, fault) = match &decoded {
            Ok(events) => {
                let events = events.iter().map(|event| (&event.recorded).into());
                (events.collect(), None)
            }
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let (aggregate, id) = subject::parse_events(&message.subject).unwrap_or_default();
        Self {
            position: message.position,
            time: message.stored,
            aggregate: aggregate.to_owned(),
            id: id.to_owned(),
            trace_id: message.traceparent.as_deref().and_then(trace_of),
            body: fault.as_ref().map(|_| beginning(&message.payload)),
            fault,
            excluded: None,
            events,
            snapshot: None,
            state: None,
            state_bytes: None,
        }
    }
}

/// The id of the trace that a `traceparent` names.
pub(super) fn trace_of(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    let hexadecimal = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hexadecimal.then(|| id.to_owned())
}

/// The beginning of what is no commit.
fn beginning(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(&payload[..payload.len().min(4 * SHOWN)]);
    text.chars().take(SHOWN).collect()
}
