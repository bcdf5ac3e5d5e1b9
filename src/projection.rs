//! The query side's writers: one projector a view, from the log to the store.
//!
//! A projector applies commits in stream order, each exactly once: the documents that a batch changes
//! and the checkpoint are one transaction, fenced on the checkpoint that it wrote last. Whatever goes
//! wrong, it begins again at the stored checkpoint. Folding is pure and has no part in I/O; this
//! module owns no query text and no consumer, it only uses the store's and the log's.

mod control;
mod drift;
mod explain;
mod explained;
mod fold;
mod fold_error;
mod followed;
pub(crate) mod gauges;
mod keeper;
mod meters;
mod placement;
mod projector;
mod rates;
mod refold;
mod registered;
mod runner;
mod sample;
mod status;
#[cfg(test)]
mod tests;
mod verify;
mod verify_options;
mod view_handle;
mod working_set;

pub use control::{
    ALL, Ask, ControlEndpoint, ControlError, DriftReport, GenerationReport, JOB, ParkedCursor,
    ParkedPage, ParkedReport, Reply, ReplyBody, Settled, Verb, ViewReport,
};
pub use explained::{Explained, ExplainedEvent, ExplainedField};
pub use fold::Limits;
pub use fold_error::FoldError;
pub use placement::ViewPlacement;
pub use projector::{ProjectorError, ProjectorOptions, Retried, Try};
pub(crate) use refold::same_document;
pub use refold::{Difference, Preview, RefoldError, ScratchError};
pub use registered::RegisteredView;
pub use runner::ProjectorHandle;
pub use status::{ProjectorState, ProjectorStatus};
pub use verify::{Verified, VerifyError};
pub use verify_options::VerifyOptions;
pub use view_handle::ViewHandle;
