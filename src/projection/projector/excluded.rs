//! The projector's way with commits that an operator has excluded from the log: it passes them over, and
//! applies what is parked because of them.
//!
//! All exclusions are read when the projector opens, so a rebuild leaves them out from the start. A commit
//! without events says that there may be new ones of its aggregate.

use super::{Projector, ProjectorError};
use crate::{event_log::reader::Commit, view::PartKey};
use std::collections::BTreeSet;

impl Projector {
    /// Reads what is excluded of the view's aggregates.
    pub(super) async fn load_exclusions(&mut self) -> Result<(), ProjectorError> {
        let aggregates = &self.options.view.description().aggregates;
        let excluded = self.options.log.excluded_positions(aggregates).await?;
        self.fold.exclude(&excluded);
        self.excluded = excluded;
        self.releases = !self.excluded.is_empty();
        Ok(())
    }

    /// Reads what is newly excluded of the aggregates of which a batch has a commit without events, and
    /// applies what was parked because of excluded commits. The caller holds the gate.
    pub(super) async fn follow_exclusions(
        &mut self,
        batch: &[Commit],
    ) -> Result<(), ProjectorError> {
        let says_so =
            |commit: &&Commit| commit.events.as_ref().is_ok_and(|events| events.is_empty());
        let noticed = batch.iter().filter(says_so);
        let noticed: BTreeSet<_> = noticed.map(|it| (&it.aggregate, &it.id)).collect();
        for (aggregate, id) in noticed {
            let log = &self.options.log;
            let excluded = log.excluded_positions_of(aggregate, id).await?;
            self.releases |= !excluded.is_subset(&self.excluded);
            self.fold.exclude(&excluded);
            self.excluded.extend(excluded);
        }
        if std::mem::take(&mut self.releases) && self.fold.parked() > 0 {
            self.release().await?;
        }
        Ok(())
    }

    /// Applies what is parked of aggregates of which an excluded commit is parked.
    async fn release(&mut self) -> Result<(), ProjectorError> {
        let heads = self.parked.heads().iter();
        let excluded = heads.filter(|(_, head)| self.excluded.contains(&head.position));
        let aggregates: BTreeSet<PartKey> = excluded.map(|(key, _)| key.clone()).collect();
        for aggregate in aggregates {
            let applied = self.apply_all_parked(&aggregate).await?;
            tracing::info!(
                view.name = self.view(),
                aggregate.name = aggregate.0,
                aggregate.id = aggregate.1,
                commits.applied = applied.applied,
                commits.parked = applied.parked,
                "passed over what was excluded"
            );
        }
        Ok(())
    }
}
