//! A start under way: what every step of it needs.

use super::{Domain, PlatformOptions, StartError, io::IoThreads, waiting::Waiting};
use crate::request_reply::ReplyGuard;
use tokio::runtime::Handle;

/// The parts of a program, how they are to run, and what each step of the start uses.
pub(super) struct Starting<'a> {
    pub domain: &'a Domain,
    pub options: &'a PlatformOptions,
    pub threads: &'a IoThreads,
    pub guard: ReplyGuard,
    pub waiting: Waiting,
}

impl<'a> Starting<'a> {
    pub(super) fn new(
        domain: &'a Domain,
        options: &'a PlatformOptions,
        threads: &'a IoThreads,
    ) -> Self {
        Self {
            domain,
            options,
            threads,
            guard: ReplyGuard::new(options.inboxes.clone()),
            waiting: Waiting::new(options.patience),
        }
    }

    /// Returns where everything runs that speaks to NATS.
    pub(super) fn io(&self) -> Handle {
        self.threads.handle()
    }

    /// Runs a step there, to its end.
    pub(super) async fn on_io<T: Send + 'static>(
        &self,
        step: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, StartError> {
        let ended = self.io().spawn(step).await;
        ended.map_err(|error| StartError::Runtime(std::io::Error::other(error)))
    }
}
