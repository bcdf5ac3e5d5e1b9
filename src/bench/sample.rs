//! Latencies and rates of one stretch of load.

use serde::Serialize;
use std::time::Duration;

/// The result of one stretch of load: the latency of each operation, and how long the stretch took.
#[derive(Debug, Clone)]
pub struct Sample {
    /// In nanoseconds, ascending.
    latencies: Vec<u64>,
    elapsed: Duration,
    /// So much was done at each latency.
    each: usize,
}

impl Sample {
    /// Makes a sample of one latency in nanoseconds for each operation.
    #[must_use]
    pub fn new(mut latencies: Vec<u64>, elapsed: Duration) -> Self {
        latencies.sort_unstable();
        Self {
            latencies,
            elapsed,
            each: 1,
        }
    }

    /// The same, where each latency is that of so many operations together.
    #[must_use]
    pub fn of_many(self, each: usize) -> Self {
        Self { each, ..self }
    }

    /// Returns how many operations there were.
    #[must_use]
    pub fn count(&self) -> usize {
        self.latencies.len() * self.each
    }

    /// The latency that this share of the operations did not exceed, in milliseconds; 0 when there
    /// were none. Exact, by the nearest rank.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let count = self.latencies.len();
        let rank = (share * count as f64).ceil() as usize;
        let latency = self.latencies.get(rank.clamp(1, count.max(1)) - 1);
        latency.map_or(0.0, |nanos| *nanos as f64 / 1e6)
    }

    /// The figures that are told of it.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            per_second: self.count() as f64 / self.elapsed.as_secs_f64(),
            p50_ms: self.quantile_ms(0.5),
            p95_ms: self.quantile_ms(0.95),
            p99_ms: self.quantile_ms(0.99),
            p999_ms: self.quantile_ms(0.999),
        }
    }
}

/// Rate and latencies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Figures {
    /// Operations per second.
    pub per_second: f64,
    /// The median latency in milliseconds.
    pub p50_ms: f64,
    /// The latency that 95 % did not exceed, in milliseconds.
    pub p95_ms: f64,
    /// The latency that 99 % did not exceed, in milliseconds.
    pub p99_ms: f64,
    /// The latency that 99.9 % did not exceed, in milliseconds.
    pub p999_ms: f64,
}

impl Figures {
    /// One long operation on so many: its time is every quantile.
    pub(super) fn of_one(count: usize, elapsed: Duration) -> Self {
        let ms = elapsed.as_secs_f64() * 1e3;
        Self {
            per_second: count as f64 / elapsed.as_secs_f64(),
            p50_ms: ms,
            p95_ms: ms,
            p99_ms: ms,
            p999_ms: ms,
        }
    }

    /// The median of each figure by itself.
    ///
    /// # Panics
    ///
    /// Panics when there are none: a defect of the bench.
    #[must_use]
    pub fn medians(of: &[Self]) -> Self {
        let of_each = |figure: fn(&Self) -> f64| median(of.iter().map(figure).collect());
        Self {
            per_second: of_each(|figures| figures.per_second),
            p50_ms: of_each(|figures| figures.p50_ms),
            p95_ms: of_each(|figures| figures.p95_ms),
            p99_ms: of_each(|figures| figures.p99_ms),
            p999_ms: of_each(|figures| figures.p999_ms),
        }
    }
}

/// The median; the mean of the middle two when they are even in number.
pub(super) fn median(mut of: Vec<f64>) -> f64 {
    assert!(!of.is_empty(), "the median of nothing");
    of.sort_unstable_by(f64::total_cmp);
    let middle = of.len() / 2;
    if of.len() % 2 == 1 {
        of[middle]
    } else {
        f64::midpoint(of[middle - 1], of[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact_by_the_nearest_rank() {
        let millis = (1..=1000).rev().map(|ms| ms * 1_000_000).collect();
        let figures = Sample::new(millis, Duration::from_secs(2)).figures();
        let expected = Figures {
            per_second: 500.0,
            p50_ms: 500.0,
            p95_ms: 950.0,
            p99_ms: 990.0,
            p999_ms: 999.0,
        };
        assert_eq!(figures, expected);
    }

    #[test]
    fn one_operation_is_every_quantile_and_none_is_zero() {
        let one = Sample::new(vec![2_000_000], Duration::from_secs(1));
        assert_eq!((one.quantile_ms(0.5), one.quantile_ms(0.999)), (2.0, 2.0));
        let many = Sample::new(vec![2_000_000; 3], Duration::from_secs(2)).of_many(100);
        assert_eq!(
            (many.figures().per_second, many.quantile_ms(0.5)),
            (150.0, 2.0)
        );
        let none = Sample::new(Vec::new(), Duration::from_secs(1));
        assert_eq!(none.quantile_ms(0.99), 0.0);
    }

    #[test]
    fn a_median_is_not_moved_by_one_bad_round() {
        assert_eq!(median(vec![10.0, 1_000.0, 11.0]), 11.0);
        assert_eq!(median(vec![4.0, 2.0]), 3.0);
    }
}
