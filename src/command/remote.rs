//! Giving a command to another replica, by NATS request-reply.

use super::request::{CommandRequest, Outcome};
use crate::problem::Problem;
use async_nats::{HeaderMap, client::RequestErrorKind};
use std::time::Duration;

/// How long an answer is waited for: longer than an append in doubt takes to settle.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sends a command to the replicas that serve its subject and relays the answer.
///
/// # Errors
///
/// Returns the problem that was answered, or `unavailable` when there was no answer: the command
/// may then have been accepted.
pub async fn execute(
    nats: &async_nats::Client,
    request: CommandRequest,
) -> Result<Outcome, Problem> {
    let mut headers = HeaderMap::new();
    let CommandRequest {
        aggregate,
        id,
        command,
        body,
        headers: given,
    } = request;
    let named = [
        ("Idempotency-Key", given.idempotency_key),
        (
            "If-Match",
            given.if_match.map(|version| format!("\"{version}\"")),
        ),
        ("traceparent", given.traceparent),
        ("tracestate", given.tracestate),
    ];
    for (name, value) in named {
        if let Some(value) = value {
            headers.insert(name, value);
        }
    }
    let request = async_nats::Request::new()
        .headers(headers)
        .payload(body)
        .timeout(Some(TIMEOUT));
    let reply = nats
        .send_request(format!("cmd.{aggregate}.{id}.{command}"), request)
        .await
        .map_err(|error| match error.kind() {
            RequestErrorKind::NoResponders => {
                Problem::unavailable("no replica serves commands now; nothing was done")
            }
            _ => Problem::unavailable(
                "no replica answered in time; retry with the same Idempotency-Key",
            ),
        })?;
    let refused = reply
        .headers
        .as_ref()
        .is_some_and(|headers| headers.get("Nats-Service-Error-Code").is_some());
    let unreadable = |_| Problem::unavailable("a replica answered in a form that is not known");
    if refused {
        Err(serde_json::from_slice(&reply.payload).unwrap_or_else(unreadable))
    } else {
        serde_json::from_slice(&reply.payload).map_err(unreadable)
    }
}
