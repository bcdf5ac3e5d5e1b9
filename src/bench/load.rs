//! Making load: workers that each have one operation in flight.

use super::{BenchError, Sample};
use futures::future::BoxFuture;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Handle, Runtime},
    task::JoinSet,
};

/// One operation, given its worker's number and how many that worker has done before.
pub type Operation =
    Arc<dyn Fn(usize, u64) -> BoxFuture<'static, Result<(), BenchError>> + Send + Sync>;

/// The threads that make the load, apart from the program's own.
pub struct LoadThreads(Option<Runtime>);

impl LoadThreads {
    /// Starts one thread a core.
    ///
    /// # Errors
    ///
    /// Returns [`BenchError`] when threads cannot be started.
    pub fn start() -> Result<Self, BenchError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .thread_name("headwater-bench")
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Returns where to spawn what makes load.
    ///
    /// # Panics
    ///
    /// Never: the threads are there until this is dropped.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        self.0.as_ref().expect("there until dropped").handle()
    }
}

impl Drop for LoadThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting for the threads is not allowed within a future.
            runtime.shutdown_background();
        }
    }
}

/// Keeps `workers` operations in flight for a while: each worker begins the next when the last has
/// ended. `operation` is given the worker's number and how many that worker has done before.
///
/// # Errors
///
/// Returns the first failure of an operation.
pub async fn closed_loop<Op, Doing>(
    threads: &Handle,
    workers: usize,
    length: Duration,
    operation: Op,
) -> Result<Sample, BenchError>
where
    Op: Fn(usize, u64) -> Doing + Clone + Send + 'static,
    Doing: Future<Output = Result<(), BenchError>> + Send,
{
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for worker in 0..workers {
        let operation = operation.clone();
        let run = async move {
            let mut latencies = Vec::with_capacity(4096);
            let mut now = Instant::now();
            while begun.elapsed() < length {
                operation(worker, latencies.len() as u64).await?;
                let done = Instant::now();
                latencies.push((done - now).as_nanos() as u64);
                now = done;
            }
            Ok::<_, BenchError>(latencies)
        };
        running.spawn_on(run, threads);
    }
    let mut latencies = Vec::new();
    while let Some(worker) = running.join_next().await {
        latencies.extend(worker.map_err(BenchError::new)??);
    }
    // Operations that ended after `length` count, and so does the time that they took.
    Ok(Sample::new(latencies, begun.elapsed()))
}

/// Does `operation` once for each number below `count`, `workers` at a time.
///
/// # Errors
///
/// Returns the first failure of an operation.
pub async fn once_each<Op, Doing>(
    threads: &Handle,
    workers: usize,
    count: usize,
    operation: Op,
) -> Result<(), BenchError>
where
    Op: Fn(usize) -> Doing + Clone + Send + 'static,
    Doing: Future<Output = Result<(), BenchError>> + Send,
{
    let mut running = JoinSet::new();
    for worker in 0..workers {
        let operation = operation.clone();
        let run = async move {
            for number in (worker..count).step_by(workers) {
                operation(number).await?;
            }
            Ok::<_, BenchError>(())
        };
        running.spawn_on(run, threads);
    }
    while let Some(worker) = running.join_next().await {
        worker.map_err(BenchError::new)??;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    #[tokio::test]
    async fn each_worker_has_one_operation_in_flight() {
        let flying = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let operation = {
            let (flying, most) = (flying.clone(), most.clone());
            move |_, _| {
                let (flying, most) = (flying.clone(), most.clone());
                async move {
                    let now = flying.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    flying.fetch_sub(1, Ordering::SeqCst);
                    Ok(())
                }
            }
        };
        let length = Duration::from_millis(50);
        let sample = closed_loop(&Handle::current(), 3, length, operation).await;
        assert!(sample.unwrap().count() >= 3);
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test]
    async fn a_failed_operation_fails_the_bench() {
        let fails = |_, _| async { Err(BenchError::new("away")) };
        let length = Duration::from_secs(60);
        let failed = closed_loop(&Handle::current(), 2, length, fails).await;
        assert_eq!(failed.unwrap_err().to_string(), "away");
    }
}
