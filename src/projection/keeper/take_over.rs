//! Conditions of a take-over by a generation that is being filled: it has come up to the live one, it gets
//! on, and it has parked nothing that the live one has applied. Otherwise it waits, and says why.

use super::{Shared, Turn};
use crate::{
    projection::projector::Try,
    read_model::{
        Generation, GenerationState, Generations,
        exchange::{ParkedHead, SkippedPlace},
        refresh::RefreshError,
    },
    view::PartKey,
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};
use tokio::time::Instant;

/// The most commits that a filled generation may be behind before the live one is held still for it.
const NEAR: u64 = 256;
/// The time the live generation is held still for it.
const HOLD: Duration = Duration::from_secs(1);
/// The pause after it has not come up to the live one in that time; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause between two looks for what it waits for.
const LOOK_WAITING: Duration = Duration::from_secs(2);

/// The state of the take-over by the generation that is being filled.
#[derive(Debug, Default)]
pub(super) struct TakeOver {
    generation: Option<Generation>,
    /// The reason why an operator must decide, if so.
    waiting: Option<String>,
    failures: u32,
    not_before: Option<Instant>,
}

impl TakeOver {
    /// Forgets what was about another one.
    fn of(&mut self, generation: Generation) -> &mut Self {
        if self.generation != Some(generation) {
            *self = Self {
                generation: Some(generation),
                ..Self::default()
            };
        }
        self
    }
}

impl Shared {
    /// The reason why a generation that is filled does not take over, if an operator must decide.
    pub(in crate::projection) fn waits(&self, generation: Generation) -> Option<String> {
        self.with_take_over(generation, |state| state.waiting.clone())
    }

    /// Lets a generation that is being filled take over if it may; returns how long to wait before looking
    /// again.
    pub(super) async fn take_over(
        &self,
        generations: &Generations,
        building: Generation,
    ) -> Result<Duration, RefreshError> {
        let filled = self.status_of(building).is_some_and(|status| {
            status.ready && status.stalled.is_none() && status.lag_commits <= NEAR
        });
        let not_before = self.with_take_over(building, |state| state.not_before);
        if !filled || not_before.is_some_and(|at| Instant::now() < at) {
            return Ok(super::LOOK_BUILDING);
        }
        let waiting = self.parked_beyond(generations, building).await?;
        if self.note_waiting(building, waiting) {
            return Ok(LOOK_WAITING);
        }
        let Ok(next) = generations.take_over() else {
            return Ok(super::LOOK_BUILDING);
        };
        if self.turn(generations, &next, Turn::TakeOver(HOLD)).await? {
            self.look_now();
            return Ok(super::LOOK);
        }
        self.with_take_over(building, |state| {
            state.failures += 1;
            let pause = FIRST_PAUSE.saturating_mul(1 << (state.failures - 1).min(16));
            state.not_before = Some(Instant::now() + pause.min(LONGEST_PAUSE));
        });
        Ok(super::LOOK_BUILDING)
    }

    fn with_take_over<T>(
        &self,
        generation: Generation,
        work: impl FnOnce(&mut TakeOver) -> T,
    ) -> T {
        let mut state = self.take_over.lock();
        let state = state.as_mut().unwrap_or_else(|poisoned| poisoned.get_mut());
        work(state.of(generation))
    }

    /// Notes whether, and why, the generation waits; returns whether it does.
    fn note_waiting(&self, building: Generation, waiting: Option<String>) -> bool {
        let waits = waiting.is_some();
        let told = self.with_take_over(building, |state| {
            let told = state.waiting.is_some();
            state.waiting.clone_from(&waiting);
            told
        });
        if let (Some(reason), false) = (waiting, told) {
            tracing::warn!(
                view.name = self.name(),
                view.generation = %building,
                reason,
                "a filled generation does not take over"
            );
        }
        waits
    }

    /// Tells of what the generation has parked that the live one has applied; tries again what is skipped
    /// meanwhile.
    pub(super) async fn parked_beyond(
        &self,
        generations: &Generations,
        building: Generation,
    ) -> Result<Option<String>, RefreshError> {
        let live = generations.find(GenerationState::Live);
        let accepted = generations.accepts_parked == Some(building);
        let Some(live) = live.filter(|_| !accepted) else {
            return Ok(None);
        };
        let (store, tables) = (&self.options.store, self.tables(building)?);
        let parked = store.parked(&tables).await?;
        if parked.is_empty() {
            return Ok(None);
        }
        let live_tables = self.tables(live)?;
        let applied = store.find_checkpoint(&live_tables).await?;
        let applied = applied.map_or(0, |checkpoint| checkpoint.position);
        // Where nothing changes, the stored one follows later.
        let applied = applied.max(self.options.watermark.progress().position);
        let live_parked = store.parked(&live_tables).await?;
        let mut beyond = beyond(parked, &live_parked, applied);
        if beyond.is_empty() {
            return Ok(None);
        }
        let skipped = store.skipped(&tables).await?;
        let is_skipped =
            |(key, head): &(PartKey, ParkedHead)| is_skipped(head, &skipped).then(|| key.clone());
        for key in beyond.iter().filter_map(is_skipped) {
            // What comes of it is seen with the next look.
            let _ = self.retry(building, key, Try::Again).await;
        }
        beyond.sort_by_key(|(_, head)| head.position);
        let (aggregate, id) = &beyond[0].0;
        let view = self.name();
        Ok(Some(format!(
            "{building} has parked {} aggregates that {live} has applied, first {aggregate} {id} at \
             position {}; `headwater parked list {view} --generation {building}` shows them, \
             `headwater views take-over {view} --accept-parked` has it take over all the same",
            beyond.len(),
            beyond[0].1.position
        )))
    }
}

/// Those parked aggregates of which the live generation, which has come to `applied`, has applied more.
fn beyond(
    parked: HashMap<PartKey, ParkedHead>,
    live: &HashMap<PartKey, ParkedHead>,
    applied: u64,
) -> Vec<(PartKey, ParkedHead)> {
    let place = |head: &ParkedHead| (head.position, head.from_event);
    let beyond = parked.into_iter().filter(|(key, head)| {
        let less = live.get(key).is_none_or(|live| place(head) < place(live));
        less && head.position <= applied
    });
    beyond.collect()
}

fn is_skipped(head: &ParkedHead, skipped: &HashSet<SkippedPlace>) -> bool {
    // Of another log's it does no harm to try.
    skipped.iter().any(|place| {
        let event = place.event.is_none_or(|event| event == head.from_event);
        place.position == head.position && event
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(of: &[(&str, u64, usize)]) -> HashMap<PartKey, ParkedHead> {
        let heads = of.iter().map(|(id, position, from_event)| {
            let head = ParkedHead {
                position: *position,
                from_event: *from_event,
                ..ParkedHead::default()
            };
            (("order".to_owned(), (*id).to_owned()), head)
        });
        heads.collect()
    }

    #[test]
    fn only_what_the_live_one_has_applied_counts() {
        let live = parked(&[("same", 5, 1), ("earlier", 4, 0), ("later", 9, 0)]);
        let filled = parked(&[
            ("same", 5, 1),
            ("earlier", 6, 0),
            ("later", 8, 0),
            ("applied", 10, 0),
            ("to come", 11, 0),
        ]);
        let mut ids: Vec<_> = beyond(filled, &live, 10)
            .into_iter()
            .map(|(key, _)| key.1)
            .collect();
        ids.sort();
        assert_eq!(ids, ["applied", "later"]);
    }
}
