//! The reason why a projector does not get on.

use crate::{
    event_log::{LoadError, reader::ReadError},
    projection::fold_error::FoldError,
    read_model::{SchemaError, StoreError},
};

/// The reason why a projector does not get on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectorError {
    /// The view declares what cannot be stored.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log failed.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log failed, when an aggregate's history was read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The log is another one than the view was filled from.
    #[error(
        "the log is another one than the view was filled from: what it has applied at {position} is not there; it is filled anew"
    )]
    OtherLog {
        /// The position of the last commit that it has applied.
        position: u64,
    },
    /// The view's data do not fit its types.
    #[error(transparent)]
    Fold(#[from] FoldError),
    /// The batch is written, but could not be announced.
    #[error("the batch could not be announced: {0}")]
    Announce(String),
    /// A defect.
    #[error("the projector panicked: {0}")]
    Panicked(String),
}

impl ProjectorError {
    /// Returns whether trying again may help without anybody doing something.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Store(error) => error.is_retryable() || error.may_be_the_contents(),
            Self::Read(error) => error.is_retryable(),
            Self::Load(error) => error.is_retryable(),
            Self::Announce(_) | Self::OtherLog { .. } => true,
            Self::Schema(_) | Self::Fold(_) | Self::Panicked(_) => false,
        }
    }

    /// Returns whether another projector wrote the view.
    #[must_use]
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Store(StoreError::Fenced))
    }
}
