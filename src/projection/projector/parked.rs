//! What a projector does about parked aggregates: tell which documents are behind, and try again.

use super::{Projector, ProjectorError};
use crate::{
    event_log::{
        StoredMessage,
        reader::Commit,
        subject::{self, Id},
    },
    read_model::{exchange::Parked, store::StoreError},
    recorded::Recorded,
    view::PartKey,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many commits before a parked one are looked at to tell which documents it concerns.
const HISTORY: usize = 200;

/// What came of trying again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    /// How many commits of the aggregate are applied now.
    pub applied: usize,
    /// How many are parked still.
    pub parked: usize,
    /// Why the first of those could not be applied.
    pub reason: Option<String>,
}

impl Projector {
    /// Tells readers in this process which documents are behind.
    pub(super) async fn tell_parked(&mut self) -> Result<(), StoreError> {
        self.untold = true;
        if self.live().is_some() {
            let parked = self.options.store.parked_documents(&self.tables).await?;
            let serving = self.options.watermark.serving();
            serving.park(self.parked_at, parked);
        }
        self.untold = false;
        Ok(())
    }

    /// Tries again, in order, what is parked of an aggregate, without its first event if `skip`.
    pub(in crate::projection) async fn retry(
        &mut self,
        aggregate: &PartKey,
        skip: bool,
    ) -> Result<Retried, ProjectorError> {
        let retried = self.try_retry(aggregate, skip).await;
        if retried.is_err() {
            self.close();
        }
        retried
    }

    async fn try_retry(
        &mut self,
        aggregate: &PartKey,
        skip: bool,
    ) -> Result<Retried, ProjectorError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => self.open().await?,
        };
        self.open = Some(open);
        let gate = Arc::clone(&self.options.gate);
        let _turn = gate.lock().await;
        self.apply_parked(aggregate, skip).await
    }

    /// Applies again what is parked of an aggregate. The caller holds the gate.
    pub(super) async fn apply_parked(
        &mut self,
        aggregate: &PartKey,
        skip: bool,
    ) -> Result<Retried, ProjectorError> {
        let Some(place) = self.open.as_ref().map(|open| open.place) else {
            return Err(ProjectorError::Panicked("nothing is open".to_owned()));
        };
        let mut parked = self.options.store.parked_commits(&self.tables).await?;
        parked.retain(|parked| parked.aggregate == *aggregate);
        let (Some(first), Some(last)) = (parked.first(), parked.last()) else {
            return Ok(Retried::default());
        };
        let messages = self
            .messages(aggregate, first.position - 1, last.position)
            .await?;
        let commits: Vec<_> = parked
            .iter()
            .filter_map(|parked| {
                let mut messages = messages.iter();
                let message = messages.find(|message| message.position == parked.position)?;
                Some((parked.from_event, Commit::of(message)))
            })
            .collect();
        if skip {
            self.fold.skip(first.position, first.from_event);
        }
        let mut changes = self
            .fold(&mut |fold| fold.retry(aggregate, &commits, place.position))
            .await?;
        changes.skipped = skip.then(|| (aggregate.clone(), first.position, first.from_event));
        for again in &mut changes.parked {
            let mut before = parked.iter();
            again.at = before
                .find(|p| p.position == again.position)
                .and_then(|p| p.at);
        }
        let retried = Retried {
            applied: commits.len() - changes.parked.len(),
            parked: changes.parked.len(),
            reason: changes.parked.first().map(|parked| parked.reason.clone()),
        };
        let applied = self.commit(place, changes).await?;
        let parked = self.fold.parked();
        self.status.send_modify(|status| status.parked = parked);
        if self.live().is_some() {
            self.options.watermark.note(&applied);
        }
        self.publish(&applied).await?;
        Ok(retried)
    }

    async fn messages(
        &self,
        (aggregate, id): &PartKey,
        after: u64,
        last: u64,
    ) -> Result<Vec<StoredMessage>, ProjectorError> {
        let Ok(id) = Id::new(id.as_str()) else {
            return Ok(Vec::new());
        };
        let subject = subject::events_of(aggregate, &id);
        Ok(self.options.log.messages(&subject, after, last).await?)
    }

    /// The last events of an aggregate before a parked one, those that can be understood.
    pub(super) async fn history(&self, parked: &Parked) -> Result<Vec<Recorded>, ProjectorError> {
        let messages = self
            .messages(&parked.aggregate, 0, parked.position - 1)
            .await?;
        let commits = messages.iter().rev().take(HISTORY).rev().map(Commit::of);
        Ok(commits
            .filter_map(|commit| commit.events.ok())
            .flatten()
            .collect())
    }
}
