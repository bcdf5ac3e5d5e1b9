//! The description of a metric: its name, kind, labels, unit and meaning.

/// A metric as it is described.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name in `/metrics`. A histogram has `_bucket`, `_sum` and `_count` behind it.
    pub name: &'static str,
    /// The kind of its values.
    pub kind: MetricKind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The unit of its values.
    pub unit: Unit,
    /// The meaning, as a line of Markdown.
    pub meaning: &'static str,
}

/// The kinds of metrics, as Prometheus has them.
#[derive(Debug, Clone, Copy)]
pub enum MetricKind {
    /// Only grows, from 0 when the process starts.
    Counter,
    /// The value now.
    Gauge,
    /// Values sorted into buckets, each of which has one of these upper bounds.
    Histogram(&'static [f64]),
}

/// The units of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A time in seconds.
    Seconds,
    /// A size in bytes.
    Bytes,
    /// A place in the log.
    Position,
    /// A share from 0 to 1.
    Share,
    /// 1 for true, 0 for false.
    Truth,
}

/// From what one command takes in memory to what a client no longer waits for, in seconds.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0,
];
/// Sizes of groups.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1_000.0];
/// Sizes of batches.
const BATCHES: [f64; 8] = [1.0, 4.0, 16.0, 64.0, 256.0, 1_000.0, 2_000.0, 4_000.0];
/// Sizes of what is stored, up to the 1 MiB that NATS takes as a message.
const BYTES: [f64; 7] = [
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
];

impl MetricKind {
    /// The word that `# TYPE` has for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

impl Unit {
    /// The word for it in the documentation.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Position => "position",
            Self::Share => "0 to 1",
            Self::Truth => "0 or 1",
        }
    }
}

type Labels = &'static [&'static str];

pub(super) const fn counter(name: &'static str, labels: Labels, meaning: &'static str) -> Metric {
    Metric {
        name,
        kind: MetricKind::Counter,
        labels,
        unit: Unit::Count,
        meaning,
    }
}

pub(super) const fn gauge(
    name: &'static str,
    unit: Unit,
    labels: Labels,
    meaning: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Gauge,
        labels,
        unit,
        meaning,
    }
}

const fn histogram(
    name: &'static str,
    (unit, buckets): (Unit, &'static [f64]),
    labels: Labels,
    meaning: &'static str,
) -> Metric {
    Metric {
        name,
        kind: MetricKind::Histogram(buckets),
        labels,
        unit,
        meaning,
    }
}

pub(super) const fn seconds(name: &'static str, labels: Labels, meaning: &'static str) -> Metric {
    histogram(name, (Unit::Seconds, &SECONDS), labels, meaning)
}

pub(super) const fn sizes(name: &'static str, labels: Labels, meaning: &'static str) -> Metric {
    histogram(name, (Unit::Count, &SIZES), labels, meaning)
}

pub(super) const fn batches(name: &'static str, labels: Labels, meaning: &'static str) -> Metric {
    histogram(name, (Unit::Count, &BATCHES), labels, meaning)
}

pub(super) const fn bytes(name: &'static str, labels: Labels, meaning: &'static str) -> Metric {
    histogram(name, (Unit::Bytes, &BYTES), labels, meaning)
}
