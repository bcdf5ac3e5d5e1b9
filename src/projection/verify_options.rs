//! The settings by which views are compared with the log, and what the comparisons of a replica share.

use std::{path::PathBuf, sync::Arc};
use tokio::sync::Mutex;

/// The comparison of a replica's views with the log.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The folder for what is folded again and does not fit in memory. It is this program's alone.
    pub folder: PathBuf,
    /// About how many documents a minute it compares by itself; 0 for none.
    pub per_minute: u32,
    /// True if it sets right what it finds by itself.
    pub repair: bool,
    /// One view of the replica is verified at a time, and one by itself.
    pub(super) asked: Arc<Mutex<()>>,
    pub(super) turns: Arc<Mutex<()>>,
    /// And one document of it is explained.
    pub(super) explaining: Arc<Mutex<()>>,
}

impl VerifyOptions {
    /// The number of documents a minute that are compared unless somebody says otherwise.
    pub const PER_MINUTE: u32 = 60;

    /// Compares only when asked, and changes nothing.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            per_minute: 0,
            repair: false,
            asked: Arc::default(),
            turns: Arc::default(),
            explaining: Arc::default(),
        }
    }

    /// Compares so many documents a minute by itself too, and sets right what differs if `repair`.
    #[must_use]
    pub fn unasked(mut self, per_minute: u32, repair: bool) -> Self {
        (self.per_minute, self.repair) = (per_minute, repair);
        self
    }
}
