//! How far each view has come, and waiting until it has come far enough.
//!
//! A view's watermark moves when a transaction of its projector is in the store, never before, and
//! never back. The projector of the same process moves it directly; one of another process through
//! its announcements, as long as both speak of the same store.

use super::{announcement::Applied, serving::Serving};
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How far a view has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// The stream sequence of the last commit applied.
    pub position: u64,
    /// The time of the first commit that is known not to be applied; `None` when all are, as far as
    /// is known.
    pub behind_since: Option<Timestamp>,
}

impl Progress {
    /// How far behind the log the view is at time `now`, in milliseconds.
    #[must_use]
    pub fn lag_ms(&self, now: Timestamp) -> u64 {
        self.behind_since.map_or(0, |since| {
            u64::try_from(now.duration_since(since).as_millis()).unwrap_or(0)
        })
    }
}

/// One view's progress, shared by who moves it and who waits on it.
#[derive(Debug, Clone)]
pub struct Watermark {
    progress: watch::Sender<Progress>,
    serving: Serving,
}

impl Default for Watermark {
    fn default() -> Self {
        Self {
            progress: watch::Sender::new(Progress::default()),
            serving: Serving::default(),
        }
    }
}

impl Watermark {
    /// How far the view has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// What the view is served from.
    pub(crate) fn serving(&self) -> &Serving {
        &self.serving
    }

    /// Moves the watermark to where another generation of the view is, back too.
    pub(crate) fn reset(&self, to: Progress) {
        self.progress.send_replace(to);
    }

    /// Moves the watermark on. One that is further already stays.
    pub fn advance(&self, to: Progress) {
        self.progress.send_if_modified(|progress| {
            let forward = to.position >= progress.position && to != *progress;
            if forward {
                *progress = to;
            }
            forward
        });
    }

    /// Notes since when the log has commits that are not applied, at the same position.
    pub fn fall_behind(&self, since: Option<Timestamp>) {
        self.progress.send_if_modified(|progress| {
            let changed = progress.behind_since != since;
            progress.behind_since = since;
            changed
        });
    }

    /// How many wait for a position now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.progress.receiver_count()
    }

    /// Waits at most `max_wait` until the view has applied `position`; whether it has.
    pub async fn reached(&self, position: u64, max_wait: Duration) -> bool {
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.position >= position);
        matches!(timeout(max_wait, reached).await, Ok(Ok(_)))
    }
}

/// The watermarks of all views.
#[derive(Debug, Clone, Default)]
pub struct Watermarks {
    views: Arc<BTreeMap<&'static str, Watermark>>,
}

impl Watermarks {
    /// One for each name, all at the beginning.
    #[must_use]
    pub fn new(views: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            views: Arc::new(
                views
                    .into_iter()
                    .map(|view| (view, Watermark::default()))
                    .collect(),
            ),
        }
    }

    /// The named view's.
    #[must_use]
    pub fn view(&self, view: &str) -> Option<&Watermark> {
        self.views.get(view)
    }

    /// Takes note of an announcement about this store.
    pub fn note(&self, applied: &Applied) {
        if let Some(watermark) = self.view(&applied.view) {
            watermark.advance(Progress {
                position: applied.position,
                behind_since: applied.behind_since,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Progress {
        Progress {
            position,
            behind_since: None,
        }
    }

    #[tokio::test]
    async fn a_wait_ends_when_the_position_is_reached() {
        let watermark = Watermark::default();
        let waiting = watermark.clone();
        let wait = tokio::spawn(async move { waiting.reached(7, Duration::from_secs(5)).await });
        watermark.advance(at(6));
        watermark.advance(at(8));
        assert!(wait.await.unwrap());
    }

    #[tokio::test]
    async fn a_wait_is_over_when_its_time_is() {
        let watermark = Watermark::default();
        watermark.advance(at(6));
        assert!(!watermark.reached(7, Duration::ZERO).await);
        assert!(watermark.reached(6, Duration::ZERO).await);
    }

    #[test]
    fn a_watermark_never_moves_back() {
        let watermark = Watermark::default();
        watermark.advance(at(6));
        watermark.advance(at(5));
        assert_eq!(watermark.progress(), at(6));
    }
}
