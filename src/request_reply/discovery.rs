//! A NATS service as others find it (ADR-32): what answers `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS`.
//!
//! The requests of a service come by subscriptions of its owner's own, which it drains as it needs, so
//! that no request is lost when the replica stops.

use super::ReplyGuard;
use async_nats::{Client, Message};
use futures::StreamExt;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// The service as others see it.
pub struct Discovery {
    name: &'static str,
    description: &'static str,
    id: String,
    started: Timestamp,
    endpoints: Vec<Endpoint>,
}

/// An endpoint of a service, and what came of its requests.
#[derive(Debug)]
pub struct Endpoint {
    name: String,
    subject: String,
    queue_group: &'static str,
    requests: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Endpoint {
    /// An endpoint with a name of letters, digits, `_` and `-`, which takes requests on a subject in a
    /// queue group.
    #[must_use]
    pub fn new(name: String, subject: String, queue_group: &'static str) -> Self {
        Self {
            name,
            subject,
            queue_group,
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }

    fn info(&self) -> Value {
        json!({
            "name": self.name,
            "subject": self.subject,
            "queue_group": self.queue_group,
            "metadata": {},
        })
    }

    fn stats(&self) -> Value {
        let requests = self.requests.load(Ordering::Relaxed);
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        let mut stats = self.info();
        stats["num_requests"] = requests.into();
        stats["num_errors"] = self.errors.load(Ordering::Relaxed).into();
        stats["last_error"] = "".into();
        stats["processing_time"] = nanoseconds.into();
        stats["average_processing_time"] = nanoseconds.checked_div(requests).unwrap_or(0).into();
        stats
    }
}

impl Discovery {
    /// A service with these endpoints.
    #[must_use]
    pub fn new(
        name: &'static str,
        description: &'static str,
        endpoints: Vec<Endpoint>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            description,
            id: uuid::Uuid::now_v7().simple().to_string(),
            started: Timestamp::now(),
            endpoints,
        })
    }

    /// Counts a request to the endpoint of this number, in the order in which they were given.
    pub fn count(&self, number: usize, took: Duration, refused: bool) {
        if let Some(endpoint) = self.endpoints.get(number) {
            let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            endpoint.requests.fetch_add(1, Ordering::Relaxed);
            endpoint.errors.fetch_add(refused.into(), Ordering::Relaxed);
            endpoint
                .nanoseconds
                .fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Begins to answer. The task ends when the connection does, or when it is aborted.
    ///
    /// # Errors
    ///
    /// Returns the error of a subscription that is refused.
    pub async fn serve(
        self: Arc<Self>,
        nats: Client,
        guard: ReplyGuard,
    ) -> Result<JoinHandle<()>, async_nats::SubscribeError> {
        let mut asked = futures::stream::SelectAll::new();
        let (name, id) = (self.name, &self.id);
        for verb in ["PING", "INFO", "STATS"] {
            for of in [
                format!("$SRV.{verb}"),
                format!("$SRV.{verb}.{name}"),
                format!("$SRV.{verb}.{name}.{id}"),
            ] {
                asked.push(nats.subscribe(of).await?);
            }
        }
        Ok(tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                if guard.admits(&message) {
                    self.reply(&nats, message).await;
                }
            }
        }))
    }

    async fn reply(&self, nats: &Client, message: Message) {
        let Some(to) = message.reply else { return };
        let answer = match message.subject.split('.').nth(1) {
            Some("PING") => self.described("ping_response", json!({})),
            Some("INFO") => self.described(
                "info_response",
                json!({
                    "description": self.description,
                    "endpoints": self.endpoints.iter().map(Endpoint::info).collect::<Vec<_>>(),
                }),
            ),
            _ => self.described(
                "stats_response",
                json!({
                    "started": self.started.to_string(),
                    "endpoints": self.endpoints.iter().map(Endpoint::stats).collect::<Vec<_>>(),
                }),
            ),
        };
        // Whoever asked may have gone.
        let _ = nats.publish(to, answer.to_string().into()).await;
    }

    fn described(&self, kind: &str, more: Value) -> Value {
        let mut answer = json!({
            "type": format!("io.nats.micro.v1.{kind}"),
            "name": self.name,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": {},
        });
        if let (Value::Object(answer), Value::Object(more)) = (&mut answer, more) {
            answer.extend(more);
        }
        answer
    }
}
