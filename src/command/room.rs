//! How many commands a replica has under way at once: bounded, so that a flood is refused and not
//! stored.

use crate::problem::Problem;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The room for commands. A command holds its [`Place`] until it has been answered, even when its
/// caller has stopped waiting.
#[derive(Debug)]
pub struct Room {
    places: Arc<Semaphore>,
    size: u32,
    closing: AtomicBool,
}

/// The place of one command.
#[derive(Debug)]
pub struct Place(#[allow(dead_code, reason = "held for its end")] OwnedSemaphorePermit);

impl Room {
    /// Room for so many commands.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self {
            places: Arc::new(Semaphore::new(size as usize)),
            size,
            closing: AtomicBool::new(false),
        }
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// Returns `overloaded` when there is none, and `unavailable` once the room is being closed.
    pub fn enter(&self) -> Result<Place, Problem> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Problem::unavailable("the replica is stopping"));
        }
        let place = self.places.clone().try_acquire_owned();
        place.map(Place).map_err(|_| Problem::overloaded())
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
