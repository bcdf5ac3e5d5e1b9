//! Sending spans to a collector: a bounded queue, batches, and one thread that sends them by OTLP.
//!
//! Whoever ends a span never waits: what the queue has no room for is dropped, and counted. Nothing
//! here fails a request.

use super::{
    TraceOptions,
    span::Recorded,
    wire::{
        Clock, ExportRequest, ExportResponse, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans,
        Span,
    },
};
use http_client::{
    Client, StatusCode,
    header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER},
};
use metrics::{Counter, counter};
use prost::Message;
use std::{thread::JoinHandle, time::Duration};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The most spans that wait; at some 500 bytes each, 4 MiB.
const QUEUE: usize = 8_192;
/// The most spans of one request.
const BATCH: usize = 512;
/// The time the first span of a batch waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// The time a collector may take to answer, as other exporters have it.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The least time between two batches, and the first pause between two attempts, which then doubles.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);
/// A collector that asks for a longer pause than this is not given it.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The time the last spans may take when the process stops: less than is left of the usual grace
/// period once the roles have stopped.
const LAST: Duration = Duration::from_secs(3);

/// The place where ended spans go.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<Recorded>,
    dropped: Counter,
}

impl Queue {
    pub(super) fn push(&self, span: Recorded) {
        if self.spans.try_send(span).is_err() {
            self.dropped.increment(1);
        }
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(super) struct Sending {
    stopping: CancellationToken,
    thread: JoinHandle<()>,
}

impl Sending {
    /// Sends what waits, for as long as [`LAST`] at most, and ends.
    pub(super) async fn stop(self) {
        self.stopping.cancel();
        // It may have ended with a panic; there is nothing to wait for then.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}

/// Starts the thread that sends.
///
/// # Errors
///
/// Returns the error of the client or of the operating system.
pub(super) fn start(options: &TraceOptions) -> std::io::Result<(Queue, Sending)> {
    let client = Client::builder()
        .timeout(TIMEOUT)
        .default_headers(options.headers.clone())
        .user_agent(concat!("headwater/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(std::io::Error::other)?;
    let counted = |result| counter!("headwater_trace_spans_total", "result" => result);
    let (spans, waiting) = mpsc::channel(QUEUE);
    let stopping = CancellationToken::new();
    let collector = Collector {
        client,
        url: options.endpoint.clone(),
        resource: resource(options),
        exported: counted("exported"),
        refused: counted("refused"),
        away: false,
        stopping: stopping.clone(),
    };
    // A thread of its own: it goes on while all other runtimes stop.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let thread = std::thread::Builder::new()
        .name("headwater-otlp".to_owned())
        .spawn(move || runtime.block_on(send(waiting, collector)))?;
    let dropped = counted("dropped");
    Ok((Queue { spans, dropped }, Sending { stopping, thread }))
}

fn resource(options: &TraceOptions) -> Resource {
    let mut attributes = vec![
        KeyValue::new("service.name", options.service.clone().into()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION").into()),
    ];
    if let Some(instance) = &options.instance {
        attributes.push(KeyValue::new(
            "service.instance.id",
            instance.clone().into(),
        ));
    }
    Resource { attributes }
}

/// Sends batch after batch until it is told to stop, and then what is left.
async fn send(mut waiting: mpsc::Receiver<Recorded>, mut collector: Collector) {
    let stopping = collector.stopping.clone();
    let cut_off = async {
        stopping.cancelled().await;
        tokio::time::sleep(LAST).await;
    };
    tokio::select! {
        () = send_all(&mut waiting, &mut collector) => {}
        () = cut_off => tracing::warn!("the last spans were not exported in time"),
    }
}

async fn send_all(waiting: &mut mpsc::Receiver<Recorded>, collector: &mut Collector) {
    let stopping = collector.stopping.clone();
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            taken = waiting.recv_many(&mut batch, BATCH) => if taken == 0 {
                return;
            },
            () = stopping.cancelled(), if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
        }
        let others = async {
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                if waiting.recv_many(&mut batch, room).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = others => {}
            () = tokio::time::sleep(DELAY) => {}
            () = stopping.cancelled() => {}
        }
        collector.take(std::mem::take(&mut batch)).await;
    }
}

/// The collector, as it is spoken to.
struct Collector {
    client: Client,
    url: url::Url,
    resource: Resource,
    exported: Counter,
    refused: Counter,
    /// True if the last batch did not get there: it is said once, not for every batch.
    away: bool,
    /// Pauses end when it is.
    stopping: CancellationToken,
}

/// A batch did not get there.
enum Failed {
    /// It may the next time, after so long if the collector says so.
    ForNow(String, Option<Duration>),
    ForGood(String),
}

impl Collector {
    async fn take(&mut self, batch: Vec<Recorded>) {
        let count = batch.len() as u64;
        let body = self.encode(batch);
        let mut pause = PAUSE;
        for attempt in 1.. {
            match self.post(body.clone()).await {
                Ok(rejected) => {
                    if std::mem::take(&mut self.away) {
                        tracing::info!("spans are exported again");
                    }
                    self.refused.increment(rejected.min(count));
                    self.exported.increment(count.saturating_sub(rejected));
                    return;
                }
                Err(Failed::ForNow(_, wished)) if attempt < ATTEMPTS => {
                    tokio::select! {
                        () = tokio::time::sleep(wished.unwrap_or(pause)) => {}
                        () = self.stopping.cancelled() => {}
                    }
                    pause *= 2;
                }
                Err(Failed::ForNow(reason, _) | Failed::ForGood(reason)) => {
                    if !std::mem::replace(&mut self.away, true) {
                        tracing::warn!(reason, "spans cannot be exported");
                    }
                    self.refused.increment(count);
                    return;
                }
            }
        }
    }

    fn encode(&self, batch: Vec<Recorded>) -> bytes::Bytes {
        let clock = Clock::now();
        let spans = batch.into_iter().map(|span| Span::new(span, &clock));
        let scope = Scope {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let request = ExportRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope),
                    spans: spans.collect(),
                }],
            }],
        };
        request.encode_to_vec().into()
    }

