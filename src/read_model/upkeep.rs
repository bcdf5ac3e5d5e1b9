//! Keeps what is served as the store has it: by the announcements of projectors of other processes, and by
//! looking at the store itself twice a second, for those that did not arrive.

use super::{
    OpenError, ReadModel, ViewDescription, Watermark, announcement::Applied, answers::Inner,
    other_log, refresh, store::StoreError,
};
use crate::event_log::EventLog;
use futures::StreamExt;
use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};
use tokio::time::MissedTickBehavior;

/// The pause between two looks at how far a store is that others write: the longest that a lost announcement,
/// or a connection that was away, can leave a reader waiting or a copy old.
const AUDIT: Duration = Duration::from_millis(500);

impl ReadModel {
    /// Makes sure that the documents are of this log, now and from now on: nothing is answered from those
    /// of another. With `prepares`, as for [`ReadModelOptions`](super::ReadModelOptions), such a view begins anew.
    ///
    /// # Errors
    ///
    /// Returns a retryable error when the log or the store does not answer.
    pub async fn compare_with(&self, log: &EventLog, prepares: bool) -> Result<(), OpenError> {
        let inner = &self.inner;
        let log = inner.log.get_or_init(|| log.clone());
        for (view, comparison) in inner.views.iter().zip(&inner.comparisons) {
            if prepares {
                let generations = inner.store.generations(view.name).await?;
                other_log::begin_anew(&inner.store, view, log, generations).await?;
            }
            if let Some(watermark) = inner.watermarks.view(view.name) {
                inner.compare(view, watermark, comparison).await?;
                refresh::look(&inner.store, view, watermark).await?;
            }
        }
        Ok(())
    }

    /// Follows the announcements of projectors of other processes until it is dropped. Those about
    /// other stores are of no concern.
    ///
    /// # Errors
    ///
    /// Returns an error when the connection is closed.
    pub async fn follow(
        &self,
        client: &async_nats::Client,
    ) -> Result<impl Future<Output = ()> + Send + use<>, async_nats::SubscribeError> {
        let mut announcements = client.subscribe(Applied::subject("*")).await?;
        let statistics = client.statistics();
        let inner = Arc::clone(&self.inner);
        Ok(async move {
            let mut audit = tokio::time::interval(AUDIT);
            audit.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let connects = || statistics.connects.load(Ordering::Relaxed);
            let mut connected = connects();
            loop {
                tokio::select! {
                    message = announcements.next() => match message {
                        Some(message) => inner.note(&message).await,
                        None => break,
                    },
                    _ = audit.tick() => {
                        if connected != connects() {
                            connected = connects();
                            inner.doubt();
                        }
                        inner.audit().await;
                    }
                }
            }
        })
    }
}

impl Inner {
    /// Takes note of an announcement.
    async fn note(&self, message: &async_nats::Message) {
        match serde_json::from_slice::<Applied>(&message.payload) {
            Ok(applied) if applied.store == self.store.id() => self.follow(&applied).await,
            Ok(_) => {}
            Err(error) => tracing::warn!(
                message.subject = %message.subject,
                %error,
                "ignored an announcement"
            ),
        }
    }

    /// Takes note of a transaction of another program. What is about an edition that is not served any
    /// more is of no concern; one that may have come since tells to look again.
    async fn follow(&self, applied: &Applied) {
        let mut views = self.views.iter();
        let view = views.find(|view| view.name == applied.view);
        let (Some(view), Some(watermark)) = (view, self.watermarks.view(&applied.view)) else {
            return;
        };
        let serving = watermark.serving();
        let seen = serving.seen();
        let is_served = applied.edition == seen.edition;
        if !is_served && (applied.generations >= seen.generations || serving.live().is_none()) {
            self.look(view, watermark).await;
        }
        if !is_served && applied.edition != serving.edition() {
            return;
        }
        serving.heard_of(applied.revision);
        if !self.prepares {
            // Who keeps documents knows by itself.
            serving.stand_still(applied.stalled.as_deref().map(Arc::from));
        }
        if let Some(live) = serving
            .live()
            .filter(|_| applied.parked_at > serving.parked_at())
            .filter(|_| {
                let change = applied.parked.as_ref();
                !change.is_some_and(|change| serving.park_change(applied.parked_at, change))
            })
        {
            match self.store.behind(&live).await {
                Ok(parked) => serving.park(applied.parked_at, parked),
                Err(error) => {
                    tracing::debug!(view.name = view.name, %error, "what is parked cannot be read");
                }
            }
        }
        watermark.note(applied);
    }

    /// Looks in the store what is live.
    pub(super) async fn look(&self, view: &ViewDescription, watermark: &Watermark) {
        if let Err(error) = refresh::look(&self.store, view, watermark).await {
            tracing::debug!(view.name = view.name, %error, "what is live cannot be read");
        }
    }

    /// Forgets copies: announcements may have been missed.
    fn doubt(&self) {
        let watermarks = self
            .views
            .iter()
            .map(|view| self.watermarks.view(view.name));
        watermarks.flatten().for_each(Watermark::replaced);
    }

    /// Asks the store how far the views are, for announcements that did not arrive: lost with a
    /// connection, or never made because the projector was killed before.
    async fn audit(&self) {
        if let Err(error) = self.look_which_store().await {
            tracing::debug!(%error, "which store it is cannot be read");
        }
        for (view, comparison) in self.views.iter().zip(&self.comparisons) {
            let Some(watermark) = self.watermarks.view(view.name) else {
                continue;
            };
            self.look(view, watermark).await;
            if let Err(error) = self.compare(view, watermark, comparison).await {
                tracing::debug!(view.name = view.name, %error, "cannot be compared with the log");
            }
        }
    }

    /// Forgets all that is known of the documents where the store has become another one.
    pub(super) async fn look_which_store(&self) -> Result<(), StoreError> {
        self.store.look_which(self.prepares).await?;
        let id = self.store.id();
        let mut known = self
            .known_store
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *known != id {
            *known = id;
            let views = self.views.iter();
            let watermarks = views.filter_map(|view| self.watermarks.view(view.name));
            watermarks.for_each(Watermark::forget);
        }
        Ok(())
    }
}
