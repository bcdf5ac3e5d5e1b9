//! How many lists are read at once.
//!
//! A list may be a search through many documents. So few are worked on at the same time, some wait for
//! their turn, and the others are refused: what is one document, and what waits for a position, needs no
//! slot.

use crate::problem::Problem;
use std::{num::NonZero, thread::available_parallelism, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// How many lists are read at once for each core.
const RUNNING_PER_CORE: usize = 4;
/// How many more may wait for their turn.
const WAITING: usize = 128;
/// How long one of them waits at most.
const LONGEST: Duration = Duration::from_secs(2);

/// The lists that are being read, and those whose turn has not come.
pub(super) struct ListSlots {
    running: Semaphore,
    /// Those that run count, too.
    admitted: Semaphore,
}

/// A list may be read as long as this is held.
#[must_use]
pub(super) struct ListSlot<'a> {
    _running: SemaphorePermit<'a>,
    _admitted: SemaphorePermit<'a>,
}

impl Default for ListSlots {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self::new(RUNNING_PER_CORE * cores, WAITING)
    }
}

impl ListSlots {
    fn new(running: usize, waiting: usize) -> Self {
        Self {
            running: Semaphore::new(running),
            admitted: Semaphore::new(running + waiting),
        }
    }

    /// Waits for a slot, for a short time.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` (429) when too many wait already, or it takes too long.
    pub(super) async fn take(&self) -> Result<ListSlot<'_>, Problem> {
        let admitted = self.admitted.try_acquire().map_err(|_| overloaded())?;
        let running = timeout(LONGEST, self.running.acquire()).await;
        match running {
            Ok(Ok(running)) => Ok(ListSlot {
                _running: running,
                _admitted: admitted,
            }),
            _ => Err(overloaded()),
        }
    }
}

fn overloaded() -> Problem {
    Problem {
        detail: "too many lists are being read".to_owned(),
        ..Problem::overloaded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn some_run_some_wait_for_a_while_and_the_others_are_refused() {
        let slots = ListSlots::new(2, 1);
        let first = slots.take().await.ok().unwrap();
        let _second = slots.take().await.ok().unwrap();
        let mut third = Box::pin(slots.take());
        assert!(third.as_mut().now_or_never().is_none());
        let refused = slots.take().await.err().unwrap();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        drop(first);
        let third = third.await;
        assert!(third.is_ok());
        // Nothing ends: who waits is refused in the end.
        let refused = slots.take().await.err().unwrap();
        assert_eq!(refused.status, 429);
    }
}
