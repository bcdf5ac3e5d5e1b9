//! The threads of a replica's connection to NATS and of its store.

use super::StartError;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};

/// The stack of the threads that run SurrealDB's queries, in bytes: its parser and planner recurse
/// deeper than the usual 2 MiB.
const QUERY_STACK: usize = 10 << 20;
/// How long a stop waits for tasks whose owners are gone, at most.
const SETTLING: Duration = Duration::from_secs(2);
/// After how long without one more that has ended they are taken to have.
const SETTLED: Duration = Duration::from_millis(200);

/// The threads that speak to NATS and run SurrealDB's queries.
pub(super) struct IoThreads(Option<Runtime>);

impl IoThreads {
    pub(super) fn start() -> Result<Self, StartError> {
        tokio::runtime::Builder::new_multi_thread()
            .thread_name("headwater-io")
            .thread_stack_size(QUERY_STACK)
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
            .map_err(StartError::Runtime)
    }

    pub(super) fn handle(&self) -> Handle {
        let runtime = self
            .0
            .as_ref()
            .expect("the runtime is there until it is dropped");
        runtime.handle().clone()
    }

    /// Waits, for as long as [`SETTLING`] at most, until no more tasks end: the store closes its files
    /// in some of them once its last owner is gone, and none of them says when it has.
    pub(super) async fn settle(&self) {
        let metrics = self.handle().metrics();
        let settled = async {
            let (mut alive, mut since) = (metrics.num_alive_tasks(), Instant::now());
            while alive > 0 && since.elapsed() < SETTLED {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if metrics.num_alive_tasks() != alive {
                    (alive, since) = (metrics.num_alive_tasks(), Instant::now());
                }
            }
        };
        if tokio::time::timeout(SETTLING, settled).await.is_err() {
            tracing::debug!(tasks = metrics.num_alive_tasks(), "tasks were cut off");
        }
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the threads is not allowed where a future may be running.
            runtime.shutdown_background();
        }
    }
}
