//! Snapshots: a shortcut past old events, never the truth.
//!
//! They stand in the key-value bucket `snapshots` under `<aggregate>.<id>`. One that is missing,
//! unreadable, of another state version, or ahead of the log is ignored.

use super::EventLog;
use bytes::Bytes;

const BUCKET: &str = "snapshots";

impl EventLog {
    /// Reads the latest snapshot's body. An outage reads as "none": the log is folded instead.
    pub async fn snapshot(&self, aggregate: &str, id: &str) -> Option<Bytes> {
        let subject = format!("$JS.API.DIRECT.GET.KV_{BUCKET}.$KV.{BUCKET}.{aggregate}.{id}");
        let request = async_nats::Request::new().payload(Bytes::new());
        let reply = self
            .ask(subject, request, self.0.timeouts.load)
            .await
            .ok()?;
        (reply.status.is_none() && !reply.payload.is_empty()).then_some(reply.payload)
    }

    /// Writes a snapshot. A failure is logged and forgotten: the log is the truth.
    pub async fn write_snapshot(&self, aggregate: &str, id: &str, body: Bytes) {
        let request = async_nats::Request::new().payload(body);
        let subject = format!("$KV.{BUCKET}.{aggregate}.{id}");
        if let Err(error) = self.ask(subject, request, self.0.timeouts.append).await {
            tracing::warn!(aggregate.name = aggregate, aggregate.id = id, %error, "snapshot not written");
        }
    }
}
