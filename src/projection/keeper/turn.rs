//! The moment in which another generation goes live.

use super::Shared;
use crate::read_model::{
    GenerationState, Generations,
    refresh::{self, RefreshError},
};
use std::time::Duration;

/// The reason why another generation goes live. Of each, how long the live one is held still for it at most.
#[derive(Debug, Clone, Copy)]
pub(in crate::projection) enum Turn {
    /// It is filled, and has parked nothing that the live one has applied unless an operator accepts that.
    TakeOver(Duration),
    /// An operator goes back.
    Rollback(Duration),
}

impl Shared {
    /// Makes `next` the view's generations, in which another one is live. Where both are kept up to
    /// date, the other first comes up to the one that was live, which is held still meanwhile: whether it
    /// did in time.
    pub(in crate::projection) async fn turn(
        &self,
        before: &Generations,
        next: &Generations,
        turn: Turn,
    ) -> Result<bool, RefreshError> {
        let live = |generations: &Generations| generations.find(GenerationState::Live);
        let (from, Some(to)) = (live(before), live(next)) else {
            return Ok(false);
        };
        let view = self.options.view.description();
        let to_tables = self.tables(to)?;
        let from_tables = from.map(|from| self.tables(from)).transpose()?;
        let _still = match from {
            Some(from) => self.hold(from).await,
            None => None,
        };
        let hold = match turn {
            Turn::TakeOver(hold) => {
                // Once more: meanwhile what is parked of the live one may have been settled.
                if self.parked_beyond(before, to).await?.is_some() {
                    return Ok(false);
                }
                hold
            }
            Turn::Rollback(hold) => hold,
        };
        // What only an older program can fold stays where it is. Where nothing is live, because it was of
        // another log, there is nothing to be behind of.
        let forward = to.version == view.version && from.is_some();
        let served = || self.options.watermark.progress().position;
        let started = tokio::time::Instant::now();
        let store = &self.options.store;
        while !store
            .turn(
                view.name,
                next,
                from_tables.as_ref(),
                &to_tables,
                forward.then(served),
            )
            .await?
        {
            let gets_on = self.status_of(to).is_some_and(|to| to.stalled.is_none());
            if started.elapsed() > hold || !gets_on {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        refresh::serve(store, view, &self.options.watermark, next).await?;
        tracing::info!(view.name = view.name, view.generation = %to, "another generation is live");
        Ok(true)
    }
}
