//! Logs, structured lines on standard error, set up once; what is measured; and traces.

pub mod metrics;
pub mod trace;

use crate::config::{LogConfig, LogFormat};
use std::io::{self, IsTerminal};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// The log directives cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("--log: {0}")]
pub struct TelemetryError(String);

/// Begins to write log lines.
///
/// # Errors
///
/// Returns [`TelemetryError`] when the filter is not a list of tracing directives.
pub fn init(config: &LogConfig) -> Result<(), TelemetryError> {
    let filter =
        EnvFilter::try_new(&config.filter).map_err(|error| TelemetryError(error.to_string()))?;
    let lines = fmt::layer()
        .with_ansi(is_colourful())
        .with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match config.log_format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    started.map_err(|error| TelemetryError(error.to_string()))
}

/// Returns whether lines are coloured: on a terminal, unless NO_COLOR says that they are not to be
/// (no-color.org).
fn is_colourful() -> bool {
    let asked_not_to = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !asked_not_to
}
