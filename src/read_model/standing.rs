//! The state of the views, as a replica knows it that answers from them and keeps none.

use super::ReadModel;
use jiff::Timestamp;
use std::sync::Arc;

/// The state of one view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The view's name.
    pub view: &'static str,
    /// The position up to which it is applied.
    pub applied: u64,
    /// True if nothing of it is served, as the log is another one than it was filled from.
    pub is_lost: bool,
    /// The reason why nobody keeps it up to date, as far as those who should have told.
    pub stands_still: Option<Arc<str>>,
    /// The time of the first commit that is known not to be applied.
    pub behind_since: Option<Timestamp>,
    /// The version that is served; `None` while none is.
    pub version: Option<u32>,
}

impl ReadModel {
    /// Tells how the views stand, in the order in which they were registered.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let served = self.views().iter();
        let served = served.filter_map(|view| self.served(view.name).ok());
        served
            .map(|served| {
                let (serving, progress) = (served.watermark.serving(), served.watermark.progress());
                Standing {
                    view: served.view.name,
                    applied: progress.position,
                    is_lost: serving.is_lost(),
                    stands_still: serving.stands_still_because(),
                    behind_since: progress.behind_since,
                    version: serving.live().map(|live| live.generation.version),
                }
            })
            .collect()
    }
}
