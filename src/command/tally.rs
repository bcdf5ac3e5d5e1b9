//! The counts of what this process has decided lately, for operators who look now. What is kept
//! for longer is a collector's: see [`super::measure`].

use crate::membership::ReplicaLoad;
use std::{
    array,
    collections::VecDeque,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Each power of two of microseconds has four buckets: a quantile is at most a quarter too high.
const STEPS: usize = 4;
/// Up to some four minutes.
const BUCKETS: usize = 28 * STEPS;
/// The stretch of time that rates and quantiles are of.
const WINDOW: Duration = Duration::from_secs(10);
/// The least time between two samples.
const APART: Duration = Duration::from_millis(900);

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was accepted, now or before.
    Accepted,
    /// It was refused because of what it is.
    Refused,
    /// It was refused through no fault of its own.
    Failed,
}

struct Tally {
    ended: [AtomicU64; 3],
    took: [AtomicU64; BUCKETS],
    samples: Mutex<VecDeque<Sample>>,
}

#[derive(Clone)]
struct Sample {
    at: Instant,
    ended: [u64; 3],
    took: [u64; BUCKETS],
}

static TALLY: LazyLock<Tally> = LazyLock::new(|| Tally {
    ended: array::from_fn(|_| AtomicU64::new(0)),
    took: array::from_fn(|_| AtomicU64::new(0)),
    samples: Mutex::default(),
});

/// Counts a command that was answered.
pub(super) fn answered(ended: Ended, took: Duration) {
    TALLY.ended[ended as usize].fetch_add(1, Relaxed);
    TALLY.took[bucket_of(took)].fetch_add(1, Relaxed);
}

/// Takes down how far it is now, and returns what the last ten seconds were like. To be called every second or so.
pub fn sample() -> ReplicaLoad {
    let read = |counters: &[AtomicU64]| -> Vec<u64> {
        counters
            .iter()
            .map(|counter| counter.load(Relaxed))
            .collect()
    };
    let (ended, took) = (read(&TALLY.ended), read(&TALLY.took));
    let now = Sample {
        at: Instant::now(),
        ended: array::from_fn(|index| ended[index]),
        took: array::from_fn(|index| took[index]),
    };
    let mut samples = TALLY.samples.lock().unwrap_or_else(PoisonError::into_inner);
    let newest = samples.back();
    if newest.is_none_or(|newest| now.at - newest.at >= APART) {
        samples.push_back(now.clone());
    }
    // The one before the window is where it begins.
    while samples
        .get(1)
        .is_some_and(|second| now.at - second.at >= WINDOW)
    {
        samples.pop_front();
    }
    samples
        .front()
        .map_or_else(ReplicaLoad::default, |begin| since(begin, &now))
}

fn since(begin: &Sample, now: &Sample) -> ReplicaLoad {
    let seconds = (now.at - begin.at).as_secs_f64();
    let took: Vec<u64> = now
        .took
        .iter()
        .zip(&begin.took)
        .map(|(now, then)| now - then)
        .collect();
    let rate = |ended: Ended| match seconds > 0.0 {
        true => (now.ended[ended as usize] - begin.ended[ended as usize]) as f64 / seconds,
        false => 0.0,
    };
    ReplicaLoad {
        accepted_per_s: rate(Ended::Accepted),
        refused_per_s: rate(Ended::Refused),
        failed_per_s: rate(Ended::Failed),
        p50_ms: quantile(&took, 0.5),
        p99_ms: quantile(&took, 0.99),
    }
}

fn bucket_of(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    let power = micros.ilog2() as usize;
    let step = match power {
        0 => 0,
        1 => ((micros & 1) * 2) as usize,
        _ => ((micros >> (power - 2)) & 3) as usize,
    };
    (power * STEPS + step).min(BUCKETS - 1)
}

/// The most that a command of a bucket took, in milliseconds.
fn end_of(bucket: usize) -> f64 {
    let (power, step) = (bucket / STEPS, bucket % STEPS);
    let begin = 2_f64.powi(i32::try_from(power).unwrap_or(0));
    begin * (1.0 + (step + 1) as f64 / STEPS as f64) / 1e3
}

fn quantile(took: &[u64], share: f64) -> Option<f64> {
    let all: u64 = took.iter().sum();
    let wanted = (all as f64 * share).ceil().max(1.0) as u64;
    let mut seen = 0;
    let found = took.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    found.map(end_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_at_most_a_quarter_too_high() {
        for micros in [1, 2, 3, 7, 100, 999, 1_000, 123_456, 90_000_000] {
            let took = Duration::from_micros(micros);
            let mut counted = vec![0; BUCKETS];
            counted[bucket_of(took)] = 1;
            let told = quantile(&counted, 0.5).unwrap() * 1e3;
            let is = micros as f64;
            assert!(told >= is && told <= 2.0 * is.max(1.0), "{micros}: {told}");
            assert!(micros < 4 || told <= 1.26 * is, "{micros}: {told}");
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
        assert_eq!(quantile(&[0; BUCKETS], 0.99), None);
    }

    #[test]
    fn rates_are_of_what_came_since() {
        let begin = Sample {
            at: Instant::now(),
            ended: [10, 0, 0],
            took: [0; BUCKETS],
        };
        let mut now = begin.clone();
        now.at += Duration::from_secs(2);
        now.ended = [30, 4, 0];
        now.took[bucket_of(Duration::from_millis(1))] = 24;
        let load = since(&begin, &now);
        assert_eq!((load.accepted_per_s, load.refused_per_s), (10.0, 2.0));
        assert_eq!(load.failed_per_s, 0.0);
        assert!(load.p99_ms.is_some_and(|ms| (1.0..=1.26).contains(&ms)));
    }
}
