//! What a projector tells of how far it is: to readers through the watermark, where its generation is the
//! live one, and to operators through its status.

use super::Projector;
use crate::{
    projection::status::{ProjectorState, ProjectorStatus},
    read_model::{Progress, exchange::Checkpoint},
};
use jiff::Timestamp;

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

    /// Notes that nothing is known of the log any more.
    pub(in crate::projection) fn stall(&self) {
        let since = self.options.watermark.progress().behind_since;
        let since = since.unwrap_or_else(Timestamp::now);
        if self.was_live {
            self.options.watermark.fall_behind(Some(since));
        }
        self.status
            .send_modify(|status| status.behind_since = Some(since));
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
            };
        });
    }
}
