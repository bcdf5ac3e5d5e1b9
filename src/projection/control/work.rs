//! The work that operators ask for: generations are begun, changed and dropped, documents compared, events tried again.

use super::{Ask, ControlError, ReplyBody, Verb};
use crate::{
    projection::{
        explain,
        keeper::{Shared, Turn},
        verify,
    },
    read_model::{Generation, GenerationState, Generations, generation::GenerationError},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The time the live generation is held still for the previous one to come up to it.
const HOLD: Duration = Duration::from_secs(5);

impl Shared {
    /// Returns whether this program is the one that does this: it folds the generation that is meant, or the live
    /// one; where nobody does, it is the view's home.
    pub(super) fn does(&self, ask: &Ask) -> bool {
        let meant = ask.generation.or(self.known().find(GenerationState::Live));
        let version = meant.map_or(self.options.view.description().version, |one| one.version);
        self.answers_for(version)
    }

    /// Does what is asked for, to its end.
    #[cfg(test)]
    pub(in crate::projection) async fn work(
        &self,
        verb: Verb,
        ask: Ask,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
    ) -> Result<ReplyBody, ControlError> {
        self.work_until(verb, ask, tell, &CancellationToken::new())
            .await
    }

    pub(super) async fn work_until(
        &self,
        verb: Verb,
        ask: Ask,
        tell: &(dyn Fn(u64, u64) + Send + Sync),
        cancelled: &CancellationToken,
    ) -> Result<ReplyBody, ControlError> {
        let view = self.options.view.description();
        let generations = match self.options.store.generations(view.name).await {
            Ok(generations) => generations,
            // How the view is doing is worth the most while the store is away.
            Err(error) if verb == Verb::Status && error.is_retryable() => self.known(),
            Err(error) => return Err(error.into()),
        };
        match verb {
            Verb::Status => Ok(ReplyBody::Status(self.report(&generations).await?)),
            Verb::Rebuild => {
                let mut next = generations.rebuild(view.version)?;
                if ask.accept_parked {
                    next.accepts_parked = next.find(GenerationState::Building);
                }
                self.change(&next).await?;
                Ok(filling(&next))
            }
            Verb::TakeOver => {
                let building = generations.find(GenerationState::Building);
                let waits = building.and_then(|building| self.waits(building));
                if let (Some(reason), false) = (waits, ask.accept_parked) {
                    return Err(ControlError::Waits(reason));
                }
                let next = generations.accept_parked()?;
                self.change(&next).await?;
                Ok(filling(&next))
            }
            Verb::Rollback => {
                let next = generations.rollback()?;
                if let Some(previous) = generations.find(GenerationState::Previous)
                    && previous.version != view.version
                    && self.holds_erased(previous).await?
                {
                    return Err(ControlError::Erased(previous));
                }
                match self.turn(&generations, &next, Turn::Rollback(HOLD)).await? {
                    true => {
                        self.look_now();
                        Ok(ReplyBody::Done {})
                    }
                    false => Err(ControlError::Behind),
                }
            }
            Verb::Drop => {
                // One that is being filled is work that somebody waits for: it is dropped by its name.
                let previous = || generations.find(GenerationState::Previous);
                let one = ask.generation.or_else(previous);
                let one = one.ok_or(GenerationError::NoPrevious)?;
                self.change(&generations.without(one)?).await?;
                Ok(ReplyBody::Done {})
            }
            Verb::Verify => Ok(ReplyBody::Verified(
                verify::verify(self, ask.sample, tell, cancelled).await?,
            )),
            Verb::Explain => {
                let id = ask.id.ok_or(ControlError::Unnamed)?;
                let explained = explain::explain(self, &id, tell).await?;
                Ok(ReplyBody::Explained(Box::new(explained)))
            }
            // It is done where the jobs are known.
            Verb::Cancel => Ok(ReplyBody::Done {}),
            Verb::Parked => {
                let tables = self.tables(chosen(&ask, &generations)?)?;
                Ok(ReplyBody::Parked(self.parked(&tables, &ask).await?))
            }
            Verb::Retry | Verb::Skip => {
                let generation = chosen(&ask, &generations)?;
                let skip = verb == Verb::Skip;
                self.try_again(generation, &ask, skip, tell, cancelled)
                    .await
            }
        }
    }

    async fn change(&self, next: &Generations) -> Result<(), ControlError> {
        let view = self.options.view.description();
        self.options
            .store
            .change_generations(view.name, next)
            .await?;
        self.look_now();
        Ok(())
    }
}

/// Tells which generation takes over once it is filled.
fn filling(generations: &Generations) -> ReplyBody {
    match generations.find(GenerationState::Building) {
        Some(generation) => ReplyBody::Filling { generation },
        None => ReplyBody::Done {},
    }
}

fn chosen(ask: &Ask, generations: &Generations) -> Result<Generation, ControlError> {
    let live = generations.find(GenerationState::Live);
    let chosen = ask.generation.or(live);
    let chosen = chosen.filter(|one| generations.all.iter().any(|(other, _)| other == one));
    chosen.ok_or(ControlError::Generation(GenerationError::Unknown))
}
