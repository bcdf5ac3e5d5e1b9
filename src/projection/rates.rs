//! The rates at which the generations of a view get on.

use crate::read_model::Generation;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The stretch of time that a rate is of.
const WINDOW: Duration = Duration::from_secs(10);

/// The commits that each generation had applied, second by second.
#[derive(Debug, Default)]
pub(super) struct Rates(Mutex<BTreeMap<Generation, VecDeque<(Instant, u64)>>>);

impl Rates {
    /// Notes how many commits the projector of each generation has applied since it was started.
    pub(super) fn sample(&self, commits: &[(Generation, u64)]) {
        let now = Instant::now();
        let mut rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rates.retain(|generation, _| commits.iter().any(|(there, _)| there == generation));
        for (generation, commits) in commits {
            let samples = rates.entry(*generation).or_default();
            if samples.back().is_some_and(|(_, before)| before > commits) {
                // Another projector counts from its own start.
                samples.clear();
            }
            samples.push_back((now, *commits));
            while samples.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
                samples.pop_front();
            }
        }
    }

    /// Returns the commits a second that a generation has applied lately; `None` where that is not known yet.
    pub(super) fn of(&self, generation: Generation) -> Option<f64> {
        let rates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let samples = rates.get(&generation)?;
        let ((begin, first), (end, last)) = (samples.front()?, samples.back()?);
        let seconds = (*end - *begin).as_secs_f64();
        (seconds > 0.0).then(|| (last - first) as f64 / seconds)
    }
}
