//! The projector's news of how far it is: to readers through the watermark, where its generation is the
//! live one, and to operators through its status.

use super::{Projector, ProjectorError};
use crate::{
    projection::status::{ProjectorState, ProjectorStatus},
    read_model::{Applied, Progress, exchange::Checkpoint},
};
use jiff::Timestamp;
use std::time::Duration;

/// The time telling that the view stalls may take.
const TELLING: Duration = Duration::from_secs(1);

impl Projector {
    /// Notes that a batch has come that is not applied yet.
    pub(super) fn behind(&self, applied: u64, since: Timestamp, commits: u64) {
        if self.live().is_some() {
            self.options.watermark.fall_behind(Some(since));
        }
        self.status.send_modify(|status| {
            status.applied = applied;
            status.behind_since = Some(since);
            status.lag_commits = commits;
        });
    }

    /// Notes what the store held at the start. Whether the projector gets on shows only when there is
    /// something to apply.
    pub(super) fn opened(&self, checkpoint: &Checkpoint, pending: u64, live: bool) {
        if live {
            self.options.watermark.stands_on(checkpoint.place());
        }
        let behind_since = (pending > 0).then_some(checkpoint.at);
        if behind_since.is_none() {
            return self.follow_as(live, checkpoint.position, 0, None);
        }
        if live {
            self.options.watermark.advance(Progress {
                position: checkpoint.position,
                behind_since,
            });
        }
        let parked = self.fold.parked();
        self.status.send_modify(|status| {
            status.applied = checkpoint.position;
            status.lag_commits = pending;
            status.behind_since = behind_since;
            status.parked = parked;
        });
    }

    /// Notes, and tells the others who serve the view, that it does not get on.
    pub(in crate::projection) async fn stall(&self, error: &ProjectorError) {
        let progress = self.options.watermark.progress();
        let since = progress.behind_since.unwrap_or_else(Timestamp::now);
        self.status
            .send_modify(|status| status.behind_since = Some(since));
        let Some((generations, edition)) = self.was_live.clone() else {
            return;
        };
        self.options.watermark.fall_behind(Some(since));
        if error.is_fenced() {
            // Somebody else gets on with it.
            return;
        }
        let stalled = Applied {
            previous: progress.position,
            position: progress.position,
            mark: None,
            behind_since: Some(since),
            stalled: Some(error.to_string()),
            edition,
            generations,
            ..self.nothing()
        };
        // The log may be what is away. They learn it with the next try, or by themselves.
        let told = tokio::time::timeout(TELLING, self.tell(&stalled)).await;
        if let Ok(Err(error)) = told {
            tracing::debug!(view.name = self.view(), %error, "not told that the view stalls");
        }
    }

    /// Counts commits that were applied, which wakes nobody: what they come to is told next.
    pub(super) fn count(&self, commits: usize) {
        self.status.send_if_modified(|status| {
            status.commits += commits as u64;
            false
        });
    }

    /// Notes what the store now holds.
    pub(super) fn follow(&self, position: u64, pending: u64, behind_since: Option<Timestamp>) {
        self.follow_as(self.live().is_some(), position, pending, behind_since);
    }

    pub(super) fn follow_as(
        &self,
        live: bool,
        position: u64,
        pending: u64,
        behind_since: Option<Timestamp>,
    ) {
        if live {
            self.options.watermark.advance(Progress {
                position,
                behind_since,
            });
        }
        let parked = self.fold.parked();
        self.status.send_modify(|status| {
            *status = ProjectorStatus {
                state: ProjectorState::Following,
                applied: position,
                lag_commits: pending,
                behind_since,
                stalled: None,
                parked,
                ready: status.ready || pending == 0,
                commits: status.commits,
            };
        });
    }
}
