//! A log as a file: one CloudEvent a line, which can be read by people and other programs, and from which a
//! log is made again that is the same in all that counts.
//!
//! The file has every message of the log, in order: commits with their boundaries, claims, and the log's own
//! records. Positions are a part of it, since claims, processes and exclusions name them: what is imported
//! stands where it stood. Both directions can be killed at any moment and go on when they are begun again.

mod export;
mod form;
mod import;
mod lines;

pub use export::{ExportError, Exported, export};
pub use import::{BATCH, ImportError, ImportOptions, Imported, Target, import};
pub use lines::FileError;
