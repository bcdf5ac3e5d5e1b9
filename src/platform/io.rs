//! The threads of a replica's connection to NATS and of its store.

use super::StartError;
use crate::read_model;
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime, RuntimeMetrics};

/// The stack of the threads that run SurrealDB's queries, in bytes: its parser and planner recurse
/// deeper than the usual 2 MiB.
const QUERY_STACK: usize = 10 << 20;
/// The time a stop waits for tasks whose owners are gone, at most.
const SETTLING: Duration = Duration::from_secs(10);
/// After how long without one more that has ended they are taken to have.
const SETTLED: Duration = Duration::from_millis(200);

/// The threads that speak to NATS, and those that run SurrealDB's queries. They are not the same: a
/// search that keeps its thread busy delays no heartbeat and no command.
pub(super) struct IoThreads {
    nats: Option<Runtime>,
    store: Option<Runtime>,
    store_url: String,
}

impl IoThreads {
    pub(super) fn start(store_url: &str) -> Result<Self, StartError> {
        let start = |name, stack: Option<usize>| {
            let mut threads = tokio::runtime::Builder::new_multi_thread();
            threads.thread_name(name).enable_all();
            if let Some(stack) = stack {
                threads.thread_stack_size(stack);
            }
            threads.build().map_err(StartError::Runtime)
        };
        Ok(Self {
            nats: Some(start("headwater-io", None)?),
            store: Some(start("headwater-store", Some(QUERY_STACK))?),
            store_url: store_url.to_owned(),
        })
    }

    /// Returns where everything runs that speaks to NATS.
    pub(super) fn handle(&self) -> Handle {
        running(self.nats.as_ref())
    }

    /// Returns where queries run.
    pub(super) fn store(&self) -> Handle {
        running(self.store.as_ref())
    }

    /// Waits, for as long as [`SETTLING`] at most, until the store has closed its files and no more tasks end.
    pub(super) async fn settle(&self) {
        let metrics = [self.handle().metrics(), self.store().metrics()];
        let tasks = || metrics.iter().map(RuntimeMetrics::num_alive_tasks).sum();
        let settled = async {
            read_model::closed(&self.store_url).await;
            let (mut alive, mut since): (usize, _) = (tasks(), Instant::now());
            while alive > 0 && since.elapsed() < SETTLED {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if tasks() != alive {
                    (alive, since) = (tasks(), Instant::now());
                }
            }
        };
        if tokio::time::timeout(SETTLING, settled).await.is_err() {
            tracing::debug!(tasks = tasks(), "tasks were cut off");
        }
    }
}

impl Drop for IoThreads {
    fn drop(&mut self) {
        for runtime in [self.nats.take(), self.store.take()].into_iter().flatten() {
            // Waiting for the threads is not allowed where a future may be running.
            runtime.shutdown_background();
        }
    }
}

fn running(runtime: Option<&Runtime>) -> Handle {
    let runtime = runtime.expect("the runtime is there until it is dropped");
    runtime.handle().clone()
}
