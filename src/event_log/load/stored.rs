//! A message as the log has it, and the errors of reading one.

use bytes::Bytes;
use jiff::Timestamp;

/// One stored message, undecoded.
#[derive(Debug, Clone)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its stream sequence.
    pub position: u64,
    /// The time when the server took it, by the server's clock, in seconds since the epoch.
    pub time: i64,
    /// The same, to the last digit that the server tells.
    pub stored: Timestamp,
    /// The trace that it belongs to (W3C Trace Context), where it was traced.
    pub traceparent: Option<Box<str>>,
    /// Its body.
    pub payload: Bytes,
}

/// The log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be reached now; a retry may work.
    #[error("the log is unavailable: {0}")]
    Unavailable(String),
    /// A message that cannot be understood by this build; a retry won't help.
    #[error("what stands at {position} of the log cannot be read: {reason}")]
    Unreadable {
        /// The stream sequence of what cannot be read.
        position: u64,
        /// The fault of it.
        reason: String,
    },
    /// The server answers what it should not; a retry won't help.
    #[error("the log's answer cannot be understood: {0}")]
    Corrupt(String),
}

impl LoadError {
    /// Returns whether the same load may work later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
