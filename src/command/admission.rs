//! The bound on the commands that a replica lets in at once, so that a flood is refused and not stored.
//!
//! Two bounds. All that is under way takes a place, of which there are as many as memory allows. What is
//! decided here also takes a turn, and there are as many turns as the log keeps up with: when commands take
//! too long, fewer are let in, and when they are quick and all turns are taken, more. So a flood is
//! refused at the door, where it costs nothing, and not by appends that are in doubt.

use crate::problem::Problem;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The time commands may take on average before fewer are let in: a quarter of what an append is waited
/// for, and more than a log takes that keeps up.
const TARGET: Duration = Duration::from_secs(1);
/// The time commands are watched before the bound changes.
const WATCHED: Duration = Duration::from_millis(100);
/// At least so many are let in, which a log can do that answers twenty times a second.
const FLOOR: u32 = 64;
/// So many are let in at first.
const FIRST: u32 = 2_048;

/// The bounds. A command holds its [`Place`] until it has been answered, even when its caller has stopped
/// waiting.
#[derive(Debug)]
pub struct Admission {
    places: Arc<Semaphore>,
    size: u32,
    closing: AtomicBool,
    pace: Arc<Pace>,
}

/// The place of one command.
#[derive(Debug)]
pub struct Place(#[allow(dead_code, reason = "held for its end")] OwnedSemaphorePermit);

impl Admission {
    /// Room for so many commands.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(size as usize)),
            size,
            closing: AtomicBool::new(false),
            pace: Arc::new(Pace::new(size)),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` when there is none, and `unavailable` once it is being closed.
    pub fn enter(&self) -> Result<Place, Problem> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Problem::unavailable("the replica is stopping"));
        }
        let place = self.places.clone().try_acquire_owned();
        place.map(Place).map_err(|_| Problem::overloaded())
    }

    /// Takes a turn for a command that is decided here; `None` when the log does not keep up.
    pub fn turn(&self) -> Option<Turn> {
        self.pace.turn()
    }

    /// Returns how many commands may be under way to one other replica: so few that one that hangs does not
    /// take all places.
    pub fn share(&self) -> u32 {
        (self.size / 4).max(1)
    }

    /// Lets nobody in any more and waits until all are out.
    pub async fn close(&self) {
        self.closing.store(true, Ordering::Release);
        if let Ok(all) = self.places.acquire_many(self.size).await {
            all.forget();
        }
        self.places.close();
    }
}

/// The bound on the commands that are decided at once, by how long they take.
#[derive(Debug)]
struct Pace {
    ceiling: u32,
    limit: AtomicU32,
    under_way: AtomicU32,
    watched: Mutex<Watched>,
}

/// The commands that ended since a moment.
#[derive(Debug)]
struct Watched {
    since: Instant,
    took: Duration,
    ended: u32,
    /// The most that were under way.
    most: u32,
    /// Commands that end before this were let in before the bound was lowered last.
    settling: Instant,
}

/// The turn of one command. It is given back when it is dropped.
#[derive(Debug)]
pub struct Turn(Arc<Pace>);

impl Turn {
    /// Gives it back, and tells how long the command took, which ended at this moment.
    pub fn ended(self, took: Duration, now: Instant) {
        self.0.ended(took, now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Pace {
    fn new(ceiling: u32) -> Self {
        let now = Instant::now();
        let pace = Self {
            ceiling,
            limit: AtomicU32::new(FIRST.min(ceiling)),
            under_way: AtomicU32::new(0),
            watched: Mutex::new(Watched {
                since: now,
                took: Duration::ZERO,
                ended: 0,
                most: 0,
                settling: now,
            }),
        };
        pace.tell();
        pace
    }

    fn tell(&self) {
        metrics::gauge!("headwater_commands_admitted").set(self.limit.load(Ordering::Relaxed));
    }

    fn turn(self: &Arc<Self>) -> Option<Turn> {
        let under_way = self.under_way.fetch_add(1, Ordering::AcqRel);
        let turn = Turn(self.clone());
        (under_way < self.limit.load(Ordering::Acquire)).then_some(turn)
    }

    fn ended(&self, took: Duration, now: Instant) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.took += took;
        watched.ended += 1;
        watched.most = watched.most.max(self.under_way.load(Ordering::Acquire));
        if now.saturating_duration_since(watched.since) < WATCHED {
            return;
        }
        let mean = watched.took / watched.ended;
        let limit = self.limit.load(Ordering::Acquire);
        let floor = FLOOR.min(self.ceiling);
        let changed = if mean > TARGET && now >= watched.settling {
            watched.settling = now + mean;
            // From what is under way: a bound that was not reached says nothing.
            (limit.min(watched.most) / 10 * 7).max(floor)
        } else if mean < TARGET / 2 && watched.most >= limit / 4 * 3 {
            limit.saturating_add(limit / 10 + 8).min(self.ceiling)
        } else {
            limit
        };
        watched.since = now;
        (watched.took, watched.ended, watched.most) = (Duration::ZERO, 0, 0);
        drop(watched);
        if changed != limit {
            self.limit.store(changed, Ordering::Release);
            self.tell();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log that takes so many commands in each tenth of a second, and callers that want more: how many
    /// of them are let in, and how long they take.
    fn run(pace: &Arc<Pace>, start: &mut Instant, tenths: u32, takes: u32) -> (u32, Duration) {
        let mut turns = std::collections::VecDeque::new();
        let mut took = Duration::ZERO;
        for _ in 0..tenths {
            turns.extend(std::iter::from_fn(|| pace.turn()));
            for _ in 0..takes.min(turns.len() as u32) {
                let ahead = turns.len() as u32;
                took = WATCHED * ahead / takes;
                let turn = turns.pop_front().unwrap();
                turn.0.ended(took, *start);
                drop(turn);
            }
            *start += WATCHED;
        }
        (pace.limit.load(Ordering::Relaxed), took)
    }

    #[test]
    fn so_many_are_let_in_as_the_log_keeps_up_with() {
        let pace = Arc::new(Pace::new(16_384));
        let mut now = Instant::now();
        // 100,000 a second, and then a hundredth of it.
        let (limit, took) = run(&pace, &mut now, 100, 10_000);
        assert!(limit == 16_384 && took < TARGET, "{limit} {took:?}");
        let (limit, took) = run(&pace, &mut now, 900, 100);
        assert!((64..2_000).contains(&limit), "{limit} {took:?}");
        // And back within ten seconds.
        let (limit, took) = run(&pace, &mut now, 100, 10_000);
        assert!(limit > 8_000, "{limit} {took:?}");
    }

    #[test]
    fn a_turn_that_is_refused_counts_for_nothing() {
        let pace = Arc::new(Pace::new(2));
        let held = [pace.turn().unwrap(), pace.turn().unwrap()];
        for _ in 0..10 {
            assert!(pace.turn().is_none());
        }
        drop(held);
        assert!(pace.turn().is_some());
    }
}
