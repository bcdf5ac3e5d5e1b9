//! A view of which another version is live than this program folds: what is served stands still, unless
//! another replica folds it, and readers and operators are told so.

use super::Shared;
use crate::{
    connection::is_up,
    event_log::subject,
    projection::{ProjectorState, ProjectorStatus, status::Stalled},
    read_model::{
        Applied, Edition, Generation, GenerationState, Generations, exchange::Checkpoint,
        refresh::RefreshError,
    },
};
use jiff::Timestamp;
use std::sync::Arc;

impl Shared {
    /// The live generation, if no program that runs folds it.
    pub(super) fn unkept(&self, generations: &Generations) -> Option<Generation> {
        let live = generations.find(GenerationState::Live)?;
        let folded = live.version == self.version() || self.home.is_folded_elsewhere(live.version);
        (!folded).then_some(live)
    }

    /// Tells that what is served stands still.
    pub(super) async fn tell_unkept(
        &self,
        generations: &Generations,
        live: Generation,
    ) -> Result<(), RefreshError> {
        self.show(None);
        let reason = self.why_unkept(generations, live);
        let checkpoint = self
            .options
            .store
            .find_checkpoint(&self.tables(live)?)
            .await?;
        let position = checkpoint.as_ref().map_or(0, |at| at.position);
        let (behind_since, last) = self.beyond(position).await;
        let watermark = &self.options.watermark;
        watermark
            .serving()
            .stand_still(Some(Arc::from(reason.as_str())));
        watermark.fall_behind(behind_since);
        let told = Applied {
            behind_since,
            stalled: Some(reason.clone()),
            ..self.stands_still(generations, live, checkpoint)
        };
        self.announce(&told).await;
        self.status.send_modify(|status| {
            let stalled = status.stalled.take();
            let since = stalled.map_or_else(Timestamp::now, |stalled| stalled.since);
            *status = ProjectorStatus {
                state: ProjectorState::Stalled,
                applied: position,
                // Not each position is a commit of the view.
                lag_commits: last.saturating_sub(position),
                behind_since,
                stalled: Some(Stalled { since, reason }),
                parked: 0,
                ready: false,
                commits: 0,
            };
        });
        Ok(())
    }

    /// An announcement that nothing has changed.
    fn stands_still(
        &self,
        generations: &Generations,
        live: Generation,
        checkpoint: Option<Checkpoint>,
    ) -> Applied {
        let edition = checkpoint
            .as_ref()
            .map(|at| Edition::of(live, generations.era, at.log, at.exchanges));
        let place = checkpoint.as_ref().map(Checkpoint::place);
        let place = place.unwrap_or_default();
        Applied {
            store: self.options.store.id(),
            view: self.name().to_owned(),
            edition: edition.unwrap_or_default(),
            generations: generations.revision,
            previous: place.position,
            position: place.position,
            mark: Some(place.mark),
            writer: self.options.writer.clone(),
            revision: checkpoint.map_or(0, |checkpoint| checkpoint.revision),
            ..Applied::default()
        }
    }

    /// Tells those who serve the view and keep no documents. They hear it again with the next look.
    async fn announce(&self, told: &Applied) {
        let client = self.options.log.client();
        // A connection that is away keeps what it is given, for later.
        if self.options.replica.is_some() || !is_up(client) {
            return;
        }
        let body = told.body(client.server_info().max_payload);
        let sent = client.publish(Applied::subject(self.name()), body.into());
        if let Err(error) = sent.await {
            tracing::debug!(view.name = self.name(), %error, "not told that the view stands still");
        }
    }

    fn why_unkept(&self, generations: &Generations, live: Generation) -> String {
        let (view, version) = (self.name(), self.version());
        if live.version > version {
            return format!(
                "{live} is live, and no program that runs folds it: this one has the view in version \
                 {version}. Documents stay as they are until a program with version {} runs, or \
                 `headwater views rollback {view}` goes back",
                live.version
            );
        }
        let building = generations.find(GenerationState::Building);
        let filled = building.filter(|building| building.version == version);
        let waits = filled.and_then(|building| self.waits(building));
        match (waits, filled) {
            (Some(reason), _) => format!("{live} is live and not kept up to date: {reason}"),
            (None, Some(building)) => format!(
                "{live} is live and not kept up to date until {building}, which is being filled, takes \
                 over"
            ),
            (None, None) => format!("{live} is live, which this program does not fold"),
        }
    }

    /// The time when the first commit after a position that concerns the view was written, and the position of the
    /// last one, as far as the log can be read.
    async fn beyond(&self, position: u64) -> (Option<Timestamp>, u64) {
        let (mut first, mut end) = (None, position);
        let log = &self.options.log;
        for aggregate in self.options.view.description().aggregates {
            let subject = subject::events_of_all(aggregate);
            let Ok(Some(next)) = log.commit_after(&subject, position).await else {
                continue;
            };
            first = first.map_or(Some(next.time), |first: i64| Some(first.min(next.time)));
            if let Ok(Some(last)) = log.last_message(&subject).await {
                end = end.max(last.position);
            }
        }
        (first.and_then(|at| Timestamp::from_second(at).ok()), end)
    }
}
