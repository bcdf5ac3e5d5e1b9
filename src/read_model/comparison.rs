//! The comparison of what is served of a view with the log that there is now.
//!
//! The log may have become another one at the end of each epoch. A position that a reader asks for is then of a
//! log of which the view may know nothing, and the view's own position says nothing. So who asks for one
//! waits until the view has been compared since, by one look for all who wait. Who asks for none is answered at
//! once, from what is there.

use super::{
    ReadModel, ViewDescription, Watermark,
    answers::{Inner, Served},
    other_log,
    refresh::{self, RefreshError},
};
use crate::event_log::{Epoch, EventLog};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// The number of new beginnings of a comparison because meanwhile something else has come to be served.
const ATTEMPTS: usize = 5;
/// The pause after one that failed, before readers have the next one made.
const PAUSE: Duration = Duration::from_millis(50);

/// Knowledge of one view.
pub(super) struct Comparison {
    /// In which epoch of the log the view was last compared with it.
    epoch: watch::Sender<Option<Epoch>>,
    /// True while a comparison that readers wait for is under way.
    running: AtomicBool,
}

impl Default for Comparison {
    fn default() -> Self {
        Self {
            epoch: watch::Sender::new(None),
            running: AtomicBool::new(false),
        }
    }
}

impl Comparison {
    fn is_of(&self, epoch: Epoch) -> bool {
        *self.epoch.borrow() == Some(epoch)
    }
}

impl ReadModel {
    /// Returns whether what is served of a view is known to be of the log that there is now, as far as this
    /// replica has heard of the log.
    pub(super) fn is_compared(&self, served: &Served<'_>) -> bool {
        let log = self.inner.log.get();
        log.is_none_or(|log| served.comparison.is_of(log.epoch()))
    }

    /// Waits until what is served is known to be of the log that there is now, or not to be; returns whether it is
    /// known by then. Without any wait it is looked up for those who ask later.
    pub(super) async fn until_compared(&self, served: &Served<'_>, until: Instant) -> bool {
        let mut told = served.comparison.epoch.subscribe();
        loop {
            if self.is_compared(served) || served.watermark.serving().is_lost() {
                return true;
            }
            self.begin_comparing(served);
            match timeout_at(until, told.changed()).await {
                Ok(Ok(())) => {}
                _ => return false,
            }
        }
    }

    /// Has the view compared, unless somebody has already.
    fn begin_comparing(&self, served: &Served<'_>) {
        let comparison = served.comparison;
        if comparison.running.swap(true, Ordering::AcqRel) {
            return;
        }
        let ends = Ends(Arc::clone(comparison));
        let (inner, view) = (Arc::clone(&self.inner), served.view.clone());
        let watermark = served.watermark.clone();
        self.inner.store.runtime().spawn(async move {
            let compared = inner.compare(&view, &watermark, &ends.0).await;
            if let Err(error) = compared {
                tracing::debug!(view.name = view.name, %error, "cannot be compared with the log");
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

/// Tells those who wait that a comparison has ended, however it did.
struct Ends(Arc<Comparison>);

impl Drop for Ends {
    fn drop(&mut self) {
        // First: who is told may begin the next one.
        self.0.running.store(false, Ordering::Release);
        self.0.epoch.send_modify(|_| {});
    }
}

impl Inner {
    /// Compares a view's documents with the log where that may have become another one, and for as long as
    /// they are not of it.
    pub(super) async fn compare(
        &self,
        view: &ViewDescription,
        watermark: &Watermark,
        comparison: &Comparison,
    ) -> Result<(), RefreshError> {
        let Some(log) = self.log.get() else {
            return Ok(());
        };
        let epoch = log.epoch();
        let serving = watermark.serving();
        if comparison.is_of(epoch) && !serving.is_lost() {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            refresh::look(&self.store, view, watermark).await?;
            if self.is_settled(view, watermark, log).await? {
                comparison.epoch.send_replace(Some(epoch));
                break;
            }
        }
        Ok(())
    }

    /// Returns whether it is decided that what is served is of the log, or is not served any more.
    async fn is_settled(
        &self,
        view: &ViewDescription,
        watermark: &Watermark,
        log: &EventLog,
    ) -> Result<bool, RefreshError> {
        let was_lost = watermark.serving().is_lost();
        let settled = other_log::doubt(&self.store, view, watermark, log).await?;
        if was_lost && !watermark.serving().is_lost() {
            refresh::look(&self.store, view, watermark).await?;
        }
        Ok(settled)
    }
}
