//! The pauses of a view that keeps up. What a batch costs is much more than what its events do, so the fewer
//! batches, the more of the machine is left to commands and readers.

use super::Projector;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// A batch of fewer commits than this is a small one: most of what it costs is the transaction.
pub(super) const SMALL: usize = 64;
/// The least time between the beginnings of a small batch and of the next one. An event that comes
/// alone does not wait; of a steady stream those that come meanwhile share a transaction, and a view
/// that keeps up takes no more of the machine than it needs.
const PACE: Duration = Duration::from_millis(2);
/// The same while nobody waits for the view to come further, where it is known who does.
const UNHURRIED: Duration = Duration::from_millis(50);
/// While nobody waits a view rests after a batch so many times as long as the batch took: of a steady stream
/// it takes at most a third of a core.
const RESTS: u32 = 2;
/// The longest that it rests.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// A view whose next commit is older than this does not rest.
const NEAR: Duration = Duration::from_millis(500);

/// A pause before the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pause {
    /// The end of it, whoever waits.
    least: Instant,
    /// The end of it while nobody waits.
    unhurried: Instant,
}

impl Pause {
    /// The pause after a batch of so many commits that ends now. None after one that ends so late after its
    /// first commit was published that the view may not keep up.
    fn after(begun: Instant, now: Instant, commits: usize, late: Duration) -> Option<Self> {
        let small = commits < SMALL;
        if !small && late > NEAR {
            return None;
        }
        let rest = if late > NEAR {
            Duration::ZERO
        } else {
            (now.saturating_duration_since(begun) * RESTS).min(LONGEST_REST)
        };
        let (least, unhurried) = match small {
            true => (begun + PACE, begun + UNHURRIED),
            false => (now, now),
        };
        Some(Self {
            least,
            unhurried: unhurried.max(now + rest),
        })
    }
}

impl Projector {
    /// The pause after a batch that was applied wholly, if there is to be one.
    pub(super) fn pause(
        &self,
        begun: Instant,
        commits: usize,
        published: Timestamp,
    ) -> Option<Pause> {
        // By two clocks: that they differ costs a rest, or one that is too long by its own bound.
        let late = Timestamp::now().duration_since(published);
        let late = Duration::try_from(late).unwrap_or_default();
        let pause = Pause::after(begun, Instant::now(), commits, late)?;
        // One that is being filled goes on.
        (commits < SMALL || self.live().is_some()).then_some(pause)
    }

    /// Waits until the next batch may begin.
    pub(super) async fn rest(&self, pause: Pause) {
        tokio::time::sleep_until(pause.least).await;
        // Of a shared store, others may wait elsewhere.
        if self.options.replica.is_some() {
            let unhurried = tokio::time::sleep_until(pause.unhurried);
            tokio::select! {
                () = unhurried => {}
                () = self.options.watermark.awaited() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn after(took: Duration, commits: usize, late: Duration) -> Option<(Duration, Duration)> {
        let begun = Instant::now();
        let pause = Pause::after(begun, begun + took, commits, late)?;
        Some((pause.least - begun, pause.unhurried - begun))
    }

    #[test]
    fn a_small_batch_that_is_quickly_done_waits_for_what_comes_meanwhile() {
        assert_eq!(after(MS, 1, MS), Some((PACE, UNHURRIED)));
        assert_eq!(after(MS, SMALL - 1, 10 * NEAR), Some((PACE, UNHURRIED)));
    }

    #[test]
    fn a_batch_that_took_long_is_rested_from_at_most_so_long() {
        assert_eq!(after(30 * MS, 500, 90 * MS), Some((30 * MS, 90 * MS)));
        assert_eq!(after(30 * MS, 5, 90 * MS), Some((PACE, 90 * MS)));
        let long = Some((300 * MS, 300 * MS + LONGEST_REST));
        assert_eq!(after(300 * MS, 500, 400 * MS), long);
    }

    #[test]
    fn a_view_that_may_not_keep_up_goes_on() {
        assert_eq!(after(30 * MS, SMALL, NEAR + MS), None);
    }
}
