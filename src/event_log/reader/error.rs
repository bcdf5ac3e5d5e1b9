//! Errors of a reader.

use std::error::Error as StdError;

/// The reason why the log cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// JetStream does not answer, or not as it should.
    #[error("the log cannot be read: {0}")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The consumer's messages ended: it was deleted, or the connection was closed.
    #[error("the consumer has ended")]
    Ended,
    /// A delivery is missing.
    #[error("delivery {expected} of the consumer was lost, {found} came")]
    Gap {
        /// The delivery that should have come.
        expected: u64,
        /// The delivery that came.
        found: u64,
    },
    /// Nothing comes.
    #[error("{pending} commits are pending, and none comes")]
    Starved {
        /// The number that the server said are there.
        pending: u64,
    },
    /// The log is shorter than what was read of it before.
    #[error("position {after} was read before, but the log ends at {last}: it is another log")]
    Replaced {
        /// The position to go on from.
        after: u64,
        /// The log's last sequence.
        last: u64,
    },
}

impl ReadError {
    pub(crate) fn unavailable(error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Unavailable(error.into())
    }

    /// Returns whether opening a new reader may help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Replaced { .. })
    }
}
