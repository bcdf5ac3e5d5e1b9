//! Whether a SurrealDB server answers.
//!
//! A query to a server that is away does not fail: the client keeps it until there is a connection
//! again, and one to a server that hangs is never answered at all. So somebody asks the server a
//! trifle all the time, and while that is not answered nothing else is waited for either.

use super::StoreError;
use std::{future::Future, time::Duration};
use surrealdb::{Surreal, engine::any::Any};
use tokio::{runtime::Handle, sync::watch, task::AbortHandle, time::timeout};

/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a server may think about a trifle, busy as it may be.
const SILENCE: Duration = Duration::from_secs(5);

/// Asks until it is dropped.
pub(super) struct Pulse {
    answers: watch::Receiver<bool>,
    asking: AbortHandle,
}

impl Pulse {
    pub(super) fn start(database: Surreal<Any>, runtime: &Handle) -> Self {
        let (sender, answers) = watch::channel(true);
        let asking = runtime.spawn(async move {
            loop {
                let asked = database.query("RETURN NONE");
                let answered = timeout(SILENCE, async move { asked.await }).await;
                let answers = matches!(answered, Ok(Ok(_)));
                if sender.send_replace(answers) != answers {
                    match answers {
                        true => tracing::info!("the SurrealDB server answers again"),
                        false => tracing::warn!("the SurrealDB server does not answer"),
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self {
            answers,
            asking: asking.abort_handle(),
        }
    }

    /// Whether the server answered when it was last asked.
    pub(super) fn answers(&self) -> bool {
        *self.answers.borrow()
    }

    /// Waits for `work`, for as long as the server answers. What is given up may still be done.
    pub(super) async fn beside<T>(
        &self,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let mut answers = self.answers.clone();
        tokio::select! {
            biased;
            // An error would mean that nobody asks any more, which is only so when the store is gone.
            _ = answers.wait_for(|answers| !answers) => Err(StoreError::Silent),
            done = work => done,
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.asking.abort();
    }
}
