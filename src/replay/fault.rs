//! The faults of an event, a commit or a claim of a log.

use crate::event_log::codec::CodecError;
use serde::Serialize;
use std::fmt;

/// Something in a log that this build cannot build on. The aggregate is not folded any further.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The position of the message.
    pub position: u64,
    /// Its subject.
    pub subject: String,
    /// The full storage name of the event, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// The aggregate's version after the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// The path of the field at fault, in the event's data or, where it has no type, in its attributes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The fault in words.
    pub reason: String,
}

impl Fault {
    /// Something is wrong with a whole message.
    pub(super) fn of_message(subject: &str, position: u64, reason: impl Into<String>) -> Self {
        Self {
            position,
            subject: subject.to_owned(),
            event_type: None,
            version: None,
            field: None,
            reason: reason.into(),
        }
    }

    /// A message is no commit.
    pub(super) fn of_commit(subject: &str, position: u64, error: &CodecError) -> Self {
        let mut fault = Self::of_message(subject, position, error.to_string());
        if let CodecError::Attribute { attribute, .. } = error {
            fault.field = Some((*attribute).to_owned());
        }
        fault
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "position {}  {}", self.position, self.subject)?;
        if let Some(event_type) = &self.event_type {
            write!(f, "  {event_type}")?;
        }
        if let Some(version) = self.version {
            write!(f, "  version {version}")?;
        }
        if let Some(field) = &self.field {
            write!(f, "  field {field}")?;
        }
        write!(f, ": {}", self.reason)
    }
}
