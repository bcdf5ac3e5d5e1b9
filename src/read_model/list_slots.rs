//! The number of lists that are read at once.
//!
//! A list may be a walk through many documents. So few are worked on at the same time, some wait for
//! their turn, and the others are refused: what is one document, and what waits for a position, needs no
//! slot. Those that compare or sort more than they answer have slots of their own, for half of the cores: a
//! flood of them leaves the rest of the machine to everything else.

use crate::problem::Problem;
use std::{num::NonZero, thread::available_parallelism, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

/// The most lists that are read at once for each core, of those that read what they answer.
const RUNNING_PER_CORE: usize = 4;
/// The most others of each kind that wait for their turn.
const WAITING: usize = 128;
/// The longest that one of them waits.
const LONGEST: Duration = Duration::from_secs(2);

/// The cost of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListCost {
    /// It reads what it answers.
    Answer,
    /// It compares or sorts what it does not answer.
    Walk,
}

/// The lists that are being read, and those whose turn has not come.
pub(super) struct ListSlots {
    answers: Turns,
    walks: Turns,
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
        Self {
            answers: Turns::new(RUNNING_PER_CORE * cores, WAITING),
            walks: Turns::new((cores / 2).max(1), WAITING),
        }
    }
}

impl ListSlots {
    /// Waits for a slot, for a short time.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` (429) when too many wait already, or it takes too long.
    pub(super) async fn take(&self, cost: ListCost) -> Result<ListSlot<'_>, Problem> {
        match cost {
            ListCost::Answer => self.answers.take().await,
            ListCost::Walk => self.walks.take().await,
        }
    }
}

/// The turns of one kind of lists.
struct Turns {
    running: Semaphore,
    /// Those that run count, too.
    admitted: Semaphore,
}

impl Turns {
    fn new(running: usize, waiting: usize) -> Self {
        Self {
            running: Semaphore::new(running),
            admitted: Semaphore::new(running + waiting),
        }
    }

    async fn take(&self) -> Result<ListSlot<'_>, Problem> {
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
        let turns = Turns::new(2, 1);
        let first = turns.take().await.ok().unwrap();
        let _second = turns.take().await.ok().unwrap();
        let mut third = Box::pin(turns.take());
        assert!(third.as_mut().now_or_never().is_none());
        let refused = turns.take().await.err().unwrap();
        assert_eq!((refused.status, refused.retry_after), (429, Some(1)));
        drop(first);
        let third = third.await;
        assert!(third.is_ok());
        // Nothing ends: who waits is refused in the end.
        let refused = turns.take().await.err().unwrap();
        assert_eq!(refused.status, 429);
    }

    #[tokio::test]
    async fn a_flood_of_walks_takes_no_turn_of_what_reads_what_it_answers() {
        let slots = ListSlots::default();
        let mut walks = Vec::new();
        while let Some(Ok(walk)) = slots.take(ListCost::Walk).now_or_never() {
            walks.push(walk);
        }
        let cores = available_parallelism().map_or(1, NonZero::get);
        assert_eq!(walks.len(), (cores / 2).max(1));
        assert!(slots.take(ListCost::Answer).await.is_ok());
    }
}
