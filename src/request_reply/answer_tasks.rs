//! The answers to messages that are under way: a bounded number of them is worked on at once.

use std::{future::Future, sync::Arc};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

/// The tasks that answer the messages of one subscription. Those that are left when it is dropped are ended.
pub struct AnswerTasks {
    places: AnswerPlaces,
    tasks: JoinSet<()>,
}

/// The places of those that are worked on at once. Cheap to clone.
#[derive(Clone)]
pub struct AnswerPlaces(Arc<Semaphore>);

/// A place of one that is worked on, which is free again when this is dropped.
pub struct AnswerPlace {
    _permit: OwnedSemaphorePermit,
}

impl AnswerPlaces {
    /// Makes so many places.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// Takes a place; `None` where there is none, or no more.
    #[must_use]
    pub fn take(&self) -> Option<AnswerPlace> {
        let permit = Arc::clone(&self.0).try_acquire_owned().ok();
        permit.map(|permit| AnswerPlace { _permit: permit })
    }

    /// Takes the next place that is free, in the order in which it is asked for.
    pub async fn next(&self) -> AnswerPlace {
        let permit = Arc::clone(&self.0).acquire_owned().await;
        AnswerPlace {
            _permit: permit.expect("places are never closed"),
        }
    }
}

impl AnswerTasks {
    /// Begins with none. Whoever answers shares the places, to give one back while it only waits.
    #[must_use]
    pub fn new(places: AnswerPlaces) -> Self {
        Self {
            places,
            tasks: JoinSet::new(),
        }
    }

    /// Takes a place for a message; `None` where all are taken, so that it is refused.
    pub fn place(&mut self) -> Option<AnswerPlace> {
        self.forget_ended();
        self.places.take()
    }

    /// Takes a place for a message. While all are taken, the messages behind it wait too.
    pub async fn next_place(&mut self) -> AnswerPlace {
        self.forget_ended();
        self.places.next().await
    }

    /// Answers a message in a task of its own, which holds its place for as long as it is worked on.
    pub fn spawn(&mut self, answering: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(answering);
    }

    /// Waits until all are answered.
    pub async fn finish(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }

    /// Lets go of the tasks that have ended: a set of tasks keeps them otherwise.
    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn no_more_are_worked_on_than_there_are_places() {
        let mut tasks = AnswerTasks::new(AnswerPlaces::new(2));
        let (end, ended) = oneshot::channel::<()>();
        let (first, second) = (tasks.place().unwrap(), tasks.place().unwrap());
        assert!(tasks.place().is_none());
        tasks.spawn(async move {
            let _place = first;
            ended.await.ok();
        });
        assert!(tasks.place().is_none());
        end.send(()).unwrap();
        // The place of the one that has ended.
        let third = tasks.next_place().await;
        assert!(tasks.place().is_none());
        drop((second, third));
        assert!(tasks.place().is_some());
    }

    #[tokio::test]
    async fn tasks_that_have_ended_are_not_kept() {
        let mut tasks = AnswerTasks::new(AnswerPlaces::new(1));
        for _ in 0..100 {
            let place = tasks.next_place().await;
            tasks.spawn(async move { drop(place) });
        }
        let _place = tasks.next_place().await;
        // The last one has given its place back, and may not have ended yet.
        assert!(tasks.tasks.len() <= 2, "{}", tasks.tasks.len());
    }

    #[tokio::test]
    async fn all_that_are_under_way_are_finished_or_ended() {
        let mut tasks = AnswerTasks::new(AnswerPlaces::new(1));
        let (answered, heard) = oneshot::channel();
        tasks.spawn(async move {
            tokio::task::yield_now().await;
            answered.send(()).ok();
        });
        tasks.finish().await;
        assert_eq!(heard.await, Ok(()));

        let mut tasks = AnswerTasks::new(AnswerPlaces::new(1));
        let (answered, heard) = oneshot::channel::<()>();
        tasks.spawn(async move {
            std::future::pending::<()>().await;
            answered.send(()).ok();
        });
        drop(tasks);
        assert!(heard.await.is_err());
    }
}
