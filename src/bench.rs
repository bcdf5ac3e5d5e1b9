//! Measures a build against the floors that it stands on.
//!
//! A bench runs its own work and, in the same run on the same servers, each floor: what the parts
//! below cost alone. Rounds alternate between them and medians are told, because a machine's speed
//! changes by the minute and a ratio of neighbours does not. A floor is never given less load than
//! ours, and no figure is corrected.
//!
//! [`closed_loop`] makes the load, [`Rounds`] gathers samples, [`Bench`] is what was measured, and
//! [`processes`] starts the servers that are measured.

pub mod catchup;
pub mod claims;
pub mod commands;
pub mod compared;
pub mod console;
pub mod events;
pub mod fanout;
pub mod floor;
pub mod fresh;
pub mod fulfilments;
pub mod get;
pub mod http;
pub mod lists;
pub mod live;
pub mod load;
mod log;
pub mod mixed;
pub mod plot;
pub mod processes;
pub mod queries;
pub mod report;
pub mod sample;
pub mod search;
pub mod sweep;

pub use load::{LoadThreads, closed_loop};
pub use plot::{Line, Plot};
pub use report::{Bench, Rounds};
pub use sample::{Figures, Sample};
pub use sweep::Sweep;

use std::fmt;

/// The reason why nothing was measured. A figure over failed operations would mean nothing, so the first
/// failure ends a bench.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BenchError(String);

impl BenchError {
    /// The bench cannot go on for this reason.
    #[must_use]
    pub fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl From<std::io::Error> for BenchError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}