    /// Sends one request, and returns how many of its spans the collector would not have.
    async fn post(&self, body: bytes::Bytes) -> Result<u64, Failed> {
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-protobuf")
            .body(body);
        // The address may have a password in it.
        let lost =
            |error: http_client::Error| Failed::ForNow(error.without_url().to_string(), None);
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        if status.is_success() {
            let answer = response.bytes().await.map_err(lost)?;
            // It has the spans whatever its answer looks like.
            let answer = ExportResponse::decode(answer).unwrap_or_default();
            let Some(partial) = answer.partial_success else {
                return Ok(0);
            };
            if !partial.error_message.is_empty() {
                let message = partial.error_message;
                tracing::warn!(message, "the collector has something to say of the spans");
            }
            return Ok(partial.rejected_spans.try_into().unwrap_or(0));
        }
        let reason = format!("the collector answered {status}");
        // The only ones that may be tried again (OTLP 1.9, "Retryable Response Codes").
        Err(match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Failed::ForNow(reason, wished_pause(response.headers()))
            }
            _ => Failed::ForGood(reason),
        })
    }
}

fn wished_pause(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Kind, TraceContext},
        *,
    };
    use std::time::Instant;

    fn span(name: &'static str) -> Recorded {
        Recorded {
            context: TraceContext::root(true),
            parent: 0,
            kind: Kind::Internal,
            name: name.into(),
            begun: Instant::now(),
            ended: None,
            attributes: Vec::new(),
            links: Vec::new(),
            failed: None,
        }
    }

    #[test]
    fn a_queue_without_room_drops_what_comes_and_nobody_waits() {
        let (spans, mut waiting) = mpsc::channel(2);
        let dropped = Counter::noop();
        let queue = Queue { spans, dropped };
        for name in ["one", "two", "three"] {
            queue.push(span(name));
        }
        drop(queue);
        let kept = std::iter::from_fn(|| waiting.try_recv().ok()).map(|span| span.name);
        assert_eq!(kept.collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn a_collector_is_given_the_pause_that_it_asks_for_within_bounds() {
        let asked = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            wished_pause(&headers)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("86400"), Some(LONGEST_PAUSE));
        assert_eq!(asked("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(wished_pause(&HeaderMap::new()), None);
    }
}
