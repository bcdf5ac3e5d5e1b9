//! The stored form of a commit: a CloudEvents 1.0 JSON batch, one element an event.
//!
//! The shape is `application/cloudevents-batch+json` with the extension attributes `commandid`,
//! `commandhash`, `correlationid`, `causationid` and `version`. It is a storage format: fields are
//! added, never renamed or removed.

use super::subject;
use crate::{aggregate::Aggregate, recorded::Recorded};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::{borrow::Cow, sync::Arc};

/// The media type of a commit's body.
pub const CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// What one command adds to a commit.
#[derive(Debug, Clone)]
pub struct CommandEvents<'a, E> {
    /// The command's id.
    pub command_id: &'a str,
    /// The fingerprint of the command's name and body, which tells a reused key from a retry.
    pub command_hash: &'a str,
    /// The id that all consequences of one original command share.
    pub correlation_id: &'a str,
    /// The id of what caused the command.
    pub causation_id: &'a str,
    /// When it was decided.
    pub time: Timestamp,
    /// The aggregate's version before its first event.
    pub version_before: u64,
    /// Its events.
    pub events: &'a [E],
}

#[derive(Serialize)]
struct Written<'a, E> {
    specversion: &'static str,
    id: String,
    source: &'a str,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    commandid: &'a str,
    commandhash: &'a str,
    correlationid: &'a str,
    causationid: &'a str,
    version: u64,
    #[serde(flatten)]
    event: &'a E,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    time: Timestamp,
    #[serde(borrow)]
    commandid: Cow<'a, str>,
    #[serde(default, borrow)]
    commandhash: Cow<'a, str>,
    #[serde(borrow)]
    correlationid: Cow<'a, str>,
    #[serde(borrow)]
    causationid: Cow<'a, str>,
    version: u64,
    #[serde(default)]
    data: Option<Box<RawValue>>,
}

/// One event read from a commit, with what the command side needs to remember outcomes.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The event.
    pub recorded: Recorded,
    /// The fingerprint of the command that caused it.
    pub command_hash: String,
}

/// Writes one commit of aggregate `A`.
///
/// # Errors
///
/// Returns [`CodecError`] when an event does not serialise to `{"type", "data"}`.
pub fn encode<A: Aggregate>(
    id: &str,
    commands: &[CommandEvents<'_, A::Event>],
) -> Result<Vec<u8>, CodecError> {
    let source = format!("/headwater/{}", A::NAME);
    let mut written = Vec::new();
    for command in commands {
        for (index, event) in command.events.iter().enumerate() {
            let number = index as u64 + 1;
            written.push(Written {
                specversion: "1.0",
                id: format!("{}/{number}", command.command_id),
                source: &source,
                subject: id,
                time: command.time,
                datacontenttype: "application/json",
                commandid: command.command_id,
                commandhash: command.command_hash,
                correlationid: command.correlation_id,
                causationid: command.causation_id,
                version: command.version_before + number,
                event,
            });
        }
    }
    serde_json::to_vec(&written).map_err(|source| CodecError::Encode {
        aggregate: A::NAME,
        source,
    })
}

/// Reads the commit that stands at `position` on `subject`.
///
/// # Errors
///
/// Returns [`CodecError`] when the subject or the body is not a commit's.
pub fn decode(subject: &str, position: u64, body: &[u8]) -> Result<Vec<StoredEvent>, CodecError> {
    let (aggregate, id) =
        subject::parse_events(subject).ok_or_else(|| CodecError::Subject(subject.to_owned()))?;
    let events: Vec<Read<'_>> =
        serde_json::from_slice(body).map_err(|source| CodecError::Decode { position, source })?;
    Ok(events
        .into_iter()
        .map(|read| StoredEvent {
            recorded: Recorded {
                aggregate: aggregate.to_owned(),
                id: id.to_owned(),
                event_type: read.r#type.into_owned(),
                version: read.version,
                position,
                time: read.time,
                command_id: read.commandid.into_owned(),
                correlation_id: read.correlationid.into_owned(),
                causation_id: read.causationid.into_owned(),
                data: Arc::from(read.data.unwrap_or_else(no_data)),
            },
            command_hash: read.commandhash.into_owned(),
        })
        .collect())
}

fn no_data() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("an empty object is JSON")
}

/// A commit that cannot be written or read. Never retryable.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The subject is not `evt.<aggregate>.<id>`.
    #[error("{0} is not the subject of a commit")]
    Subject(String),
    /// An event does not serialise to `{"type", "data"}`.
    #[error("an event of {aggregate} cannot be encoded: {source}")]
    Encode {
        /// The aggregate's name.
        aggregate: &'static str,
        /// What was wrong.
        source: serde_json::Error,
    },
    /// The body is not a CloudEvents batch of this program.
    #[error("the commit at {position} cannot be decoded: {source}")]
    Decode {
        /// Its stream sequence.
        position: u64,
        /// What was wrong.
        source: serde_json::Error,
    },
}
