//! Refusals of what an operator has asked for.

use crate::{
    projection::verify::VerifyError,
    read_model::{
        Generation, generation::GenerationError, refresh::RefreshError, store::StoreError,
    },
};
use std::error::Error as StdError;

/// The reason why what an operator has asked for was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The view's generations do not allow it.
    #[error(transparent)]
    Generation(#[from] GenerationError),
    /// The store failed, or somebody else changed the same.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The one to go back to does not come up to what is live.
    #[error("the other generation is behind what is live, and does not come up to it")]
    Behind,
    /// Nothing of this aggregate is parked.
    #[error("nothing of this aggregate is parked")]
    NotParked,
    /// The scope of a request: one aggregate, or all of it.
    #[error("name the aggregate and its id, or ask for all")]
    Unnamed,
    /// The filled generation has parked what the live one has applied.
    #[error("{0}")]
    Waits(String),
    /// The one to go back to has personal data that was withdrawn.
    #[error("{0} holds personal data that was withdrawn since, and no program that runs folds it")]
    Erased(Generation),
    /// It was cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// This program does not keep this generation.
    #[error("this program does not keep this generation")]
    NotKept,
    /// Anything else.
    #[error("{0}")]
    Other(#[source] Box<dyn StdError + Send + Sync>),
}

impl From<RefreshError> for ControlError {
    fn from(error: RefreshError) -> Self {
        Self::Other(Box::new(error))
    }
}

impl From<VerifyError> for ControlError {
    fn from(error: VerifyError) -> Self {
        Self::Other(Box::new(error))
    }
}
