//! The error of a fold.

/// A view whose data do not fit its own types.
#[derive(Debug, thiserror::Error)]
#[error("{what} of view {view} {problem}: {source}")]
pub struct FoldError {
    pub(super) view: &'static str,
    pub(super) what: String,
    pub(super) problem: &'static str,
    pub(super) source: serde_json::Error,
}
