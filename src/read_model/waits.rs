//! Waiting until a view has come far enough: bounded in number, and over at once when the replica stops.
//!
//! Who waits takes no place from who reads.

use super::Watermark;
use crate::problem::Problem;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// The number of readers that may wait for a position at once.
const MOST: usize = 4_096;

/// The readers that wait.
pub(super) struct Waits {
    places: Semaphore,
    stopping: CancellationToken,
}

impl Default for Waits {
    fn default() -> Self {
        // So that it is shown from the start.
        metrics::gauge!("headwater_waiting_readers").increment(0);
        Self {
            places: Semaphore::new(MOST),
            stopping: CancellationToken::new(),
        }
    }
}

impl Waits {
    /// Waits at most `max_wait` until the view has applied `position`. Returns whether it has.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` (429) when too many wait already, and `unavailable` (503) when the replica is
    /// being stopped.
    pub(super) async fn reach(
        &self,
        watermark: &Watermark,
        position: u64,
        max_wait: Duration,
    ) -> Result<bool, Problem> {
        if watermark.progress().position >= position {
            return Ok(true);
        }
        if max_wait.is_zero() {
            return Ok(false);
        }
        self.during(watermark.reached(position, max_wait)).await
    }

    /// Waits for something that ends by itself, in one of the places for those who wait.
    ///
    /// # Errors
    ///
    /// As [`Waits::reach`].
    pub(super) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, Problem> {
        let Ok(_place) = self.places.try_acquire() else {
            return Err(Problem {
                detail: "too many readers wait for a position".to_owned(),
                ..Problem::overloaded()
            });
        };
        let _counted = Counted::begin();
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Err(stopping()),
            done = work => Ok(done),
        }
    }

    /// Ends all waits, and has none begin any more.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }
}

/// One that waits, as the metric counts it.
struct Counted;

impl Counted {
    fn begin() -> Self {
        metrics::gauge!("headwater_waiting_readers").increment(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("headwater_waiting_readers").decrement(1);
    }
}

pub(super) fn stopping() -> Problem {
    Problem::unavailable("this replica is being stopped")
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_wait_ends_when_the_replica_stops_and_none_begins_after() {
        let (waits, watermark) = (Waits::default(), Watermark::default());
        let mut wait = Box::pin(waits.reach(&watermark, 7, LONG));
        assert!(wait.as_mut().now_or_never().is_none());
        waits.stop();
        assert_eq!(wait.await.unwrap_err().status, 503);
        let refused = waits.reach(&watermark, 7, LONG).await;
        assert_eq!(refused.unwrap_err().status, 503);
        // What is there already need not be waited for.
        assert_eq!(waits.reach(&watermark, 0, LONG).await, Ok(true));
    }

    #[tokio::test]
    async fn so_many_wait_and_no_more() {
        let (waits, watermark) = (Waits::default(), Watermark::default());
        let mut waiting: Vec<_> = (0..MOST)
            .map(|_| Box::pin(waits.reach(&watermark, 7, LONG)))
            .collect();
        for wait in &mut waiting {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        let refused = waits.reach(&watermark, 7, LONG).await.unwrap_err();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        drop(waiting.pop());
        assert_eq!(
            waits.reach(&watermark, 7, Duration::from_millis(1)).await,
            Ok(false)
        );
    }
}
