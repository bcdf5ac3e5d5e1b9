//! A view that this program keeps, as the rest of the program sees it.

use super::{
    drift, keeper::Shared, placement::ViewPlacement, projector::ProjectorOptions,
    status::ProjectorStatus,
};
use crate::read_model::GenerationState;
use actix::ArbiterHandle;
use std::sync::Arc;
use tokio::sync::watch;

/// A kept view. Cheap to clone.
#[derive(Clone)]
pub struct ViewHandle {
    shared: Arc<Shared>,
    status: watch::Receiver<ProjectorStatus>,
    kept: watch::Receiver<bool>,
}

impl ViewHandle {
    /// Begins to keep a view; its projectors run on `arbiter`. `options` are those of its first
    /// generation; `home` says when this program keeps it.
    pub fn start(options: ProjectorOptions, home: ViewPlacement, arbiter: &ArbiterHandle) -> Self {
        let (status, followed) = watch::channel(ProjectorStatus::default());
        let (kept_sender, kept) = watch::channel(true);
        let shared = Arc::new(Shared::new(options, home, arbiter, status));
        let keeping = Arc::clone(&shared);
        arbiter.spawn(async move {
            keeping.keep().await;
            kept_sender.send_replace(false);
        });
        let runtime = shared.options.store.runtime().clone();
        runtime.spawn(drift::watch(Arc::clone(&shared)));
        Self {
            shared,
            status: followed,
            kept,
        }
    }

    /// The view's name.
    #[must_use]
    pub fn view(&self) -> &'static str {
        self.shared.options.view.description().name
    }

    /// Returns how the projector of what is read is doing, or of what is being filled where the other is of a
    /// version that this program does not have.
    #[must_use]
    pub fn status(&self) -> ProjectorStatus {
        self.status.borrow().clone()
    }

    /// Each change of how it is doing.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ProjectorStatus> {
        self.status.clone()
    }

    /// Returns how much of the log a generation that is being filled here has applied, from 0 to 1; `None` when
    /// none is.
    #[must_use]
    pub fn rebuilding(&self) -> Option<f64> {
        let building = self.shared.known().find(GenerationState::Building)?;
        let status = self.shared.status_of(building)?;
        let whole = (status.applied + status.lag_commits).max(1);
        Some(status.applied as f64 / whole as f64)
    }

    /// Returns whether nothing of the view is served, as the log is another one than it was filled from.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.shared.options.watermark.serving().is_lost()
    }

    /// Returns whether a filled generation waits for an operator before it takes over.
    #[must_use]
    pub fn take_over_waits(&self) -> bool {
        let building = self.shared.known().find(GenerationState::Building);
        building.is_some_and(|building| self.shared.waits(building).is_some())
    }

    /// Notes how far the projectors of its generations are: from this it is told how fast they get on. To be
    /// called every second.
    pub(super) fn sample_rates(&self) {
        self.shared.sample_rates();
    }

    /// Finishes the batches in hand and stops.
    pub async fn stop(&self) {
        self.shared.stopping().cancel();
        let mut kept = self.kept.clone();
        // An error means that the keeper is gone: it has stopped as well.
        let _ = kept.wait_for(|kept| !kept).await;
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }
}
