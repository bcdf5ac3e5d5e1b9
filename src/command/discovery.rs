//! The command side as a NATS service (ADR-32): what `$SRV.PING`, `$SRV.INFO` and `$SRV.STATS` find.
//!
//! Each command is an endpoint there. They share one subscription, which is drained when the replica
//! stops, so that no command is lost on the way.

use super::describe::AggregateDescription;
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

/// The name of the service.
pub const SERVICE: &str = "headwater";
/// The queue group of every endpoint: the one that services have by default.
pub const QUEUE: &str = "q";

/// The service as others see it.
pub struct Discovery {
    id: String,
    started: Timestamp,
    endpoints: Vec<Endpoint>,
}

struct Endpoint {
    aggregate: &'static str,
    command: String,
    requests: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Discovery {
    /// A service whose endpoints are the commands of these aggregates.
    pub fn new(aggregates: &[AggregateDescription]) -> Arc<Self> {
        let endpoints = aggregates.iter().flat_map(|aggregate| {
            aggregate.commands.iter().map(|command| Endpoint {
                aggregate: aggregate.name,
                command: command.name.clone(),
                requests: AtomicU64::new(0),
                errors: AtomicU64::new(0),
                nanoseconds: AtomicU64::new(0),
            })
        });
        Arc::new(Self {
            id: uuid::Uuid::now_v7().simple().to_string(),
            started: Timestamp::now(),
            endpoints: endpoints.collect(),
        })
    }

    /// Counts a request to the command of this number, in the order in which they are described.
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
    ) -> Result<JoinHandle<()>, async_nats::SubscribeError> {
        let mut asked = futures::stream::SelectAll::new();
        for verb in ["PING", "INFO", "STATS"] {
            for of in [
                format!("$SRV.{verb}"),
                format!("$SRV.{verb}.{SERVICE}"),
                format!("$SRV.{verb}.{SERVICE}.{}", self.id),
            ] {
                asked.push(nats.subscribe(of).await?);
            }
        }
        Ok(tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                self.reply(&nats, message).await;
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
                    "description": "commands of the write side",
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
            "name": SERVICE,
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

impl Endpoint {
    fn info(&self) -> Value {
        json!({
            "name": format!("{}_{}", self.aggregate, self.command),
            "subject": format!("cmd.{}.*.{}", self.aggregate, self.command),
            "queue_group": QUEUE,
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
