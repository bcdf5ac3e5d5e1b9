//! Traces: what one request caused, over all the processes that it went through.
//!
//! A [`Span`] begins with the `traceparent` that came with the work (W3C Trace Context), hands its own
//! on, and is exported by OTLP once it has ended. Until [`install`] is called every span is nothing, and
//! headers go on as they came. Exporting is bounded and never delays or fails what is traced.
//!
//! Spans are passed by hand, as headers are, since a command changes threads and processes. See
//! `docs/decisions/014-traces.md`.

mod context;
mod export;
mod span;
mod wire;

pub use context::{NoTraceContext, TraceContext};
pub use span::{Kind, Span, Value};

use http_client::header::HeaderMap;
use std::sync::OnceLock;

/// The one of the process, once there is one.
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// The destination of exported spans, and which they are.
#[derive(Debug, Clone)]
pub struct TraceOptions {
    /// The place where the collector takes OTLP over HTTP, path and all: `http://127.0.0.1:4318/v1/traces`.
    pub endpoint: url::Url,
    /// Headers of every request to it, for example one that says who is sending.
    pub headers: HeaderMap,
    /// The name of the service: the attribute `service.name`.
    pub service: String,
    /// Which of its instances this is: `service.instance.id`.
    pub instance: Option<String>,
    /// The share of the traces that begin here which is recorded, 0 to 1. Of a trace that began
    /// elsewhere the share has been taken there.
    pub ratio: f64,
}

#[derive(Debug)]
struct Tracer {
    ratio: f64,
    queue: export::Queue,
}

impl Tracer {
    fn samples(&self) -> bool {
        // Below 1: a ratio of 1 takes all, of 0 none.
        rand::random::<f64>() < self.ratio
    }

    fn export(&self, span: span::Recorded) {
        self.queue.push(span);
    }
}

/// The exporter, to be stopped when the process does.
#[derive(Debug)]
#[must_use = "the last spans are only exported by its stop"]
pub struct Exporter(export::Sending);

impl Exporter {
    /// Exports what is left, for a few seconds at most.
    pub async fn stop(self) {
        self.0.stop().await;
    }
}

/// Begins to export spans, of the whole process and once.
///
/// # Errors
///
/// Returns [`TraceError`] when exporting has begun before or cannot begin.
pub fn install(options: &TraceOptions) -> Result<Exporter, TraceError> {
    super::metrics::install();
    let (queue, sending) = export::start(options).map_err(TraceError::Start)?;
    let tracer = Tracer {
        ratio: options.ratio,
        queue,
    };
    TRACER.set(tracer).map_err(|_| TraceError::Twice)?;
    Ok(Exporter(sending))
}

/// Returns whether spans are exported.
#[must_use]
pub fn is_on() -> bool {
    TRACER.get().is_some()
}

/// Spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// There is an exporter.
    #[error("spans are exported already")]
    Twice,
    /// The client or its thread cannot be had.
    #[error("spans cannot be exported: {0}")]
    Start(std::io::Error),
}
