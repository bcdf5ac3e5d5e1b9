//! Waiting, at the start, for what is not there yet.

use super::StartError;
use crate::http::{Readiness, ReadinessCheck, ReadinessProbe};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The pauses between two attempts.
const PAUSES: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(100))
    .with_max_delay(LONGEST_PAUSE)
    .without_max_times();
/// The pause between two lines that tell what is waited for.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// The time that a start waits for what may come by itself: NATS, JetStream's leader, a shared store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as this for each.
    Bounded(Duration),
    /// As long as it takes. What no waiting helps against ends the start all the same.
    Endless,
}

/// A start that is under way, and what it waits for.
#[derive(Clone)]
pub(super) struct Waiting {
    patience: Patience,
    check: Arc<Mutex<ReadinessCheck>>,
}

impl Waiting {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            check: Arc::new(Mutex::new(ReadinessCheck::new(
                "nats",
                false,
                "not connected yet",
            ))),
        }
    }

    /// Returns what `/readyz` asks until the parts are up.
    pub(super) fn probe(&self) -> ReadinessProbe {
        let waiting = self.clone();
        Arc::new(move || Readiness::of(vec![waiting.check().clone()]))
    }

    /// Tries until it succeeds, or what is wrong does not pass by itself, or patience is at its end.
    ///
    /// `check` and `state` say what is not there yet, as in `nats` and `not connected yet`.
    pub(super) async fn until<T>(
        &self,
        check: &str,
        state: &str,
        attempt: impl AsyncFnMut() -> Result<T, StartError>,
    ) -> Result<T, StartError> {
        self.until_when(check, state, StartError::is_retryable, attempt)
            .await
    }

    /// As [`Waiting::until`], with an opinion of one's own on what may pass by itself.
    pub(super) async fn until_when<T>(
        &self,
        check: &str,
        state: &str,
        may_pass: impl Fn(&StartError) -> bool,
        mut attempt: impl AsyncFnMut() -> Result<T, StartError>,
    ) -> Result<T, StartError> {
        *self.check() = ReadinessCheck::new(check, false, state);
        let (started, mut pauses, mut told) = (Instant::now(), PAUSES.build(), None::<Instant>);
        loop {
            let error = match attempt().await {
                Err(error) if may_pass(&error) && !self.is_over(started) => error,
                done => return done,
            };
            *self.check() = ReadinessCheck::new(check, false, format!("{state}: {error}"));
            if told.is_none_or(|told| told.elapsed() >= TOLD_EVERY) {
                told = Some(Instant::now());
                tracing::warn!(
                    waited_s = started.elapsed().as_secs(),
                    reason = %error,
                    "cannot start yet: {check} {state}"
                );
            }
            tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
        }
    }

    fn is_over(&self, started: Instant) -> bool {
        match self.patience {
            Patience::Bounded(limit) => started.elapsed() >= limit,
            Patience::Endless => false,
        }
    }

    fn check(&self) -> std::sync::MutexGuard<'_, ReadinessCheck> {
        self.check.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away() -> StartError {
        StartError::Nats {
            servers: "nats://a:4222".to_owned(),
            reason: "refused".to_owned(),
        }
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_and_told_to_who_asks() {
        let waiting = Waiting::new(Patience::Endless);
        let probe = waiting.probe();
        let mut attempts = 0;
        let done = waiting
            .until("nats", "not connected yet", async || {
                attempts += 1;
                match attempts {
                    1 => Err(away()),
                    _ => Ok(probe()),
                }
            })
            .await
            .unwrap();
        assert!(!done.ready);
        assert_eq!(done.checks[0].name, "nats");
        let detail = &done.checks[0].detail;
        assert!(detail.starts_with("not connected yet: "), "{detail}");
        assert!(detail.contains("nats://a:4222"), "{detail}");
    }

    #[tokio::test]
    async fn what_does_not_pass_ends_the_wait_at_once() {
        let waiting = Waiting::new(Patience::Endless);
        let error = waiting
            .until("nats", "not connected yet", async || -> Result<(), _> {
                Err(StartError::Servers("no address".to_owned()))
            })
            .await
            .unwrap_err();
        assert!(matches!(error, StartError::Servers(_)), "{error}");
    }

    #[tokio::test]
    async fn patience_that_is_bounded_ends() {
        let waiting = Waiting::new(Patience::Bounded(Duration::ZERO));
        let error = waiting
            .until("nats", "not connected yet", async || -> Result<(), _> {
                Err(away())
            })
            .await
            .unwrap_err();
        assert!(matches!(error, StartError::Nats { .. }), "{error}");
    }
}
