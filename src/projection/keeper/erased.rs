//! Personal data that was withdrawn: it is neither served nor kept to be gone back to.
//!
//! Each generation that some program folds loses it by the event itself. One that no program folds stays as
//! it is, and has it still.

use super::{Shared, Turn};
use crate::read_model::{Generation, GenerationState, Generations, refresh::RefreshError};
use std::time::Duration;

/// The longest time until what is served instead is as far as what was served.
const HOLD: Duration = Duration::from_secs(1);

impl Shared {
    /// The generations without those that hold personal data which was withdrawn since, and that no
    /// program folds any more; `None` when there are none.
    pub(super) async fn without_erased(
        &self,
        generations: &Generations,
    ) -> Result<Option<Generations>, RefreshError> {
        let mut next = None;
        for (generation, state) in &generations.all {
            let kept = matches!(state, GenerationState::Live | GenerationState::Dropping);
            let folded = generation.version == self.version()
                || self.home.is_folded_elsewhere(generation.version);
            if kept || folded || !self.holds_erased(*generation).await? {
                continue;
            }
            tracing::info!(
                view.name = self.name(),
                view.generation = %generation,
                "removes a generation that holds what was withdrawn since"
            );
            let before = next.as_ref().unwrap_or(generations);
            next = before.without(*generation).ok().or(next);
        }
        // One step, however many they are.
        let revision = generations.revision + 1;
        Ok(next.map(|next| Generations { revision, ..next }))
    }

    /// Returns whether personal data was withdrawn after what a generation has applied.
    pub(in crate::projection) async fn holds_erased(
        &self,
        generation: Generation,
    ) -> Result<bool, RefreshError> {
        let store = &self.options.store;
        let checkpoint = store.find_checkpoint(&self.tables(generation)?).await?;
        let Some(checkpoint) = checkpoint else {
            return Ok(false);
        };
        Ok(checkpoint.position < store.erased(self.name(), checkpoint.log).await?)
    }

    /// Has the previous generation served in place of one that an operator has gone back to, where that
    /// holds what was withdrawn since and no program folds it any more. Returns whether it has.
    pub(super) async fn turned_from_erased(
        &self,
        generations: &Generations,
    ) -> Result<bool, RefreshError> {
        let previous = generations.find(GenerationState::Previous);
        let folded = previous.is_some_and(|previous| previous.version == self.version());
        let Some(live) = self.unkept(generations).filter(|_| folded) else {
            return Ok(false);
        };
        let Ok(next) = generations.rollback() else {
            return Ok(false);
        };
        if !self.holds_erased(live).await? {
            return Ok(false);
        }
        let turned = self.turn(generations, &next, Turn::Rollback(HOLD)).await?;
        if turned {
            tracing::warn!(
                view.name = self.name(),
                view.generation = %live,
                "what was gone back to holds what was withdrawn since, and no program that runs folds it: it is \
                 served no more"
            );
        }
        Ok(turned)
    }
}
