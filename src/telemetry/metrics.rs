//! Metrics, in the form that Prometheus reads. The [table](METRICS) describes all of them.
//!
//! There is one recorder in a process, whoever measures. Without [`install`] measuring costs next
//! to nothing and leads nowhere.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;

mod metric;
mod table;

pub use metric::{Metric, MetricKind, Unit};
pub use table::METRICS;

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Begins to keep what is measured. Calling it again does nothing, and neither does it where the
/// program has a recorder of its own.
pub fn install() {
    HANDLE.get_or_init(|| {
        let installed = with_buckets().and_then(PrometheusBuilder::install_recorder);
        match installed {
            Ok(handle) => {
                METRICS.iter().for_each(describe);
                Some(handle)
            }
            Err(error) => {
                tracing::warn!(%error, "metrics are not kept");
                None
            }
        }
    });
}

fn with_buckets() -> Result<PrometheusBuilder, BuildError> {
    METRICS
        .iter()
        .try_fold(PrometheusBuilder::new(), |builder, metric| {
            let MetricKind::Histogram(buckets) = metric.kind else {
                return Ok(builder);
            };
            builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)
        })
}

/// All that was measured, as Prometheus reads it; empty when nothing is kept.
#[must_use]
pub fn render() -> String {
    let handle = HANDLE.get().and_then(Option::as_ref);
    handle.map(PrometheusHandle::render).unwrap_or_default()
}

/// Sorts what was measured since the last time into the histograms. To be called every second or
/// so, since what is not yet sorted takes memory.
pub fn upkeep() {
    if let Some(handle) = HANDLE.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

fn describe(metric: &Metric) {
    let help = metric.meaning.replace('`', "");
    let unit = match metric.unit {
        Unit::Seconds => metrics::Unit::Seconds,
        Unit::Bytes => metrics::Unit::Bytes,
        Unit::Count | Unit::Position | Unit::Share | Unit::Truth => metrics::Unit::Count,
    };
    match metric.kind {
        MetricKind::Counter => describe_counter!(metric.name, unit, help),
        MetricKind::Gauge => describe_gauge!(metric.name, unit, help),
        MetricKind::Histogram(_) => describe_histogram!(metric.name, unit, help),
    }
}
