//! The threads of the command side.
//!
//! Each runs the actors of its share of the aggregates and reaches NATS by a connection that is served
//! on that very thread. A command that comes in by the connection of its aggregate's thread is decided,
//! appended and answered without leaving it; of several threads any may take it, and hands it on.

use crate::event_log::EventLog;
use actix::Arbiter;
use tokio::sync::oneshot;

/// The threads, not yet with any actor.
pub struct CommandThreads(pub(super) Vec<CommandThread>);

/// One thread, and the log as it is reached from there.
pub(super) struct CommandThread {
    pub arbiter: Arbiter,
    pub log: EventLog,
}

impl Drop for CommandThread {
    fn drop(&mut self) {
        self.arbiter.stop();
    }
}

impl CommandThreads {
    /// Starts so many threads, at least one, that all use the connection of this log.
    #[must_use]
    pub fn sharing(log: &EventLog, count: usize) -> Self {
        let start = |_| CommandThread {
            arbiter: Arbiter::new(),
            log: log.clone(),
        };
        Self((0..count.max(1)).map(start).collect())
    }

    /// The connection of the first thread.
    ///
    /// # Panics
    ///
    /// Never: there is at least one thread.
    #[must_use]
    pub fn connection(&self) -> &async_nats::Client {
        self.0[0].log.client()
    }

    /// Starts so many threads, at least one, and opens the log on each: `open` is run there, and is
    /// given the log of the first thread on all others.
    ///
    /// # Errors
    ///
    /// Returns the first error of `open`.
    ///
    /// # Panics
    ///
    /// Panics when `open` does.
    pub async fn opening<E, Opening>(
        count: usize,
        open: impl Fn(Option<EventLog>) -> Opening,
    ) -> Result<Self, E>
    where
        E: Send + 'static,
        Opening: Future<Output = Result<EventLog, E>> + Send + 'static,
    {
        let mut threads = Vec::new();
        for _ in 0..count.max(1) {
            let arbiter = Arbiter::new();
            let first = threads
                .first()
                .map(|first: &CommandThread| first.log.clone());
            let (opened, log) = oneshot::channel();
            let opening = open(first);
            arbiter.spawn(async move {
                let _ = opened.send(opening.await);
            });
            let log = log.await.expect("opening the log does not panic")?;
            threads.push(CommandThread { arbiter, log });
        }
        Ok(Self(threads))
    }
}
