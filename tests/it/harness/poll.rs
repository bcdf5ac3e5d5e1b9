//! Waiting for what will be true soon, with a deadline.

use std::{
    future::Future,
    panic::Location,
    time::{Duration, Instant},
};

/// How long a thing may take that usually takes milliseconds, on a machine that is busy.
pub const DEADLINE: Duration = Duration::from_secs(30);
const INTERVAL: Duration = Duration::from_millis(20);

/// Asks `probe` again and again until it answers with something; panics after [`DEADLINE`].
#[track_caller]
pub fn eventually<T, F, Fut>(what: &str, probe: F) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    eventually_within(DEADLINE, what, probe)
}

/// As [`eventually`], with a deadline of the caller's own.
#[track_caller]
pub fn eventually_within<T, F, Fut>(
    limit: Duration,
    what: &str,
    mut probe: F,
) -> impl Future<Output = T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(value) = probe().await {
                return value;
            }
            assert!(
                started.elapsed() < limit,
                "not within {limit:?}: {what} (at {caller})"
            );
            tokio::time::sleep(INTERVAL).await;
        }
    }
}

/// As [`eventually_within`], outside of a runtime.
#[track_caller]
pub fn eventually_blocking<T>(
    limit: Duration,
    what: &str,
    mut probe: impl FnMut() -> Option<T>,
) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(started.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(INTERVAL);
    }
}
