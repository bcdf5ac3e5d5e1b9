//! A collector of traces: an HTTP server that takes what OTLP sends, and understands it without the
//! program's own code.

use super::poll::eventually;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use prost::Message;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

/// One span, in words.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub trace: String,
    pub id: String,
    /// Empty for the first of a trace.
    pub parent: String,
    pub name: String,
    /// 1 internal, 2 server, 3 client, 4 producer.
    pub kind: i32,
    pub nanoseconds: std::ops::Range<u64>,
    pub attributes: BTreeMap<String, String>,
    /// The ids of the spans that it is linked to.
    pub links: Vec<String>,
    pub failed: bool,
    /// `service.name` and `service.instance.id`.
    pub service: String,
    pub instance: String,
}

/// A running collector, on a free port. It ends when it is dropped.
pub struct Collector {
    port: u16,
    seen: Arc<Seen>,
    server: ServerHandle,
}

#[derive(Default)]
struct Seen {
    spans: Mutex<Vec<Span>>,
    /// The `x-token` of the last request.
    token: Mutex<String>,
    /// So many requests more are answered 503.
    unavailable: AtomicU32,
}

impl Collector {
    pub fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let (started, starting) = std::sync::mpsc::channel();
        let data = web::Data::from(seen.clone());
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let app = move || {
                    App::new()
                        .app_data(data.clone())
                        .route("/v1/traces", web::post().to(take))
                };
                let server = HttpServer::new(app).workers(1).disable_signals();
                let server = server.bind(("127.0.0.1", 0)).unwrap();
                let port = server.addrs()[0].port();
                let server = server.run();
                started.send((port, server.handle())).unwrap();
                server.await.unwrap();
            });
        });
        let (port, server) = starting.recv().unwrap();
        Self { port, seen, server }
    }

    /// `http://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers so many requests 503.
    pub fn be_unavailable(&self, requests: u32) {
        self.seen.unavailable.store(requests, Ordering::SeqCst);
    }

    /// How many of them are still to come.
    pub fn refusals_left(&self) -> u32 {
        self.seen.unavailable.load(Ordering::SeqCst)
    }

    /// The header `x-token` of the last request.
    pub fn token(&self) -> String {
        self.seen.token.lock().unwrap().clone()
    }

    /// What has come so far.
    pub fn spans(&self) -> Vec<Span> {
        self.seen.spans.lock().unwrap().clone()
    }

    /// What has come of a trace.
    pub fn trace(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| span.trace == trace);
        spans
    }

    /// Waits until so many spans of a trace are there.
    pub async fn await_trace(&self, trace: &str, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans of {trace}"), || async {
            let spans = self.trace(trace);
            (spans.len() >= count).then_some(spans)
        })
        .await
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

async fn take(request: HttpRequest, body: web::Bytes, seen: web::Data<Seen>) -> HttpResponse {
    let header = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
    };
    if header("content-type") != Some("application/x-protobuf") {
        return HttpResponse::UnsupportedMediaType().finish();
    }
    if let Some(token) = header("x-token") {
        *seen.token.lock().unwrap() = token.to_owned();
    }
    let refused = seen
        .unavailable
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            left.checked_sub(1)
        });
    if refused.is_ok() {
        return HttpResponse::ServiceUnavailable().finish();
    }
    match wire::Request::decode(body) {
        Ok(export) => {
            seen.spans.lock().unwrap().extend(export.spans());
            HttpResponse::Ok()
                .content_type("application/x-protobuf")
                .finish()
        }
        Err(error) => HttpResponse::BadRequest().body(error.to_string()),
    }
}

/// What is read of the protocol's messages, by the numbers in its specification.
mod wire {
    use super::{BTreeMap, Message};

    #[derive(Clone, PartialEq, Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        resources: Vec<ResourceSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        scopes: Vec<ScopeSpans>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Resource {
        #[prost(message, repeated, tag = "1")]
        attributes: Vec<KeyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        spans: Vec<Span>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Span {
        #[prost(bytes = "vec", tag = "1")]
        trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        name: String,
        #[prost(int32, tag = "6")]
        kind: i32,
        #[prost(fixed64, tag = "7")]
        start: u64,
        #[prost(fixed64, tag = "8")]
        end: u64,
        #[prost(message, repeated, tag = "9")]
        attributes: Vec<KeyValue>,
        #[prost(message, repeated, tag = "13")]
        links: Vec<Link>,
        #[prost(message, optional, tag = "15")]
        status: Option<Status>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Link {
        #[prost(bytes = "vec", tag = "2")]
        span_id: Vec<u8>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct Status {
        #[prost(int32, tag = "3")]
        code: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    struct KeyValue {
        #[prost(string, tag = "1")]
        key: String,
        #[prost(message, optional, tag = "2")]
        value: Option<AnyValue>,
    }

    #[derive(Clone, PartialEq, Message)]
    struct AnyValue {
        #[prost(oneof = "AnyOf", tags = "1, 2, 3")]
        value: Option<AnyOf>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    enum AnyOf {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(bool, tag = "2")]
        Truth(bool),
        #[prost(int64, tag = "3")]
        Number(i64),
    }

    impl Request {
        pub fn spans(self) -> Vec<super::Span> {
            let mut all = Vec::new();
            for of in self.resources {
                let resource = words(of.resource.unwrap_or_default().attributes);
                let said = |name: &str| resource.get(name).cloned().unwrap_or_default();
                for span in of.scopes.into_iter().flat_map(|scope| scope.spans) {
                    all.push(super::Span {
                        trace: hexadecimal(&span.trace_id),
                        id: hexadecimal(&span.span_id),
                        parent: hexadecimal(&span.parent_span_id),
                        name: span.name,
                        kind: span.kind,
                        nanoseconds: span.start..span.end,
                        attributes: words(span.attributes),
                        links: span
                            .links
                            .iter()
                            .map(|link| hexadecimal(&link.span_id))
                            .collect(),
                        failed: span.status.is_some_and(|status| status.code == 2),
                        service: said("service.name"),
                        instance: said("service.instance.id"),
                    });
                }
            }
            all
        }
    }

    fn words(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
        let word = |value: AnyOf| match value {
            AnyOf::Text(text) => text,
            AnyOf::Truth(truth) => truth.to_string(),
            AnyOf::Number(number) => number.to_string(),
        };
        attributes
            .into_iter()
            .filter_map(|one| Some((one.key, word(one.value?.value?))))
            .collect()
    }

    fn hexadecimal(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
