//! The pace at which a view is folded again, and the news of how far it is.

use std::time::Duration;
use tokio::time::Instant;

/// The number of commits that are folded at a time.
const BATCH: f64 = 500.0;
/// The fewest. So it pauses for a second or so at a time: a reader of the log must not be left alone.
const LEAST: f64 = 10.0;

/// The pace of a fold.
pub(in crate::projection) struct Pace<'a> {
    /// The number of commits a second that are folded at most.
    per_second: Option<f64>,
    /// The time when the next commit is due.
    due: Instant,
    tell: &'a (dyn Fn(u64, u64) + Send + Sync),
    target: u64,
}

impl<'a> Pace<'a> {
    /// As fast as it goes. `tell` hears the position reached, and the one to reach.
    pub(in crate::projection) fn unbounded(tell: &'a (dyn Fn(u64, u64) + Send + Sync)) -> Self {
        Self {
            per_second: None,
            due: Instant::now(),
            tell,
            target: 0,
        }
    }

    /// At most so many commits a second.
    pub(in crate::projection) fn bounded(per_second: f64) -> Self {
        Self {
            per_second: Some(per_second),
            ..Self::unbounded(&|_, _| {})
        }
    }

    /// Is faster from now on: what comes anew in the log must not come faster than it is folded.
    pub(in crate::projection) fn double(&mut self) {
        self.per_second = self.per_second.map(|rate| rate * 2.0);
    }

    /// Returns how many commits to fold at a time.
    pub(super) fn batch(&self) -> usize {
        let rate = self.per_second.unwrap_or(BATCH);
        rate.clamp(LEAST, BATCH) as usize
    }

    /// Tells that so many commits were folded, and pauses if that was early.
    pub(super) async fn went(&mut self, commits: u64, position: u64, target: u64) {
        self.target = target;
        (self.tell)(position, target);
        let Some(rate) = self.per_second else {
            return tokio::task::yield_now().await;
        };
        let took = Duration::from_secs_f64(commits as f64 / rate);
        self.due = self.due.max(Instant::now()) + took;
        tokio::time::sleep_until(self.due).await;
    }

    /// Tells that it goes on, where it is.
    pub(super) fn alive(&self, position: u64) {
        (self.tell)(position, self.target.max(position));
    }
}
